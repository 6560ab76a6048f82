"""A Bezier curve, trained on the mean loss along it (Garipov et al. 2018); one bend is the quadratic one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ._expected_loss import gradient

__all__ = ["BENDS", "coefficients", "gradient"]
Float64 = NDArray[np.float64]

BENDS = 1


def coefficients(s: Float64, points: int) -> Float64:
    """Bernstein polynomials binomial(n, j) s^j (1 - s)^(n - j), n = points - 1: (len(s), points)."""
    n = points - 1
    return np.stack([math.comb(n, j) * s**j * (1 - s) ** (n - j) for j in range(points)], axis=1)
