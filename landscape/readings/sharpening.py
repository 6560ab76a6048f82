"""Progressive sharpening: how fast the largest eigenvalue grows before it first reaches the optimizer's threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .bounds import student


@dataclass(frozen=True)
class Slope:
    """log lambda_max = a + `per_step` step, fitted to the checkpoints before the first crossing."""

    per_step: float  # NaN with fewer than two checkpoints
    error: float  # its standard error; NaN with fewer than three
    until: float | None  # step of the first value at or above the threshold; None: there is none
    points: int  # checkpoints fitted
    last: float | None  # step of the last of them

    @property
    def doubling(self) -> float:
        """Steps in which the sharpness doubles; negative where it halves, inf where it stands still."""
        return math.log(2) / self.per_step if self.per_step else math.inf

    @property
    def half_width(self) -> float:
        """Half of Student's 95 % interval, of independent errors, as those of one training are only roughly."""
        return student(self.points - 2) * self.error if self.points > 2 else math.nan


def slope(steps: ArrayLike, values: ArrayLike, threshold: ArrayLike | None = None) -> Slope:
    """Least squares of log values (checkpoint,) against steps (checkpoint,), ascending, before the first crossing.

    The sharpening of Cohen et al. 2021 (arXiv 2103.00065). The threshold is a number or one a checkpoint. Values that
    are not finite or not positive are left out; without a threshold all others are fitted.

    Raises:
        ValueError: steps and values of different lengths.
    """
    x, y = np.asarray(steps, dtype=np.float64).ravel(), np.asarray(values, dtype=np.float64).ravel()
    if len(x) != len(y):
        raise ValueError(f"steps and values must be of equal length, got {len(x)} and {len(y)}")
    limit = np.broadcast_to(np.asarray(math.inf if threshold is None else threshold, dtype=np.float64), x.shape)
    good = np.isfinite(x) & np.isfinite(y) & (y > 0)
    x, y, limit = x[good], y[good], limit[good]
    above = np.flatnonzero(y >= limit)
    until = float(x[above[0]]) if len(above) else None
    count = int(above[0]) if len(above) else len(x)
    x, logs = x[:count], np.log(y[:count])
    last = float(x[-1]) if count else None
    spread = float(np.square(x - x.mean()).sum()) if count > 1 else 0.0
    if spread == 0:
        return Slope(math.nan, math.nan, until, count, last)
    fitted = float((x - x.mean()) @ logs) / spread
    rest = logs - logs.mean() - fitted * (x - x.mean())
    error = math.sqrt(float(rest @ rest) / (count - 2) / spread) if count > 2 else math.nan
    return Slope(fitted, error, until, count, last)


def at_the_edge_since(ratio: ArrayLike, low: float = 0.8, high: float = 1.25) -> int | None:
    """Index from which sharpness / threshold (n,) stays within [low, high] to the end, for three values or more."""
    r = np.asarray(ratio, dtype=np.float64)
    outside = np.flatnonzero(~((r >= low) & (r <= high)))
    first = int(outside[-1]) + 1 if len(outside) else 0
    return first if len(r) - first >= 3 else None
