"""The inverse scale space path of a training: when each unit of a sparse copy of the weights appears."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record


def scale_space_key(step: int) -> str:
    return f"scale_space-gamma-{step:08d}"


@dataclass(frozen=True)
class ScaleSpace(Record):
    """Units (weights, or filters) by the step at which they enter the support of Gamma, up to a checkpoint.

    Of large networks `entered` holds a sample of the units, drawn by lot. `paths` are those that entered first, of
    every layer equally many.
    """

    kind: ClassVar[str] = "scale_space"
    made_by: ClassVar[str] = "structure RUN"
    axes: ClassVar[Axes] = {
        "units": (("layer",), "units"),
        "steps": (("checkpoint",), "optimizer steps"),
        "selected": (("checkpoint", "layer"), "units in the support"),
        "entered": (("unit",), "optimizer step at which the unit entered; 0: it never did"),
        "unit_layers": (("unit",), "number of the unit's layer"),
        "paths": (("checkpoint", "path"), "norm of the unit's Gamma"),
        "path_layers": (("path",), "number of the unit's layer"),
        "path_units": (("path",), "number of the unit in its layer"),
        "path_entered": (("path",), "optimizer step at which the unit entered"),
    }
    step: int
    layers: list[str]  # (layer,)
    kinds: list[str]  # (layer,) 'weights' or 'filters'
    units: NDArray[np.int64]  # (layer,)
    steps: NDArray[np.int64]  # (checkpoint,)
    selected: NDArray[np.int64]  # (checkpoint, layer)
    entered: NDArray[np.int64]  # (unit,)
    unit_layers: NDArray[np.int64]  # (unit,)
    paths: Array  # (checkpoint, path)
    path_layers: NDArray[np.int64]  # (path,)
    path_units: NDArray[np.int64]  # (path,)
    path_entered: NDArray[np.int64]  # (path,)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return scale_space_key(self.step)

    def share(self) -> Array:
        """(checkpoint,) share of all units in the support."""
        found: Array = self.selected.sum(axis=1) / max(int(self.units.sum()), 1)
        return found
