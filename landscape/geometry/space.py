"""Three-dimensional spaces through weight space: three eigenvectors, principal components, or random directions.

    theta(u, v, w) = origin + u * directions[0] + v * directions[1] + w * directions[2]

They are joined from planes, with the planes' rules: directions are orthonormal, coordinates in units of weight, only
random directions are normalised filter by filter. Sums and projections run in float64, whatever the weights' dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ProblemError
from ..loss.problem import Problem
from ..networks.filters import filter_numbers
from .directions import Plane, Vectors, eigen_plane, pca_plane, random_plane
from .plane import check_axes, gram

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """Origin and three orthonormal directions in the weights' own dtype, so that a stored space is the space used.

    `kind`, `step`, `labels` and `info` are those of a `Plane`, with three entries where a plane has one for each axis.

    Raises:
        ProblemError: sizes differ, a number is not finite, or the directions are not orthonormal to 1e-5.
    """

    kind: str
    step: int
    labels: list[str]
    origin: Tensor  # (size,)
    directions: Tensor  # (3, size) orthonormal rows
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_axes(f"{self.kind} volume", self.step, self.origin, self.directions, 3)

    @property
    def gram(self) -> Tensor:
        """Inner products of the directions, (3, 3) float64 on the CPU."""
        return gram(self.directions)

    def pair(self, first: int, second: int) -> Plane:
        """The plane of two of the axes."""
        axes = [first, second]
        info = {k: [v[i] for i in axes] if isinstance(v, list) and len(v) == 3 else v for k, v in self.info.items()}
        return Plane(self.kind, self.step, [self.labels[i] for i in axes], self.origin, self.directions[axes], info)

    def points(self, u: Float64, v: float, w: float) -> Tensor:
        """Weights (len(u), size) along a row of the grid, always from the stored origin, in the origin's dtype."""
        first, second, third = self.directions.double()
        base = self.origin.double() + v * second + w * third
        along = torch.as_tensor(u, dtype=torch.float64, device=base.device)
        combined: Tensor = (base + along[:, None] * first).to(self.origin.dtype)
        return combined

    def coordinates(self, vector: Tensor) -> tuple[float, float, float, float, float]:
        """(u, v, w) of a weight vector's projection, its distance from the space, and its distance from the origin.

        Raises:
            ProblemError: the vector has another size than the space.
        """
        if vector.shape != self.origin.shape:
            raise ProblemError(
                f"a weight vector of {vector.numel():,} entries cannot be projected onto a volume of "
                f"{self.origin.numel():,}; take checkpoints of the same model"
            )
        rows = self.directions.double()
        difference = vector.to(self.origin.device).double() - self.origin.double()
        # Least squares instead of dot products: exact although rounding to float32 leaves rows a trace off orthogonal.
        at = torch.linalg.solve(self.gram, (rows @ difference).cpu())
        off = torch.linalg.norm(difference - at.to(rows.device) @ rows)
        u, v, w = at.tolist()
        return u, v, w, float(off), float(torch.linalg.norm(difference))


# ------------------------------------------------------------------ constructors


def eigen_space(
    origin: Tensor, eigenvectors: Tensor | NDArray[Any], values: Sequence[float] | Float64,
    residuals: Sequence[float] | Float64, *, step: int = 0,
) -> Space:  # fmt: skip
    """Space of the three leading eigenvectors, rows of (k, size), through the checkpoint `origin`.

    Raises:
        ProblemError: fewer than three eigenvectors, or vectors that have not converged.
    """
    if len(eigenvectors) < 3:
        raise ProblemError(
            f"the eigenvector volume needs three eigenvectors, got {len(eigenvectors)}; compute more with --top"
        )
    first, second, _orthogonal = (
        eigen_plane(origin, eigenvectors, values, residuals, pair=pair, step=step)
        for pair in ((0, 1), (0, 2), (1, 2))
    )  # fmt: skip
    rows = torch.stack([*first.directions, second.directions[1]])
    return _space(first, [*first.labels, second.labels[1]], rows, _merged(first.info, second.info))


def pca_space(vectors: Sequence[Tensor], *, step: int = 0) -> Space:
    """Space of the three principal components of the path, through its last checkpoint theta_T.

    The second and the third are the components of the path freed from the first. `explained_variance` is each axis'
    share of the squared distances from theta_T, as in `pca_plane`.

    Raises:
        ProblemError: fewer than four checkpoints, or a path that does not span a space.
    """
    count = len(vectors)
    if count < 4:
        raise ProblemError(
            f"a principal-component volume needs at least 4 checkpoints, got {count}; "
            "record more, or use the eigen or the random volume"
        )
    first = pca_plane(vectors, step=step)
    last, axis = first.origin.double(), first.directions[0].double()

    def freed(i: int) -> Tensor:
        away = vectors[i].double() - last
        return (last + away - (away @ axis) * axis).to(first.origin.dtype)

    try:
        rest = pca_plane(Vectors(freed, count), step=step)
    except ProblemError as error:
        raise ProblemError(
            f"the {count} checkpoints move in a plane, so they span no volume; use the eigen or the random volume"
        ) from error
    shares = [first.info["explained_variance"][0]]
    shares += [(1 - shares[0]) * share for share in rest.info["explained_variance"]]
    labels = [f"principal component {i}, {100 * share:.3g} % of the path" for i, share in enumerate(shares, start=1)]
    info = {"explained_variance": shares, "captured": sum(shares), "checkpoints": count}
    return _space(first, labels, torch.stack([axis, *rest.directions.double()]), info)


def random_space(problem: Problem, origin: Tensor, *, seed: int = 0, step: int = 0) -> Space:
    """Space of three random directions, each scaled filter by filter to the norm of the weights' own filter.

    The first two are those of `random_plane`; the third is orthogonal to both inside every filter, and zero in
    filters of fewer than three weights, which have no room for it (`info["too_small"]` counts them).
    `info["scale"]` turns u, v, w into filter-normalised units.

    Raises:
        ProblemError: the model has no filter of three weights.
    """
    plane = random_plane(problem, origin, seed=seed, step=step)
    drawn = random_plane(problem, origin, seed=seed + 500_009, step=step).directions[0].cpu().double()
    filters = filter_numbers(problem)
    entries = torch.bincount(filters[filters >= 0])
    roomy = torch.cat([entries >= 3, torch.zeros(1, dtype=torch.bool)])[filters]  # (size,)
    third = _orthogonal_inside(drawn * roomy, plane.directions.cpu().double(), filters, len(entries))
    norms = _inside(origin.detach().cpu().double(), origin.detach().cpu().double(), filters, len(entries)).sqrt()
    own = _inside(third, third, filters, len(entries)).sqrt()
    third = third * torch.where(own > 0, norms / own.clamp(min=1e-300), 0.0)[filters.clamp(min=0)] * roomy
    scale = float(torch.linalg.norm(third))
    if not scale > 0:
        raise ProblemError(
            "no filter of the model has three weights, so no random volume; use the eigen or the pca volume"
        )
    scales = [plane.info["scale"], plane.info["scale"], scale]
    info = plane.info | {"scale": scales, "too_small": int((entries < 3).sum())}
    rows = torch.stack([*plane.directions.double(), third.to(origin.device)])
    return _space(plane, [*plane.labels, "random direction 3, filter-normalised"], rows, info)


def _inside(left: Tensor, right: Tensor, filters: Tensor, count: int) -> Tensor:
    """Inner products inside every filter, (count,)."""
    covered = filters >= 0
    return torch.zeros(count, dtype=torch.float64).index_add_(0, filters[covered], (left * right)[covered])


def _orthogonal_inside(vector: Tensor, rows: Tensor, filters: Tensor, count: int) -> Tensor:
    """A vector made orthogonal to two rows (2, size) inside every filter."""
    place = filters.clamp(min=0)
    basis: list[Tensor] = []
    for row in (*rows, vector):
        for _ in range(2):  # twice is enough (Kahan; Parlett 1980)
            for known in basis:
                square = _inside(known, known, filters, count)
                share = _inside(known, row, filters, count) / torch.where(square > 0, square, 1.0)
                row = row - share[place] * known
        basis.append(row)
    return basis[-1]


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Evidence of the planes of axes 1 and 2, and 1 and 3: what has an entry for each axis gets a third."""
    both = {k for k, v in first.items() if isinstance(v, list) and len(v) == 2 and k in second}
    return {k: [*v, second[k][1]] if k in both else v for k, v in first.items()}


def _space(plane: Plane, labels: list[str], rows: Tensor, info: dict[str, Any]) -> Space:
    """The space of three rows (3, size), orthonormal in float64: earlier rows keep their direction."""
    basis: list[Tensor] = []
    for row in rows.double():
        for _ in range(2):
            for known in basis:
                row = row - (row @ known) * known
        basis.append(row / torch.linalg.norm(row))
    return Space(plane.kind, plane.step, labels, plane.origin, torch.stack(basis).to(plane.origin.dtype), info)
