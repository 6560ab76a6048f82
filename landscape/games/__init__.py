"""Games of two networks: players, adversarial losses, what the generator covers, and the game's Jacobian."""
