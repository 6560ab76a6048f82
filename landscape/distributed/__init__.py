"""Ranks: MPI and other transports behind one `Comm`, groups of ranks, their plan and their progress."""
