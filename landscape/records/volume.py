"""Loss and metrics on a three-dimensional grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record


def volume_key(plane: str, step: int) -> str:
    return f"volume-{plane}-{step:08d}"


@dataclass(frozen=True)
class Volume(Record):
    """Loss and metrics on the grid origin + u d1 + v d2 + w d3, and the checkpoints in it, as far as it holds them.

    `plane` is 'eigen', 'pca' or 'random'; `step` is the checkpoint at the origin; `labels` name the three axes.
    NaN is a value: the loss there is not finite.
    """

    kind: ClassVar[str] = "volume"
    made_by: ClassVar[str] = "volume RUN --plane pca"
    axes: ClassVar[Axes] = {
        "u": (("column",), "coordinate along the first direction, in units of weight"),
        "v": (("row",), "coordinate along the second direction, in units of weight"),
        "w": (("slab",), "coordinate along the third direction, in units of weight"),
        "loss": (("slab", "row", "column"), "loss"),
        "accuracy": (("slab", "row", "column"), "fraction"),
        "test_loss": (("slab", "row", "column"), "loss"),
        "test_accuracy": (("slab", "row", "column"), "fraction"),
        "metrics": (("metric", "slab", "row", "column"), "the user's own, in the order of `metric_names`"),
        "steps": (("checkpoint",), "optimizer step"),
        "path": (("checkpoint", "axis"), "coordinates u, v, w of the checkpoint's projection"),
        "off_volume": (("checkpoint",), "distance from the volume, in units of weight"),
        "distance": (("checkpoint",), "distance from the origin, in units of weight"),
        "path_loss": (("checkpoint",), "loss at the checkpoint itself"),
        "volume_loss": (("checkpoint",), "loss at the checkpoint's projection into the volume"),
        "directions": (("axis", "weight"), "orthonormal rows: the volume's axes"),
        "origin": (("weight",), "weights at u = v = w = 0"),
    }
    large: ClassVar[tuple[str, ...]] = ("directions", "origin")
    step: int
    plane: str
    labels: list[str]
    u: Array  # (column,)
    v: Array  # (row,)
    w: Array  # (slab,)
    loss: Array  # (slab, row, column)
    steps: NDArray[np.int64]  # (checkpoint,)
    path: Array  # (checkpoint, 3)
    off_volume: Array  # (checkpoint,)
    distance: Array  # (checkpoint,)
    path_loss: Array  # (checkpoint,)
    volume_loss: Array  # (checkpoint,)
    accuracy: Array | None = None
    test_loss: Array | None = None
    test_accuracy: Array | None = None
    metrics: Array | None = None  # (metric, slab, row, column)
    metric_names: list[str] = field(default_factory=list)
    directions: NDArray[Any] | None = None  # (3, weight)
    origin: NDArray[Any] | None = None  # (weight,)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return volume_key(self.plane, self.step)
