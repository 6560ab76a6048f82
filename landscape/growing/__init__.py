"""Networks that grow while they train: what a change of width is, as data, and the ways to choose one.

A growth maps the tensors of a network to those of a wider one. It is a `Growth`: the map (`embedding`), exact as long
as nothing else is changed, and what was done on top of it. An optimizer hands it to the run as an event, and with the
events of a run every earlier checkpoint can be written in the weights of a later one.
"""
