"""Eigenvectors along a path: how far they agree with those of its ends, and which is which from point to point."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Eigenpairs, Path

Float64 = NDArray[np.float64]
WIDE = 1 << 14  # numbers that are kept of an eigenvector
_PIECE = 1 << 20  # weights that are added up at a time


def subspace(overlap: Float64, k: int) -> Float64:
    """||V_k(end)^T V_k(t)||_F^2 / k, (point,), from squared cosines (point, end_pair, pair): 1 same, 0 orthogonal.

    It depends on the two spaces alone, not on the vectors that span them: equal eigenvalues among the first k are
    free to turn.
    """
    return np.asarray(overlap[:, :k, :k].sum(axis=(1, 2)) / k)


def separated(pairs: Sequence[Eigenpairs]) -> list[int]:
    """The k for which eigenvalues k and k + 1 differ by more than both residuals, in all of these."""
    count = min((len(p.values) for p in pairs), default=0)
    return [
        k for k in range(1, count)
        if all(p.values[k - 1] - p.values[k] > p.residuals[k - 1] + p.residuals[k] for p in pairs)
    ]  # fmt: skip


def along(path: Path) -> dict[int, tuple[Float64, Float64]]:
    """k -> (overlap with A, overlap with B), each (point,), for every k whose space is defined at both ends."""
    if path.overlap_a is None or path.overlap_b is None or not path.eigenpairs:
        return {}
    ends = [path.eigenpairs[int(np.flatnonzero(path.t == x)[0])] for x in (0.0, 1.0)]
    return {k: (subspace(path.overlap_a, k), subspace(path.overlap_b, k)) for k in separated(ends)}


# ------------------------------------------------------------------ from point to point


def sketched(vectors: NDArray[Any]) -> Float64:
    """Vectors (k, size) as (k, at most WIDE), with about the same inner products: every weight is added, with a random
    sign, to a random place (count sketch; Charikar et al. 2002).

    For unit vectors an inner product's standard error is at most sqrt(2 / WIDE), 1.1 %; short vectors are kept whole.
    """
    count, size = vectors.shape
    if size <= WIDE:
        return vectors.astype(np.float64)
    generator, found = np.random.default_rng(size), np.zeros((count, WIDE))
    for start in range(0, size, _PIECE):
        piece = vectors[:, start : start + _PIECE].astype(np.float64)
        places = generator.integers(WIDE, size=piece.shape[1])
        signed = piece * generator.choice([-1.0, 1.0], size=piece.shape[1])
        found += [np.bincount(places, row, WIDE) for row in signed]
    return found


def consecutive(sketches: Sequence[Float64 | None]) -> Float64 | None:
    """Cosines (point - 1, pair, pair) of the vectors of every point and of the next one, from their sketches; None
    where one is missing or numbers of vectors differ."""
    found = [x for x in sketches if x is not None]
    if len(found) < max(len(sketches), 2) or len({x.shape for x in found}) > 1:
        return None
    return np.stack([a @ b.T for a, b in itertools.pairwise(found)])
