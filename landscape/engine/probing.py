"""One strategy on one mini-batch, measured: seconds, memory, and its difference to the reference."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..distributed.parallel import Comm
from ..loss.batches import Batch
from ..loss.problem import Problem
from .measuring import Peak, saved_bytes, timed
from .strategies import Prepare, Product

SHORT = 0.02  # seconds below which a measurement is repeated
HOPELESS = 1.2  # times what is to be beaten: a long first call that takes more is not repeated


@dataclass(frozen=True)
class Cost:
    """What preparing a batch of `rows` and multiplying one block cost; the largest over ranks."""

    rows: int
    build: float = 0.0  # seconds a batch
    apply: float = 0.0  # seconds a block
    once: float = 0.0  # seconds of the first call alone: compilation
    peak: float = 0.0  # bytes
    held: float = 0.0  # bytes of what is prepared
    difference: float = 0.0  # relative, to the reference
    failure: str = ""

    @property
    def seconds(self) -> float:
        return self.build + self.apply


class Bench:
    """Measures at fixed weights with one random block; every rank measures the same, and the slowest counts."""

    def __init__(self, problem: Problem, vector: Tensor, comm: Comm, block: int) -> None:
        self.problem, self.comm, self.device = problem, comm, vector.device
        self.vector = vector.detach()
        self.spent = 0.0  # seconds of CPU or device so far
        self.allowance = math.inf  # seconds that may be spent
        generator = torch.Generator().manual_seed(0)
        self.block = torch.randn(len(vector), block, generator=generator, dtype=vector.dtype).to(self.device)  # (n, b)
        self.along = self.block.sum(dim=1, keepdim=True)  # (n, 1): its product checks all columns at once

    def affords(self, expected: float, allowance: float = 0.0) -> bool:
        """Whether so many more seconds fit into what may be spent, on every rank."""
        return self.spent + max(self.comm.gather(expected)) <= max(self.allowance, allowance)

    def gradient(self, batch: Batch) -> float:
        """Seconds of one gradient of a batch; NaN where there is none.

        The first one, which wakes the machinery, does not count.
        """
        theta = self.vector.clone().requires_grad_(True)

        def work() -> None:
            loss = self.problem.batch_loss(theta, batch)
            if loss.requires_grad:
                torch.autograd.grad(loss, theta)

        try:
            first = timed(work, self.device)[1]
            seconds = self._least(work)
        except Exception:
            first = seconds = math.nan
        first, seconds = self._agreed(first), self._agreed(seconds)
        self.spent += 0.0 if math.isnan(seconds) else first + seconds
        return seconds

    def run(
        self, make: Callable[[], Prepare], batch: Batch, rows: int, wanted: Tensor | None = None, *,
        slow: bool = False, beat: float = math.inf,
    ) -> tuple[Cost, Tensor | None]:  # fmt: skip
        """(cost, product): of the whole block against a `wanted` product (n, 1) of its sum, else of that sum itself.

        Args:
            slow: the first call traces or compiles: it is timed apart.
            beat: seconds of preparing and a block that what is known already takes.
        """
        block = self.along if wanted is None else self.block
        found, failure = None, ""
        values: tuple[float, ...] = (0.0,) * 5

        def work() -> tuple[Tensor, tuple[float, ...]]:
            return self._traced(make, batch, block) if slow else self._measured(make, batch, block, beat)

        def guarded() -> None:
            nonlocal found, failure, values
            try:
                found, values = work()
            except Exception as error:
                failure = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200]

        spent = timed(guarded, self.device)[1]
        failures = [f for f in self.comm.gather(failure) if f]
        *values_, spent = (self._agreed(v) for v in (*values, spent))
        self.spent += spent
        if failures or found is None:
            return Cost(rows, failure=failures[0]), None
        difference = 0.0 if wanted is None else self._agreed(_difference(found.sum(dim=1, keepdim=True), wanted))
        build, apply, once, peak, held = values_
        return Cost(rows, build, apply, once, peak, held, difference), found

    def _measured(
        self, make: Callable[[], Prepare], batch: Batch, block: Tensor, beat: float
    ) -> tuple[Tensor, tuple[float, ...]]:
        """(product, (build, apply, once, peak, held)): the first call is repeated where it may have been a slow one."""
        prepare, held = make(), [0.0]

        def prepared() -> Product:
            return prepare(self.vector, batch, 0)

        def counted() -> Product:
            try:
                with saved_bytes(held):
                    return prepared()
            except Exception:  # transforms of functions take no hooks; what they keep is the batch alone
                return prepared()

        with Peak(self.device) as peak:
            product, build = timed(counted, self.device)
            found, apply = timed(lambda: product(block), self.device)
        if build < SHORT:
            del product
            build = min(build, self._least(prepared))
            product = prepared()  # without the hooks
        if apply < SHORT or self.device.type == "cuda" or build + apply < HOPELESS * beat:
            apply = min(apply, self._least(lambda: product(block)))
        return found, (build, apply, 0.0, max(peak.bytes, held[-1]), held[-1])

    def _traced(
        self, make: Callable[[], Prepare], batch: Batch, block: Tensor
    ) -> tuple[Tensor, tuple[float, ...]]:
        """The same where the first call traces or compiles: the second one tells what a batch costs."""
        wall = time.perf_counter()
        prepare = make()
        prepare(self.vector, batch, 0)(block)
        wall = time.perf_counter() - wall
        with Peak(self.device) as peak:
            product, build = timed(lambda: prepare(self.vector, batch, 0), self.device)
            found, first = timed(lambda: product(block), self.device)
        apply = self._least(lambda: product(block))
        build += max(first - apply, 0.0)  # what does not depend on the block is computed with the first one
        held = float(getattr(product, "held", peak.bytes))  # a reused heap shows no new peak
        return found, (build, apply, max(wall - build - apply, 0.0), max(peak.bytes, held), held)

    def _least(self, work: Callable[[], object]) -> float:
        """Seconds of some work, the least of several times where it is short."""
        least, total = math.inf, 0.0
        for _ in range(5):
            seconds = timed(work, self.device)[1]
            least, total = min(least, seconds), total + seconds
            if total > SHORT:
                break
        return least

    def _agreed(self, value: float) -> float:
        values = self.comm.gather(value)
        return math.nan if any(map(math.isnan, values)) else max(values)


def _difference(found: Tensor, wanted: Tensor) -> float:
    length = float(wanted.double().norm())
    return float((found.double() - wanted.double()).norm()) / (length or 1.0)


def nodes(value: Any) -> int:
    """Nodes of the autograd graph behind a tensor: how long tracing takes goes with it."""
    seen, todo = set(), [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo.extend(following for following, _ in node.next_functions)
    return len(seen)
