"""Loss and metrics on a plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record


def surface_key(plane: str, step: int) -> str:
    return f"surface-{plane}-{step:08d}"


@dataclass(frozen=True)
class Surface(Record):
    """Loss and metrics on the grid origin + u * directions[0] + v * directions[1].

    `plane` is a kind such as 'eigen', or a variant such as 'eigen.1.3'; `step` is the checkpoint at the origin;
    `labels` name the two axes.
    NaN is a value: the loss there is not finite. Without `measured` every point was measured.
    """

    kind: ClassVar[str] = "surface"
    made_by: ClassVar[str] = "surface RUN --plane pca"
    axes: ClassVar[Axes] = {
        "u": (("column",), "coordinate along the first direction, in units of weight"),
        "v": (("row",), "coordinate along the second direction, in units of weight"),
        "loss": (("row", "column"), "loss"),
        "accuracy": (("row", "column"), "fraction"),
        "test_loss": (("row", "column"), "loss"),
        "test_accuracy": (("row", "column"), "fraction"),
        "metrics": (("metric", "row", "column"), "the user's, in the order of metric_names"),
        "measured": (("row", "column"), "1 where the loss was measured, 0 where it is interpolated"),
        "error": (("row", "column"), "estimated error of the interpolation, in units of the loss; 0 where measured"),
        "directions": (("direction", "weight"), "orthonormal rows: the plane's axes"),
        "origin": (("weight",), "weights at u = v = 0"),
    }
    large: ClassVar[tuple[str, ...]] = ("directions", "origin")
    step: int
    plane: str
    labels: list[str]
    u: Array  # (column,)
    v: Array  # (row,)
    loss: Array  # (row, column)
    accuracy: Array | None = None
    test_loss: Array | None = None
    test_accuracy: Array | None = None
    directions: NDArray[Any] | None = None  # (2, weight)
    origin: NDArray[Any] | None = None  # (weight,)
    meta: Meta = field(default_factory=dict)
    metrics: Array | None = None  # (metric, row, column)
    metric_names: list[str] = field(default_factory=list)
    measured: Array | None = None  # (row, column)
    error: Array | None = None  # (row, column)

    @property
    def key(self) -> str:
        return surface_key(self.plane, self.step)
