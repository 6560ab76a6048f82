"""Loss and metrics on the grid of a plane. Every point starts from the stored origin; the model is never moved.

    theta(u, v) = origin + u * directions[0] + v * directions[1], combined in float64

Points are dealt over ranks in blocks and handed out as soon as they are finished, so that a killed job keeps them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..distributed.parallel import Comm
from ..errors import ProblemError, UsageError
from ..loss.batch_statistics import has_statistics
from ..loss.problem import Problem
from ..records import Surface
from . import refinement
from .directions import Plane
from .meter import Columns, Meter, PlaneMeter, RecomputingMeter, Way
from .quickest import quickest

Float64 = NDArray[np.float64]
Index = NDArray[np.int64]
OnBlock = Callable[[int, Mapping[str, NDArray[Any]]], None]

FROZEN, RECOMPUTED = "frozen", "recomputed"
POLICIES = {
    FROZEN: "statistics of the checkpoint at the origin, frozen",
    RECOMPUTED: "recomputed at every point in one pass over the training batches",
}
PICTURE_AFTER = 10.0  # seconds that are still to come

__all__ = ["Meter", "check_centre", "grid", "has_statistics", "surface"]

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
    tolerance: float | None = None,
    batch_norm: str = FROZEN,
    way: Way | None = None,
    done: Mapping[int, Mapping[str, NDArray[Any]]] | None = None,
    on_block: OnBlock | None = None,
    on_picture: Callable[[Surface], None] | None = None,
) -> Surface:
    """Loss and all metrics at every (u[column], v[row]); the same record on every rank.

    The problem should hold the checkpoint at the plane's origin: its BatchNorm statistics are used. Points are measured
    from coarse to fine, in blocks dealt over ranks; `on_block(number, arrays)` is called on the rank that has just
    finished a block, and what it kept may come back as `done` (rank 0's counts) to go on after a kill.
    `on_picture(record)` is called on rank 0 with what there is after a level, where the rest takes long. NaN marks a
    loss that is not finite. `meta` carries the self-check: `centre_loss` and its difference from the value on the grid,
    whether the weights are unchanged, the plane's `info`, and how many blocks came from `done`.

    Args:
        tolerance: measure only as many points as an interpolation to this share of the loss's range needs
            (landscape/geometry/refinement.py); by default all of them.
        batch_norm: 'frozen' (the statistics of the origin everywhere) or 'recomputed' (at every point in one pass over
            the training batches, as a path has them).
        way: how points are measured; by default the fastest of those that are tried on a part of the data.

    Raises:
        ProblemError: the plane belongs to another model, or BatchNorm statistics of another checkpoint are loaded.
        UsageError: no such policy, or a tolerance that is not positive.
    """
    _check(tolerance, batch_norm)
    check_centre(problem, plane)
    work = _Work(problem, plane, refinement.Grid(u, v), comm, tolerance, recomputed=batch_norm == RECOMPUTED)
    work.resume(comm.broadcast(dict(done or {})), way)
    for index in refinement.refine(work.grid, tolerance):
        work.measure(index, on_block)
        if on_picture is not None and comm.rank == 0 and work.takes_long():
            on_picture(work.record(partial=True))
    return work.record(partial=False)


class _Work:
    """A surface in the making: what is measured of it, and what is left."""

    def __init__(
        self, problem: Problem, plane: Plane, grid: refinement.Grid, comm: Comm, tolerance: float | None, *,
        recomputed: bool,
    ) -> None:  # fmt: skip
        self.problem, self.plane, self.grid, self.comm = problem, plane, grid, comm
        self.recomputed = recomputed and has_statistics(problem)
        self.ahead = grid.loss.size if tolerance is None else grid.loss.size // 8  # points, about
        self.began, self.before = time.monotonic(), problem.weights()
        self.values: Columns = {}
        self.tried: list[dict[str, Any]] = []
        self.blocks = self.resumed = 0

    def resume(self, done: Mapping[int, Mapping[str, NDArray[Any]]], way: Way | None) -> None:
        """Take over finished blocks and the way in which they were measured; without any choose one."""
        self.done = done
        stored = next((Way.of(block["way"]) for _, block in sorted(done.items()) if "way" in block), None)
        self.way = way or stored or (Way() if self.recomputed else self._quickest())
        make = RecomputingMeter if self.recomputed else PlaneMeter
        self.meter = make(self.problem, self.plane.origin, self.plane.directions, self.way)
        # So many points a block that a job has some 64 of them: their numbers must not depend on the ranks.
        share = min(max(self.ahead // 64, 8), 256)
        self.block = -(-share // self.way.points) * self.way.points

    def _quickest(self) -> Way:
        reach = np.array([axis[np.abs(axis).argmax()] for axis in (self.grid.u, self.grid.v)])
        plane = self.plane
        way, self.tried = quickest(self.problem, plane.origin, plane.directions, reach, self.ahead, self.comm)
        return way

    def measure(self, index: Index, on_block: OnBlock | None) -> None:
        """Measure points of the grid, each block on one rank; afterwards all ranks have them."""
        blocks = {self.blocks + i: index[start : start + self.block]
                  for i, start in enumerate(range(0, len(index), self.block))}  # fmt: skip
        self.blocks += len(blocks)
        found = {number: self.done[number] for number, points in blocks.items() if self._fits(number, points)}
        self.resumed += len(found)
        mine: dict[int, Mapping[str, NDArray[Any]]] = {}
        for number in self.comm.share([number for number in blocks if number not in found]):
            mine[number] = self._block(blocks[number])
            if on_block is not None:
                on_block(number, mine[number])
        for part in self.comm.gather(mine):
            found |= part
        for number, points in blocks.items():
            for name, values in found[number].items():
                if name not in ("index", "way"):
                    own = self.values.setdefault(name, np.full(self.grid.loss.shape, np.nan))
                    own.flat[points] = values
            self.grid.put(points, found[number]["loss"])

    def _fits(self, number: int, points: Index) -> bool:
        """Whether a finished block holds these points and all metrics; if not it is measured again."""
        block = self.done.get(number, {})
        return {"index", *self.meter.all_names} <= set(block) and np.array_equal(block["index"], points)

    def _block(self, points: Index) -> dict[str, NDArray[Any]]:
        rows, columns = np.divmod(points, len(self.grid.u))
        found = self.meter.measure(np.stack([self.grid.u[columns], self.grid.v[rows]], axis=1))
        return {**found, "index": points, "way": self.way.array()}

    def takes_long(self) -> bool:
        """Whether a picture of what there is is worth a file before the rest is measured."""
        measured = int(self.grid.measured.sum())
        left = self.grid.measured.size - measured
        return left > 0 and (time.monotonic() - self.began) * left > PICTURE_AFTER * measured

    def record(self, *, partial: bool) -> Surface:
        """The surface as far as it is measured, interpolated elsewhere."""
        grid, plane = self.grid, self.plane
        whole = bool(grid.measured.all())
        values = {name: x if whole else self._filled(name, x) for name, x in self.values.items()}
        own = [name for name in values if name.removeprefix("test_") in self.problem.metrics]
        directions, origin = (t.detach().cpu().numpy() for t in (plane.directions, plane.origin))
        return Surface(
            plane.step, plane.name, list(plane.labels), grid.u, grid.v,
            **{name: x for name, x in values.items() if name not in own},
            metrics=np.stack([values[name] for name in own]) if own else None, metric_names=own,
            measured=None if whole else grid.measured.astype(np.float64),
            error=None if whole else grid.expected * grid.ranges[0],
            directions=directions, origin=origin, meta=self._meta(partial),
        )  # fmt: skip

    def _filled(self, name: str, values: Float64) -> Float64:
        found = refinement.filled(self.grid.u, self.grid.v, values, self.grid.measured)
        return np.clip(found, 0.0, 1.0) if name.endswith("accuracy") else found

    def _meta(self, partial: bool) -> dict[str, Any]:
        grid, problem, plane = self.grid, self.problem, self.plane
        centre = self.meter.measure(np.zeros((1, 2)))["loss"][0]
        count = int(grid.measured.sum())
        held_out = np.array(grid.held_out)
        return {
            **plane.info,
            **({"partial": True} if partial else {}),
            "centre_loss": float(centre),
            "centre_error": self._centre_error(float(centre)),
            "weights_unchanged": bool(torch.equal(self.before, problem.weights())),
            "not_finite": int(np.isnan(self.grid.loss[grid.measured]).sum()),
            "points_measured": count,
            "points": grid.measured.size,
            "held_out": len(held_out),
            "held_out_error": float(held_out.max()) if len(held_out) else None,
            "batch_norm": POLICIES[RECOMPUTED if self.recomputed else FROZEN] if has_statistics(problem) else "none",
            "way": str(self.way),
            "ways_tried": self.tried,
            "blocks": self.blocks,
            "blocks_resumed": self.resumed,
            "seconds": time.monotonic() - self.began,
            "samples": problem.samples,
            "dtype": str(problem.dtype).removeprefix("torch."),
            "ranks": self.comm.size,
        }

    def _centre_error(self, centre: float) -> float:
        """Largest difference between the checkpoint's loss, evaluated plainly, and the surface's value at (0, 0)."""
        if self.recomputed:
            plain = centre  # other statistics than the checkpoint's: there is nothing else to compare with
        else:
            plain = self.problem.evaluate(self.plane.origin.to(self.problem.device, self.problem.dtype))["loss"]
        at = np.ix_(self.grid.v == 0, self.grid.u == 0)
        at_zero = self.grid.loss[at][self.grid.measured[at]]
        return float(np.abs(np.array([centre, *at_zero]) - plain).max())


def _check(tolerance: float | None, batch_norm: str) -> None:
    if tolerance is not None and not tolerance > 0:
        raise UsageError(f"the tolerance is a positive share of the loss's range, got {tolerance:g}")
    if batch_norm not in POLICIES:
        raise UsageError(f"unknown BatchNorm policy '{batch_norm}'; the choices are {', '.join(POLICIES)}")


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
