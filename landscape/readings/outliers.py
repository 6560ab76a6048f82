"""How many eigenvalues stand out above the bulk: a change point in their density per factor e. Numpy only.

Seen on a logarithmic axis, outliers are sparse and the bulk is dense. If the eigenvalues lambda_1 >= ... >= lambda_m
were points of a Poisson process in ln(lambda) with one rate above an edge and a larger one below, the gaps
g_i = ln(lambda_i / lambda_i+1) would be exponential, and the edge of the largest likelihood is at the k that maximises

    l(k) = -k ln(mean of g_1..g_k) - (m - 1 - k) ln(mean of g_k+1..g_m-1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import Eigenpairs, Spectrum

Array = NDArray[np.float64]
MOST = 60  # eigenvalues from the top that are looked at
_LEAST_BULK = 3  # gaps below the edge: fewer do not make a bulk
_CLEAR = 4.0  # log-likelihood by which one rate must be worse than two; chance gives less in 95 of 100 cases
_NEAR = 2.0  # counts within this of the best one are possible (an interval of about 95 %)
_NOISE = 1e-6  # of the largest eigenvalue: below it the sign is rounding, and gaps mean nothing
_SMALLEST = 1e-6  # gap: equal eigenvalues would make one count infinitely likely


@dataclass(frozen=True)
class Outliers:
    """`count` eigenvalues above the bulk, whose largest is `edge`; the count may as well be `low` to `high`."""

    count: int
    low: int
    high: int
    edge: float
    seen: int  # eigenvalues that the estimate rests on

    @property
    def text(self) -> str:
        """'9', or '9 (8 to 10)'."""
        return f"{self.count}" if self.low == self.high else f"{self.count} ({self.low} to {self.high})"


def outliers(values: Array) -> Outliers | None:
    """The change point of descending eigenvalues (m,), or None where they show none.

    A matrix whose largest eigenvalues are all outliers, or all bulk, shows none: take more eigenvalues.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values) & (values > _NOISE * np.max(values, initial=0.0))][:MOST]
    gaps = np.maximum(-np.diff(np.log(values)), _SMALLEST)
    m = len(gaps)
    places = np.arange(1, m - _LEAST_BULK + 1)
    if not len(places):
        return None
    sums = np.cumsum(gaps)
    above, below = sums[places - 1] / places, (sums[-1] - sums[places - 1]) / (m - places)
    likelihood = -places * np.log(above) - (m - places) * np.log(below)
    likelihood[above <= below] = -math.inf  # denser above than below is no bulk
    best = int(likelihood.argmax())
    if not likelihood[best] + m * math.log(sums[-1] / m) > _CLEAR:
        return None
    near = places[likelihood >= likelihood[best] - _NEAR]
    k = int(places[best])
    return Outliers(k, int(near.min()), int(near.max()), float(values[k]), len(values))


def largest(pairs: Eigenpairs | None, spectrum: Spectrum | None = None) -> Array:
    """The largest eigenvalues without a gap, descending: eigenpairs, or the density's nodes where these go deeper.

    A node counts as one eigenvalue while it has converged and carries the weight of exactly one.
    """
    found = pairs.values if pairs is not None else np.empty(0)
    if spectrum is None or not len(spectrum.nodes):
        return np.asarray(found, dtype=np.float64)
    nodes, weights, residuals = (np.asarray(a)[0] for a in (spectrum.nodes, spectrum.weights, spectrum.residuals))
    order = np.argsort(-np.where(np.isfinite(nodes), nodes, -np.inf))[:MOST]
    nodes, weights, residuals = nodes[order], weights[order], residuals[order]
    single = (np.abs(weights * spectrum.size - 1) < 1e-6) & (residuals <= 1e-3 * np.abs(nodes)) & (nodes > 0)
    count = len(single) if single.all() else int(single.argmin())
    return np.asarray(nodes[:count] if count > len(found) else found, dtype=np.float64)
