"""A plane through weight space: an origin and two orthonormal directions.

    theta(u, v) = origin + u * directions[0] + v * directions[1]

u, v and every distance are in units of weight, for every kind of plane. Sums and projections run in float64, whatever
the weights' dtype.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ProblemError
from ..records import Surface

Float64 = NDArray[np.float64]

_EVIDENCE = (
    *("operator", "values", "residuals", "pair", "close", "cosine", "curvature"),  # eigenvectors
    *("explained_variance", "captured", "random_walk", "components", "checkpoints", "runs"),  # pca
    *("scale", "seed", "filters", "covered", "rule"),  # random
    *("gradient_norm", "start", "corners", "alignment"),  # gradient, displacement, minima
)
_PER_AXIS = ("values", "residuals", "pair", "close", "curvature", "explained_variance", "components")


def gram(directions: Tensor) -> Tensor:
    """Inner products of directions (k, size): (k, k) float64 on the CPU."""
    return _inner(directions.double(), directions.double())


def check_axes(what: str, step: int, origin: Tensor, directions: Tensor, axes: int) -> None:
    """Raises:
    ProblemError: sizes differ, a number is not finite, or the directions are not orthonormal to 1e-5.
    """
    if origin.ndim != 1 or directions.shape != (axes, origin.numel()):
        raise ProblemError(
            f"the {what} needs directions of shape ({axes}, {origin.numel()}) like its origin, "
            f"got {tuple(directions.shape)}; compute it from this model's own checkpoints"
        )
    error = (gram(directions) - torch.eye(axes, dtype=torch.float64)).abs().max().item()
    if not (error <= 1e-5 and bool(torch.isfinite(origin).all())):
        raise ProblemError(
            f"the {what} at step {step} is not finite or its directions are not orthonormal "
            f"(deviation {error:.2g}); compute them again"
        )


@dataclass(frozen=True)
class Plane:
    """Origin and two orthonormal directions in the weights' own dtype, so that a stored plane is the plane used.

    `kind` is a file of planes/, `variant` tells planes of one kind and step apart ('' is the plain one),
    `step` is the checkpoint at the origin, `info` the evidence that goes into the meta of the records: eigenvalues and
    residuals, explained variance, or scale and rule of a random pair.

    Raises:
        ProblemError: sizes differ, a number is not finite, or the directions are not orthonormal to 1e-5.
    """

    kind: str
    step: int
    labels: list[str]
    origin: Tensor  # (size,)
    directions: Tensor  # (2, size) orthonormal rows
    info: dict[str, Any] = field(default_factory=dict)
    variant: str = ""

    def __post_init__(self) -> None:
        check_axes(f"{self.kind} plane", self.step, self.origin, self.directions, 2)

    @property
    def name(self) -> str:
        """What records and keys call the plane: 'eigen', or 'eigen.1.3' for a variant."""
        return f"{self.kind}.{self.variant}" if self.variant else self.kind

    def line(self, axis: int) -> Plane:
        """The same plane with axis 0 or 1 first, for a grid of one row: the line along that axis."""
        order = [axis, 1 - axis]
        variant = f"{self.variant}.line{axis + 1}".lstrip(".")
        info = {k: [v[i] for i in order] if k in _PER_AXIS and len(v) == 2 else v for k, v in self.info.items()}
        labels = [self.labels[i] for i in order]
        return Plane(self.kind, self.step, labels, self.origin, self.directions[order], info, variant)

    @property
    def gram(self) -> Tensor:
        """Inner products of the two directions, (2, 2) float64 on the CPU."""
        return gram(self.directions)

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
        u, v = self.components(difference)
        off_plane = torch.linalg.norm(difference - torch.tensor([u, v], dtype=d.dtype, device=d.device) @ d)
        return u, v, float(off_plane)

    def components(self, difference: Tensor) -> tuple[float, float]:
        """(u, v) of the projection of a difference of weights, or of a gradient, onto the plane's directions."""
        along = self.directions.double() @ difference.to(self.origin.device).double()
        # Least squares instead of two dot products: exact although rounding to float32 leaves d a trace off orthogonal.
        uv = torch.linalg.solve(self.gram, along.cpu())
        return float(uv[0]), float(uv[1])


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
    kind, _, variant = record.plane.partition(".")
    return Plane(kind, record.step, list(record.labels), origin, directions, info, variant)


def orthonormal(rows: Tensor) -> Tensor:
    """Gram-Schmidt on two rows (2, size), in float64: the first keeps its direction."""
    rows = rows.double()
    first = rows[0] / torch.linalg.norm(rows[0])
    second = rows[1]
    for _ in range(2):  # twice is enough (Kahan; Parlett 1980)
        second = second - (second @ first) * first
    return torch.stack([first, second / torch.linalg.norm(second)])


def facing(rows: Tensor) -> Tensor:
    """Rows with the sign that makes the largest entry of each positive."""
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    return rows * torch.where(largest < 0, -1.0, 1.0)


def spanned(what: str, first: Tensor, second: Tensor) -> tuple[Tensor, float]:
    """Orthonormal directions (2, size) of the plane of two vectors, the first kept, and the vectors' cosine.

    Raises:
        ProblemError: a vector is zero, or they are parallel to rounding.
    """
    pair = torch.stack([first.double(), second.double()])
    norms = torch.linalg.norm(pair, dim=1)
    if not bool((norms > 0).all()):
        raise ProblemError(f"{what} span no plane: one of them is zero")
    cosine = float(pair[0] @ pair[1] / (norms[0] * norms[1]))
    if not 1 - cosine**2 > torch.finfo(first.dtype).eps:
        raise ProblemError(f"{what} span no plane: they are parallel (cosine {cosine:.6g}); choose another pair")
    return orthonormal(pair), cosine
