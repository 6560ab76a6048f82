"""Networks on their hardware: accuracy against what a sample costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record


def front_key(step: int) -> str:
    return f"front-cells-{step:08d}"


@dataclass(frozen=True)
class Front(Record):
    """Cells that were found, trained or turned away, and every design that is worth building for each trained one.

    `cycles` and `energy` of a cell are those on the design of fewest cycles. A point is on the front where no other is
    as good in accuracy, cycles and energy and better in one.
    """

    kind: ClassVar[str] = "front"
    made_by: ClassVar[str] = "coexplore --out RUN"
    axes: ClassVar[Axes] = {
        "mu": (("cell",), "strength of the penalty"),
        "operations": (("cell",), "operations of the cell"),
        "accuracy": (("cell",), "test accuracy; not a number: not trained"),
        "cycles": (("cell",), "cycles a sample"),
        "energy": (("cell",), "multiplications a sample that cost as much energy"),
        "cells": (("point",), "number of the point's cell"),
        "rows": (("point",), "multipliers"),
        "columns": (("point",), "multipliers"),
        "lanes": (("point",), "places of what multiplies nothing"),
        "point_cycles": (("point",), "cycles a sample"),
        "point_energy": (("point",), "multiplications a sample that cost as much energy"),
        "best": (("point",), "1 where the point is on the front"),
    }
    step: int  # of the trainings
    families: list[str]  # (cell,) how it was found
    genotypes: list[dict[str, Any]]  # (cell,)
    area: int
    most_cycles: int
    mu: Array  # (cell,)
    operations: NDArray[np.int64]  # (cell,)
    accuracy: Array  # (cell,)
    cycles: Array  # (cell,)
    energy: Array  # (cell,)
    cells: NDArray[np.int64]  # (point,)
    rows: NDArray[np.int64]  # (point,)
    columns: NDArray[np.int64]  # (point,)
    lanes: NDArray[np.int64]  # (point,)
    point_cycles: Array  # (point,)
    point_energy: Array  # (point,)
    best: NDArray[np.int64]  # (point,)
    meta: Meta = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        cells = len(self.mu)
        if {len(self.families), len(self.genotypes)} != {cells}:
            told = f"{len(self.families)} families and {len(self.genotypes)} genotypes"
            raise ValueError(f"front must have {cells} of each, as many as cells, got {told}")
        if ((self.cells < 0) | (self.cells >= cells)).any():
            raise ValueError(f"front.cells must be numbers of its {cells} cells")

    @property
    def key(self) -> str:
        return front_key(self.step)
