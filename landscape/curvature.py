"""An operator over all batches and ranks: batch outer, vector inner, one collective pair a block product."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import combination, plugins
from .combination import Combination, Operator
from .errors import ProblemError, ResourceError
from .parallel import Comm
from .problem import Problem

Product = Callable[[Tensor], Tensor]


class Curvature(Operator):
    """The mean over all samples of an operator at fixed weights, as a product with sharded blocks.

    Batches are dealt whole to ranks, which sum their products in float64 and send them in the problem's dtype, so the
    result does not depend on the number of ranks (beyond the last bits). Per block product there is one all-gather of
    the shards and one reduce-scatter of the products.

    Args:
        vector: the weights (size,), equal on every rank.
        operator: a name in `landscape.operators`.
        checkpoint: where the vector comes from, for operators made of the optimizer's state.
        seed: of operators that draw random numbers.

    Raises:
        ProblemError: the operator needs a checkpoint and there is none, or not the state it needs in it.
    """

    def __init__(
        self, problem: Problem, vector: Tensor, comm: Comm, operator: str = "hessian", *,
        checkpoint: Any = None, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(combination.named(operator, problem.block), vector, comm)
        self.problem = problem
        module = plugins.load("landscape.operators", operator)
        self._prepare = _prepared(module, seed)
        firsts = list(accumulate((problem.count(b) for b in problem.batches), initial=0))[:-1]
        self._batches = comm.share(list(zip(firsts, problem.batches, strict=True)))
        with comm.together():
            scale = scale_of(operator, problem, checkpoint)
        self._scale = None if scale is None else scale[self.part].to(self.vector)[:, None]  # (part, 1)

    def matvec(self, block: Tensor) -> Tensor:
        """Product with this rank's rows of a block: (part, b) -> (part, b), in the problem's dtype."""
        inner = block if self._scale is None else self._scale * block
        total = self.local_product(self.comm.all_gather(inner, self.size)).to(block.dtype)  # 4 bytes travel, not 8
        product = self.comm.sum_scatter(total)
        return (product if self._scale is None else self._scale * product).to(block.dtype)

    def local_product(self, block: Tensor) -> Tensor:
        """This rank's share of the unscaled product with a full block (size, b): float64, not yet summed over ranks.

        Raises:
            ProblemError: a layer cannot be differentiated twice.
            ResourceError: memory ran out.
        """
        total = torch.zeros(block.shape, dtype=torch.float64, device=block.device)
        try:
            for first, batch in self._batches:
                share = self.problem.count(batch) / self.problem.samples
                product = self._prepare(self.problem, self.vector, batch, first)
                total.add_(product(block), alpha=share)
        except torch.OutOfMemoryError as error:
            raise ResourceError(_memory_text(self.problem)) from error
        except RuntimeError as error:
            text = str(error)
            if "DefaultCPUAllocator" in text or "out of memory" in text:
                raise ResourceError(_memory_text(self.problem)) from error
            if "derivative for" in text or "double backward" in text or "differentiate twice" in text:
                raise ProblemError(
                    f"a layer of the model cannot be differentiated twice, so {self.name} products do not exist: "
                    f"{text.splitlines()[0]}. Replace that layer, e.g. by an explicit formula"
                ) from error
            raise
        return total


def _prepared(module: ModuleType, seed: int) -> Callable[[Problem, Tensor, Any, int], Product]:
    """The operator's `prepare` with what it asks for by name: the number of the first sample, the seed."""
    asked = inspect.signature(module.prepare).parameters
    prepare = partial(module.prepare, seed=seed) if "seed" in asked else module.prepare

    def numbered(problem: Problem, vector: Tensor, batch: Any, first: int) -> Product:
        product: Product = prepare(problem, vector, batch, **({"first": first} if "first" in asked else {}))
        return product

    return numbered


def scale_of(operator: str, problem: Problem, checkpoint: Any) -> Tensor | None:
    """The vector s (size,) of an operator diag(s) A diag(s) at a checkpoint; None for an operator without.

    Raises:
        ProblemError: there is no checkpoint, or not the state that the operator needs in it.
    """
    module = plugins.load("landscape.operators", operator)
    if not hasattr(module, "scale"):
        return None
    if checkpoint is None:
        raise ProblemError(
            f"{operator} is made of the optimizer's state, so it needs a checkpoint of a recorded run: "
            f"landscape spectrum RUN --operator {operator}"
        )
    scale: Tensor = module.scale(problem, checkpoint)
    return scale


def operator_at(
    problem: Problem, vector: Tensor, comm: Comm, operator: str = "hessian", *, checkpoint: Any = None, seed: int = 0
) -> Operator:
    """An operator by its name, or a sum such as 'hessian - 0.5*gauss_newton', at the weights `vector` (size,)."""
    read = combination.read(operator)
    terms = [(f, Curvature(problem, vector, comm, name, checkpoint=checkpoint, seed=seed)) for f, name in read]
    if [f for f, _ in terms] == [1.0]:
        return terms[0][1]
    combined = Combination(terms)
    combined.name = combination.named(operator, problem.block)  # the block is that of the whole sum
    return combined


def check_operator(operator: str) -> None:
    """Raises:
    UsageError: a sum that cannot be read, or a name that is no file of `landscape.operators`.
    """
    for _, name in combination.read(operator):
        plugins.load("landscape.operators", name)


def check_checkpoint(operator: str, problem: Problem, checkpoint: Any) -> None:
    """Raises:
    ProblemError: the checkpoint lacks what the operator needs.
    """
    for _, name in combination.read(operator):
        scale_of(name, problem, checkpoint)


def _memory_text(problem: Problem) -> str:
    largest = max(problem.count(b) for b in problem.batches)
    return (
        f"memory ran out in a curvature product on a batch of {largest} samples; it needs about three times a training "
        "step. Build the problem with a smaller batch_size: the result does not depend on it, only the time does"
    )
