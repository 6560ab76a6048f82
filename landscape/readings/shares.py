"""How much of a trajectory a plane holds, from its record (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..records import Trajectory

Array = NDArray[np.float64]


def in_percent(share: float) -> str:
    """Two digits and no exponent for what rounds to a hundred: '0.079', '3.8', '100'."""
    return f"{float(f'{100 * share:.2g}'):g}"


def captured(trajectory: Trajectory) -> Array:
    """Share of each checkpoint's squared distance from the origin that lies in the plane; NaN at the origin."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((trajectory.u**2 + trajectory.v**2) / trajectory.distance**2)


def gradient_share(trajectory: Trajectory) -> Array | None:
    """||P g|| / ||g|| of the gradient g at each checkpoint, P the projection onto the plane; None without gradients."""
    t = trajectory
    if t.gradient_u is None or t.gradient_v is None or t.gradient_norm is None:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.hypot(t.gradient_u, t.gradient_v) / t.gradient_norm)


def length_share(trajectory: Trajectory) -> float | None:
    """Share of the path's length that is seen in the plane: sum ||P d_i|| / sum ||d_i|| of the moves d_i."""
    if trajectory.moved is None or not np.nansum(trajectory.moved) > 0:
        return None
    seen = np.hypot(np.diff(trajectory.u), np.diff(trajectory.v))
    return float(seen.sum() / np.nansum(trajectory.moved))
