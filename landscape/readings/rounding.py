"""How far a loss of a stored surface may be off: what lies below it is no shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Array, Surface

_FACTOR = 8.0  # losses are summed in float64, but each sample's passes a few layers in the problem's own precision


def eps(meta: Mapping[str, Any]) -> float:
    """Machine precision of what a record was computed in."""
    return float(np.finfo(np.float64 if meta.get("dtype") == "float64" else np.float32).eps)


def rounding(surface: Surface) -> Array:
    """8 eps |loss| of the precision that the surface was computed in, (row, column); NaN where the loss is."""
    return np.asarray(_FACTOR * eps(surface.meta) * np.abs(surface.loss))


def measured(surface: Surface) -> NDArray[np.bool_]:
    """Grid points whose loss was measured (row, column); others were interpolated."""
    mask = getattr(surface, "measured", None)
    return np.ones(surface.loss.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)


def uncertainty(surface: Surface) -> Array:
    """Rounding, and the estimated error of the interpolation where the loss was not measured, (row, column)."""
    error = getattr(surface, "error", None)
    return rounding(surface) if error is None else rounding(surface) + np.nan_to_num(error)
