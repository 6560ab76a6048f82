"""Does the gradient live in the top eigenspace, and does that space move? From stored eigenpairs (numpy only)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ProblemError
from ..records import Eigenpairs, eigenpairs_key
from ..stores.run_directory import Run

Array = NDArray[np.float64]
MOST = 60  # checkpoints of a matrix of overlaps
_PIECE = 1 << 18  # weights that are multiplied in float64 at a time


@dataclass(frozen=True)
class Overlaps:
    """(1/k) ||V_s^T V_t||_F^2 of the spaces of the k largest eigenvectors at every two steps (step, step).

    1: the same space; k/n: what two random spaces of n dimensions share.
    """

    steps: NDArray[np.int64]
    matrix: Array
    k: int
    size: int


def gradient_shares(pairs: Iterable[Eigenpairs], k: int) -> tuple[NDArray[np.int64], Array]:
    """Steps (step,) and the share of |g|^2 in the space of the k largest eigenvectors (step,), where recorded.

    Gur-Ari, Roberts & Dyer 2018 (arXiv 1812.04754). A gradient of norm zero has no share: NaN.
    """
    steps, shares = [], []
    for p in pairs:
        found = p.meta.get("gradient")
        cosines = found.get("cosines") if isinstance(found, dict) else None
        if not isinstance(cosines, list) or len(p.values) < k or not all(isinstance(c, (int, float)) for c in cosines):
            continue
        steps.append(p.step)
        norm = found.get("norm") if isinstance(found, dict) else None
        shares.append(sum(c * c for c in cosines[:k]) if norm != 0 else np.nan)
    return np.array(steps, dtype=np.int64), np.array(shares, dtype=np.float64)


def chosen(steps: list[int], most: int = MOST) -> list[int]:
    """At most so many of the steps: the first, the last and evenly spaced ones between."""
    if len(steps) <= most:
        return steps
    return [steps[i] for i in np.unique(np.round(np.linspace(0, len(steps) - 1, most)).astype(int))]


def overlaps(run: Run, operator: str, k: int, *, most: int = MOST) -> Overlaps:
    """The matrix of a run's checkpoints that have at least k eigenvectors; holds their k vectors in memory.

    Raises:
        ProblemError: fewer than two checkpoints have them, or their lengths differ.
    """
    steps, vectors = [], []
    for step in chosen(run.steps("eigenpairs", operator), most):
        record: Eigenpairs = run.read(eigenpairs_key(operator, step), large=True)
        if record.vectors is not None and len(record.values) >= k:
            steps.append(step)
            vectors.append(record.vectors[:k])
    if len(steps) < 2 or len({v.shape[1] for v in vectors}) > 1:
        raise ProblemError(
            f"'{run.root}' has no two checkpoints with {k} {operator} eigenvectors of one length; compute them: "
            f"landscape spectrum {run.root} --top {max(k, 10)}"
        )
    matrix = np.zeros((len(steps), len(steps)))
    for i, left in enumerate(vectors):
        for j, right in enumerate(vectors[: i + 1]):
            matrix[i, j] = matrix[j, i] = _shared(left, right)
    return Overlaps(np.array(steps, dtype=np.int64), matrix, k, vectors[0].shape[1])


def _shared(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """||left right^T||_F^2 / k of orthonormal rows (k, size), summed in float64."""
    product = np.zeros((len(left), len(right)))
    for start in range(0, left.shape[1], _PIECE):
        piece = slice(start, start + _PIECE)
        product += left[:, piece].astype(np.float64) @ right[:, piece].astype(np.float64).T
    return float(np.square(product).sum()) / len(left)
