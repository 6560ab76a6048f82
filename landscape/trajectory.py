"""The path of training on a plane, with what the picture hides: its distance from the plane and its true loss.

A projected path does not lie on the drawn surface: a plane may hold 98 % of the path's variance and still miss late
checkpoints by most of their distance from the origin. So every checkpoint carries its own loss beside the loss at its
projection, and its distance from the plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .directions import Plane
from .parallel import Comm
from .problem import Problem
from .records import Trajectory
from .surface import check_centre, has_statistics

Float64 = NDArray[np.float64]
_BATCH_NORM = "true loss: the checkpoint's own statistics; surface loss: those of the origin"


class Checkpoint(Protocol):
    """What `landscape.checkpoints` gives: a step and a state dict, read when asked for."""

    @property
    def step(self) -> int: ...

    def state(self) -> Mapping[str, Tensor]: ...


def coordinates(problem: Problem, plane: Plane, checkpoints: Sequence[Checkpoint], comm: Comm) -> Float64:
    """(u, v, off_plane, distance) of every checkpoint, (checkpoint, 4), on every rank; costs no evaluation.

    Raises:
        ProblemError: a checkpoint does not fit the model or the plane.
    """
    origin = plane.origin.double()
    mine = {}
    with comm.together():
        for i in comm.share(range(len(checkpoints))):
            vector = problem.vector_from(checkpoints[i].state())
            distance = float(torch.linalg.norm(vector.to(origin.device).double() - origin))
            mine[i] = (*plane.coordinates(vector), distance)
    return _collect(mine, len(checkpoints), 4, comm)


def trajectory(
    problem: Problem,
    plane: Plane,
    checkpoints: Sequence[Checkpoint],
    comm: Comm,
    *,
    on_checkpoint: Callable[[int], None] | None = None,
) -> Trajectory:
    """Coordinates, off-plane distance, true loss and surface loss of every checkpoint; the same record on every rank.

    The true loss is evaluated with the checkpoint's own BatchNorm statistics; the surface loss at the projection,
    origin + u d1 + v d2, with those of the origin, exactly and not by interpolation. `meta["in_plane_share"]` is the
    share of the path's squared distances from the origin that the plane holds. The problem must hold the checkpoint
    at the origin, and is left as it came. `on_checkpoint(count)` tells how many this rank has finished.

    Raises:
        ProblemError: a checkpoint does not fit the model, or the plane does not.
    """
    began = time.monotonic()
    check_centre(problem, plane)
    places = coordinates(problem, plane, checkpoints, comm)
    home = problem.state()
    mine = {}
    with comm.together():
        for i in comm.share(range(len(checkpoints))):
            projection = plane.point(*places[i, :2]).to(problem.device, problem.dtype)
            surface_loss = problem.evaluate(projection)["loss"]
            try:
                problem.load(checkpoints[i].state())
                mine[i] = (problem.evaluate(problem.weights())["loss"], surface_loss)
            finally:
                problem.load(home)
            if on_checkpoint is not None:
                on_checkpoint(len(mine))
    losses = _collect(mine, len(checkpoints), 2, comm)
    losses[~np.isfinite(losses)] = np.nan
    steps = np.array([checkpoint.step for checkpoint in checkpoints], dtype=np.int64)
    u, v, off_plane, distance = places.T
    meta = {
        "in_plane_share": _share(places),
        "batch_norm": _BATCH_NORM if has_statistics(problem) else "none",
        "seconds": time.monotonic() - began,
        "samples": problem.samples,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "ranks": comm.size,
    }
    return Trajectory(plane.step, plane.kind, steps, u, v, off_plane, distance, losses[:, 0], losses[:, 1], meta)


def _share(places: Float64) -> float | None:
    """Share of the squared distances from the origin that lies in the plane; None when nothing moves."""
    u, v, _off_plane, distance = places.T
    total = float((distance**2).sum())
    return float((u**2 + v**2).sum()) / total if total > 0 else None


def _collect(mine: Mapping[int, Sequence[float]], count: int, width: int, comm: Comm) -> Float64:
    """Rows of all ranks in order, (count, width)."""
    table = np.full((count, width), np.nan)
    for part in comm.gather(mine):
        for i, row in part.items():
            table[i] = row
    return table
