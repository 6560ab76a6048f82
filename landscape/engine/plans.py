"""What is wished of products, what was measured, and what was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from .probing import Cost
from .strategies import Matrix, Prepare, Strategy, kept


@dataclass(frozen=True)
class Wish:
    """What `landscape.engine.products.Products` was asked for; see there."""

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


class Table:
    """The rows of one choice, as they are measured.

    Args:
        operator: a name in `landscape.operators`.
        width: vectors a block.
    """

    def __init__(self, operator: str, width: int) -> None:
        self.operator, self.width = operator, width
        self.rows: list[Row] = []

    def add(
        self, name: str, cost: Cost, gradient: float, verdict: str, why: str = "", *, single: bool = False
    ) -> None:
        """A measured strategy; `gradient` is the seconds of one of the same data, `single` says: one vector alone."""
        seconds = cost.build / self.width + cost.apply / (1 if single else self.width)
        failed = bool(cost.failure) or not gradient > 0
        self.rows.append(Row(
            self.operator, name, cost.rows, None if failed else round(seconds / gradient, 3),
            None if failed else round(cost.peak / 1e6, 1), None if failed else float(f"{cost.difference:.1e}"),
            verdict, why,
        ))  # fmt: skip

    def skip(self, name: str, size: int, why: str) -> None:
        """A strategy that was not measured, and why."""
        self.rows.append(Row(self.operator, name, size, None, None, None, "skipped", why))

    def mark(self, plan: Plan, size: int, why: str = "") -> None:
        """Say in the last measured line of the chosen strategy that it is chosen, on batches of `size` rows."""
        keep = f"{'kept for all batches' if plan.keep else 'prepared for every block'}; {size} rows a batch"
        lines = [i for i, row in enumerate(self.rows) if row.strategy == plan.strategy and row.gradients is not None]
        exact = [i for i in lines if self.rows[i].samples == size] or lines
        self.judge(exact[-1], "chosen", f"{keep}; {why}" if why else keep)

    def judge(self, line: int, verdict: str, why: str) -> None:
        """Another verdict on a line."""
        self.rows[line] = dataclasses.replace(self.rows[line], verdict=verdict, why=why)
