"""Training, and what of it lands on disk: the recorder, the training loop, the state that a killed run goes on from."""
