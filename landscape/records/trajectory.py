"""Checkpoints projected onto a plane: of its own run, and of another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record, file_name


def trajectory_key(plane: str, step: int) -> str:
    return f"trajectory-{plane}-{step:08d}"


def guest_key(plane: str, step: int, run: str) -> str:
    return f"guest-{plane}-{step:08d}-{file_name(run)}"


@dataclass(frozen=True)
class Trajectory(Record):
    """Checkpoints projected onto a surface's plane, with what the projection hides.

    Gradients are of the loss over all data, at the checkpoint itself and not at its projection.
    """

    kind: ClassVar[str] = "trajectory"
    made_by: ClassVar[str] = "trajectory RUN"
    axes: ClassVar[Axes] = {
        "steps": (("checkpoint",), "optimizer step"),
        "u": (("checkpoint",), "coordinate along the first direction"),
        "v": (("checkpoint",), "coordinate along the second direction"),
        "off_plane": (("checkpoint",), "distance from the plane, in units of weight"),
        "distance": (("checkpoint",), "distance from the plane's origin, in units of weight"),
        "loss": (("checkpoint",), "loss at the checkpoint itself"),
        "surface_loss": (("checkpoint",), "loss at the checkpoint's projection onto the plane"),
        "moved": (("checkpoint",), "distance from the checkpoint before, in units of weight"),
        "gradient_u": (("checkpoint",), "loss gradient at the checkpoint along the first direction"),
        "gradient_v": (("checkpoint",), "loss gradient at the checkpoint along the second direction"),
        "gradient_norm": (("checkpoint",), "norm of the loss gradient at the checkpoint"),
    }
    step: int  # the plane's origin
    plane: str
    steps: NDArray[np.int64]  # (checkpoint,)
    u: Array
    v: Array
    off_plane: Array
    distance: Array
    loss: Array
    surface_loss: Array
    meta: Meta = field(default_factory=dict)
    moved: Array | None = None
    gradient_u: Array | None = None
    gradient_v: Array | None = None
    gradient_norm: Array | None = None

    @property
    def key(self) -> str:
        return trajectory_key(self.plane, self.step)


@dataclass(frozen=True)
class Guest(Trajectory):
    """The trajectory of another run on a plane of this run."""

    kind: ClassVar[str] = "guest"
    made_by: ClassVar[str] = "trajectory RUN OTHER"
    run: str = ""

    @property
    def key(self) -> str:
        return guest_key(self.plane, self.step, self.run)
