"""Ways to multiply an operator's matrix of one batch with a block of b vectors; every operator has them all.

| strategy        | prepared                    | a block                       | gradients a vector   |
|-----------------|-----------------------------|-------------------------------|----------------------|
| kept            | graph of the gradient       | backward, column by column    | 2 + 1/b (deep nets)  |
| batched         | graph of the gradient       | backward, all columns at once | 2 + 1/b, fewer calls |
| forward         | nothing                     | jvp of the gradient, columns  | 3                    |
| forward_batched | nothing                     | jvp of the gradient, at once  | 2 + 1/b, no graph    |
| linearised      | a trace's part without v    | its part with v, all columns  | 2, traced once a job |
| compiled        | fused code, once a job      | that code, all columns        | what fusing leaves   |

`kept` is valid wherever the operator exists; `landscape.engine.products` measures the others against it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from ..loss.batches import tensors
from ..loss.problem import Problem
from .tracing import Traces

Product = Callable[[Tensor], Tensor]  # block (size, b) -> (size, b)
Prepare = Callable[[Tensor, Any, int], Product]  # (weights (size,), batch, number of its first sample) -> product
Strategy = Callable[["Matrix"], Prepare]


class Matrix:
    """An operator's file on a problem: its form at the weights (size,) on a batch.

    Args:
        module: offers `form` or `prepare`, see `landscape.operators`.
        seed: of operators that draw random numbers.
    """

    def __init__(self, module: ModuleType, problem: Problem, seed: int = 0) -> None:
        self.problem, self.seed = problem, seed
        self._make = getattr(module, "form", None) or module.prepare
        self.free = not hasattr(module, "form")  # the file multiplies blocks itself
        self._asked = inspect.signature(self._make).parameters
        self.numbered = "first" in self._asked

    def at(self, vector: Tensor, batch: Any, first: int) -> Any:
        known = {"first": first, "seed": self.seed}
        return self._make(self.problem, vector, batch, **{k: v for k, v in known.items() if k in self._asked})

    def reverse(self, vector: Tensor, batch: Any, first: int) -> Product:
        """v (size,) -> A v by reverse mode alone."""
        if self.free:
            whole: Product = self.at(vector, batch, first)
            return lambda v: whole(v[:, None])[:, 0]
        column: Product = self.at(vector, batch, first).reverse(vector)
        return column


def _each(column: Product) -> Product:
    return lambda block: torch.stack([column(v) for v in block.T.contiguous()]).T


def _at_once(column: Product) -> Product:
    together = vmap(column)
    return lambda block: together(block.T.contiguous()).T


def kept(matrix: Matrix) -> Prepare:
    def prepare(vector: Tensor, batch: Any, first: int) -> Product:
        if matrix.free:
            whole: Product = matrix.at(vector, batch, first)
            return whole
        return _each(matrix.reverse(vector, batch, first))

    return prepare


def batched(matrix: Matrix) -> Prepare:
    return lambda vector, batch, first: _at_once(matrix.reverse(vector, batch, first))


def forward(matrix: Matrix) -> Prepare:
    return lambda vector, batch, first: _each(matrix.at(vector, batch, first).forward(vector))


def forward_batched(matrix: Matrix) -> Prepare:
    return lambda vector, batch, first: _at_once(matrix.at(vector, batch, first).forward(vector))


def linearised(matrix: Matrix) -> Prepare:
    """One trace for all checkpoints and batches of a shape; what it holds for a batch is kept with the product."""
    if matrix.numbered:
        raise NotImplementedError("the operator draws random numbers by sample, which a trace would freeze")
    traces = Traces(matrix.problem, lambda vector, batch: matrix.at(vector, batch, 0).forward(vector))

    return lambda vector, batch, first: traces.at(vector, batch)


def compiled(matrix: Matrix) -> Prepare:
    """One compilation for all checkpoints and batches of the first shape; other shapes take `forward_batched`."""
    if matrix.numbered:
        raise NotImplementedError("the operator draws random numbers by sample, which compiled code would freeze")
    shapes: list[Any] = []

    def rows(vector: Tensor, batch: Any, first: int, block: Tensor) -> Tensor:
        found: Tensor = vmap(matrix.at(vector, batch, first).forward(vector))(block)
        return found

    fast = torch.compile(rows, fullgraph=True, dynamic=False)

    eager = forward_batched(matrix)

    def prepare(vector: Tensor, batch: Any, first: int) -> Product:
        def product(block: Tensor) -> Tensor:
            shape = [tuple(t.shape) for t in (block, *tensors(batch))]
            if not shapes:
                shapes.append(shape)
            if shape != shapes[0]:
                return eager(vector, batch, first)(block)
            found: Tensor = fast(vector, batch, 0, block.T.contiguous())
            return found.T

        return product

    return prepare


STRATEGIES: dict[str, Strategy] = {
    f.__name__: f for f in (kept, batched, forward_batched, forward, linearised, compiled)
}
HOLDS_GRAPH = ("kept", "batched", "linearised")  # what they prepare is worth keeping for a checkpoint's whole run
TRACED = ("linearised", "compiled")  # a slow first call: tried where the job is long enough, or when named
