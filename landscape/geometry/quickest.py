"""Which way of measuring points of a plane is the fastest here: tried on a part of the data, agreed over ranks.

Every way is first compared with `Problem.evaluate` at two places: one that differs by more than rounding, or that the
model cannot run, is named in the table and never chosen. The quickest are timed again in turn, so that a slow spell of
the machine meets all of them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distributed.parallel import Comm
from ..engine.measuring import Peak, available, timed
from ..errors import LandscapeError
from ..loss.batches import first_rows, rows
from ..loss.problem import Problem
from .meter import Columns, Meter, PlaneMeter, Way

Float64 = NDArray[np.float64]

_SAMPLES = 2048  # of which a way is tried at most
_SMALL = 200_000  # weights; below, stacking points can save more calls than it costs
_SHORT = 0.02  # seconds below which a measurement is repeated
_SHARE, _LEAST = 0.05, 0.1  # of the work that is ahead, and seconds, that trying may take
_TRACING = 0.2  # seconds ahead below which a trace costs more than it saves
_FINAL, _ROUNDS = 3, 5  # the quickest of them are timed again in turn, so many times
_EQUAL = 1.05  # ways that differ by less are equal, and the one that is tried first is taken: two jobs choose the same


@dataclass(frozen=True)
class Trial:
    """What a way costs, or why it cannot be used."""

    way: Way
    seconds: float = float("inf")  # of a point on all data
    peak: float = 0.0  # bytes
    failure: str = ""

    def row(self) -> dict[str, Any]:
        found: dict[str, Any] = {"way": str(self.way)}
        return found | ({"failure": self.failure} if self.failure else {"ms_per_point": 1e3 * self.seconds})


def quickest(
    problem: Problem, origin: Tensor, directions: Tensor, reach: Float64, points: int, comm: Comm
) -> tuple[Way, list[dict[str, Any]]]:
    """The fastest way for so many points within half of the free memory, and the table of all that were tried.

    `reach` (k,) is a far place of the plane; the trial takes place between it and the origin. Every rank tries the
    same at the same time, the slowest counts, so all ranks return the same way.
    """
    head, share = _head(problem)
    bench = _Bench(head, share, origin, directions, reach, comm)
    plain = bench.plain()
    found = [plain]
    ahead = plain.seconds * points / comm.size
    allowed = max(_LEAST if ahead > 2 * _LEAST else 0.0, _SHARE * ahead)
    memory = min(comm.gather(available(problem.device))) / (2 * comm.local_size)
    spent = 0.0
    for way in _ways(problem, rows_of(head), points, trace=ahead > _TRACING):
        if spent >= allowed:
            break
        trial, seconds = bench.trial(way)
        spent += seconds
        if trial.peak > memory:
            trial = Trial(way, failure=f"needs {trial.peak / 1e6:.0f} MB")
        found.append(trial)
        bench.keep(_first(found, _FINAL))
    found = bench.again(found, allowed - spent)
    return _best(found).way, [trial.row() for trial in found]


def _first(trials: Sequence[Trial], count: int) -> list[Way]:
    """The quickest so many."""
    return [t.way for t in sorted(trials, key=lambda t: t.seconds)[:count] if not t.failure]


def _best(trials: Sequence[Trial]) -> Trial:
    """The quickest, or an equal one that was tried before; `trials` begin with the plain way."""
    least = min(t.seconds for t in trials)
    return next(t for t in [*trials[1:], trials[0]] if t.seconds <= _EQUAL * least)


def rows_of(problem: Problem) -> int:
    """Rows of all batches, 0 where they cannot be told."""
    try:
        return sum(map(rows, problem.batches))
    except LandscapeError:
        return 0


def _head(problem: Problem) -> tuple[Problem, float]:
    """The problem on its first samples, and what share of the work of all data, test data too, they are."""
    head = copy.copy(problem)
    head.batches, head.test_batches = problem.batches[:1], []
    for batch in problem.batches[1:]:
        if sum(map(problem.count, head.batches)) >= _SAMPLES:
            break
        head.batches = [*head.batches, batch]
    if len(head.batches) == 1 and rows_of(head) > _SAMPLES:
        head.batches = [first_rows(head.batches[0], _SAMPLES)]
    head.samples = sum(map(problem.count, head.batches))
    everything = problem.samples + sum(map(problem.count, problem.test_batches))
    return head, head.samples / everything


def _ways(problem: Problem, samples: int, points: int, *, trace: bool) -> Iterator[Way]:
    """Ways worth trying, the likeliest first; small layers gain from stacking, convolutions do not."""
    convolves = any(isinstance(m, torch.nn.modules.conv._ConvNd) for m in problem.model.modules())
    cpu = problem.device.type == "cpu"
    sizes = [size for size in (512, 128, 1024, 64, 2048, 256) if size < samples] if samples else [0]
    whole = [samples] if 0 < samples <= _SAMPLES else []
    large = [*whole, *(size for size in (1024, 512) if size < samples)]
    stacked = [
        Way(size, max(8, 1 << 15 >> (size - 1).bit_length()) if cpu else 64, True, cpu) for size in large
    ] if problem.size < _SMALL and points >= 16 else []  # fmt: skip
    single = [Way(size, 1, True, cpu) for size in dict.fromkeys([*sizes[:1], *whole, *sizes[1:]])]
    ways = [*single, *stacked[:1]] if convolves and cpu else [*stacked, *single]
    if trace:
        yield from (dataclasses.replace(way, traced=True) for way in ways[:3])
    yield from ways[:3]
    yield from (Way(way.rows, way.points, affine, False) for way in ways[:1] for affine in (True, False))
    if trace:
        yield from (dataclasses.replace(way, traced=True) for way in ways[3:])
    yield from ways[3:]


class _Bench:
    """Tries ways on the head of the data."""

    def __init__(
        self, head: Problem, share: float, origin: Tensor, directions: Tensor, reach: Float64, comm: Comm
    ) -> None:
        self.head, self.share, self.comm = head, share, comm
        self.origin, self.directions = origin, directions
        self.places = np.array([0.1, -0.5])[:, None] * reach  # (2, k)
        self.wanted: Columns = {}
        self._runs: dict[Way, Callable[[], float]] = {}  # way -> seconds of a point of the head, measured now

    def plain(self) -> Trial:
        """The reference: the problem's own evaluation."""
        meter = PlaneMeter(self.head, self.origin, self.directions, Way())
        vectors = meter.vectors(self.places)
        self.wanted = Meter(self.head).measure(vectors)
        self._runs[Way()] = partial(self._least, meter, self.places)
        return Trial(Way(), self._agreed(self._runs[Way()]()) / self.share)

    def keep(self, ways: Sequence[Way]) -> None:
        """Let go of all others: a way that is ready holds first layers' products."""
        self._runs = {way: run for way, run in self._runs.items() if way in ways}

    def again(self, trials: Sequence[Trial], seconds: float) -> list[Trial]:
        """The trials with the least of further times of those that were kept, one after the other in several rounds."""
        least = {t.way: t.seconds for t in trials}
        for _ in range(_ROUNDS if len(self._runs) > 1 else 0):
            if seconds <= 0:
                break
            for way, run in self._runs.items():
                time, spent = timed(run, self.head.device)
                least[way] = min(least[way], self._agreed(time) / self.share)
                seconds -= self._agreed(spent)
        return [dataclasses.replace(t, seconds=least[t.way]) for t in trials]

    def trial(self, way: Way) -> tuple[Trial, float]:
        """What a way costs, and the seconds that trying it took."""
        found, spent = Trial(way), 0.0
        try:
            found, spent = timed(lambda: self._tried(way), self.head.device)
        except Exception as error:  # whatever a model, a tracer or a transform may raise
            found = Trial(way, failure=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200])
        failures = [failure for failure in self.comm.gather(found.failure) if failure]
        seconds, spent, peak = (self._agreed(x) for x in (found.seconds, spent, found.peak))
        return (Trial(way, failure=failures[0]) if failures else Trial(way, seconds, peak)), spent

    def _tried(self, way: Way) -> Trial:
        with Peak(self.head.device) as peak:
            meter = PlaneMeter(self.head, self.origin, self.directions, way)
            difference = _difference(meter.measure(self.places), self.wanted)
            if difference > self._rounding:
                return Trial(way, failure=f"differs by {difference:.1e}")
            many = np.repeat(self.places[1:], max(way.points, 2), axis=0)
            many[:, 0] *= np.linspace(0.0, 1.0, len(many))  # along a row, as a grid is measured
            self._runs[way] = partial(self._least, meter, many)
            seconds = self._runs[way]()
        return Trial(way, seconds / self.share, peak.bytes)

    @property
    def _rounding(self) -> float:
        return 1e3 * torch.finfo(self.head.dtype).eps

    def _least(self, meter: PlaneMeter, places: Float64) -> float:
        """Seconds of a point, the least of several times where it is short."""
        least, total = float("inf"), 0.0
        for _ in range(5):
            seconds = timed(lambda: meter.measure(places), self.head.device)[1]
            least, total = min(least, seconds), total + seconds
            if total > _SHORT:
                break
        return least / len(places)

    def _agreed(self, value: float) -> float:
        return max(self.comm.gather(value))


def _difference(found: Columns, wanted: Columns) -> float:
    """Largest relative difference of any metric; of the accuracy, which jumps, a hundredth of it."""
    if found.keys() != wanted.keys():
        return float("inf")
    worst = 0.0
    for name, values in wanted.items():
        if not np.array_equal(np.isnan(values), np.isnan(found[name])):
            return float("inf")
        scale = np.maximum(np.abs(values), 1e-3)
        relative = float(np.nan_to_num(np.abs(found[name] - values) / scale).max())
        worst = max(worst, relative / 100 if name == "accuracy" else relative)
    return worst
