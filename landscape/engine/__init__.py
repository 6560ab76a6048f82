"""Curvature over all batches and ranks: products, the choice of the fastest, self-checks, densities and eigenpairs."""
