"""A chain of straight pieces of equal share in s, trained on the mean loss along it (Garipov et al. 2018)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._expected_loss import gradient

__all__ = ["BENDS", "coefficients", "gradient"]
Float64 = NDArray[np.float64]

BENDS = 3


def coefficients(s: Float64, points: int) -> Float64:
    """Hat functions max(0, 1 - |(points - 1) s - j|): (len(s), points)."""
    hats: Float64 = np.maximum(0.0, 1 - np.abs((points - 1) * s[:, None] - np.arange(points)))
    return hats
