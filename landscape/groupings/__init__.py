"""Which weights vanish together, one file each: the file's name is the choice's name.

Each file offers `parts(model)`: pieces of tensors and the groups that their units belong to. A group may span tensors,
and the same name in two places is one group. Weights in no part are in no group.
"""
