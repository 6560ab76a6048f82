"""Densities, moments and masses from Gauss rules: numpy only, so that plots can use it.

A spectrum's density is mean over probes of sum_i weights[p, i] * delta(lambda - nodes[p, i]). Smoothing happens here,
when the density is looked at, never when it is stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..records import Spectrum

Array = NDArray[np.float64]
LAMBDA0 = 1e-3  # where the asinh axis turns from linear to logarithmic
SHARP_U = 0.12  # standard deviation in u with which one known eigenvalue is drawn


def measure(spectrum: Spectrum) -> tuple[Array, Array]:
    """Nodes (m,) ascending and weights (m,) summing to 1 of the probe-averaged discrete measure.

    Probes of one block share their nodes: each node appears once, with the mean of their weights.
    """
    keep = np.isfinite(spectrum.nodes) & (spectrum.weights > 0)
    nodes, where = np.unique(spectrum.nodes[keep], return_inverse=True)
    weights = np.bincount(where, spectrum.weights[keep], len(nodes)) / spectrum.weights.shape[0]
    return nodes, weights


def density(nodes: ArrayLike, weights: ArrayLike, grid: ArrayLike, width: ArrayLike) -> Array:
    """Gaussian-smoothed density on a grid: sum_i w_i N(x; node_i, width_i^2), shape (len(grid),), unit 1 / grid unit.

    `width` is one standard deviation for all nodes or one a node.
    """
    nodes, weights, grid = (np.asarray(a, dtype=np.float64).ravel() for a in (nodes, weights, grid))
    widths = np.broadcast_to(np.asarray(width, dtype=np.float64), nodes.shape)
    if not (widths > 0).all():
        raise ValueError(f"width must be positive, got {np.min(widths)}")
    keep = np.isfinite(nodes)
    z = (grid[:, None] - nodes[None, keep]) / widths[keep]  # (grid, node)
    kernel = np.exp(-0.5 * np.minimum(z * z, 1400.0))  # below exp(-700) is zero in float64
    smoothed: Array = kernel @ (weights[keep] / widths[keep]) / np.sqrt(2 * np.pi)
    return smoothed


def resolved(spectrum: Spectrum, lambda0: float = LAMBDA0) -> NDArray[np.bool_]:
    """Which nodes of `measure(spectrum)` are one eigenvalue (weight 1/size) or a converged multiple one, shape (m,)."""
    keep = np.isfinite(spectrum.nodes) & (spectrum.weights > 0)
    nodes, weights = measure(spectrum)
    bound = np.full(len(nodes), np.inf)  # the smallest residual bound of a node
    np.minimum.at(bound, np.searchsorted(nodes, spectrum.nodes[keep]), spectrum.residuals[keep])
    sharp: NDArray[np.bool_] = (weights * spectrum.size < 1.5) | (bound / np.hypot(nodes, lambda0) < SHARP_U)
    return sharp


def kernel_widths(
    spectrum: Spectrum, lambda0: float = LAMBDA0, width_u: float = SHARP_U, sharp_u: float | None = None
) -> Array:
    """Standard deviation in u of the kernel of each node of `measure(spectrum)`, at least width_u, shape (m,).

    A node that stands for many eigenvalues samples a continuous part of the spectrum, and its mass lies anywhere
    between its neighbours: its kernel reaches half way to them, so that the spacing of Ritz values is not drawn as
    gaps in the spectrum. A `resolved` node has the width sharp_u, by default width_u.
    """
    nodes, _ = measure(spectrum)
    gaps = np.diff(to_asinh(nodes, lambda0))
    reach = 0.5 * np.concatenate([gaps[:1], (gaps[:-1] + gaps[1:]) / 2, gaps[-1:]]) if len(gaps) else nodes * 0
    wide = np.clip(reach, width_u, max(1.0, width_u))
    return np.where(resolved(spectrum, lambda0), width_u if sharp_u is None else sharp_u, wide)


def to_asinh(values: ArrayLike, lambda0: float = LAMBDA0) -> Array:
    """u = asinh(lambda / lambda0): linear inside +-lambda0, logarithmic outside."""
    return np.arcsinh(np.asarray(values, dtype=np.float64) / lambda0)


def from_asinh(u: ArrayLike, lambda0: float = LAMBDA0) -> Array:
    """Inverse of `to_asinh`."""
    return np.sinh(np.asarray(u, dtype=np.float64)) * lambda0


def asinh_density(
    spectrum: Spectrum, grid_u: ArrayLike, lambda0: float = LAMBDA0, width_u: float = SHARP_U,
    sharp_u: float | None = None,
) -> Array:  # fmt: skip
    """Density per unit u = asinh(lambda / lambda0); integrates to 1. Gaussian kernels of the widths above."""
    nodes, weights = measure(spectrum)
    widths = kernel_widths(spectrum, lambda0, width_u, sharp_u)
    return density(to_asinh(nodes, lambda0), weights, grid_u, widths)


def asinh_ticks(low: float, high: float, lambda0: float = LAMBDA0) -> tuple[list[float], list[str]]:
    """Tick eigenvalues (not u) at 0 and +-10^k within [low, high], with their texts; at most eleven."""
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"ticks need a finite range, got [{low}, {high}]")
    first = int(np.ceil(np.log10(lambda0))) + 1
    last = int(np.floor(np.log10(max(abs(low), abs(high), 10.0**first))))
    step = max(1, -(-(last - first + 1) // 5))  # at most five powers a side
    powers = [10.0**k for k in range(first, last + 1) if (last - k) % step == 0]
    signed = [-p for p in reversed(powers)] + [0.0] + powers
    values = [v for v in signed if low <= v <= high]
    return values, [_power_text(v) for v in values]


def _power_text(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}", 1) if value < 0 else f"{value:g}"


def moments(spectrum: Spectrum, degree: int) -> Array:
    """Mean of lambda^degree under each probe's rule, shape (probe,): exact to degree 2m - 1 for an m-point rule."""
    nodes = np.where(np.isfinite(spectrum.nodes), spectrum.nodes, 0.0)
    powers = np.where(np.isfinite(spectrum.nodes), nodes**degree, 0.0)
    means: Array = (spectrum.weights * powers).sum(axis=1)
    return means


# Two-sided 95 % points of Student's t for 1..30 degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


def trace(spectrum: Spectrum) -> tuple[float, float]:
    """Trace estimate size * mean(first moment) and the half width of its 95 % t-interval over probes (inf for one)."""
    samples = spectrum.size * moments(spectrum, 1)
    count = len(samples)
    if count < 2:
        return float(samples.mean()), float("inf")
    half = T95[min(count - 1, 30) - 1] * samples.std(ddof=1) / np.sqrt(count)
    return float(samples.mean()), float(half)


def wasserstein(spectrum: Spectrum, eigenvalues: ArrayLike) -> float:
    """Wasserstein-1 distance between the rule and the uniform measure on exact eigenvalues, in eigenvalue units.

    Of the nodes as they are; `landscape.readings.distribution.distance` has the mass spread out between them.

    W1 = integral of |F(x) - G(x)| dx of the two distribution functions.
    """
    nodes, weights = measure(spectrum)
    exact = np.sort(np.asarray(eigenvalues, dtype=np.float64))
    places = np.sort(np.concatenate([nodes, exact]))
    left = places[:-1]
    ours = np.concatenate([[0.0], np.cumsum(weights)])[np.searchsorted(nodes, left, side="right")]
    theirs = np.searchsorted(exact, left, side="right") / len(exact)
    return float(np.sum(np.abs(ours - theirs) * np.diff(places)))
