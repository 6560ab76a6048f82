"""One strategy on one mini-batch, measured: seconds, memory, and its difference to the reference."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .batches import Batch
from .measuring import Peak, saved_bytes, timed
from .parallel import Comm
from .problem import Problem
from .strategies import Prepare

SHORT = 0.02  # seconds below which a measurement is repeated
LONG = 0.05  # seconds of a gradient above which a part of the batch stands for all of it


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
        generator = torch.Generator().manual_seed(0)
        self.block = torch.randn(len(vector), block, generator=generator, dtype=vector.dtype).to(self.device)  # (n, b)
        self.along = self.block.sum(dim=1, keepdim=True)  # (n, 1): its product checks all columns at once

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
            work()
            seconds = self._least(work)
        except Exception:
            seconds = math.nan
        seconds = self._agreed(seconds)
        self.spent += 0.0 if math.isnan(seconds) else 2 * seconds
        return seconds

    def run(
        self, make: Callable[[], Prepare], batch: Batch, rows: int, wanted: Tensor | None = None, *, slow: bool = False
    ) -> tuple[Cost, Tensor | None]:
        """(cost, product): of the whole block against a `wanted` product (n, 1) of its sum, else of that sum itself.

        Args:
            slow: the first call traces or compiles: it is timed apart.
        """
        block = self.along if wanted is None else self.block
        found, failure = None, ""
        values: tuple[float, ...] = (0.0,) * 6
        try:
            found, values = self._measured(make, batch, block, slow)
        except Exception as error:
            failure = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200]
        failures = [f for f in self.comm.gather(failure) if f]
        values = tuple(self._agreed(v) for v in values)
        self.spent += values[5]
        if failures or found is None:
            return Cost(rows, failure=failures[0]), None
        difference = 0.0 if wanted is None else self._agreed(_difference(found.sum(dim=1, keepdim=True), wanted))
        build, apply, once, peak, held, _ = values
        return Cost(rows, build, apply, once, peak, held, difference), found

    def _measured(
        self, make: Callable[[], Prepare], batch: Batch, block: Tensor, slow: bool
    ) -> tuple[Tensor, tuple[float, ...]]:
        with Peak(self.device) as peak:
            wall = time.perf_counter()
            prepare = make()
            product, build = timed(lambda: prepare(self.vector, batch, 0), self.device)
            found, apply = timed(lambda: product(block), self.device)
            wall = time.perf_counter() - wall
        if slow:  # the first call traced or compiled: the next one tells what a batch costs
            with Peak(self.device) as peak:
                product, build = timed(lambda: prepare(self.vector, batch, 0), self.device)
                found, apply = timed(lambda: product(block), self.device)
        again = self._least(lambda: product(block))  # the first call sets up kernels
        spent = build + again
        held: list[float] = []
        if slow:
            build += max(apply - again, 0.0)  # what does not depend on the block is computed with the first one
            once, apply = max(wall - build - again, 0.0), again
            held.append(float(getattr(product, "held", peak.bytes)))  # a reused heap shows no new peak
        else:
            once, apply = 0.0, min(apply, again)
            del product
            with saved_bytes(held):
                try:
                    again = self._least(lambda: prepare(self.vector, batch, 0))
                    build, spent = min(build, again), spent + again
                except Exception:  # transforms of functions take no hooks; what they keep is the batch alone
                    pass
        held = held or [0.0]
        return found, (build, apply, once, max(peak.bytes, held[0]), held[0], spent)

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
