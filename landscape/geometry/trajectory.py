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

from ..distributed.parallel import Comm
from ..loss.problem import Problem
from ..records import Trajectory
from .directions import Plane
from .gradients import loss_and_gradient
from .surface import check_centre, has_statistics

Float64 = NDArray[np.float64]
_BATCH_NORM = "true loss: the checkpoint's own statistics; surface loss: those of the origin"


class Checkpoint(Protocol):
    """What `landscape.loss.checkpoints` gives: a step and a state dict, read when asked for."""

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
    gradients: bool = True,
    on_checkpoint: Callable[[int], None] | None = None,
) -> Trajectory:
    """Coordinates, off-plane distance, true loss and surface loss of every checkpoint; the same record on every rank.

    The true loss is evaluated with the checkpoint's own BatchNorm statistics; the surface loss at the projection,
    origin + u d1 + v d2, with those of the origin, exactly and not by interpolation. With `gradients`, the gradient of
    the true loss is projected onto the plane too (`landscape.readings.shares` tells how much of it the plane holds).
    `meta["in_plane_share"]` is the share of the path's squared distances from the origin that the plane holds. The
    problem must hold the checkpoint at the origin, and is left as it came. `on_checkpoint(count)` tells how many this
    rank has finished.

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
            before = None if i == 0 else problem.vector_from(checkpoints[i - 1].state())
            try:
                problem.load(checkpoints[i].state())
                mine[i] = (surface_loss, *_at_checkpoint(problem, plane, before, gradients))
            finally:
                problem.load(home)
            if on_checkpoint is not None:
                on_checkpoint(len(mine))
    found = _collect(mine, len(checkpoints), 6, comm)
    found[~np.isfinite(found)] = np.nan
    surface_loss, loss, moved, *gradient = found.T
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
    return Trajectory(
        plane.step, plane.name, steps, u, v, off_plane, distance, loss, surface_loss, meta, moved,
        *(gradient if gradients else ()),
    )  # fmt: skip


def _at_checkpoint(problem: Problem, plane: Plane, before: Tensor | None, gradients: bool) -> tuple[float, ...]:
    """(loss, distance from the checkpoint before, gradient's u, v and norm) at the weights that the problem holds."""
    here = problem.weights()
    moved = np.nan if before is None else float(torch.linalg.norm(here.double() - before.double()))
    if not gradients:
        return problem.evaluate(here)["loss"], moved, np.nan, np.nan, np.nan
    loss, gradient = loss_and_gradient(problem, here)
    return loss, moved, *plane.components(gradient), float(torch.linalg.norm(gradient))


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
