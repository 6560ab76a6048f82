"""Loss and metrics on the grid of a three-dimensional space, and the path of training in it.

    theta(u, v, w) = origin + u * directions[0] + v * directions[1] + w * directions[2], combined in float64

Rows of the grid are dealt over ranks and handed out as soon as they are finished, so that a killed job keeps them; the
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

from .parallel import Comm
from .problem import Problem
from .records import AXES, Volume
from .space import Space
from .surface import Meter, check_centre, grid, has_statistics
from .trajectory import Checkpoint

Float64 = NDArray[np.float64]
Columns = dict[str, Float64]  # metric -> one value a point
OnRow = Callable[[int, Columns], None]

_BYTES = 1 << 28  # of weight vectors that are handed to the meter at once


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
    done: Mapping[int, Mapping[str, Float64]] | None = None,
    on_row: OnRow | None = None,
) -> Volume:
    """Metrics at every (u[column], v[row], w[slab]) and the checkpoints in the volume; the same record on every rank.

    The problem should hold the checkpoint at the origin: its BatchNorm statistics are used, frozen, for the whole
    volume, while `path_loss` is each checkpoint's loss with its own. Rows are numbered slab * len(v) + row and dealt
    over ranks; `on_row(number, metrics)` is called on the rank that has just finished one, and what it kept may come
    back as `done` (rank 0's counts). `meta` carries the self-check of a surface.

    Raises:
        ProblemError: the space belongs to another model, or BatchNorm statistics of another checkpoint are loaded.
    """
    began = time.monotonic()
    check_centre(problem, space.pair(0, 1))
    before = problem.weights()
    meter = Meter(problem)
    names = sorted(meter.names() & set(AXES["volume"]))
    shape = (len(w), len(v), len(u))
    finished = comm.broadcast(_whole_rows(done or {}, names, shape))
    mine: dict[int, Columns] = {}
    for number in comm.share([n for n in range(shape[0] * shape[1]) if n not in finished]):
        slab, row = divmod(number, shape[1])
        mine[number] = _row(meter, names, space, u, float(v[row]), float(w[slab]))
        if on_row is not None:
            on_row(number, mine[number])
    rows = dict(finished)
    for part in comm.gather(mine):
        rows |= part
    arrays: dict[str, Any] = {
        name: np.stack([rows[n][name] for n in range(shape[0] * shape[1])]).reshape(shape) for name in names
    }
    centre = float(meter.measure(space.origin[None])["loss"][0])
    meta = {
        **space.info,
        "centre_loss": centre,
        "centre_error": _centre_error(problem, space, arrays["loss"], (u, v, w), centre),
        "not_finite": int(np.isnan(arrays["loss"]).sum()),
        "batch_norm": "statistics of the checkpoint at the origin, frozen" if has_statistics(problem) else "none",
        "rows_resumed": len(finished),
        "samples": problem.samples,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "ranks": comm.size,
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


def _row(meter: Meter, names: Sequence[str], space: Space, u: Float64, v: float, w: float) -> Columns:
    """Metrics of one row of the grid, holding a bounded number of weight vectors at a time."""
    few = max(1, _BYTES // (space.origin.numel() * 8))
    pieces = [meter.measure(space.points(u[start : start + few], v, w)) for start in range(0, len(u), few)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}


def _whole_rows(
    done: Mapping[int, Mapping[str, Float64]], names: Sequence[str], shape: tuple[int, int, int]
) -> dict[int, Columns]:
    """The finished rows that fit this grid and these metrics; others are computed again."""
    return {
        number: {name: np.asarray(metrics[name], dtype=np.float64) for name in names}
        for number, metrics in done.items()
        if 0 <= number < shape[0] * shape[1]
        and set(names) <= set(metrics)
        and all(np.shape(metrics[name]) == (shape[2],) for name in names)
    }


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
