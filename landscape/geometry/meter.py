"""Loss and metrics, train and test, at many points of the plane through an origin, in one of several ways.

A `Way` says how the same numbers are computed: how many samples a batch, how many points at once (stacked weights under
`torch.vmap`), whether first layers are affine in the coordinates, whether small kernels are reordered, whether all that
is traced once and replayed. All ways agree to rounding; `quickest` measures which one is the fastest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..engine.heap import reuse_pages
from ..loss.batch_statistics import recompute_statistics
from ..loss.batches import Batch, count_answers, rebatched, tensors
from ..loss.problem import Problem
from .entries import Entries, Walk, combined
from .kernels import Reordered
from .replay import Replay, laid_out

Float64 = NDArray[np.float64]
Columns = dict[str, Float64]  # metric -> one value a point

_VECTORS = 1 << 27  # bytes of weight vectors that are alive at once
_KEPT = 1 << 28  # bytes of first layers' products that are kept from one call to the next


def metric_names(problem: Problem, classifies: bool) -> list[str]:
    """Names of the metrics of one part of the data: 'loss', 'accuracy' where there is one, and the user's."""
    return ["loss", *(["accuracy"] if classifies else []), *problem.metrics]


class Meter:
    """Metrics of any weight vectors, one by one as `Problem.evaluate` has them: `Meter(problem).measure(vectors)`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.classifies = problem.has_accuracy

    def names(self) -> set[str]:
        """Names of all metrics of this problem, those on test data with 'test_' in front."""
        own = metric_names(self.problem, self.classifies)
        return {*own, *(f"test_{name}" for name in own if self.problem.has_test)}

    def measure(self, vectors: Tensor) -> Columns:
        """Metrics of vectors (points, size): 'loss', and 'accuracy', 'test_loss', 'test_accuracy' where there are."""
        rows = [self._at(vector.to(self.problem.device, self.problem.dtype)) for vector in vectors]
        return diverged({name: np.array([row[name] for row in rows]) for name in rows[0]})

    def _at(self, vector: Tensor) -> dict[str, float]:
        found = self.problem.evaluate(vector)
        if self.problem.has_test:
            found |= {f"test_{name}": value for name, value in self.problem.evaluate(vector, "test").items()}
        return found


def diverged(columns: Columns) -> Columns:
    """The same with NaN for whatever is not finite: one word for diverged."""
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in columns.items()}


@dataclass(frozen=True)
class Way:
    """How metrics are computed; as it comes, batch by batch and point by point."""

    rows: int = 0  # samples a batch; 0: the problem's own batches
    points: int = 1  # stacked under vmap
    affine: bool = False  # first layers from the products with origin and directions
    reordered: bool = False  # landscape/geometry/kernels.py
    traced: bool = False  # landscape/geometry/replay.py

    def __str__(self) -> str:
        words = ["batches as they are" if not self.rows else f"{self.rows} samples a batch"]
        words += [f"{self.points} points at once" if self.points > 1 else "point by point"]
        words += ["first layers affine"] * self.affine + ["kernels reordered"] * self.reordered
        words += ["traced"] * self.traced
        return ", ".join(words)

    def array(self) -> NDArray[np.int64]:
        """Numbers that a store keeps beside what was computed so."""
        return np.array(astuple(self), dtype=np.int64)

    @classmethod
    def of(cls, array: NDArray[Any]) -> Way:
        """Inverse of `array`."""
        rows, points, *switches = (int(x) for x in array)
        return cls(rows, points, *map(bool, switches))


class PlaneMeter:
    """Metrics at places (points, k) of origin + places @ directions, k directions, computed in one way.

    It works on a copy of the model, whose buffers are those of the problem now. The points of one call are stacked in
    the order given, so equal calls give equal bytes.
    """

    def __init__(self, problem: Problem, origin: Tensor, directions: Tensor, way: Way) -> None:
        reuse_pages()
        self.way = way
        self.problem = problem = problem.to()  # a copy of the model: its weights and layers are exchanged below
        plain = Meter(problem)
        self._classifies, self.all_names = plain.classifies, plain.names()
        self.names = metric_names(problem, self._classifies)
        self._origin, self._directions = origin.to(problem.device), directions.to(problem.device)
        self._batches = {
            which: rebatched(batches, way.rows) if way.rows else batches
            for which, batches in (("train", problem.batches), ("test", problem.test_batches)) if batches
        }  # fmt: skip
        if way.reordered and any(_masked(b) for batches in self._batches.values() for b in batches):
            raise RuntimeError("masked targets need the usual cross entropy")
        self._parameters = dict(problem.model.named_parameters())
        self._entries = self._find_entries() if way.affine else None
        self._products: dict[tuple[str, int], list[Tensor]] = {}
        self._kept = 0
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)
        self._replay = self._traced() if way.traced else None

    def _find_entries(self) -> Entries:
        named = [self._named(vector.to(self.problem.dtype)) for vector in (self._origin, *self._directions)]
        entries = Entries(self.problem.objective, named, self._batches["train"][0])
        if not entries.layers:
            raise RuntimeError("no linear layer sees the data alone")
        return entries

    @torch.no_grad()
    def _traced(self) -> Replay:
        first = self._batches["train"][0]
        vectors = self._origin.to(self.problem.dtype).expand(self.way.points, -1)
        products = [] if self._entries is None else [p[0] for p in self._entries.products(first)]
        entering = products if self.way.points == 1 else [p.expand(self.way.points, *p.shape) for p in products]

        def work(*given: Any) -> Tensor:
            with self._replacing():
                return self._metrics_at(*given)

        return Replay(work, vectors, entering, first)

    def _named(self, vector: Tensor) -> dict[str, Tensor]:
        return {f"model.{name}": value for name, value in self.problem.unflatten(vector).items()}

    @torch.no_grad()
    def measure(self, places: Float64) -> Columns:
        """Metrics of places (points, k), NaN where one is not finite."""
        size = self._origin.numel() * self._origin.element_size() * self.way.points
        step = self.way.points * max(1, _VECTORS // size)
        parts = [self._part(places[start : start + step]) for start in range(0, len(places), step)]
        return diverged({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def _part(self, places: Float64) -> Columns:
        at = torch.as_tensor(places, dtype=torch.float64, device=self._origin.device)
        vectors = self.vectors(at)
        found: Columns = {}
        for which in self._batches:
            prefix = "" if which == "train" else "test_"
            found |= {prefix + name: values for name, values in self._means(which, vectors, at).items()}
        return found

    def vectors(self, places: Float64 | Tensor) -> Tensor:
        """Weights (points, size) combined in float64; (0, ..., 0) is the origin bit for bit."""
        places = torch.as_tensor(places, dtype=torch.float64, device=self._origin.device)
        combination = self._origin.double().expand(len(places), -1)
        for k in reversed(range(len(self._directions))):
            combination = combination + places[:, k, None] * self._directions[k].double()
        return combination.to(self.problem.dtype)

    def _means(self, which: str, vectors: Tensor, places: Tensor) -> Columns:
        """Data batch outermost, all points inside: sums over samples in float64, as `Problem.evaluate` has them."""
        sums = torch.zeros(len(vectors), len(self.names), dtype=torch.float64)
        totals = torch.zeros(len(self.names), dtype=torch.float64)
        for number, batch in enumerate(self._batches[which]):
            products = self._entering(which, number, batch)
            n = self.problem.count(batch)
            others = [n] * len(self.problem.metrics)
            means = torch.tensor([n, *[1] * self._classifies, *others], dtype=torch.float64)  # right answers are counts
            with self._replacing() if self._replay is None else contextlib.nullcontext():  # a trace has replaced them
                sums += means * self._outcomes(vectors, places, products, batch).cpu()
            answers = [count_answers(batch)] if self._classifies else []
            totals += torch.tensor([n, *answers, *others], dtype=torch.float64)
        return dict(zip(self.names, (sums / totals).T.numpy(), strict=True))

    def _entering(self, which: str, number: int, batch: Batch) -> list[Tensor]:
        """First layers' products of a batch, kept while they are few."""
        if self._entries is None:
            return []
        key = which, number
        if key in self._products:
            return self._products[key]
        found = self._entries.products(batch)
        if self._replay is not None:
            found = [laid_out(p, window) for p, window in zip(found, self._replay.windows, strict=True)]
        size = sum(p.numel() * p.element_size() for p in found)
        if self._kept + size <= _KEPT:
            self._products[key] = found
            self._kept += size
        return found

    @contextlib.contextmanager
    def _replacing(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if self._entries is not None:
                stack.enter_context(self._entries.replaced())
            if self.way.reordered:
                stack.enter_context(Reordered(pools=not self.way.traced))
            yield

    def _outcomes(self, vectors: Tensor, places: Tensor, products: list[Tensor], batch: Batch) -> Tensor:
        """Metrics (points, metrics) of one batch."""
        work = self._replay or (self._metrics_at if self.way.points > 1 else self._single)
        windows = [None] * len(products) if self._replay is None else self._replay.windows
        walks = [Walk(p, maxima=window is not None) for p, window in zip(products, windows, strict=True)]
        count = len(vectors)
        if self._replay is not None and count % self.way.points:  # a trace has one number of points
            fill = torch.arange(-(-count // self.way.points) * self.way.points).clamp(max=count - 1)
            vectors, places = vectors[fill], places[fill]
        found = []
        for start in range(0, len(vectors), self.way.points):
            piece = slice(start, start + self.way.points)
            if self.way.points > 1:
                entering = [combined(p, places[piece]) for p in products]
            else:
                entering = [walk.at(places[start].tolist()) for walk in walks]
            found.append(work(vectors[piece], entering, batch))
        return torch.cat(found)[:count]

    def _single(self, vectors: Tensor, entering: list[Tensor], batch: Batch) -> Tensor:
        for name, value in self.problem.unflatten(vectors[0]).items():
            self._parameters[name].data = value  # cheaper than a functional call
        if self._entries is not None:
            self._entries.at(entering)
        return self._metrics(self.problem.objective(batch), batch)[None]

    def _metrics_at(self, vectors: Tensor, entering: list[Tensor], batch: Batch) -> Tensor:
        """Metrics (points, metrics) of weights (points, size), the first layers' outputs being known."""

        def one(vector: Tensor, values: list[Tensor]) -> Tensor:
            if self._entries is not None:
                self._entries.at(values)
            return self._metrics(functional_call(self.problem.objective, self._named(vector), (batch,)), batch)

        with sdpa_kernel(SDPBackend.MATH):  # vmap has no rule for the others
            if self.way.points == 1:
                return one(vectors[0], entering)[None]
            found: Tensor = torch.vmap(one)(vectors, entering)
        return found

    def _metrics(self, outcome: tuple[Tensor, Any], batch: Batch) -> Tensor:
        """Mean loss, number of right answers and means of the user's metrics, (metrics,) float64."""
        loss, outputs = outcome
        found = [loss.reshape(())]
        if self._classifies:
            found.append((outputs.argmax(dim=-1) == batch[1]).sum())
        found += [value.reshape(()) for value in self.problem.measured(outputs, batch).values()]
        return torch.stack([value.double() for value in found])


class RecomputingMeter:
    """Metrics at places as `PlaneMeter` has them, with BatchNorm statistics recomputed at every point."""

    def __init__(self, problem: Problem, origin: Tensor, directions: Tensor, way: Way) -> None:
        self._places = PlaneMeter(problem, origin, directions, way)
        self._meter = Meter(problem.to())  # a copy of the model: its statistics are exchanged
        self.all_names = self._meter.names()

    def measure(self, places: Float64) -> Columns:
        """Metrics of places (points, k), NaN where one is not finite."""
        found = []
        for place in places:
            (vector,) = self._places.vectors(place[None])
            recompute_statistics(self._meter.problem, vector)
            found.append(self._meter.measure(vector[None]))
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _masked(batch: Batch) -> bool:
    return any(bool((x < 0).any()) for x in tensors(batch) if not x.is_floating_point() and x.dtype != torch.bool)
