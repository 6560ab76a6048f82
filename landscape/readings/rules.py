"""What lies between a block Lanczos run and a Gauss rule: weights, the projected operator, shorter runs. Numpy only."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ..records import Spectrum

Array = NDArray[np.float64]
Rule = tuple[Array, Array, Array]  # nodes (m,), weights (b, m), residuals (m,)
_CHANCE = 14.0  # a simple eigenvalue is taken for a multiple one less often than once in exp(14) = 10^6


def reduced_weights(rule: Rule, size: int) -> Array:
    """Variance-reduced weights (b, m): exactly 1/size for each converged isolated Ritz value, the rest rescaled.

    Converged: residual below 1e-4 of the range of Ritz values; isolated: the gap to its neighbours exceeds four
    residuals (Bhattacharjee et al. 2024, arXiv 2410.21690) and rounding. A Ritz value that stands for a multiple
    eigenvalue (a null space, say) has far more weight than chi-square noise of a simple one allows and keeps it: the
    sum of b squares exceeds b + 2 sqrt(b t) + 2 t with a probability below exp(-t) (Laurent & Massart 2000, lemma 1).
    """
    nodes, weights, residuals = rule
    scale = np.abs(nodes).max(initial=0.0)
    gaps = np.diff(nodes, prepend=-np.inf, append=np.inf)
    gap = np.minimum(gaps[:-1], gaps[1:])
    b = len(weights)
    plausible = weights.sum(axis=0) * size < b + 2 * np.sqrt(b * _CHANCE) + 2 * _CHANCE
    simple = (residuals < 1e-4 * scale) & (gap > np.maximum(4 * residuals, 1e-7 * scale)) & plausible
    if simple.all():
        simple = np.zeros_like(simple) if len(nodes) < size else simple
    rest = weights[:, ~simple].sum(axis=1, keepdims=True)
    out: Array = np.where(simple, 1.0 / size, weights * (1 - simple.sum() / size) / np.where(rest > 0, rest, 1.0))
    out /= out.sum(axis=1, keepdims=True)
    return out


def jacobi(nodes: Array, starts: Array) -> Array:
    """The block tridiagonal matrix of a rule, as many whole blocks of it as there are, (steps * b, steps * b).

    Block Lanczos with full re-orthogonalisation on diag(nodes) from the rule's own start block (b, m): nodes and signed
    components determine the matrix (Golub & Welsch 1969 the other way round).
    """
    b, m = starts.shape
    basis = np.zeros((m, m))
    basis[:, :b] = starts.T
    filled, scale = b, np.abs(nodes).max(initial=0.0)
    while filled + b <= m:
        product = nodes[:, None] * basis[:, filled - b : filled]
        for _ in range(2):  # twice is enough
            product -= basis[:, :filled] @ (basis[:, :filled].T @ product)
        if np.linalg.svd(product, compute_uv=False)[-1] < 1e-12 * scale:
            break
        basis[:, filled : filled + b] = np.linalg.qr(product)[0]
        filled += b
    whole = basis[:, :filled]
    matrix: Array = whole.T @ (nodes[:, None] * whole)
    return matrix


def blocks(spectrum: Spectrum) -> list[slice]:
    """The probes of each Krylov space: those of one block share their nodes and lie next to each other."""
    cuts = [0]
    for row in range(1, len(spectrum.nodes)):
        if not np.array_equal(spectrum.nodes[row - 1], spectrum.nodes[row], equal_nan=True):
            cuts.append(row)
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(spectrum.nodes)], strict=True)]


def halved(spectrum: Spectrum) -> Spectrum | None:
    """The spectrum that half as many iterations would have given, see `shortened`."""
    return shortened(spectrum, 0.5)


def shortened(spectrum: Spectrum, share: float) -> Spectrum | None:
    """The spectrum that a share of the iterations would have given: the leading block of the projected operator.

    None where the record has no signed components or the run is too short for one whole step.
    """
    if spectrum.starts is None:
        return None
    found: list[Rule] = []
    for rows in blocks(spectrum):
        finite = np.isfinite(spectrum.nodes[rows.start])
        starts = spectrum.starts[rows][:, finite]
        b = len(starts)
        matrix = jacobi(spectrum.nodes[rows.start][finite], starts)
        steps = int(len(matrix) // b * share)
        if steps < 1:
            return None
        m = steps * b
        nodes, vectors = np.linalg.eigh(matrix[:m, :m])
        residuals = np.linalg.norm(matrix[m : m + b, m - b : m] @ vectors[m - b :], axis=0)
        found.append((nodes, np.square(vectors[:b]), residuals))
    nodes, gauss, residuals = padded(found)
    reduced = padded([(n, reduced_weights((n, w, r), spectrum.size), r) for n, w, r in found])[1]
    return dataclasses.replace(
        spectrum, nodes=nodes, weights=reduced, gauss_weights=gauss, residuals=residuals, starts=None
    )


def padded(rules: list[Rule]) -> tuple[Array, Array, Array]:
    """Rules as (probe, node) arrays: nodes padded with NaN, weights with 0, where a space ended early."""
    longest = max(len(nodes) for nodes, _, _ in rules)
    rows: tuple[list[Array], ...] = ([], [], [])
    for nodes, weights, residuals in rules:
        pad = longest - len(nodes)
        for row in weights:
            rows[0].append(np.pad(nodes, (0, pad), constant_values=np.nan))
            rows[1].append(np.pad(row, (0, pad)))
            rows[2].append(np.pad(residuals, (0, pad), constant_values=np.nan))
    return np.stack(rows[0]), np.stack(rows[1]), np.stack(rows[2])
