"""The spectra of a run over its steps, as curves on one axis and as a heatmap; every curve is computed once."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from landscape import records
from landscape.readings import quadrature, smoothing
from landscape.readings.smoothing import Width

from .style import base_eight

Array = NDArray[np.float64]
BINS = 400


@dataclass(frozen=True, eq=False)
class Series:
    """All readable spectra of one run and operator, by step; unreadable ones keep their sentence."""

    operator: str
    spectra: dict[int, records.Spectrum]
    damaged: dict[int, str] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        return list(self.spectra)

    @functools.cached_property
    def grid(self) -> Array:
        """Common u axis of all steps, shape (BINS,)."""
        ends = [quadrature.to_asinh([n.min(), n.max()]) for n in map(_finite_nodes, self.spectra.values()) if len(n)]
        low, high = (min(e[0] for e in ends), max(e[1] for e in ends)) if ends else (-5.0, 5.0)
        return np.linspace(min(low, -1.5) - 0.6, max(high, 1.5) + 0.6, BINS)

    @functools.cached_property
    def automatic(self) -> Width:
        """The width that the records themselves ask for, one for all steps so that they compare."""
        return smoothing.automatic(list(self.spectra.values()))

    def density(self, step: int, width: Width) -> Array:
        return _density(self, step, width)

    def heat(self, width: Width) -> NDArray[np.uint8]:
        return _heat(self, width)  # (BINS, step)


def _finite_nodes(spectrum: records.Spectrum) -> Array:
    return spectrum.nodes[np.isfinite(spectrum.nodes) & (spectrum.weights > 0)]


@functools.lru_cache(maxsize=2048)
def _density(series: Series, step: int, width: Width) -> Array:
    return quadrature.asinh_density(series.spectra[step], series.grid, width_u=width.value, sharp_u=width.sharp)


@functools.lru_cache(maxsize=16)
def _heat(series: Series, width: Width) -> NDArray[np.uint8]:
    if not series.spectra:
        return np.zeros((BINS, 0), dtype=np.uint8)
    return base_eight(np.stack([series.density(step, width) for step in series.steps], axis=1))
