"""Planes, surfaces, volumes, trajectories and paths through weight space."""
