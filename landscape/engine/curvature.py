"""An operator over all batches and ranks: batch outer, vector inner, one collective pair a block product."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from .. import plugins
from ..distributed.parallel import Comm
from ..errors import ProblemError, ResourceError
from ..loss.batches import rows, split
from ..loss.problem import Problem
from . import combination, suspects
from .combination import Combination, Operator
from .plans import unmeasured
from .products import Products, Taken
from .strategies import Matrix, Product


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
        products: chooses strategy and batches; without it, the reference strategy on the batches as they are.

    Raises:
        ProblemError: the operator needs a checkpoint and there is none, or not the state it needs in it.
    """

    def __init__(
        self, problem: Problem, vector: Tensor, comm: Comm, operator: str = "hessian", *,
        checkpoint: Any = None, seed: int = 0, products: Products | Taken | None = None,
    ) -> None:  # fmt: skip
        super().__init__(combination.named(operator, problem.block), vector, comm)
        self.problem, self.operator, self.checkpoint, self.seed = problem, operator, checkpoint, seed
        module = plugins.load("landscape.operators", operator)
        if hasattr(module, "semidefinite") and module.semidefinite(problem):
            self.lowest = 0.0
        matrix = Matrix(module, problem, seed)
        plan = unmeasured(matrix) if products is None else products.plan(problem, self.vector, comm, operator, matrix)
        self.strategy, self._prepare, self._keep = plan.strategy, plan.prepare, plan.keep
        batches = problem.batches if plan.rows is None else problem.rebatched(plan.rows, comm.size).batches
        firsts = list(accumulate((problem.count(b) for b in batches), initial=0))[:-1]
        self._batches = comm.share(list(zip(firsts, batches, strict=True)))
        self._kept: dict[int, Product] = {}  # by the number of the batch's first sample
        with comm.together():
            scale = scale_of(operator, problem, checkpoint)
        self._scale = None if scale is None else scale[self.part].to(self.vector)[:, None]  # (part, 1)

    def matvec(self, block: Tensor) -> Tensor:
        """Product with this rank's rows of a block: (part, b) -> (part, b), in the problem's dtype."""
        inner = block if self._scale is None else self._scale * block
        total = self.local_product(self.comm.all_gather(inner, self.size)).to(block.dtype)  # 4 bytes travel, not 8
        product = self.comm.sum_scatter(total)
        return (product if self._scale is None else self._scale * product).to(block.dtype)

    def on(self, problem: Problem, vector: Tensor) -> Operator:
        """The same operator of another problem at `vector` (size,), on this rank alone: what checks look at."""
        options: dict[str, Any] = {"checkpoint": self.checkpoint, "seed": self.seed, "products": Taken(self.strategy)}
        return type(self)(problem, vector, Comm(), self.operator, **options)

    def covector(self, part: Tensor) -> Tensor | None:
        """A gradient's rows (part,) in the operator's coordinates: of diag(s) A diag(s) those of theta / s."""
        return part if self._scale is None else self._scale[:, 0].to(part) * part

    def forget(self) -> None:
        self._kept.clear()

    def local_product(self, block: Tensor) -> Tensor:
        """This rank's share of the unscaled product with a full block (size, b): float64, not yet summed over ranks.

        Raises:
            ProblemError: a layer cannot be differentiated twice.
            ResourceError: memory ran out.
        """
        total: Tensor | None = None
        todo = list(self._batches)
        while todo:
            first, batch = todo[0]
            try:
                product = self._product(first, batch)(block)
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if not _out_of_memory(error):
                    raise self._explained(error, batch) from error
                product = None
            if product is None:  # outside of `except`, whose traceback holds on to what filled the memory
                todo[:1] = self._smaller(first, batch)
                continue
            share = self.problem.count(batch) / self.problem.samples
            # As the product lies in memory: adding what lies otherwise takes several times as long.
            total = product.double().mul_(share) if total is None else total.add_(product, alpha=share)
            del todo[0]
        return torch.zeros_like(block, dtype=torch.float64) if total is None else total

    def _explained(self, error: RuntimeError, batch: Any) -> Exception:
        """The error itself, or one sentence where a layer has no double backward."""
        text = str(error)
        if not ("derivative for" in text or "double backward" in text or "differentiate twice" in text):
            return error
        return ProblemError(suspects.not_twice(self.problem, self.vector, batch, self.name, text))

    def _product(self, first: int, batch: Any) -> Product:
        """The prepared product of a batch, kept where the plan says so."""
        found = self._kept.get(first)
        if found is None:
            found = self._prepare(self.vector, batch, first)
            if self._keep:
                self._kept[first] = found
        return found

    def _smaller(self, first: int, batch: Any) -> list[tuple[int, Any]]:
        """After memory ran out: this batch again with nothing kept, or else its two halves, which stay.

        Raises:
            ResourceError: it cannot be split.
        """
        self.forget()
        if self.vector.is_cuda:
            torch.cuda.empty_cache()
        if self._keep:
            self._keep = False
            return [(first, batch)]
        try:
            halves = split(batch, -(-rows(batch) // 2))
            usable = len(halves) == 2 and self.problem.parts_agree(self.vector, batch, halves)
        except (ProblemError, RuntimeError):
            usable = False
        if not usable:
            raise ResourceError(_memory_text(self.problem.count(batch)))
        parts = [(first, halves[0]), (first + self.problem.count(halves[0]), halves[1])]
        place = next(i for i, (number, _) in enumerate(self._batches) if number == first)
        self._batches[place : place + 1] = parts
        return parts


def _out_of_memory(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in text or "out of memory" in text


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
    problem: Problem, vector: Tensor, comm: Comm, operator: str = "hessian", *, checkpoint: Any = None, seed: int = 0,
    products: Products | None = None,
) -> Operator:  # fmt: skip
    """An operator by its name, or a sum such as 'hessian - 0.5*gauss_newton', at the weights `vector` (size,).

    Args:
        products: chooses how products are computed; without it, by the reference strategy on the batches as they are.
    """
    options: dict[str, Any] = {"checkpoint": checkpoint, "seed": seed, "products": products}
    terms = [(f, Curvature(problem, vector, comm, name, **options)) for f, name in combination.read(operator)]
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


def _memory_text(samples: int) -> str:
    return (
        f"memory ran out in a curvature product on a batch of {samples} samples; it needs about three times a training "
        "step. Build the problem with a smaller batch_size: the result does not depend on it, only the time does"
    )
