"""What is wished of products, what was measured, and what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .strategies import Matrix, Prepare, Strategy, kept


@dataclass(frozen=True)
class Wish:
    """What `landscape.products.Products` was asked for; see there."""

    strategy: str
    memory: float | None
    block: int
    expected: int
    checkpoints: int
    strategies: Mapping[str, Strategy]


@dataclass(frozen=True)
class Row:
    """One line of the table of what was measured."""

    operator: str
    strategy: str
    samples: int  # rows of the measured batch
    gradients: float | None  # time of a product with a vector over that of a gradient of the same data
    peak_mb: float | None
    difference: float | None  # to the reference, relative
    verdict: str  # chosen, slower, rejected or skipped
    why: str = ""

    def __str__(self) -> str:
        time = "" if self.gradients is None else f": {self.gradients:.2f} gradients a product, {self.peak_mb:.0f} MB"
        return f"{self.operator} by {self.strategy} ({self.samples} rows){time}: {self.verdict}" + (
            f", {self.why}" if self.why else ""
        )


@dataclass
class Plan:
    """What was chosen for one operator of one problem: the strategy, rows a batch (None: as given), keeping it all."""

    strategy: str
    prepare: Prepare
    rows: int | None = None
    keep: bool = False
    table: list[Row] = field(default_factory=list)


def unmeasured(matrix: Matrix) -> Plan:
    """The reference strategy on the batches as they are."""
    return Plan("kept", kept(matrix))
