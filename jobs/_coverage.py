"""How often each interval of `landscape.bounds` holds the truth, over many seeds, against known eigenvalues.

Gaussian probes look the same in every orthonormal basis, so that a diagonal operator with a network's dense eigenvalues
stands for the network itself, at none of its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape import bounds, quadrature
from landscape.lanczos import BlockLanczos
from landscape.probes import probes
from landscape.records import Spectrum
from landscape.rules import padded, reduced_weights
from landscape.traces import hutchpp

Array = NDArray[np.float64]
SHARES = (-1e-2, -1e-3, 0.0, 1e-3, 1e-2, 1e-1)  # thresholds in units of the largest eigenvalue


def synthetic(size: int, seed: int = 0) -> Array:
    """Ascending eigenvalues like a network's: a few outliers, a heavy tail with a negative side, most near zero."""
    draw = np.random.default_rng(seed)
    few, tail = max(size // 100, 4), int(0.3 * size)
    heavy = np.exp(draw.normal(-4, 1.5, tail)) * np.where(draw.random(tail) < 0.25, -1, 1)
    near = draw.normal(0, 1e-4, size - 4 * few - tail)
    return np.sort(np.concatenate([np.geomspace(2, 40, few), draw.uniform(0.25, 1.9, 3 * few), heavy, near]))


def start(size: int, seed: int, indices: range) -> torch.Tensor:
    """Gaussian probes as columns (size, b)."""
    return probes(indices, size, seed)


def spectrum_of(eigenvalues: Array, seed: int, probes: int, iterations: int, block: int) -> Spectrum:
    """The density of diag(eigenvalues), as `spectrum_at` computes it of a network."""
    diagonal, size = torch.from_numpy(eigenvalues), len(eigenvalues)
    found = []
    for first in range(0, probes, block):
        width = min(block, probes - first)
        begin = start(size, seed, range(first, first + width))
        capacity = max(min((iterations + 1) * width, size + width), 2 * width)
        space = BlockLanczos(lambda v: diagonal[:, None] * v, begin, capacity)
        for _ in range(iterations):
            if space.ahead == 0 or space.filled + 2 * space.ahead > len(space.basis):
                break
            space.expand()
        ritz = space.ritz()
        found.append((ritz.values, space.start_components(ritz), ritz.residuals))
    nodes, starts, residuals = padded(found)
    plain = [(n, np.square(s), r) for n, s, r in found]
    weights = padded([(n, reduced_weights((n, w, r), size), r) for n, w, r in plain])[1]
    return Spectrum(0, "diagonal", size, nodes, weights, np.square(starts), residuals, {}, starts)


def measure(
    eigenvalues: Array, seeds: Iterable[int], *, probes: int, iterations: int, block: int,
    on_seed: Callable[[int], Any] = lambda seed: None,
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Share of seeds whose interval holds the truth, and its mean half width, by name.

    The half widths of trace and norm are relative to the truth; those of shares are shares.
    """
    top, trace, norm = eigenvalues[-1], eigenvalues.sum(), float(np.linalg.norm(eigenvalues))
    places = top * np.array(SHARES)
    exact = np.searchsorted(eigenvalues, places) / len(eigenvalues)
    found: dict[str, list[tuple[bool, float]]] = {}

    def note(name: str, holds: bool, half: float) -> None:
        found.setdefault(name, []).append((bool(holds), half))

    for seed in seeds:
        spectrum = spectrum_of(eigenvalues, seed, probes, iterations, block)
        for name, interval, truth in (
            ("trace", bounds.trace(spectrum), trace),
            ("Frobenius norm", bounds.frobenius(spectrum), norm),
        ):
            note(name, interval.holds(truth), interval.half / abs(truth))
        mean, half = quadrature.trace(spectrum)
        if probes > 1:
            note("trace, t over probes", abs(mean - trace) <= half, half / abs(trace))
        _, low, high = bounds.cdf_band(spectrum, places)
        for k, share in enumerate(SHARES):
            note(f"share below {share:g} λmax", low[k] <= exact[k] <= high[k], (high[k] - low[k]) / 2)
        on_seed(seed)
    return {name: (float(np.mean([h for h, _ in rows])), float(np.mean([w for _, w in rows])))
            for name, rows in found.items()}  # fmt: skip


def measure_hutchpp(eigenvalues: Array, seeds: Iterable[int], products: int) -> tuple[float, float]:
    """Coverage and mean relative half width of `landscape trace`."""
    diagonal, size, truth = torch.from_numpy(eigenvalues)[:, None], len(eigenvalues), eigenvalues.sum()
    found = []
    for seed in seeds:
        interval = hutchpp(
            lambda v: diagonal * v, lambda numbers, seed=seed: probes(numbers, size, seed), size, products  # type: ignore[misc]
        )  # fmt: skip
        found.append((interval.holds(truth), interval.half / abs(truth)))
    covered, half = np.mean(np.array(found, dtype=float), axis=0)
    return float(covered), float(half)
