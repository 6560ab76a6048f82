"""Plane of two principal components of the checkpoints of one run, or of several runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ProblemError
from ..plane import Float64, Plane, orthonormal


class Vectors(Sequence[Tensor]):
    """Checkpoints as weight vectors that are loaded when asked for: Vectors(load, count)[i] is load(i).

    `part(i, start, stop)` reads entries start to stop of one alone; without it they are cut out of the whole.
    """

    def __init__(
        self, load: Callable[[int], Tensor], count: int, part: Callable[[int, int, int], Tensor] | None = None
    ) -> None:
        self._load, self._count = load, count
        self.part = part or (lambda i, start, stop: load(i)[start:stop])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._load(i) for i in range(*index.indices(self._count))]
        return self._load(range(self._count)[index])


def pca_plane(
    vectors: Sequence[Tensor],
    *,
    step: int = 0,
    memory: int = 1 << 30,
    pair: tuple[int, int] = (0, 1),
    counts: Sequence[int] = (),
    variant: str = "",
) -> Plane:
    """Plane of two principal components of the path, the first two by default, through its last checkpoint theta_T.

    The right singular vectors of the differences M = [theta_i - theta_T], from the Gram matrix M M^T in float64
    (Lorch 2016; Li et al. 2018, sec. 7). `vectors` is a list, or `Vectors` that reads on demand: of all checkpoints the
    same few weights are held at once, at most `memory` bytes, and every weight is read twice. `counts` says how many
    checkpoints each of several runs has, in the order of `vectors`: the plane is then common to all, through the last
    checkpoint of the last.
    `explained_variance` is each axis' share of the squared distances from theta_T; `random_walk` is what isotropic
    random walks of as many checkpoints show in many dimensions (Antognini and Sohl-Dickstein 2018): a high share
    alone proves nothing. The sign puts the checkpoint with the largest coordinate on the positive side.

    Raises:
        ProblemError: fewer than three checkpoints, sizes that differ, or a path that does not span a plane.
    """
    count = len(vectors)
    counts = list(counts) or [count]
    if count < 3 or sum(counts) != count:
        raise ProblemError(
            f"a principal-component plane needs at least 3 checkpoints, got {count}; "
            "record more, or use the eigen or the random plane"
        )
    last = vectors[count - 1]
    gram = _gram(vectors, last, memory)  # (count - 1, count - 1)
    squares, left = np.linalg.eigh(gram)
    squares, left = np.maximum(squares[::-1], 0.0), left[:, ::-1]
    chosen = _chosen(pair, squares, last, count)
    axes = left[:, chosen] * np.sign(np.take_along_axis(left, np.abs(left).argmax(axis=0)[None], axis=0))[:, chosen]
    directions = torch.zeros(2, last.numel(), dtype=torch.float64, device=last.device)
    across = torch.from_numpy(axes.T.copy()).to(last.device)  # (2, count - 1)
    for start, block in _differences(vectors, last, memory):
        directions[:, start : start + block.shape[1]] = across @ block
    walk = random_walk_shares(count) if len(counts) == 1 else random_walks_shares(counts, _starts(gram, counts))
    share = (squares / squares.sum())[chosen]
    info = {
        "explained_variance": share.tolist(),
        "captured": float(share.sum()),
        "random_walk": walk[chosen].tolist(),
        "components": [i + 1 for i in pair],
        "checkpoints": count,
        "runs": len(counts),
    }
    what = "the path" if len(counts) == 1 else "the paths"
    labels = [f"principal component {i + 1}, {100 * s:.3g} % of {what}" for i, s in zip(pair, share, strict=True)]
    return Plane("pca", step, labels, last.clone(), orthonormal(directions).to(last.dtype), info, variant)


def _chosen(pair: tuple[int, int], squares: Float64, last: Tensor, count: int) -> list[int]:
    """The two components, checked to be more than what rounding makes of a path in fewer dimensions."""
    if pair[0] == pair[1] or not all(0 <= i < len(squares) for i in pair):
        told = " and ".join(str(i + 1) for i in pair)
        raise ProblemError(f"{count} checkpoints have {len(squares)} principal components, got {told}")
    rounding = torch.finfo(last.dtype).eps * float(torch.linalg.norm(last.double()))  # of one stored checkpoint
    floor = len(squares) * max(np.finfo(np.float64).eps * squares[0], rounding**2)
    if not squares[max(pair)] > floor:
        shapes = {0: "do not move at all", 1: "move along one straight line"}
        dimensions = int((squares > floor).sum()) if squares[0] > 0 else 0
        shape = shapes.get(dimensions, f"move in {dimensions} dimensions only")
        raise ProblemError(
            f"the {count} checkpoints {shape}, so they span no {'such ' if dimensions > 1 else ''}plane; "
            "use the eigen or the random plane"
        )
    return list(pair)


def random_walk_shares(count: int) -> Float64:
    """Shares of the principal components for an isotropic random walk of `count` points seen from its last one.

    The expected Gram matrix is min(i, j); its eigenvalues are 1 / (4 sin^2((2k - 1) pi / (4 n + 2))), n = count - 1.
    """
    n = count - 1
    k = np.arange(1, n + 1)
    squares: Float64 = 0.25 / np.sin((2 * k - 1) * np.pi / (4 * n + 2)) ** 2
    shares: Float64 = squares / squares.sum()
    return shares


def random_walks_shares(counts: Sequence[int], starts: Float64 | None = None) -> Float64:
    """The same for independent walks, of as many points each, seen from the last point of the last.

    `starts` (run, run) are inner products of the walks' starts, seen from the last one's, in squared steps; by default
    all begin in one point. With x_i = w_i - w_T, w the last walk of T steps, and y_j another walk's point after j steps
    seen from w_T: <x_i, x_j> = T - max(i, j), <x_i, y_j> = T - i, and <y_i, y_j> = T + the starts' product, + min(i, j)
    on one walk, all expected.
    """
    total = counts[-1] - 1
    at = np.concatenate([np.arange(c) for c in counts])[:-1]  # steps from the start
    walk = np.repeat(np.arange(len(counts)), counts)[:-1]
    same = walk[:, None] == walk
    own = (walk == len(counts) - 1)[:, None] & np.ones_like(same)
    apart = np.zeros((len(counts), len(counts))) if starts is None else starts
    gram = apart[np.ix_(walk, walk)] + np.where(same, total + np.minimum.outer(at, at), total)
    gram = np.where(own, total - at[:, None], gram)
    gram = np.where(own.T, total - at[None, :], gram)
    gram = np.where(own & own.T, total - np.maximum.outer(at, at), gram)
    squares = np.maximum(np.linalg.eigvalsh(gram.astype(np.float64))[::-1], 0.0)
    shares: Float64 = squares / squares.sum()
    return shares


def _starts(gram: Float64, counts: Sequence[int]) -> Float64:
    """Inner products of the runs' first checkpoints, seen from the last run's, over the mean squared step of all runs.

    `gram` (count - 1, count - 1) holds those of all checkpoints but the last, seen from it.
    """
    full = np.pad(gram, ((0, 1), (0, 1)))  # the last checkpoint is the origin
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    from_last = np.eye(len(full))[first] - np.eye(len(full))[first[-1]]
    steps = np.delete(np.diff(np.eye(len(full)), axis=0), first[1:] - 1, axis=0)  # from one checkpoint to the next
    square = float(np.einsum("ik,kl,il->i", steps, full, steps).mean()) if len(steps) else 0.0
    found: Float64 = from_last @ full @ from_last.T / square if square > 0 else np.zeros((len(counts), len(counts)))
    return found


def _differences(vectors: Sequence[Tensor], last: Tensor, memory: int) -> Iterator[tuple[int, Tensor]]:
    """Blocks (first weight, (count - 1, weights) float64) of theta_i - theta_T: all checkpoints, a few weights."""
    count, size = len(vectors) - 1, last.numel()
    part = vectors.part if isinstance(vectors, Vectors) else lambda i, start, stop: vectors[i][start:stop]
    wide = max(1, memory // (8 * count))
    if not isinstance(vectors, Vectors):
        for vector in vectors:
            _check_size(vector.numel(), size)
    for start in range(0, size, wide):
        stop = min(start + wide, size)
        block = torch.empty(count, stop - start, dtype=torch.float64, device=last.device)
        for i in range(count):
            piece = part(i, start, stop)
            _check_size(start + piece.numel(), stop)
            torch.sub(piece.double(), last[start:stop].double(), out=block[i])
            del piece
        yield start, block


def _check_size(found: int, size: int) -> None:
    if found != size:
        raise ProblemError(f"checkpoints of {found:,} and of {size:,} weights span no plane; take those of one model")


def _gram(vectors: Sequence[Tensor], last: Tensor, memory: int) -> Float64:
    """Inner products of all differences, summed over blocks of weights."""
    gram = np.zeros((len(vectors) - 1, len(vectors) - 1))
    for _start, block in _differences(vectors, last, memory):
        gram += (block @ block.T).cpu().numpy()
    if not np.isfinite(gram).all():
        raise ProblemError("a checkpoint holds NaN or infinite weights; leave it out with --checkpoints")
    return gram
