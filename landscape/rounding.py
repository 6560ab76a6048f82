"""How far a loss of a stored surface may be off by rounding alone: what lies below it is no shape."""

from __future__ import annotations

import numpy as np

from .records import Array, Surface

_FACTOR = 8.0  # losses are summed in float64, but each sample's passes a few layers in the problem's own precision


def rounding(surface: Surface) -> Array:
    """8 eps |loss| of the precision that the surface was computed in, (row, column); NaN where the loss is."""
    eps = np.finfo(np.float64 if surface.meta.get("dtype") == "float64" else np.float32).eps
    return np.asarray(_FACTOR * float(eps) * np.abs(surface.loss))
