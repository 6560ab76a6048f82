"""Numbers as colours, ticks and short texts: what figures and video share below their axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
LEVELS = 24  # colour steps of a loss


def decimal_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Ticks of a positive log axis within [low, high]: 1-2-5 per decade where they fit, else powers of ten."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**k for k in range(first, last + 1) for d in digits]
        ticks = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(ticks) <= most:
            return ticks if len(ticks) > 1 else even_ticks(low, high)
    return ticks[:: -(-len(ticks) // most)]


def even_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round ticks of a linear axis within [low, high]."""
    return [float(t) for t in MaxNLocator(most).tick_values(low, high) if low <= t <= high]


def number(value: float) -> str:
    """Short text of a number: 0.0784, 9.55, 1,210 or 2.3×10⁻⁶; an em dash where it is not finite."""
    if not np.isfinite(value):
        return "—"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        digits, power = f"{value:.1e}".split("e")
        return f"{digits.removesuffix('.0')}×10{_superscript(int(power))}".replace("-", "−")
    decimals = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{decimals}f}".replace("-", "−")


def tick_text(value: float) -> str:
    """Text of a log tick: plain between 0.001 and 1000, a power of ten beyond."""
    if value == 0 or 1e-3 <= abs(value) <= 1e3:
        return f"{value:g}".replace("-", "−")
    power = int(np.floor(np.log10(abs(value)) + 1e-9))
    digit = value / 10.0**power
    return ("" if abs(digit - 1) < 1e-6 else f"{digit:g}×") + "10" + _superscript(power)


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def percent(share: float) -> str:
    """'92 %', '0.02 %' or '<0.01 %'."""
    if not np.isfinite(share):
        return "—"
    if 0 < share < 1e-4:
        return "<0.01 %"
    return f"{100 * share:.{0 if share >= 0.1 or share == 0 else 1 if share >= 0.01 else 2}f} %"


def spaced(at: Array, gap: float) -> list[int]:
    """Indices of ticks at least a gap apart, counted outwards from zero so that both signs show the same powers."""
    kept: list[int] = []
    for i in sorted(range(len(at)), key=lambda i: (abs(at[i]), at[i])):
        if all(abs(at[i] - at[j]) >= gap for j in kept):
            kept.append(i)
    return sorted(kept)


def viridis() -> Colormap:
    return colormaps["viridis"]


@dataclass(frozen=True)
class LossScale:
    """Colour scale of a loss: logarithmic where all are positive, else linear (a GAN's loss may be negative)."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, loss: ArrayLike) -> LossScale:
        values = np.asarray(loss, dtype=np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            return cls(0.0, 1.0, False)
        low, high = float(values.min()), float(np.quantile(values, 0.995))  # one spike must not take all colours
        log = low > 0
        low = max(low, 1e-7 * high) if log else low
        return cls(low, high if high > low else low * 1.01 + 1e-12 if log else low + 1e-12, log)

    def norm(self) -> Normalize:
        return LogNorm(self.low, self.high) if self.log else Normalize(self.low, self.high)

    def levels(self, count: int = LEVELS) -> Array:
        space = np.geomspace if self.log else np.linspace
        return np.asarray(space(self.low, self.high, count + 1))

    def ticks(self) -> tuple[list[float], list[str]]:
        values = decimal_ticks(self.low, self.high, 7) if self.log else even_ticks(self.low, self.high, 7)
        return values, [tick_text(v) for v in values]

    def colours(self, loss: ArrayLike) -> Array:
        """RGBA of losses, those beyond the scale in its end colours, grey where not finite."""
        values = np.asarray(loss, dtype=np.float64)
        rgba = viridis()(self.norm()(np.clip(np.where(np.isfinite(values), values, self.high), self.low, self.high)))
        rgba[~np.isfinite(values)] = (0.6, 0.6, 0.6, 1.0)
        return np.asarray(rgba)

    @property
    def label(self) -> str:
        return "training loss (log scale)" if self.log else "training loss"
