"""The axes that plots share: logarithmic, asinh, optimizer steps; their ranges stay where a cursor moves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.readings import quadrature

from .numbers import plain, scientific

Array = NDArray[np.float64]


def log_range(*arrays: ArrayLike, pad: float = 0.06, least: float = 0.3) -> tuple[float, float]:
    """log10 range of the positive finite values, padded; never narrower than `least` decades."""
    values = np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return -1.0, 1.0
    low, high = math.log10(values.min()), math.log10(values.max())
    extra = max((least - (high - low)) / 2, pad * (high - low))
    return low - extra, high + extra


def log_ticks(low: float, high: float, most: int = 6) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic axis between 10^low and 10^high: 1-2-5 when short, whole decades when long."""
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for m in mantissas]
        found = [v for v in found if low - 1e-9 <= math.log10(v) <= high + 1e-9]
        if len(found) <= most:
            break
    else:
        found = found[:: math.ceil(len(found) / most)]
    if len(found) < 3 and high - low < 1:  # within one decade: linear ticks say more
        found = [float(v) for v in nice_ticks(10.0**low, 10.0**high, 4)]
    if min(found) < 0.9e-3:  # one notation an axis
        return found, [scientific(v) for v in found]
    return found, [plain(v) for v in found]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers in [low, high]."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return [low]
    raw = (high - low) / max(count, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_axis(low: float, high: float, most: int = 6) -> dict[str, Any]:
    values, texts = log_ticks(low, high, most)
    return {"type": "log", "range": [low, high], "tickmode": "array", "tickvals": values, "ticktext": texts}


def linear_axis(*arrays: ArrayLike, zero: bool = False) -> dict[str, Any]:
    """A fixed range around the finite values, so that moving a cursor never rescales the axis."""
    values = np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays] + [np.zeros(1)][: int(zero)])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    extra = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return {"range": [0 if zero and low >= 0 else low - extra, high + extra], "nticks": 5}


def asinh_axis(low: float, high: float) -> dict[str, Any]:
    """An eigenvalue axis between two u = asinh(lambda / lambda0): ticks in eigenvalues, drawn at their u."""
    values, texts = quadrature.asinh_ticks(float(quadrature.from_asinh(low)), float(quadrature.from_asinh(high)))
    return {
        "range": [low, high],
        "tickmode": "array",
        "ticktext": texts,
        "tickvals": [float(u) for u in quadrature.to_asinh(values)],
    }


def step_position(steps: ArrayLike, log: bool) -> Array:
    """Where steps lie on the x axis: themselves, or log10(1 + step), which keeps step 0 in the picture."""
    steps = np.asarray(steps, dtype=np.float64)
    return np.log10(1 + np.maximum(steps, 0)) if log else steps


def step_axis(steps: ArrayLike, log: bool, title: str = "optimizer step") -> dict[str, Any]:
    """The x axis of everything over training."""
    steps = np.asarray(steps, dtype=np.float64)
    low, high = (float(steps.min()), float(steps.max())) if len(steps) else (0.0, 1.0)
    if high <= low:
        low, high = low - 1, high + 1
    if not log:
        return {"range": [low, high], "title": {"text": title}, "nticks": 9}
    ticks = [t for t in [0.0, *(10.0**k for k in range(9))] if low <= t <= high]
    return {
        "range": [math.log10(1 + max(low, 0)), math.log10(1 + high)],
        "tickmode": "array",
        "tickvals": [math.log10(1 + t) for t in ticks],
        "ticktext": [f"{t:,.0f}" for t in ticks],
        "title": {"text": f"{title} (log)"},
    }
