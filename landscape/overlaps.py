"""How far the top eigenspace at a point of a path agrees with that of its ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .records import Eigenpairs, Path

Float64 = NDArray[np.float64]


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
