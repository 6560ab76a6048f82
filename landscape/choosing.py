"""One choice: strategies and sizes of batches are measured on a mini-batch, and the least predicted time is taken."""

from __future__ import annotations

import dataclasses
import math
import sys

import torch
from torch import Tensor

from .batches import Batch, first_rows, join, rows, split
from .errors import ProblemError
from .measuring import available
from .parallel import Comm
from .plans import Plan, Row, Wish, unmeasured
from .probing import LONG, Bench, Cost, nodes
from .problem import Problem
from .strategies import HOLDS_GRAPH, TRACED, Matrix, Prepare, kept

SMALL = 1.0  # seconds of a job below which nothing is worth a choice
WAKE = 1.5  # seconds that torch takes to load its forward-mode formulas, once a process
_JVP = "torch._decomp.decompositions_for_jvp"
SHARE = 0.08  # of a job's predicted time that measuring may take
FEW = 25  # gradients that measuring may take in any case
MARGIN = 0.93  # of the time of what is simpler: below it a choice leaves it, so that noise decides nothing


class Choice:
    """Makes one plan."""

    def __init__(
        self, wish: Wish, problem: Problem, vector: Tensor, comm: Comm, operator: str, matrix: Matrix
    ) -> None:
        self.wish, self.problem, self.comm, self.operator, self.matrix = wish, problem, comm, operator, matrix
        self.vector = vector
        self.width = min(wish.block, problem.size)
        self.blocks = math.ceil(wish.expected / self.width)  # block products a checkpoint
        self.bench = Bench(problem, vector, comm, self.width)
        free = wish.memory or 0.5 * available(problem.device) / comm.local_size
        self.memory = min(comm.gather(free))
        self.gradients: dict[int, float] = {}  # rows -> seconds
        self.table: list[Row] = []
        self.obstacle = ""  # why the batches stay as they are
        try:
            self.lengths = [rows(b) for b in problem.batches]
        except ProblemError as error:
            self.lengths, self.obstacle = [problem.count(b) for b in problem.batches], str(error)
        self.local = max(1, sum(self.lengths[: math.ceil(len(self.lengths) / comm.size)]))  # rows a rank
        self.best: tuple[float, Plan] = (math.inf, unmeasured(matrix))

    # ------------------------------------------------------------------ the order of things

    def plan(self) -> Plan:
        first = self.lengths[0]
        reference, wanted = self._reference(first)
        if reference is None or wanted is None:
            return unmeasured(self.matrix)  # there is no product; the first one says why
        if self.wish.strategy != "auto":
            return self._pinned(first, reference, wanted)
        job = self.wish.checkpoints * self._checkpoint("kept", reference, first)
        self._row("kept", reference, "reference", single=True)
        if job < SMALL:
            plan = Plan("kept", kept(self.matrix), None, self._keeps(reference), self.table)
            self._mark(plan, f"{job:.2g} s in all: too little to choose from")
            return plan
        self.allowance = max(SHARE * job, FEW * self.gradients[first])
        size = self._size(first, reference)
        self._strategies(size, first)
        plan = self.best[1]
        plan.rows = None if plan.rows == first and len(set(self.lengths[:-1])) <= 1 else plan.rows
        plan.table = self.table
        self._mark(plan)
        return plan

    def _pinned(self, first: int, reference: Cost, wanted: Tensor) -> Plan:
        name = self.wish.strategy
        self._row("kept", reference, "chosen" if name == "kept" else "reference", single=True)
        cost = reference
        if name != "kept":
            cost = self._probe(name, first, wanted)
            if not math.isfinite(self._judged(name, cost, first)):
                raise ProblemError(
                    f"the strategy {name} cannot be used for {self.operator} here ({self.table[-1].why}); "
                    "leave the choice to --strategy auto"
                )
            self.table[-1] = dataclasses.replace(self.table[-1], verdict="chosen", why="as asked")
        return Plan(name, self.best[1].prepare if name != "kept" else kept(self.matrix), None,
                    name in HOLDS_GRAPH and self._keeps(cost), self.table)  # fmt: skip

    def _reference(self, size: int) -> tuple[Cost | None, Tensor | None]:
        batch = self._batch(size)
        self.gradients[size] = self.bench.gradient(batch)
        cost, wanted = self.bench.run(lambda: kept(self.matrix), batch, size)
        usable = not cost.failure and math.isfinite(self.gradients[size]) and self._finite(wanted)
        return (cost, wanted) if usable else (None, None)

    def _finite(self, product: Tensor | None) -> bool:
        mine = product is not None and bool(torch.isfinite(product).all())
        return all(self.comm.gather(mine))

    # ------------------------------------------------------------------ rows a batch

    def _size(self, first: int, reference: Cost) -> int:
        """Rows a batch with the least time a row, by halving or doubling what was given."""
        self._check_parts()
        if self.obstacle:
            self._skip("kept", first, f"batches stay as given: {self.obstacle}")
            return first
        size, cost = first, reference
        half = self._try(first // 2) if first >= 16 else None
        smaller = half is not None and self._a_row(half) < MARGIN * self._a_row(cost)
        if half is not None and (smaller or cost.peak > self.memory):
            while half is not None and (self._a_row(half) < MARGIN * self._a_row(cost) or cost.peak > self.memory):
                size, cost = half.rows, half
                half = self._try(size // 2) if size >= 16 else None
            return size
        if half is not None and self._a_row(half) < 1.05 * self._a_row(cost):
            return size  # no time is lost between the layers: larger batches gain nothing
        largest = -(-sum(self.lengths) // self.comm.size)
        while size < largest and 2 * cost.peak < self.memory:
            larger = self._try(min(2 * size, largest))
            if larger is None or self._a_row(larger) > MARGIN * self._a_row(cost):
                break
            size, cost = larger.rows, larger
        return size

    def _try(self, size: int) -> Cost | None:
        """The reference on a batch of `size` rows, if measuring it is worth while."""
        (known, seconds) = max(self.gradients.items())
        if self.bench.spent + 8 * seconds * size / known > self.allowance:
            self._skip("kept", size, "measuring it would take too long for this job")
            return None
        cost, wanted = self._reference(size)
        if cost is not None and wanted is not None:
            self._row("kept", cost, "slower", single=True)
        return cost

    def _a_row(self, cost: Cost) -> float:
        return (cost.build / self.width + cost.apply) / cost.rows

    def _check_parts(self) -> None:
        """A batch in two halves, and two batches joined, must have the loss that their weighted mean has."""
        if self.obstacle:
            return
        batches, agree = self.problem.batches[:2], False
        try:
            if self.lengths[0] > 1:
                halves = split(batches[0], -(-self.lengths[0] // 2))
                agree = self.problem.parts_agree(self.vector, batches[0], halves)
            if len(batches) == 2:
                whole = join(batches)
                agree = (agree or self.lengths[0] == 1) and self.problem.parts_agree(self.vector, whole, batches)
            reason = "" if agree else "the loss of a batch is not the mean of its parts"
        except Exception as error:
            reason = f"parts of a batch cannot be computed by themselves ({str(error).partition(chr(10))[0][:120]})"
        self.obstacle = next((r for r in self.comm.gather(reason) if r), "")

    def _batch(self, size: int) -> Batch:
        if size == self.lengths[0]:
            return self.problem.batches[0]
        needed, total = 0, 0
        while total < size and needed < len(self.lengths):
            total += self.lengths[needed]
            needed += 1
        whole = join(self.problem.batches[:needed])
        return first_rows(whole, size)

    # ------------------------------------------------------------------ strategies

    def _strategies(self, size: int, first: int) -> None:
        """Measure every strategy; the best one so far is kept in `best`."""
        part = self._representative(size)
        reference, wanted = self._reference(part)
        if reference is None or wanted is None:
            return
        self._consider("kept", reference, size, kept(self.matrix))
        sizes = {size: (part, wanted)}
        if first < size:
            again, product = self._reference(first)
            if again is not None and product is not None:
                sizes[first] = (first, product)
        quickest: dict[int, float] = {}
        failed: set[int] = set()
        for name in (n for n in self.wish.strategies if n not in TRACED and n != "kept"):
            for rows_, (measured, product) in sizes.items():
                # Columns one by one are worth a try only where all at once are impossible.
                if (name != "forward" or rows_ in failed) and self._worth(name, measured):
                    time = self._judged(name, self._probe(name, measured, product), rows_)
                    quickest[rows_] = min(time, quickest.get(rows_, math.inf))
                    if name == "forward_batched" and math.isinf(time):
                        failed.add(rows_)
        at = min(quickest, key=quickest.__getitem__, default=size)
        for name in (n for n in self.wish.strategies if n in TRACED):
            for rows_ in [at] if name == "compiled" else sorted(sizes, key=lambda r: r != at):
                if self._pays(name, rows_):
                    self._judge_traced(name, rows_, *sizes[rows_])

    def _judge_traced(self, name: str, size: int, measured: int, product: Tensor) -> None:
        """A trace belongs to a size of batches: it is measured at the very one."""
        if measured != size:
            again, found = self._reference(size)
            if again is not None and found is not None:
                measured, product = size, found
        self._judged(name, self._probe(name, measured, product), size)

    def _representative(self, size: int) -> int:
        """Rows that stand for a batch of `size`: fewer where a gradient takes long, since its time is in the rows."""
        seconds = self.gradients.get(size) or self.gradients[self.lengths[0]] * size / self.lengths[0]
        return size if self.obstacle or seconds < LONG else max(1, min(size, max(8, int(size * LONG / seconds))))

    def _probe(self, name: str, size: int, wanted: Tensor) -> Cost:
        made: list[Prepare] = []

        def make() -> Prepare:
            made.append(self.wish.strategies[name](self.matrix))
            return made[-1]

        cost, _ = self.bench.run(make, self._batch(size), size, wanted, slow=name in TRACED)
        self._made = made[-1] if made else kept(self.matrix)
        return cost

    def _judged(self, name: str, cost: Cost, size: int) -> float:
        """Predicted seconds of the job by this strategy on batches of `size` rows; infinite when it is rejected."""
        limit = 1e-9 if self.vector.dtype == torch.float64 else 1e-4
        scaled = cost.peak * size / cost.rows
        if cost.failure:
            why = cost.failure
        elif not cost.difference <= limit:
            why = f"its product differs from the reference by {cost.difference:.1e}, more than {limit:.0e}"
        elif scaled > self.memory:
            why = f"a batch of {size} rows needs {scaled / 1e6:.0f} MB of the {self.memory / 1e6:.0f} MB there are"
        else:
            self._row(name, cost, "slower")
            return self._consider(name, cost, size, self._made)
        self._row(name, cost, "rejected", why)
        return math.inf

    def _consider(self, name: str, cost: Cost, size: int, prepare: Prepare) -> float:
        keep = name in HOLDS_GRAPH and self._keeps(cost)
        seconds = self.wish.checkpoints * self._checkpoint(name, cost, size) + cost.once
        if seconds < MARGIN * self.best[0]:
            self.best = (seconds, Plan(name, prepare, size, keep))
        return seconds

    def _checkpoint(self, name: str, cost: Cost, size: int) -> float:
        """Predicted seconds of one checkpoint."""
        batches = self.local / cost.rows
        builds = 1 if name in HOLDS_GRAPH and self._keeps(cost) else self.blocks
        apply = cost.apply * (self.width if name == "kept" else 1)  # the reference is measured with one vector
        return builds * cost.build * batches + self.blocks * apply * batches

    def _keeps(self, cost: Cost) -> bool:
        """Whether what is prepared fits into memory for all batches at once."""
        return cost.held * self.local / cost.rows + cost.peak < self.memory

    def _worth(self, name: str, size: int) -> bool:
        """Whether measuring takes a small part of the job."""
        cost = {"batched": 2 * self.width + 3, "forward_batched": 2 * self.width + 1, "forward": 3 * self.width + 3}
        expected = 2 * self.gradients[size] * cost.get(name, 2 * self.width + 3)
        if name != "batched" and _JVP not in sys.modules:
            expected += WAKE
        expected = max(self.comm.gather(expected))
        if self.bench.spent + expected <= self.allowance:
            return True
        self._skip(name, size, "measuring it would take too long for this job")
        return False

    def _pays(self, name: str, size: int) -> bool:
        """Whether tracing or compiling can pay: what it may save against what it will cost."""
        with torch.enable_grad():
            graph = nodes(self.problem.batch_loss(self.vector.clone().requires_grad_(True), self._batch(8)
                                                  if not self.obstacle else self.problem.batches[0]))  # fmt: skip
        shapes = 1 if sum(self.lengths) % size == 0 else 2  # of batches: each is traced
        cost = (0.3 + 0.05 * graph) * shapes if name == "linearised" else 5.0 + 0.5 * graph
        cost += WAKE if _JVP not in sys.modules else 0.0
        # Compiled code rarely gains on a trace what compiling takes: only the longest jobs find out.
        pays = max(self.comm.gather(cost)) < (0.3 if name == "linearised" else 0.02) * self.best[0]
        if not pays:
            self._skip(name, size, f"its {cost:.0f} s of tracing would not pay")
        return pays

    # ------------------------------------------------------------------ the table

    def _row(self, name: str, cost: Cost, verdict: str, why: str = "", *, single: bool = False) -> None:
        seconds = cost.build / self.width + cost.apply / (1 if single else self.width)
        gradient = self.gradients.get(cost.rows, math.nan)
        failed = bool(cost.failure) or not gradient > 0
        self.table.append(Row(
            self.operator, name, cost.rows, None if failed else round(seconds / gradient, 3),
            None if failed else round(cost.peak / 1e6, 1), None if failed else float(f"{cost.difference:.1e}"),
            verdict, why,
        ))  # fmt: skip

    def _skip(self, name: str, size: int, why: str) -> None:
        self.table.append(Row(self.operator, name, size, None, None, None, "skipped", why))

    def _mark(self, plan: Plan, why: str = "") -> None:
        """The chosen strategy's last line says so."""
        size = plan.rows or self.lengths[0]
        keep = f"{'kept for all batches' if plan.keep else 'prepared for every block'}; {size} rows a batch"
        lines = [i for i, row in enumerate(self.table) if row.strategy == plan.strategy and row.gradients is not None]
        exact = [i for i in lines if self.table[i].samples == size] or lines
        self.table[exact[-1]] = dataclasses.replace(
            self.table[exact[-1]], verdict="chosen", why=f"{keep}; {why}" if why else keep
        )
