"""One choice: strategies and sizes of batches are measured on a mini-batch, and the least predicted time is taken."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys

import torch
from torch import Tensor

from ..distributed.parallel import Comm
from ..errors import ProblemError
from ..loss.problem import Problem
from .measuring import available
from .plans import Plan, Table, Wish, unmeasured
from .probing import Bench, Cost, nodes
from .sizing import MARGIN, TOO_LONG, Sizes
from .strategies import HOLDS_GRAPH, TRACED, Matrix, Prepare, kept

SMALL = 1.0  # seconds of a job below which nothing is worth a choice
WAKE = 0.3  # seconds that torch takes to load its forward-mode formulas, once a process
_JVP = "torch._decomp.decompositions_for_jvp"
_GRAD = "torch.fx.experimental.symbolic_shapes"  # the first product loads it, half a second: no cost of a choice
SHARE = 0.05  # of a job's predicted time that measuring may take,
FEW = 25  # or so many gradients of a batch,
TRACING = 0.1  # or such a share together with tracing, which is no loss where it is chosen
PAYS = {"linearised": 0.3, "compiled": 0.02}  # of the job: what compiling costs is rarely gained on a trace


class Choice:
    """Makes one plan."""

    def __init__(
        self, wish: Wish, problem: Problem, vector: Tensor, comm: Comm, operator: str, matrix: Matrix
    ) -> None:
        self.wish, self.problem, self.comm, self.operator, self.matrix = wish, problem, comm, operator, matrix
        self.vector = vector
        self.width = min(wish.block, problem.size)
        self.blocks = math.ceil(wish.expected / self.width)  # block products a checkpoint
        free = wish.memory or 0.5 * available(problem.device) / comm.local_size
        self.memory = min(comm.gather(free))
        self.bench, self.table = Bench(problem, vector, comm, self.width), Table(operator, self.width)
        self.sizes = Sizes(problem, matrix, self.bench, self.table, self.memory)
        lengths = self.sizes.lengths
        self.local = max(1, sum(lengths[: math.ceil(len(lengths) / comm.size)]))  # rows a rank
        self.best: tuple[float, Plan] = (math.inf, unmeasured(matrix))
        self._made = kept(matrix)  # what was measured last

    def plan(self) -> Plan:
        """The plan, measured and decided by all ranks together."""
        first = self.sizes.first
        _loaded(_GRAD)
        reference = self.sizes.reference(first)
        if reference is None:
            return unmeasured(self.matrix)  # there is no product; the first one says why
        if self.wish.strategy != "auto":
            return self._pinned(first, reference)
        job = self.wish.checkpoints * self._checkpoint("kept", reference)
        self.table.add("kept", reference, self.sizes.gradient(first), "reference", single=True)
        if job < SMALL:
            plan = Plan("kept", kept(self.matrix), None, self._keeps(reference), self.table.rows)
            self.table.mark(plan, first, f"{job:.2g} s in all: too little to choose from")
            return plan
        self.bench.allowance = max(SHARE * job, FEW * self.sizes.gradient(first))
        size = self.sizes.search()
        self._strategies(size, TRACING * job)
        plan = self.best[1]
        self.table.mark(plan, plan.rows or first)
        lengths = self.sizes.lengths
        plan.rows = None if plan.rows == first and len(set(lengths[:-1])) <= 1 else plan.rows
        plan.table = self.table.rows
        return plan

    def _pinned(self, first: int, reference: Cost) -> Plan:
        name = self.wish.strategy
        gradient = self.sizes.gradient(first)
        self.table.add("kept", reference, gradient, "chosen" if name == "kept" else "reference", single=True)
        cost = reference
        if name != "kept":
            cost = self._probe(name, first)
            if not math.isfinite(self._judged(name, cost, first)):
                raise ProblemError(
                    f"the strategy {name} cannot be used for {self.operator} here ({self.table.rows[-1].why}); "
                    "leave the choice to --strategy auto"
                )
            self.table.judge(-1, "chosen", "as asked")
        return Plan(name, self._made, None, name in HOLDS_GRAPH and self._keeps(cost), self.table.rows)

    # ------------------------------------------------------------------ strategies

    def _strategies(self, size: int, tracing: float) -> None:
        """Measure every strategy on batches of `size` rows and as they are; the best one so far is kept in `best`.

        Args:
            tracing: seconds that may be spent in all before something is traced.
        """
        sizes = {rows_: self.sizes.part(rows_) for rows_ in dict.fromkeys((size, min(size, self.sizes.first)))}
        self._consider("kept", self.sizes.measured[size][0], size, kept(self.matrix))
        took: dict[tuple[str, int], float] = {}
        for name in (n for n in self.wish.strategies if n not in TRACED and n != "kept"):
            for rows_, part in sizes.items():
                if self._promises(name, rows_, took) and self._worth(name, part):
                    took[name, rows_] = self._judged(name, self._probe(name, part), rows_)
        at = min(took, key=took.__getitem__, default=("", size))[1]
        for name in (n for n in self.wish.strategies if n in TRACED):
            if self._pays(name, at, tracing):  # a trace belongs to a size of batches: it is measured at the very one
                self._judged(name, self._probe(name, at), at)

    def _probe(self, name: str, size: int) -> Cost:
        """The cost of a strategy on a batch of `size` rows, on which the reference was measured."""
        made: list[Prepare] = []

        def make() -> Prepare:
            made.append(self.wish.strategies[name](self.matrix))
            return made[-1]

        if name != "batched":
            _loaded(_JVP)
        reference, wanted = self.sizes.measured[size]
        beat = reference.build + self.width * reference.apply if self.wish.strategy == "auto" else math.inf
        cost, _ = self.bench.run(make, self.sizes.batch(size), size, wanted, slow=name in TRACED, beat=beat)
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
            self.table.add(name, cost, self.sizes.gradient(cost.rows), "slower")
            return self._consider(name, cost, size, self._made)
        self.table.add(name, cost, self.sizes.gradient(cost.rows), "rejected", why)
        return math.inf

    def _consider(self, name: str, cost: Cost, size: int, prepare: Prepare) -> float:
        """Predicted seconds of the job on batches of `size` rows, or of those measured where that is as good.

        What is measured on a part of a batch is held against the reference on it. A strategy that holds more at once
        suffers more from large batches than the reference does, so a prediction must promise something to be taken.
        """
        keep = name in HOLDS_GRAPH and self._keeps(cost)
        reference = self._checkpoint("kept", self.sizes.measured[cost.rows][0])
        least = math.inf
        for rows_ in dict.fromkeys((cost.rows, size)):
            scale = self._checkpoint("kept", self.sizes.measured[rows_][0]) / reference
            seconds = self.wish.checkpoints * scale * self._checkpoint(name, cost) + cost.once
            least = min(least, seconds)
            if seconds < MARGIN * self.best[0]:
                self.best = (seconds, Plan(name, prepare, rows_, keep))
        return least

    def _promises(self, name: str, size: int, took: dict[tuple[str, int], float]) -> bool:
        """Whether a strategy may gain anything after what others `took` on batches of `size` rows.

        Columns one by one are worth a try only where all at once are impossible. Forward mode at once does what
        `batched` does and builds more where that one's graphs are kept, so not where doing all at once is slower.
        """
        if name == "forward":
            return math.isinf(took.get(("forward_batched", size), 0.0))
        batched = took.get(("batched", size), math.inf)
        slower = math.isfinite(batched) and MARGIN * batched > self._reference(size)
        if name == "forward_batched" and slower and self._keeps(self.sizes.measured[size][0]):
            self.table.skip(name, size, "all columns at once are slower than one by one, and it builds more")
            return False
        return True

    def _reference(self, size: int) -> float:
        return self.wish.checkpoints * self._checkpoint("kept", self.sizes.measured[size][0])

    def _checkpoint(self, name: str, cost: Cost) -> float:
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
        reference = self.sizes.measured[size][0]
        once = reference.build + self.width * reference.apply
        wake = WAKE if name != "batched" and _JVP not in sys.modules else 0.0
        worth = self.bench.affords((1.5 if name == "forward" else 1.0) * 2 * once + wake)
        if not worth:
            self.table.skip(name, size, TOO_LONG)
        return worth

    def _pays(self, name: str, size: int, tracing: float) -> bool:
        """Whether tracing or compiling can pay: what it may save against what it will cost."""
        with torch.enable_grad():
            few = self.problem.batches[0] if self.sizes.obstacle else self.sizes.batch(min(8, self.sizes.first))
            graph = nodes(self.problem.batch_loss(self.vector.clone().requires_grad_(True), few))
        shapes = 1 if sum(self.sizes.lengths) % size == 0 else 2  # of batches: each is traced
        cost = (0.3 + 0.06 * graph) * shapes if name == "linearised" else 5.0 + 0.5 * graph
        cost += WAKE if _JVP not in sys.modules else 0.0
        reference = self.sizes.measured[size][0]
        calls = 3 * (reference.build + self.width * reference.apply)
        pays = max(self.comm.gather(cost)) < PAYS[name] * self.best[0]
        if not pays or not self.bench.affords(cost + calls, tracing):
            self.table.skip(name, size, f"its {cost:.0f} s of tracing would not pay")
            return False
        return True


def _loaded(module: str) -> None:
    """What torch loads at a first call is loaded before it is timed."""
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
