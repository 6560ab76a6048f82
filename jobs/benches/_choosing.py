"""An operator as a job gets it: the strategy and the rows a batch are chosen first, and that is timed apart."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from landscape import plugins
from landscape.distributed.parallel import Comm
from landscape.engine.combination import Operator
from landscape.engine.curvature import operator_at
from landscape.engine.products import Products
from landscape.engine.strategies import Matrix
from landscape.loss.problem import Problem

from ._timing import timed


@dataclass(frozen=True)
class Chosen:
    """The Hessian with its strategy, whether graphs are kept for all products, rows a batch, CPU seconds of choosing.

    Compilation is part of choosing: what is measured is what runs.
    """

    operator: Operator
    strategy: str
    keep: bool
    rows: int
    seconds: float

    @property
    def label(self) -> str:
        return f"{self.strategy}, graphs stay" if self.keep else self.strategy


def hessian(
    problem: Problem, theta: Tensor, comm: Comm, *, block: int, expected: int, checkpoints: int = 1
) -> Chosen:
    """The Hessian at the weights theta (size,) for jobs of `expected` products a checkpoint, `block` at a time."""
    products = Products(block=block, expected=expected, checkpoints=checkpoints)
    operator, seconds = timed(lambda: operator_at(problem, theta, comm, products=products))
    matrix = Matrix(plugins.load("landscape.operators", "hessian"), problem)
    plan = products.plan(problem, theta, comm, "hessian", matrix)  # made above, and remembered
    return Chosen(operator, plan.strategy, plan.keep, plan.rows or len(problem.batches[0][0]), seconds)
