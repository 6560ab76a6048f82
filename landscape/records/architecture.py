"""The operations of a searched network's cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record


def architecture_key(read_off: str, step: int) -> str:
    return f"architecture-{read_off}-{step:08d}"


@dataclass(frozen=True)
class Architecture(Record):
    """Every operation on every edge of every kind of cell: the norm of its group of weights, and whether it is kept.

    Places of a cell are numbers: 0 and 1 are its inputs, 2 to `nodes` + 1 its nodes. A group is the same operation on
    the same edge in all cells of one kind. `read_off` is 'all' (every group above the threshold is kept) or 'one'
    (the largest of each edge alone).
    """

    kind: ClassVar[str] = "architecture"
    made_by: ClassVar[str] = "derive RUN"
    axes: ClassVar[Axes] = {
        "source": (("group",), "place in the cell"),
        "target": (("group",), "place in the cell"),
        "norms": (("group",), "norm over all weights of the group"),
        "sizes": (("group",), "weights of the group"),
        "kept": (("group",), "1 where the operation is kept, 0 where it is pruned"),
    }
    step: int
    read_off: str
    threshold: float
    nodes: int
    kinds: list[str]  # kind of cell, a group
    operations: list[str]  # a group
    source: NDArray[np.int64]  # (group,)
    target: NDArray[np.int64]  # (group,)
    norms: Array  # (group,)
    sizes: NDArray[np.int64]  # (group,)
    kept: NDArray[np.int64]  # (group,)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return architecture_key(self.read_off, self.step)
