"""Eigenvectors followed from checkpoint to checkpoint: which eigenpair of one step is which of the next.

The k-th largest eigenvalue of two checkpoints need not be the same curve: eigenvalues cross, and an eigenvector's sign
means nothing. Branches are matched by the overlaps of their vectors, C = V_t V_{t+1}^T, as an assignment problem.
Vectors whose eigenvalues cannot be told apart span a space, and only the space is defined: in such a group the
basis is turned to fit the step before as well as a rotation can (orthogonal Procrustes; Schönemann 1966).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ProblemError
from ..records import Eigenpairs, Path, eigenpairs_key
from ..stores.run_directory import Run

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

LEAST = 0.5  # overlap below which a branch ends and another begins
RELATIVE = 1e-2  # neighbours closer than this share of their size are a degenerate group
_PIECE = 1 << 18  # weights that are multiplied in float64 at a time


@dataclass(frozen=True)
class Following:
    """Branches of eigenpairs through training. Row r of a record is `values` followed by `lowest_values`.

    Branches are numbered from 0, largest eigenvalue first, later ones behind; NaN and -1 mean 'not there'. The
    branch's vector at a step is `bases[step] @ vectors`: +-1 times a stored one, or inside a degenerate group a
    combination; its overlap with the step before is never negative.
    """

    operator: str
    steps: Rows  # (step,)
    values: Array  # (branch, step) eigenvalue
    residuals: Array  # (branch, step) eigenvalue
    rows: Rows  # (branch, step) row of the record
    tops: Rows  # (step,) how many rows are largest eigenvalues; the rest are smallest ones
    overlap: Array  # (branch, step) cosine with the branch's vector one step earlier; NaN where it begins
    subspace: Array  # (step,) mean squared principal cosine of the largest eigenpairs' spaces; NaN at the first step
    lowest_subspace: Array  # (step,) the same for the smallest
    degenerate: list[list[tuple[int, ...]]]  # at each step the branches whose eigenvalues are not told apart
    bases: list[Array]  # at each step (row, row): followed vectors in terms of the stored ones

    def at(self, step: float) -> dict[int, float]:
        """Branch -> eigenvalue at any step: ticks of a video that keep their identity and move without jumps.

        Between two checkpoints a branch that both have is interpolated; others show while theirs is the nearer one.
        """
        right = int(np.clip(np.searchsorted(self.steps, step), 1, max(len(self.steps) - 1, 1)))
        left = right - 1
        if len(self.steps) < 2:
            column = self.values[:, left]
        else:
            gap = float(self.steps[right] - self.steps[left])
            share = float(np.clip((step - self.steps[left]) / gap, 0, 1))
            before, after = self.values[:, left], self.values[:, right]
            column = np.where(np.isfinite(before + after), (1 - share) * before + share * after,
                              after if share > 0.5 else before)  # fmt: skip
        return {branch: float(value) for branch, value in enumerate(column) if np.isfinite(value)}

    def lowest(self) -> NDArray[np.bool_]:
        """Which branches begin among the smallest eigenvalues (branch,)."""
        first = (self.rows >= 0).argmax(axis=1)  # (branch,) place of the step where it begins
        return np.asarray(self.rows[np.arange(len(first)), first] >= self.tops[first])

    def names(self, place: int) -> list[str]:
        """The degenerate groups at a place of `steps`, in words: 'branches 2 and 3'."""
        found = []
        for group in self.degenerate[place]:
            *first, last = [str(branch + 1) for branch in group]
            found.append(f"branches {', '.join(first)} and {last}")
        return found


# ------------------------------------------------------------------ from a run


def followed(run: Run, operator: str = "hessian", *, least: float = LEAST, relative: float = RELATIVE) -> Following:
    """The branches of all eigenpairs of a run that were stored with vectors; at most two records are in memory.

    Raises:
        ProblemError: no eigenvectors of this operator, or vectors of different lengths.
    """
    pairs, overlaps = [], []
    before: Eigenpairs | None = None
    for record in _with_vectors(run, operator):
        if before is not None:
            overlaps.append(cosines(before, record))
        before = record
        pairs.append(dataclasses.replace(record, vectors=None))
    if not pairs:
        raise ProblemError(
            f"'{run.root}' has no {operator} eigenvectors to follow; compute some: landscape spectrum {run.root}"
        )
    return follow(pairs, overlaps, least=least, relative=relative)


def _with_vectors(run: Run, operator: str) -> Iterator[Eigenpairs]:
    for step in run.steps("eigenpairs", operator):
        record: Eigenpairs = run.read(eigenpairs_key(operator, step), large=True)
        if record.vectors is not None and len(record.vectors):
            yield record


def on_path(path: Path) -> Following | None:
    """The largest eigenvalues along a path as branches; its steps are the numbers of the points. None where the path
    has no overlaps of one point's vectors with the next one's."""
    if path.overlap_next is None or not path.eigenpairs:
        return None
    none = np.empty(0)
    tops = [
        dataclasses.replace(pairs, step=i, lowest_values=none, lowest_residuals=none)
        for i, pairs in enumerate(path.eigenpairs)
    ]
    return follow(tops, list(path.overlap_next))


def cosines(before: Eigenpairs, after: Eigenpairs) -> Array:
    """V_t V_{t+1}^T (row, row), signed, summed in float64 over pieces of the weights.

    Raises:
        ProblemError: the vectors have different lengths, or were not read.
    """
    left, right = before.vectors, after.vectors
    if left is None or right is None or left.shape[1] != right.shape[1]:
        raise ProblemError(
            f"the eigenvectors of steps {before.step} and {after.step} are missing or have different lengths; "
            "compute them again with one problem"
        )
    found = np.zeros((len(left), len(right)))
    for start in range(0, left.shape[1], _PIECE):
        piece = slice(start, start + _PIECE)
        found += left[:, piece].astype(np.float64) @ right[:, piece].astype(np.float64).T
    return found


# ------------------------------------------------------------------ from overlaps


def follow(
    pairs: Sequence[Eigenpairs], overlaps: Sequence[Array], *, least: float = LEAST, relative: float = RELATIVE
) -> Following:
    """Branches of consecutive records; `overlaps[i]` are the `cosines` of records i and i + 1.

    Raises:
        ProblemError: nothing to follow, or overlaps that do not belong to the records.
    """
    values, residuals = ([_rows(p, name) for p in pairs] for name in ("values", "residuals"))
    shapes = [(len(a), len(b)) for a, b in itertools.pairwise(values)]
    if not pairs or [c.shape for c in overlaps] != shapes:
        raise ProblemError(
            f"{len(pairs)} records with eigenvectors cannot be followed by {len(overlaps)} matrices of overlaps; "
            "give one `cosines` for each record and its successor"
        )
    groups = [degenerate_groups(v, r, relative) for v, r in zip(values, residuals, strict=True)]
    bases = [np.eye(len(values[0]))]
    branches = [_ranks(values[0])]  # at each step the branch that sits in each row
    cosine = [np.full(len(values[0]), np.nan)]
    count = len(values[0])
    for i, raw in enumerate(overlaps, start=1):
        here = bases[-1] @ raw  # (row, row) followed vectors against stored ones
        basis, origin, along = _turned(here, groups[i], _matched(here, groups[i], least))
        new = origin < 0
        branch = branches[-1][origin]
        branch[new] = count + _ranks(values[i][new])
        count += int(new.sum())
        bases.append(basis)
        branches.append(branch)
        cosine.append(along)
    shape = (count, len(pairs))
    table = {name: np.full(shape, np.nan) for name in ("values", "residuals", "overlap")}
    rows = np.full(shape, -1, dtype=np.int64)
    for t, branch in enumerate(branches):
        for name, column in (("values", values[t]), ("residuals", residuals[t]), ("overlap", cosine[t])):
            table[name][branch, t] = column
        rows[branch, t] = np.arange(len(branch))
    tops = np.array([len(p.values) for p in pairs], dtype=np.int64)
    return Following(
        pairs[0].operator, np.array([p.step for p in pairs], dtype=np.int64), rows=rows, tops=tops, **table,
        subspace=_subspaces(overlaps, [slice(top) for top in tops]),
        lowest_subspace=_subspaces(overlaps, [slice(top, None) for top in tops]),
        degenerate=[
            [tuple(sorted(branch[g].tolist())) for g in found if len(g) > 1]
            for branch, found in zip(branches, groups, strict=True)
        ],
        bases=bases,
    )  # fmt: skip


def degenerate_groups(values: Array, residuals: Array, relative: float = RELATIVE) -> list[Rows]:
    """All rows, in groups of eigenvalues not told apart: neighbours with a gap below both residual bounds together,
    or below `relative` of the larger of them."""
    order = np.argsort(-values, kind="stable")
    high, low = values[order[:-1]], values[order[1:]]
    bound = np.maximum(residuals[order[:-1]] + residuals[order[1:]], relative * np.maximum(np.abs(high), np.abs(low)))
    return np.split(order, np.flatnonzero(high - low > bound) + 1)


def _matched(here: Array, groups: Sequence[Rows], least: float) -> dict[int, int]:
    """Row of the later step -> row of the earlier one, by the largest total overlap with the later one's group.

    The overlap of a vector with a group is the length of its projection, norm(here[i, group]).
    """
    reach = np.zeros_like(here)
    for group in groups:
        reach[:, group] = np.linalg.norm(here[:, group], axis=1, keepdims=True)
    score = np.where(reach >= least, reach + 1e-6 * np.abs(here), 0.0)  # within a group: the nearest stored vector
    return {int(j): int(i) for i, j in zip(*_assignment(score), strict=True) if score[i, j] > 0}


def _turned(here: Array, groups: Sequence[Rows], matched: dict[int, int]) -> tuple[Array, Rows, Array]:
    """Every group's basis turned to fit the vectors that were matched with it: max trace(P here[rows, group]^T) over
    P with orthonormal rows. Returns the basis (row, row), each row's origin (-1: new) and its cosine with it."""
    size = here.shape[1]
    basis, origin, cosine = np.zeros((size, size)), np.full(size, -1), np.full(size, np.nan)
    for group in groups:
        rows = np.array([matched[j] for j in group.tolist() if j in matched], dtype=np.int64)
        block = here[np.ix_(rows, group)]  # (matched, group)
        left, _, right = np.linalg.svd(block)
        rest = right[len(rows) :]
        largest = np.take_along_axis(rest, np.abs(rest).argmax(axis=1)[:, None], axis=1)
        turned = np.concatenate([left @ right[: len(rows)], rest * np.where(largest < 0, -1.0, 1.0)])
        for i, j in zip(*_assignment(turned**2), strict=True):
            basis[group[j], group] = turned[i]
            if i < len(rows):
                origin[group[j]], cosine[group[j]] = rows[i], turned[i] @ block[i]
    return basis, origin, cosine


def _assignment(score: Array) -> tuple[Rows, Rows]:
    """Rows and columns of the assignment with the largest total score."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(score, maximize=True)
    return rows, columns


def _subspaces(overlaps: Sequence[Array], rows: Sequence[slice]) -> Array:
    """||V_t V_{t+1}^T||_F^2 / k of the spaces of some rows (step,): 1 when the smaller lies in the larger, 0 when they
    are orthogonal, NaN at the first step."""
    blocks = [c[a, b] for c, (a, b) in zip(overlaps, itertools.pairwise(rows), strict=True)]
    return np.array([np.nan, *(float((c**2).sum()) / min(c.shape) if c.size else np.nan for c in blocks)])


def _rows(pairs: Eigenpairs, name: str) -> Array:
    """`values` or `residuals` of all rows: first the largest pairs, then the smallest."""
    return np.concatenate([getattr(pairs, name), getattr(pairs, f"lowest_{name}")])


def _ranks(values: Array) -> Rows:
    """Place of each value in descending order."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return ranks
