"""How often each interval of `landscape.readings.bounds` holds the truth, over many seeds, against known eigenvalues.

Gaussian probes look the same in every orthonormal basis, so that a diagonal problem with a network's dense eigenvalues
stands for the network itself, at none of its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.engine.products import Products
from landscape.engine.traces import hutchpp
from landscape.krylov.probes import probes
from landscape.readings import bounds, quadrature
from landscape.records import Spectrum

from ._spectra import density, diagonal_problem

Array = NDArray[np.float64]
SHARES = (-1e-2, -1e-3, 0.0, 1e-3, 1e-2, 1e-1)  # thresholds in units of the largest eigenvalue
PLACES = 41  # where the whole band is looked at
NOISE = 1e-6  # of a product in float32, in units of the largest eigenvalue: splits the signs


def measure(
    eigenvalues: Array, seeds: Iterable[int], *, probes: int, iterations: int, block: int,
    on_seed: Callable[[int], Any] = lambda seed: None,
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Share of seeds whose interval holds the truth, and its mean half width, by name.

    The half widths of trace and norm are relative to the truth; those of shares are shares.
    """
    problem, products = diagonal_problem(eigenvalues), Products("kept")
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in seeds:
        spectrum = density(problem, seed, probes, iterations, block, products)
        for name, held, half in [*_totals(spectrum, eigenvalues), *_shares(spectrum, eigenvalues)]:
            found.setdefault(name, []).append((float(held), half))
        on_seed(seed)
    return {name: (float(np.mean([h for h, _ in rows])), float(np.mean([w for _, w in rows])))
            for name, rows in found.items()}  # fmt: skip


def _totals(spectrum: Spectrum, exact: Array) -> Iterable[tuple[str, float, float]]:
    trace, norm = float(exact.sum()), float(np.linalg.norm(exact))
    for name, interval, truth in (
        ("trace", bounds.trace(spectrum), trace), ("Frobenius norm", bounds.frobenius(spectrum), norm),
    ):  # fmt: skip
        yield name, interval.holds(truth), interval.half / abs(truth)
    if len(spectrum.nodes) > 1:
        mean, half = quadrature.trace(spectrum)
        yield "trace, t over probes", abs(mean - trace) <= half, half / abs(trace)


def _shares(spectrum: Spectrum, exact: Array) -> Iterable[tuple[str, float, float]]:
    top = float(exact[-1])
    places = top * np.array(SHARES)
    held, half = _band(spectrum, exact, places)
    for k, share in enumerate(SHARES):
        yield f"share below {share:g} λmax", held[k], half[k]
    ends = quadrature.to_asinh(exact[[0, -1]], 1e-3 * top)
    across = quadrature.from_asinh(np.linspace(ends[0], ends[1], PLACES), 1e-3 * top)
    held, half = _band(spectrum, exact, across)
    yield f"CDF band, share of {PLACES} places", float(held.mean()), float(half.mean())
    level = 3 * NOISE * top
    signs, n = bounds.signs(spectrum, level), len(exact)
    counts = ((exact < -level).sum(), (np.abs(exact) <= level).sum(), (exact > level).sum())
    for name, interval, count in zip(
        ("negative", "unresolved", "positive"), (signs.negative, signs.unresolved, signs.positive), counts, strict=True
    ):
        yield f"signs: {name}", interval.holds(float(count / n)), interval.half


def _band(spectrum: Spectrum, exact: Array, places: Array) -> tuple[Array, Array]:
    """Whether the band holds the truth at each place, and half its width there."""
    _, low, high = bounds.cdf_band(spectrum, places)
    truth = np.searchsorted(exact, places) / len(exact)
    return ((low <= truth) & (truth <= high)).astype(float), (high - low) / 2


def measure_hutchpp(eigenvalues: Array, seeds: Iterable[int], products: int) -> tuple[float, float]:
    """Coverage and mean relative half width of `landscape trace`."""
    diagonal, size, truth = torch.from_numpy(eigenvalues)[:, None], len(eigenvalues), eigenvalues.sum()
    found = []
    for seed in seeds:
        interval = hutchpp(lambda v: diagonal * v, partial(probes, size=size, seed=seed), size, products)
        found.append((interval.holds(truth), interval.half / abs(truth)))
    covered, half = np.mean(np.array(found, dtype=float), axis=0)
    return float(covered), float(half)
