"""Planes through weight space: two leading eigenvectors, principal components of the path, or a random pair.

    theta(u, v) = origin + u * directions[0] + v * directions[1]

The directions are orthonormal, so u, v and every distance are in units of weight, for every kind of plane. An
eigenvector or a principal component is never rescaled: only random directions are filter-normalised.
Sums and projections run in float64, whatever the weights' dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import ProblemError
from .filters import filter_normalised_pair, filter_numbers
from .problem import Problem
from .records import Surface

Float64 = NDArray[np.float64]

_EVIDENCE = (
    *("values", "residuals", "pair", "cosine"),  # eigen
    *("explained_variance", "captured", "random_walk", "checkpoints"),  # pca
    *("scale", "seed", "filters", "covered", "rule"),  # random
)


@dataclass(frozen=True)
class Plane:
    """Origin and two orthonormal directions in the weights' own dtype, so that a stored plane is the plane used.

    `kind` is 'eigen', 'pca' or 'random', `step` the checkpoint at the origin, `info` the evidence that goes into
    the meta of the records: eigenvalues and residuals, explained variance, or scale and rule of a random pair.

    Raises:
        ProblemError: sizes differ, a number is not finite, or the directions are not orthonormal to 1e-5.
    """

    kind: str
    step: int
    labels: list[str]
    origin: Tensor  # (size,)
    directions: Tensor  # (2, size) orthonormal rows
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.origin.ndim != 1 or self.directions.shape != (2, self.origin.numel()):
            raise ProblemError(
                f"the {self.kind} plane needs directions of shape (2, {self.origin.numel()}) like its origin, "
                f"got {tuple(self.directions.shape)}; compute it from this model's own checkpoints"
            )
        error = (self.gram - torch.eye(2, dtype=torch.float64)).abs().max().item()
        if not (error <= 1e-5 and bool(torch.isfinite(self.origin).all())):
            raise ProblemError(
                f"the {self.kind} plane at step {self.step} is not finite or its directions are not orthonormal "
                f"(deviation {error:.2g}); compute them again"
            )

    @property
    def gram(self) -> Tensor:
        """Inner products of the two directions, (2, 2) float64 on the CPU."""
        return _inner(self.directions.double(), self.directions.double())

    def point(self, u: float, v: float) -> Tensor:
        """Weights (size,) at (u, v), always from the stored origin; (0, 0) is the origin bit for bit."""
        return self.points(np.array([u]), v)[0]

    def points(self, u: Float64, v: float) -> Tensor:
        """Weights (len(u), size) along a row of the grid, combined in float64, in the origin's dtype."""
        first, second = self.directions.double()
        base = self.origin.double() + v * second
        along = torch.as_tensor(u, dtype=torch.float64, device=base.device)
        combined: Tensor = (base + along[:, None] * first).to(self.origin.dtype)
        return combined

    def coordinates(self, vector: Tensor) -> tuple[float, float, float]:
        """(u, v) of the projection of a weight vector onto the plane, and its distance from the plane.

        Raises:
            ProblemError: the vector has another size than the plane.
        """
        if vector.shape != self.origin.shape:
            raise ProblemError(
                f"a weight vector of {vector.numel():,} entries cannot be projected onto a plane of "
                f"{self.origin.numel():,}; take checkpoints of the same model"
            )
        d = self.directions.double()  # (2, size)
        difference = vector.to(self.origin.device).double() - self.origin.double()
        # Least squares instead of two dot products: exact although rounding to float32 leaves d a trace off orthogonal.
        uv = torch.linalg.solve(self.gram, (d @ difference).cpu())
        off_plane = torch.linalg.norm(difference - uv.to(d.device) @ d)
        return float(uv[0]), float(uv[1]), float(off_plane)


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of rows, (left rows, right rows) on the CPU."""
    products: Tensor = left @ right.T
    return products.cpu()


def from_surface(record: Surface) -> Plane:
    """The plane a surface was computed on (read the record with `large=True`).

    Raises:
        ProblemError: the record was read or written without its directions.
    """
    if record.directions is None or record.origin is None:
        raise ProblemError(f"the {record.plane} surface of step {record.step} lacks its directions; compute it again")
    origin, directions = (torch.from_numpy(np.array(a)) for a in (record.origin, record.directions))
    info = {name: record.meta[name] for name in _EVIDENCE if name in record.meta}
    return Plane(record.plane, record.step, list(record.labels), origin, directions, info)


# ------------------------------------------------------------------ eigenvectors


def eigen_plane(
    origin: Tensor,
    eigenvectors: Tensor | NDArray[Any],
    values: Sequence[float] | Float64,
    residuals: Sequence[float] | Float64,
    *,
    pair: tuple[int, int] = (0, 1),
    step: int = 0,
) -> Plane:
    """Plane of two eigenvectors, rows of (k, size), through the checkpoint `origin`; the largest entries are positive.

    Raises:
        ProblemError: fewer vectors than `pair` asks for, or vectors that are far from orthogonal (not converged).
    """
    rows = torch.as_tensor(eigenvectors)
    if pair[0] == pair[1] or not all(0 <= i < len(rows) for i in pair):
        raise ProblemError(
            f"the eigenvector plane needs two different eigenvectors of the {len(rows)} computed, got {pair}; "
            "compute more with --top"
        )
    chosen = rows[list(pair)].to(origin.device).double()
    chosen = chosen / torch.linalg.norm(chosen, dim=1, keepdim=True)
    cosine = float(chosen[0] @ chosen[1])
    if not abs(cosine) <= 1e-3:
        raise ProblemError(
            f"eigenvectors {pair[0] + 1} and {pair[1] + 1} at step {step} are not orthogonal (cosine {cosine:.2g}): "
            "they have not converged; raise --iterations or use --dtype float64"
        )
    directions = _orthonormal(chosen)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    directions = directions * torch.where(largest < 0, -1.0, 1.0)
    picked_values, picked_residuals = ([float(x[i]) for i in pair] for x in (values, residuals))
    info = {"values": picked_values, "residuals": picked_residuals, "pair": list(pair), "cosine": cosine}
    labels = [f"eigenvector {i + 1}, eigenvalue {x:.3g}" for i, x in zip(pair, picked_values, strict=True)]
    return Plane("eigen", step, labels, origin.clone(), directions.to(origin.dtype), info)


def _orthonormal(rows: Tensor) -> Tensor:
    """Gram-Schmidt on two float64 rows."""
    first = rows[0] / torch.linalg.norm(rows[0])
    second = rows[1]
    for _ in range(2):  # twice is enough (Kahan; Parlett 1980)
        second = second - (second @ first) * first
    return torch.stack([first, second / torch.linalg.norm(second)])


# ------------------------------------------------------------------ principal components


class Vectors(Sequence[Tensor]):
    """Checkpoints as weight vectors that are loaded when asked for: Vectors(load, count)[i] is load(i)."""

    def __init__(self, load: Callable[[int], Tensor], count: int) -> None:
        self._load, self._count = load, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._load(i) for i in range(*index.indices(self._count))]
        return self._load(range(self._count)[index])


def pca_plane(vectors: Sequence[Tensor], *, step: int = 0, memory: int = 1 << 30) -> Plane:
    """Plane of the two principal components of the path, through its last checkpoint theta_T.

    The right singular vectors of the differences M = [theta_i - theta_T], from the Gram matrix M M^T in float64
    (Lorch 2016; Li et al. 2018, sec. 7). `vectors` is a list, or `Vectors` that loads checkpoints on demand; at most
    `memory` bytes of them are held at once. `explained_variance` is each axis' share of the squared distances from
    theta_T; `random_walk` is what an isotropic random walk of as many checkpoints shows in many dimensions
    (Antognini and Sohl-Dickstein 2018): a high share alone proves nothing. The sign puts the checkpoint with the
    largest coordinate on the positive side.

    Raises:
        ProblemError: fewer than three checkpoints, sizes that differ, or a path that does not span a plane.
    """
    count = len(vectors)
    if count < 3:
        raise ProblemError(
            f"a principal-component plane needs at least 3 checkpoints, got {count}; "
            "record more, or use the eigen or the random plane"
        )
    last = vectors[count - 1]
    gram = _gram(vectors, last, memory)  # (count - 1, count - 1)
    squares, left = np.linalg.eigh(gram)
    squares, left = np.maximum(squares[::-1], 0.0), left[:, ::-1]
    rounding = torch.finfo(last.dtype).eps * float(torch.linalg.norm(last.double()))  # of one stored checkpoint
    floor = len(gram) * max(np.finfo(np.float64).eps * squares[0], rounding**2)  # what rounding alone makes of a line
    if not squares[1] > floor:
        shape = "do not move at all" if squares[0] == 0 else "move along one straight line"
        raise ProblemError(f"the {count} checkpoints {shape}, so they span no plane; use the eigen or the random plane")
    axes = left[:, :2] * np.sign(np.take_along_axis(left, np.abs(left).argmax(axis=0)[None], axis=0))[:, :2]
    directions = torch.zeros(2, last.numel(), dtype=torch.float64, device=last.device)
    for start, block in _differences(vectors, last, memory):
        directions += torch.from_numpy(axes[start : start + len(block)].T.copy()).to(block.device) @ block
    walk = random_walk_shares(count)[:2]
    share = squares[:2] / squares.sum()
    info = {
        "explained_variance": share.tolist(),
        "captured": float(share.sum()),
        "random_walk": walk.tolist(),
        "checkpoints": count,
    }
    labels = [f"principal component {i + 1}, {100 * s:.3g} % of the path" for i, s in enumerate(share)]
    return Plane("pca", step, labels, last.clone(), _orthonormal(directions).to(last.dtype), info)


def random_walk_shares(count: int) -> Float64:
    """Shares of the principal components for an isotropic random walk of `count` points seen from its last one.

    The expected Gram matrix is min(i, j); its eigenvalues are 1 / (4 sin^2((2k - 1) pi / (4 n + 2))), n = count - 1.
    """
    n = count - 1
    k = np.arange(1, n + 1)
    squares: Float64 = 0.25 / np.sin((2 * k - 1) * np.pi / (4 * n + 2)) ** 2
    shares: Float64 = squares / squares.sum()
    return shares


def _differences(vectors: Sequence[Tensor], last: Tensor, memory: int, start: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Blocks (first index, (rows, size) float64) of theta_i - theta_T, from `start` to the last but one."""
    rows = max(1, memory // (2 * 8 * max(1, last.numel())))  # two blocks are alive at a time
    reference = last.double()
    for first in range(start, len(vectors) - 1, rows):
        block = [vectors[i] for i in range(first, min(first + rows, len(vectors) - 1))]
        for vector in block:
            if vector.shape != last.shape:
                raise ProblemError(
                    f"checkpoints of {vector.numel():,} and of {last.numel():,} weights span no plane; "
                    "take those of one model"
                )
        yield first, torch.stack([vector.double() - reference for vector in block])


def _gram(vectors: Sequence[Tensor], last: Tensor, memory: int) -> Float64:
    """Inner products of all differences; blocks are loaded pair by pair when they do not fit in memory at once."""
    gram = np.zeros((len(vectors) - 1, len(vectors) - 1))
    for i, left in _differences(vectors, last, memory):
        gram[i : i + len(left), i : i + len(left)] = _inner(left, left).numpy()
        for j, right in _differences(vectors, last, memory, start=i + len(left)):
            product = _inner(left, right).numpy()
            gram[i : i + len(left), j : j + len(right)] = product
            gram[j : j + len(right), i : i + len(left)] = product.T
    if not np.isfinite(gram).all():
        raise ProblemError("a checkpoint holds NaN or infinite weights; leave it out with --checkpoints")
    return gram


# ------------------------------------------------------------------ random, filter-normalised


def random_plane(problem: Problem, origin: Tensor, *, seed: int = 0, step: int = 0) -> Plane:
    """Plane of two random directions, each scaled filter by filter to the norm of the weights' own filter.

    Stored are d / norm(d); `info["scale"]` = norm(d1) = norm(d2) turns u, v into filter-normalised units: u / scale.
    The mean curvature of such a plane is about trace / size: it hides the sharp directions.

    Raises:
        ProblemError: nothing to normalise to: all filters are zero or hold a single weight.
    """
    filters = filter_numbers(problem)  # (size,)
    if not bool((filters >= 0).any()):
        raise ProblemError("the model has no weight matrix, hence no filters; use the eigen or the pca plane")
    pair = filter_normalised_pair(origin, filters, seed)  # (2, size)
    scale = float(torch.linalg.norm(pair[0]))
    if not scale > 0:
        raise ProblemError(f"all filters at step {step} are zero: no random plane; use the eigen or the pca plane")
    info = {
        "scale": scale,
        "seed": seed,
        "filters": int(filters.max()) + 1,
        "covered": int((filters >= 0).sum()),
        "rule": "per output unit, bias joined to its filter; normalisation layers and lone vectors frozen",
    }
    labels = [f"random direction {i}, filter-normalised" for i in (1, 2)]
    return Plane("random", step, labels, origin.clone(), (pair / scale).to(origin.device, origin.dtype), info)
