"""Networks that grow while they train: neurons split, neurons and layers are added, under a budget."""
