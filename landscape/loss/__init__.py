"""The loss of a network over frozen data as a function of a flat weight vector, and its checkpoints."""
