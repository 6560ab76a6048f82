"""A trained curve between two minima."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ._record import Array, Axes, Meta, Record
from .path import path_key


def curve_key(run_b: str, shape: str, aligned: bool = False) -> str:
    return "curve" + path_key(run_b, shape, aligned).removeprefix("path")


@dataclass(frozen=True)
class Curve(Record):
    """A trained curve between two minima: the points that make it, by the formula of its kind's file."""

    kind: ClassVar[str] = "curve"
    made_by: ClassVar[str] = "path RUN OTHER_RUN --kind bezier"
    axes: ClassVar[Axes] = {
        "points": (("control", "weight"), "weights: A, the trained bends, B"),
        "losses": (("training step",), "mean mini-batch loss at the places of a step"),
    }
    large: ClassVar[tuple[str, ...]] = ("points",)
    run_a: str
    run_b: str
    step_a: int
    step_b: int
    shape: str
    aligned: bool
    losses: Array  # (training step,)
    points: Array | None = None  # (control, weight)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return curve_key(self.run_b, self.shape, self.aligned)
