"""How curvature products are computed: strategies are measured on a mini-batch once a job, and the fastest is taken.

A strategy must agree with the reference, fit into memory and be the fastest by the predicted time of the job; the size
of the batches is chosen the same way. No result depends on either beyond rounding. All ranks decide the same from the
slowest measurement of any of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..distributed.parallel import Comm
from ..errors import UsageError
from ..loss.problem import Problem
from .choosing import Choice
from .heap import reuse_pages
from .plans import Plan, Wish
from .strategies import STRATEGIES, TRACED, Matrix, Strategy, kept


class Products:
    """Chooses once a job how products are computed, and remembers it for all checkpoints.

    Args:
        strategy: 'auto', or the name of a strategy, which is then taken without a choice.
        memory: bytes a rank may use for products; default half of what is free, shared by the ranks of the machine.
        block: vectors multiplied at once.
        expected: products with a vector at each checkpoint.
        checkpoints: how many checkpoints will be computed.
        note: is told every line of the table.
        strategies: what there is to choose from.

    Raises:
        UsageError: no strategy of that name.
    """

    def __init__(
        self, strategy: str = "auto", memory: float | None = None, *, block: int = 4, expected: int = 200,
        checkpoints: int = 1, note: Callable[[str], None] = lambda text: None,
        strategies: Mapping[str, Strategy] = STRATEGIES,
    ) -> None:  # fmt: skip
        if strategy != "auto" and strategy not in strategies:
            raise UsageError(f"unknown strategy '{strategy}'; the choices are auto, {', '.join(strategies)}")
        self.wish = Wish(strategy, memory, block, expected, checkpoints, strategies)
        self.note = note
        self._plans: dict[Any, Plan] = {}

    @property
    def table(self) -> list[dict[str, Any]]:
        """What was measured, for the record."""
        return [dataclasses.asdict(row) for plan in self._plans.values() for row in plan.table]

    def plan(self, problem: Problem, vector: Tensor, comm: Comm, operator: str, matrix: Matrix) -> Plan:
        """The plan of an operator; it is made at the first call, on all ranks together."""
        key = (operator, matrix.seed, problem.identity())
        if key not in self._plans:
            reuse_pages()  # a block of products otherwise faults its arrays in anew: on LeNet 40 % of the time
            with problem.unmoved_buffers():  # the checks that refuse such a model come later
                self._plans[key] = Choice(self.wish, problem, vector, comm, operator, matrix).plan()
            for row in self._plans[key].table:
                self.note(str(row))
        return self._plans[key]


class Taken:
    """A strategy that was chosen before, without another choice; what would be traced is differentiated instead."""

    def __init__(self, strategy: str) -> None:
        self.strategy = "forward_batched" if strategy in TRACED else strategy

    def plan(self, problem: Problem, vector: Tensor, comm: Comm, operator: str, matrix: Matrix) -> Plan:
        """The reference where the strategy is none of ours."""
        return Plan(self.strategy, STRATEGIES.get(self.strategy, kept)(matrix))
