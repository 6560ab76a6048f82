"""Progressive sharpening: how fast the sharpness grows before it reaches the stability threshold. Numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .bounds import student


@dataclass(frozen=True)
class Slope:
    """d log(sharpness) / d step, half the width of its 95 % interval, and the last step that was used."""

    per_step: float
    error: float
    until: int


def slope(steps: ArrayLike, values: ArrayLike, threshold: float | None = None) -> Slope | None:
    """Least-squares slope of log(values) (checkpoint,) against steps (checkpoint,) before the first crossing.

    Only positive finite values before the first one above `threshold` are used, all of them without a threshold; None
    where they are fewer than three. The interval is Student's, of independent errors of equal size, which the values
    along one training are only roughly (Cohen et al. 2021, arXiv 2103.00065, call the growth progressive sharpening).
    """
    x, y = (np.asarray(a, dtype=np.float64) for a in (steps, values))
    good = np.isfinite(y) & (y > 0)
    x, y = x[good], y[good]
    first = first_above(y, threshold)
    x, y = x[:first], np.log(y[:first])
    if len(x) < 3 or not np.ptp(x) > 0:
        return None
    centred = x - x.mean()
    square = float(centred @ centred)
    rate = float(centred @ y) / square
    rest = y - y.mean() - rate * centred
    error = math.sqrt(float(rest @ rest) / (len(x) - 2) / square)
    return Slope(rate, student(len(x) - 2) * error, int(x[-1]))


def first_above(values: ArrayLike, threshold: float | None) -> int:
    """Index of the first value (n,) above the threshold; n where none is."""
    y = np.asarray(values, dtype=np.float64)
    above = y > (math.inf if threshold is None else threshold)
    return int(above.argmax()) if above.any() else len(y)


def at_the_edge_since(ratio: ArrayLike, low: float = 0.8, high: float = 1.25) -> int | None:
    """Index from which sharpness / threshold (n,) stays within [low, high] to the end, for three values or more."""
    r = np.asarray(ratio, dtype=np.float64)
    outside = np.flatnonzero(~((r >= low) & (r <= high)))
    first = int(outside[-1]) + 1 if len(outside) else 0
    return first if len(r) - first >= 3 else None
