"""How many rows a batch has: the reference is measured on batches of several sizes, the least time a row is taken."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ProblemError
from ..loss.batches import Batch, first_rows, join, rows, split
from ..loss.problem import Problem
from .plans import Table
from .probing import Bench, Cost
from .strategies import Matrix, kept

LONG = 0.01  # seconds of a gradient from which a part of a batch stands for all of it: its time is in the rows
PART = 4  # the smallest part that does: of so many
MARGIN = 0.93  # of the time of what is simpler: below it a choice leaves it, so that noise decides nothing
SMALLEST = 16  # rows that are halved
TOO_LONG = "measuring it would take too long for this job"


class Sizes:
    """The reference strategy on batches of several sizes, each measured once.

    Args:
        bench: measures at fixed weights.
        memory: bytes that a batch may take.
    """

    def __init__(self, problem: Problem, matrix: Matrix, bench: Bench, table: Table, memory: float) -> None:
        self.problem, self.matrix, self.bench, self.table, self.memory = problem, matrix, bench, table, memory
        self.measured: dict[int, tuple[Cost, Tensor]] = {}  # rows -> (cost, the product that others must have)
        self.obstacle = ""  # why the batches stay as they are
        try:
            self.lengths = [rows(b) for b in problem.batches]
        except ProblemError as error:
            self.lengths, self.obstacle = [problem.count(b) for b in problem.batches], str(error)
        self.first = self.lengths[0]  # rows of the batches as they are
        self._gradient = math.nan

    def gradient(self, size: int) -> float:
        """Seconds of one gradient of so many rows, by the batches as they are."""
        return self._gradient * size / self.first

    def reference(self, size: int) -> Cost | None:
        """What the reference costs on a batch of `size` rows; None where there is no finite product."""
        if size not in self.measured:
            if math.isnan(self._gradient):
                self._gradient = self.bench.gradient(self.batch(size))
            cost, found = self.bench.run(lambda: kept(self.matrix), self.batch(size), size)
            usable = not cost.failure and math.isfinite(self._gradient)
            if not all(self.bench.comm.gather(usable and found is not None and bool(torch.isfinite(found).all()))):
                return None
            assert found is not None
            self.measured[size] = cost, found
        return self.measured[size][0]

    def batch(self, size: int) -> Batch:
        """The first `size` rows of the data."""
        if size == self.first:
            return self.problem.batches[0]
        needed, total = 0, 0
        while total < size and needed < len(self.lengths):
            total += self.lengths[needed]
            needed += 1
        return first_rows(join(self.problem.batches[:needed]), size)

    # ------------------------------------------------------------------ the search

    def search(self) -> int:
        """Rows a batch with the least time a row, by halving or doubling what was given."""
        self._check_parts()
        if self.obstacle:
            self.table.skip("kept", self.first, f"batches stay as given: {self.obstacle}")
            return self.first
        size, cost = self.first, self.measured[self.first][0]
        half = self._try(size // 2) if size >= SMALLEST else None
        if half is not None and (self._gains(half, cost) or cost.peak > self.memory):
            while half is not None and (self._gains(half, cost) or cost.peak > self.memory):
                size, cost = half.rows, half
                half = self._try(size // 2) if size >= SMALLEST else None
            return size
        if half is not None and self._a_row(half) < 1.05 * self._a_row(cost):
            return size  # no time is lost between the layers: larger batches gain nothing
        largest = -(-sum(self.lengths) // self.bench.comm.size)
        while size < largest and 2 * cost.peak < self.memory:
            larger = self._try(min(2 * size, largest))
            if larger is None or not self._gains(larger, cost):
                break
            size, cost = larger.rows, larger
        return size

    def part(self, size: int) -> int:
        """Rows that stand for a batch of `size` while strategies are compared: a quarter where that takes long enough.

        Measured with the reference, or it would not be known what to compare with.
        """
        part = min((s for s in self.measured if s <= size and self._stands(s, size)), default=size)
        while not self.obstacle and self._stands(part // 2, size):
            smaller = self._try(part // 2)
            if smaller is None:
                break
            part = smaller.rows
        return part

    def _stands(self, part: int, size: int) -> bool:
        return part * PART >= size and self.gradient(part) >= LONG

    def _gains(self, other: Cost, cost: Cost) -> bool:
        return self._a_row(other) < MARGIN * self._a_row(cost)

    def _a_row(self, cost: Cost) -> float:
        return (cost.build / self.table.width + cost.apply) / cost.rows

    def _try(self, size: int) -> Cost | None:
        """The reference on a batch of `size` rows, if measuring it is worth while."""
        known = self.measured[max(self.measured)][0]
        if not self.bench.affords((known.build + 2 * known.apply) * size / known.rows):
            self.table.skip("kept", size, TOO_LONG)
            return None
        cost = self.reference(size)
        if cost is not None:
            self.table.add("kept", cost, self.gradient(size), "slower", single=True)
        return cost

    def _check_parts(self) -> None:
        """A batch in two halves, and two batches joined, must have the loss that their weighted mean has."""
        if self.obstacle:
            return
        batches, agree, vector = self.problem.batches[:2], False, self.bench.vector
        try:
            if self.first > 1:
                agree = self.problem.parts_agree(vector, batches[0], split(batches[0], -(-self.first // 2)))
            if len(batches) == 2:
                agree = (agree or self.first == 1) and self.problem.parts_agree(vector, join(batches), batches)
            reason = "" if agree else "the loss of a batch is not the mean of its parts"
        except Exception as error:
            reason = f"parts of a batch cannot be computed by themselves ({str(error).partition(chr(10))[0][:120]})"
        self.obstacle = next((r for r in self.bench.comm.gather(reason) if r), "")
