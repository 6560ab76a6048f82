"""The straight line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

BENDS = 0


def coefficients(s: Float64, points: int) -> Float64:
    """(1 - s) A + s B: (len(s), 2)."""
    return np.stack([1 - s, s], axis=1)
