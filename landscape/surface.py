"""Loss and metrics on the grid of a plane. Every point starts from the stored origin; the model is never moved.

    theta(u, v) = origin + u * directions[0] + v * directions[1], combined in float64

Rows are dealt over ranks and handed out as soon as they are finished, so that a killed job keeps them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .batches import Batch, count_answers
from .directions import Plane
from .errors import ProblemError, UsageError
from .parallel import Comm
from .problem import Problem
from .records import Surface

Float64 = NDArray[np.float64]
Columns = dict[str, Float64]  # metric -> one value a point
OnRow = Callable[[int, Columns], None]

_SAMPLES_PER_PASS = 8192  # measured on the digits MLP: below it calls dominate, above it the caches overflow
_MERGE_BELOW = 200_000  # weights; beyond it one point alone keeps a core busy
_MERGED = (nn.Linear, nn.LayerNorm, nn.BatchNorm1d)


# ------------------------------------------------------------------ many points


class Meter:
    """Loss and accuracy, train and test, of many weight vectors: `Meter(problem).measure(vectors)`.

    Small networks of linear layers are evaluated many points a pass (`torch.vmap`), which saves the calls that
    dominate there; other networks are faster point by point. Both give the same numbers to rounding. The choice
    depends on the problem alone, so that all ranks choose alike; `points_per_pass` says what it is.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.classifies = problem.has_accuracy
        self.points_per_pass = _points_per_pass(problem)
        if self.points_per_pass > 1 and not self._merging_agrees():
            self.points_per_pass = 1

    def names(self) -> set[str]:
        """Names of the metrics of this problem."""
        own = {"loss", "accuracy"} if self.classifies else {"loss"}
        return own | {f"test_{name}" for name in own} if self.problem.has_test else own

    def measure(self, vectors: Tensor) -> Columns:
        """Metrics of vectors (points, size): 'loss', and 'accuracy', 'test_loss', 'test_accuracy' where there are."""
        vectors = vectors.to(self.problem.device, self.problem.dtype)
        pieces = [self._pass(piece) for piece in torch.split(vectors, self.points_per_pass)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _pass(self, vectors: Tensor) -> Columns:
        evaluate = self._merged if self.points_per_pass > 1 else self._one_by_one
        found = evaluate(vectors, "train")
        if self.problem.has_test:
            found |= {f"test_{name}": values for name, values in evaluate(vectors, "test").items()}
        return {n: np.where(np.isfinite(x), x, np.nan) for n, x in found.items()}  # NaN is the one word for diverged

    def _one_by_one(self, vectors: Tensor, which: str) -> Columns:
        rows = [self.problem.evaluate(vector, which) for vector in vectors]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    @torch.no_grad()
    def _merged(self, vectors: Tensor, which: str) -> Columns:
        """Data batch outermost, all points inside: sums over samples in float64, as `Problem.evaluate` does."""
        sums = torch.zeros(2, len(vectors), dtype=torch.float64)  # loss, right answers
        total = answers = 0
        for batch in self.problem.batches if which == "train" else self.problem.test_batches:
            n = self.problem.count(batch)
            losses, correct = torch.vmap(lambda vector, b=batch: self._outcome(vector, b))(vectors)
            sums += torch.stack([n * losses.double(), correct.double()]).cpu()
            total += n
            answers += count_answers(batch) if self.classifies else n
        loss, accuracy = (sums / torch.tensor([[total], [answers]])).numpy()
        return {"loss": loss, "accuracy": accuracy} if self.classifies else {"loss": loss}

    def _outcome(self, vector: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, outputs = self.problem.outcome(vector, batch)
        correct = (outputs.argmax(dim=-1) == batch[1]).sum() if self.classifies else torch.zeros_like(loss)
        return loss, correct

    def _merging_agrees(self) -> bool:
        """Try two points both ways; a model that `vmap` cannot run, or runs differently, is evaluated one by one."""
        vectors = self.problem.weights()[None] * torch.tensor([[1.0], [0.5]], device=self.problem.device)
        vectors = vectors.to(self.problem.dtype)
        try:
            merged = self._merged(vectors, "train")
        except (RuntimeError, ValueError, TypeError, NotImplementedError):  # whatever vmap has no rule for
            return False
        single = self._one_by_one(vectors, "train")
        return single.keys() == merged.keys() and np.allclose(
            single["loss"], merged["loss"], rtol=1e-5, atol=1e-7, equal_nan=True
        )


def _points_per_pass(problem: Problem) -> int:
    """Points that fill a pass, 1 where merging does not pay: large models, large batches, convolutions."""
    owners = [m for m in problem.model.modules() if any(True for _ in m.parameters(recurse=False))]
    if problem.size > _MERGE_BELOW or not owners or not all(isinstance(m, _MERGED) for m in owners):
        return 1
    points = _SAMPLES_PER_PASS // max(problem.count(batch) for batch in problem.batches)
    return points if points >= 8 else 1


# ------------------------------------------------------------------ the grid


def grid(
    plane: Plane,
    coordinates: NDArray[Any] | Sequence[Sequence[float]] | None = None,
    points: int | tuple[int, int] = 51,
    margin: float = 0.25,
    *,
    rise: float = 1.0,
) -> tuple[Float64, Float64]:
    """Grid coordinates (u, v) that show something: they hold the trajectory, and 0 is exactly one of them.

    `coordinates` are the trajectory's (checkpoint, 2) or more columns. The range of each axis is the trajectory's,
    the origin included, with `margin` of its width added on both sides, and at least
    - eigen: +- sqrt(2 rise / |eigenvalue|), where the quadratic model rises by `rise` (in units of the loss), but not
      beyond the norm of the weights: in this plane a path hardly moves;
    - random: +- scale, that is [-1, 1] in filter-normalised units;
    - pca: a fifth of the other axis, so that a thin path keeps its surroundings.
    `points` counts one axis, or (columns, rows).

    Raises:
        UsageError: fewer than 3 points, or a range that is empty.
    """
    columns, rows = (points, points) if isinstance(points, int) else points
    if min(columns, rows) < 3:
        raise UsageError(f"a grid needs at least 3 points an axis, got {columns} x {rows}")
    path = np.zeros((1, 2)) if coordinates is None else np.asarray(coordinates, dtype=np.float64)[:, :2]
    path = path[np.isfinite(path).all(axis=1)]
    low, high = np.minimum(path.min(axis=0, initial=0.0), 0.0), np.maximum(path.max(axis=0, initial=0.0), 0.0)
    width = high - low
    low, high = low - margin * width, high + margin * width
    half = _least_half_width(plane, width * (0.5 + margin), rise)
    low, high = np.minimum(low, -half), np.maximum(high, half)
    if not (high > low).all():
        raise UsageError("the trajectory does not move in this plane, so a range cannot be guessed; give one by hand")
    return _through_zero(low[0], high[0], columns), _through_zero(low[1], high[1], rows)


def _least_half_width(plane: Plane, own: Float64, rise: float) -> Float64:
    curvature = plane.info.get("curvature", plane.info.get("values"))
    if curvature is not None:
        reach = float(torch.linalg.norm(plane.origin.double())) or 1.0
        known = np.array([np.inf if c is None else max(abs(c), 1e-300) for c in curvature])  # None: the path decides
        return np.asarray(np.minimum(np.sqrt(2 * rise / known), reach))
    if plane.kind == "random":
        return np.full(2, plane.info["scale"])
    return 0.2 * own[::-1]


def _through_zero(low: float, high: float, points: int) -> Float64:
    """Equidistant points that cover [low, high] and hit 0 exactly, with the smallest step that does both."""
    below = np.arange(points)  # how many points lie below 0
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(low < 0, -low / below, 0.0)
        right = np.where(high > 0, high / (points - 1 - below), 0.0)
    steps = np.maximum(left, right)
    k = int(np.argmin(steps))
    return np.asarray((np.arange(points) - k) * steps[k], dtype=np.float64)


# ------------------------------------------------------------------ the surface


def surface(
    problem: Problem,
    plane: Plane,
    u: Float64,
    v: Float64,
    comm: Comm,
    *,
    done: Mapping[int, Mapping[str, NDArray[np.float64]]] | None = None,
    on_row: OnRow | None = None,
) -> Surface:
    """Loss (accuracy, test loss, test accuracy) at every (u[column], v[row]); the same record on every rank.

    The problem should hold the checkpoint at the plane's origin: its BatchNorm statistics are used, frozen, for the
    whole surface. Rows are dealt over ranks; `on_row(row, metrics)` is called on the rank that has just finished the
    row, and what it kept may come back as `done` (rank 0's counts) to go on after a kill. NaN marks a loss that is
    not finite. `meta` carries the self-check: `centre_loss` and its difference from the value on the grid,
    whether the weights are unchanged, the plane's `info`, and how many rows came from `done`.

    Raises:
        ProblemError: the plane belongs to another model, or BatchNorm statistics of another checkpoint are loaded.
    """
    began = time.monotonic()
    check_centre(problem, plane)
    before = problem.weights()
    meter = Meter(problem)
    finished = comm.broadcast(_whole_rows(done or {}, len(u), len(v), meter))
    mine: dict[int, Columns] = {}
    for row in comm.share([row for row in range(len(v)) if row not in finished]):
        mine[row] = measure_row(meter, plane, u, float(v[row]))
        if on_row is not None:
            on_row(row, mine[row])
    rows = dict(finished)
    for part in comm.gather(mine):
        rows |= part
    arrays = {name: np.stack([rows[row][name] for row in range(len(v))]) for name in rows[0]}
    centre = meter.measure(plane.origin[None])["loss"][0]
    meta = {
        **plane.info,
        "centre_loss": float(centre),
        "centre_error": _centre_error(plane, u, v, arrays["loss"], float(centre), problem),
        "weights_unchanged": bool(torch.equal(before, problem.weights())),
        "not_finite": int(np.isnan(arrays["loss"]).sum()),
        "batch_norm": "statistics of the checkpoint at the origin, frozen" if has_statistics(problem) else "none",
        "points_per_pass": meter.points_per_pass,
        "rows_resumed": len(finished),
        "seconds": time.monotonic() - began,
        "samples": problem.samples,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "ranks": comm.size,
    }
    directions, origin = (t.detach().cpu().numpy() for t in (plane.directions, plane.origin))
    return Surface(
        plane.step, plane.name, list(plane.labels), np.asarray(u, dtype=np.float64), np.asarray(v, dtype=np.float64),
        **arrays, directions=directions, origin=origin, meta=meta,
    )


def measure_row(meter: Meter, plane: Plane, u: Float64, v: float) -> Columns:
    """Metrics of one row of the grid, never holding more weight vectors than one pass needs."""
    pieces = [
        meter.measure(plane.points(u[start : start + meter.points_per_pass], v))
        for start in range(0, len(u), meter.points_per_pass)
    ]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def has_statistics(problem: Problem) -> bool:
    """Whether the model keeps running statistics of its activations (BatchNorm)."""
    return any(getattr(module, "running_var", None) is not None for module in problem.model.modules())


def check_centre(problem: Problem, plane: Plane) -> None:
    """Check that the plane fits the model, and that loaded BatchNorm statistics are those of the plane's origin.

    Raises:
        ProblemError: they do not.
    """
    if plane.origin.numel() != problem.size:
        raise ProblemError(
            f"the {plane.kind} plane has {plane.origin.numel():,} weights, the model {problem.size:,}; "
            "compute the plane from this run's checkpoints"
        )
    if has_statistics(problem) and not torch.equal(problem.weights(), plane.origin.to(problem.device, problem.dtype)):
        raise ProblemError(
            f"the model has BatchNorm statistics, but not those of the plane's origin (step {plane.step}); "
            "load that checkpoint into the problem first"
        )


def _whole_rows(
    done: Mapping[int, Mapping[str, NDArray[np.float64]]], columns: int, rows: int, meter: Meter
) -> dict[int, Columns]:
    """The finished rows that fit this grid and these metrics; others are computed again."""
    names = meter.names()
    return {
        row: {name: np.asarray(metrics[name], dtype=np.float64) for name in names}
        for row, metrics in done.items()
        if 0 <= row < rows and names <= set(metrics) and all(metrics[n].shape == (columns,) for n in names)
    }


def _centre_error(
    plane: Plane, u: Float64, v: Float64, loss: Float64, centre: float, problem: Problem
) -> float:
    """Largest difference between the checkpoint's loss, evaluated plainly, and the surface's value at (0, 0)."""
    plain = problem.evaluate(plane.origin.to(problem.device, problem.dtype))["loss"]
    at_zero = loss[np.flatnonzero(v == 0)][:, np.flatnonzero(u == 0)].ravel()
    return float(np.abs(np.array([centre, *at_zero]) - plain).max())
