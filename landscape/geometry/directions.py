"""Planes through weight space, and the one constructor of each kind.

An eigenvector, a gradient, a displacement or a principal component is never rescaled: only random directions are
normalised, to the weights' own filters or layers.
"""

from __future__ import annotations

from .plane import Plane, from_surface
from .planes.displacement import displacement_plane
from .planes.eigen import eigen_plane
from .planes.gradient import gradient_plane
from .planes.minima import minima_plane
from .planes.pca import Vectors, pca_plane, random_walk_shares, random_walks_shares
from .planes.random import random_plane

__all__ = [
    "Plane", "Vectors", "displacement_plane", "eigen_plane", "from_surface", "gradient_plane", "minima_plane",
    "pca_plane", "random_plane", "random_walk_shares", "random_walks_shares",
]  # fmt: skip
