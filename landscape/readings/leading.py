"""Which of two curves over the training moves first: the cross-correlation of their rates of change, with a band.

    r(lag) = corr(dx(t), dy(t + lag)),   lag > 0: x leads y

Neighbouring rates are not independent, so the band is of surrogates of dx that have its power spectrum and random
phases (Theiler et al. 1992), and the significance of the peak counts that it is the largest of all lags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
FEWEST = 8  # checkpoints below which no lag can be told
SURROGATES = 999


@dataclass(frozen=True)
class LeadLag:
    """Correlations (lag,) at `lags` in steps of training, with what 95 % of unrelated curves stay within.

    `probability` is that of a peak as high, at any lag, between unrelated curves.
    """

    lags: Array  # (lag,)
    correlation: Array  # (lag,)
    band: Array  # (lag,) half width
    peak: float  # the lag of the largest modulus, in steps: positive where the first curve leads
    height: float  # the correlation there
    probability: float

    def told(self, first: str, second: str) -> str:
        """In words."""
        number = f"correlation {self.height:+.2f} of the rates of change, p = {self.probability:.2g}"
        if self.probability > 0.05:
            return f"neither of {first} and {second} is seen to lead: {number} at a lag of {self.peak:+.0f} steps"
        if self.peak == 0:
            return f"{first} and {second} move together: {number}"
        ahead, behind = (first, second) if self.peak > 0 else (second, first)
        return f"{ahead} leads {behind} by {abs(self.peak):.0f} steps: {number}"


def lead_lag(steps: ArrayLike, first: ArrayLike, second: ArrayLike, seed: int = 0) -> LeadLag | None:
    """Lead or lag of two curves (checkpoint,) at ascending optimizer steps; None where nothing can be told.

    Steps that are not equally far apart are interpolated at their median distance; checkpoints where a value is not
    finite are left out. Lags go to a third of the curves' length.
    """
    t, x, y = (np.asarray(a, dtype=float) for a in (steps, first, second))
    good = np.isfinite(x) & np.isfinite(y)
    t, x, y = t[good], x[good], y[good]
    if len(t) < FEWEST:
        return None
    apart = float(np.median(np.diff(t)))
    grid = np.arange(t[0], t[-1] + 0.5 * apart, apart)
    dx, dy = (np.diff(np.interp(grid, t, a)) for a in (x, y))
    if not (np.ptp(dx) > 0 and np.ptp(dy) > 0):
        return None
    far = max(1, len(dx) // 3)
    found = _correlations(dx[None], dy, far)[0]
    others = np.abs(_correlations(_surrogates(dx, seed), dy, far))  # (surrogate, lag)
    peak = int(np.argmax(np.abs(found)))
    as_high = int((others.max(axis=1) >= abs(found[peak])).sum())
    lags: Array = apart * np.arange(-far, far + 1, dtype=np.float64)
    band: Array = np.quantile(others, 0.95, axis=0)
    probability = (1 + as_high) / (1 + SURROGATES)
    return LeadLag(lags, found, band, float(lags[peak]), float(found[peak]), probability)


def _correlations(dx: Array, dy: Array, far: int) -> Array:
    """r (curve, lag) of curves dx (curve, t) with dy (t,); sums over fewer pairs at far lags are not scaled up."""
    dx, dy = dx - dx.mean(axis=1, keepdims=True), dy - dy.mean()
    scale = np.sqrt(np.square(dx).sum(axis=1) * np.square(dy).sum())
    n = len(dy)
    sums = [dx[:, max(0, -k) : n - max(0, k)] @ dy[max(0, k) : n - max(0, -k)] for k in range(-far, far + 1)]
    return np.asarray(np.stack(sums, axis=1) / scale[:, None])


def _surrogates(dx: Array, seed: int) -> Array:
    """(surrogate, t): the power spectrum of dx with random phases."""
    spectrum = np.fft.rfft(dx - dx.mean())
    phases = np.exp(2j * np.pi * np.random.default_rng(seed).random((SURROGATES, len(spectrum))))
    if len(dx) % 2 == 0:
        phases[:, -1] = np.where(phases[:, -1].real < 0, -1, 1)  # the highest frequency of an even length is real
    return np.asarray(np.fft.irfft(spectrum * phases, n=len(dx), axis=1))
