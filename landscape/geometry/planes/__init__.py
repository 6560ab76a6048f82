"""How two directions are found: a file a kind of plane, each with one constructor."""
