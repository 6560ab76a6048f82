"""Loss and metrics on the grid of a three-dimensional space, and the path of training in it.

    theta(u, v, w) = origin + u * directions[0] + v * directions[1] + w * directions[2], combined in float64

Blocks of points are dealt over ranks and handed out as soon as they are finished, so that a killed job keeps them; the
model is never moved while the grid is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distributed.parallel import Comm
from ..loss.batch_statistics import has_statistics
from ..loss.problem import Problem
from ..records import Volume
from .meter import PlaneMeter, Way
from .quickest import quickest
from .space import Space
from .surface import check_centre, grid
from .trajectory import Checkpoint

Float64 = NDArray[np.float64]
Block = Mapping[str, NDArray[Any]]  # metrics, index and way of some points


def axes(
    space: Space,
    path: Float64 | None = None,
    points: int = 21,
    margin: float = 0.25,
) -> tuple[Float64, Float64, Float64]:
    """Grid coordinates (u, v, w) by the rules of `surface.grid`, the third axis beside the first; 0 is one of each.

    `path` are the checkpoints' coordinates (checkpoint, 3).

    Raises:
        UsageError: fewer than 3 points, or a range that is empty.
    """
    path = np.zeros((1, 3)) if path is None else path
    u, v = grid(space.pair(0, 1), path[:, [0, 1]], points, margin)
    _, w = grid(space.pair(0, 2), path[:, [0, 2]], points, margin)
    return u, v, w


def volume(
    problem: Problem,
    space: Space,
    u: Float64,
    v: Float64,
    w: Float64,
    comm: Comm,
    *,
    checkpoints: Sequence[Checkpoint] = (),
    way: Way | None = None,
    done: Mapping[int, Block] | None = None,
    on_block: Callable[[int, Block], None] | None = None,
) -> Volume:
    """Metrics at every (u[column], v[row], w[slab]) and the checkpoints in the volume; the same record on every rank.

    The problem should hold the checkpoint at the origin: its BatchNorm statistics are used, frozen, for the whole
    volume, while `path_loss` is each checkpoint's loss with its own. Points are measured in `way`, by default the
    fastest of those tried, in blocks dealt over ranks; `on_block(number, arrays)` is called on the rank that has just
    finished one, and what it kept may come back as `done` (rank 0's counts). `meta` carries a surface's self-check.

    Raises:
        ProblemError: the space belongs to another model, or BatchNorm statistics of another checkpoint are loaded.
    """
    began = time.monotonic()
    check_centre(problem, space.pair(0, 1))
    before = problem.weights()
    shape = (len(w), len(v), len(u))
    found, info = _measured(problem, space, (u, v, w), comm, comm.broadcast(dict(done or {})), way, on_block)
    arrays: dict[str, Any] = {name: x.reshape(shape) for name, x in found.items()}
    own = {name: arrays.pop(name) for name in sorted(found) if name.removeprefix("test_") in problem.metrics}
    if own:
        arrays |= {"metrics": np.stack(list(own.values())), "metric_names": list(own)}
    meta = {
        **space.info,
        **info,
        "not_finite": int(np.isnan(arrays["loss"]).sum()),
        "batch_norm": "statistics of the checkpoint at the origin, frozen" if has_statistics(problem) else "none",
        "samples": problem.samples,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "ranks": comm.size,
        "centre_error": _centre_error(problem, space, arrays["loss"], (u, v, w), info["centre_loss"]),
    }
    path = _path(problem, space, checkpoints, comm)
    meta |= {
        "weights_unchanged": bool(torch.equal(before, problem.weights())),
        "in_volume_share": _share(path),
        "seconds": time.monotonic() - began,
    }
    directions, origin = (t.detach().cpu().numpy() for t in (space.directions, space.origin))
    grids = {name: np.asarray(axis, dtype=np.float64) for name, axis in (("u", u), ("v", v), ("w", w))}
    values: dict[str, Any] = {**grids, **arrays, **path, "directions": directions, "origin": origin}
    return Volume(space.step, space.kind, list(space.labels), meta=meta, **values)


def _measured(
    problem: Problem,
    space: Space,
    places: tuple[Float64, Float64, Float64],
    comm: Comm,
    done: Mapping[int, Block],
    way: Way | None,
    on_block: Callable[[int, Block], None] | None,
) -> tuple[dict[str, Float64], dict[str, Any]]:
    """Metrics of all points of the grid, flat with u fastest, on every rank; how they were measured."""
    u, v, w = places
    total, tried = len(u) * len(v) * len(w), list[dict[str, Any]]()
    chosen = way or next((Way.of(block["way"]) for _, block in sorted(done.items()) if "way" in block), None)
    if chosen is None:
        reach = np.array([axis[np.abs(axis).argmax()] for axis in places])
        chosen, tried = quickest(problem, space.origin, space.directions, reach, total, comm)
    meter = PlaneMeter(problem, space.origin, space.directions, chosen)
    # Some 64 blocks or more a job: their numbers must not depend on the ranks.
    share = min(max(total // 64, 8), 256)
    step = -(-share // chosen.points) * chosen.points
    blocks = {i: np.arange(first, min(first + step, total)) for i, first in enumerate(range(0, total, step))}
    fits = {"index", *meter.all_names}
    found = {
        i: done[i]
        for i, index in blocks.items()
        if fits <= set(done.get(i, {})) and np.array_equal(done[i]["index"], index)
    }
    resumed, mine = len(found), dict[int, Block]()
    for number in comm.share([i for i in blocks if i not in found]):
        slab, row, column = np.unravel_index(blocks[number], (len(w), len(v), len(u)))
        values = meter.measure(np.stack([u[column], v[row], w[slab]], axis=1))
        mine[number] = {**values, "index": blocks[number], "way": chosen.array()}
        if on_block is not None:
            on_block(number, mine[number])
    for part in comm.gather(mine):
        found |= part
    columns = {name: np.concatenate([found[i][name] for i in blocks]) for name in meter.all_names}
    centre = float(meter.measure(np.zeros((1, 3)))["loss"][0])
    counts = {"blocks": len(blocks), "blocks_resumed": resumed}
    return columns, {"centre_loss": centre, "way": str(chosen), "ways_tried": tried, **counts}


def _centre_error(
    problem: Problem, space: Space, loss: Float64, places: tuple[Float64, Float64, Float64], centre: float
) -> float:
    """Largest difference between the checkpoint's loss, evaluated plainly, and the volume's value at (0, 0, 0)."""
    plain = problem.evaluate(space.origin.to(problem.device, problem.dtype))["loss"]
    column, row, slab = (np.flatnonzero(axis == 0) for axis in places)
    at_zero = loss[np.ix_(slab, row, column)].ravel()
    return float(np.abs(np.array([centre, *at_zero]) - plain).max())


# ------------------------------------------------------------------ the path in it


def coordinates(problem: Problem, space: Space, checkpoints: Sequence[Checkpoint], comm: Comm) -> Float64:
    """(u, v, w, off_volume, distance) of every checkpoint, (checkpoint, 5), on every rank; costs no evaluation.

    Raises:
        ProblemError: a checkpoint does not fit the model or the space.
    """
    mine = {}
    with comm.together():
        for i in comm.share(range(len(checkpoints))):
            mine[i] = space.coordinates(problem.vector_from(checkpoints[i].state()))
    return _table(mine, len(checkpoints), 5, comm)


def _path(problem: Problem, space: Space, checkpoints: Sequence[Checkpoint], comm: Comm) -> dict[str, Any]:
    """Places, true losses and losses at the projections of the checkpoints; the problem is left as it came."""
    places = coordinates(problem, space, checkpoints, comm)
    home = problem.state()
    mine = {}
    with comm.together():
        for i in comm.share(range(len(checkpoints))):
            u, v, w = places[i, :3]
            projection: Tensor = space.points(np.array([u]), float(v), float(w))[0]
            read = problem.evaluate(projection.to(problem.device, problem.dtype))["loss"]
            try:
                problem.load(checkpoints[i].state())
                mine[i] = (problem.evaluate(problem.weights())["loss"], read)
            finally:
                problem.load(home)
    losses = _table(mine, len(checkpoints), 2, comm)
    losses[~np.isfinite(losses)] = np.nan
    return {
        "steps": np.array([c.step for c in checkpoints], dtype=np.int64), "path": places[:, :3],
        "off_volume": places[:, 3], "distance": places[:, 4], "path_loss": losses[:, 0], "volume_loss": losses[:, 1],
    }  # fmt: skip


def _share(path: Mapping[str, Float64]) -> float | None:
    """Share of the squared distances from the origin that lies in the volume; None when nothing moves."""
    total = float((path["distance"] ** 2).sum())
    return float((path["path"] ** 2).sum()) / total if total > 0 else None


def _table(mine: Mapping[int, Sequence[float]], count: int, width: int, comm: Comm) -> Float64:
    """Rows of all ranks in order, (count, width)."""
    table = np.full((count, width), np.nan)
    for part in comm.gather(mine):
        for i, row in part.items():
            table[i] = row
    return table
