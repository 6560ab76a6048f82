"""Run under mpirun: everything that must be the same on any number of ranks, measured in one start.

Starting Python and torch on four ranks costs more than most of these measurements. Arguments: the npz file that rank 0
writes, its arrays named MEASUREMENT/ARRAY, and weights of the digits MLP of 16 hidden units. What a measurement can
judge by itself, it asserts.
"""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import numpy as np
import torch
from collectives import check as collectives
from exact import AdamCheckpoint, mlp_problem
from references import ACCURACY, worst
from small_problems import convolutional, digits, train
from torch import nn
from torch.nn import functional as F

from landscape.distributed import parallel
from landscape.distributed.comm import Comm
from landscape.engine import findings
from landscape.engine.checks import self_check
from landscape.engine.curvature import operator_at
from landscape.engine.spectrum import spectrum_at
from landscape.errors import ProblemError
from landscape.geometry.curve import straight
from landscape.geometry.curve_training import train_curve
from landscape.geometry.derivatives import plane_derivatives
from landscape.geometry.directions import pca_plane, random_plane
from landscape.geometry.meter import Way
from landscape.geometry.path import follow
from landscape.geometry.space import pca_space
from landscape.geometry.surface import grid, surface
from landscape.geometry.trajectory import coordinates, trajectory
from landscape.geometry.volume import axes, volume
from landscape.geometry.volume import coordinates as volume_coordinates
from landscape.loss.problem import Problem

Arrays = dict[str, Any]


def spectrum(comm: Comm, dtype: str, operator: str, block: str) -> Arrays:
    """The spectrum of the trained digits MLP, and what a product sends."""
    state = torch.load(sys.argv[2], weights_only=True)
    problem = mlp_problem(getattr(torch, dtype), hidden=16, samples=1000, batch_size=128, state=state)
    problem = problem.restricted(block) if block else problem
    before = comm.traffic.copy()
    # The gradient would be one more reduce-scatter a checkpoint: here products are counted.
    with mock.patch.object(findings, "gradient", return_value={}):
        density, pairs = spectrum_at(
            problem, problem.weights(), comm, operator=operator, checkpoint=AdamCheckpoint(problem), check=False
        )
    traffic = comm.traffic.since(before)
    each = traffic.a_product()
    # The last vectors are multiplied one at a time, so bytes are told by the vector.
    vectors = traffic.calls.get("reduce_scatter", 0) / density.meta["matvecs"]
    sent = comm.gather([each["collectives"], each["messages"], each["bytes"] * vectors, each["sums"]])
    return {
        "nodes": density.nodes, "weights": density.weights, "values": pairs.values, "lowest": pairs.lowest_values,
        "vectors": pairs.vectors, "sent": sent, "size": density.size,
    }  # fmt: skip


def on_a_plane(comm: Comm) -> Arrays:
    """A full and an adaptive surface, a trajectory and a straight path."""
    problem = digits(200, test=True)
    saved = train(problem, 20)
    vectors = [problem.vector_from(s.state()) for s in saved]
    plane = pca_plane(vectors, step=20)
    u, v = grid(plane, coordinates(problem, plane, saved, comm), points=(6, 5))
    mine: list[int] = []
    way = Way(64, 4, True, True)
    found = surface(problem, plane, u, v, comm, way=way, on_block=lambda n, block: mine.append(n))
    assert sorted(n for numbers in comm.gather(mine) for n in numbers) == list(range(4))
    finer = np.linspace(-3, 3, 41)
    fine = surface(problem, plane, finer, finer, comm, way=way, tolerance=0.02)
    assert fine.measured is not None
    assert fine.measured.mean() < 0.6
    path = trajectory(problem, plane, saved, comm)
    line = follow(problem, straight(vectors[0], vectors[-1]), np.linspace(0, 1, 5), comm)
    return {
        "fine": fine.loss, "measured": fine.measured, "error": fine.error, "loss": found.loss,
        "accuracy": found.test_accuracy, "path": path.loss, "read": path.surface_loss, "off": path.off_plane,
        "line": line.loss, "line_test": line.test_loss,
    }  # fmt: skip


def in_space(comm: Comm) -> Arrays:
    problem = digits(200, test=True)
    saved = train(problem, 20)
    space = pca_space([problem.vector_from(s.state()) for s in saved], step=20)
    u, v, w = axes(space, volume_coordinates(problem, space, saved, comm)[:, :3], 4)
    mine: list[int] = []
    found = volume(problem, space, u, v, w, comm, checkpoints=saved, way=Way(points=4),
                   on_block=lambda number, block: mine.append(number))  # fmt: skip
    assert sorted(n for blocks in comm.gather(mine) for n in blocks) == list(range(8))
    return {"loss": found.loss, "accuracy": found.test_accuracy, "path": found.path, "off": found.off_volume,
            "path_loss": found.path_loss, "read": found.volume_loss}  # fmt: skip


def derivatives(comm: Comm) -> Arrays:
    problem = digits(400)
    train(problem, 10)
    found = plane_derivatives(problem, random_plane(problem, problem.weights(), seed=0), comm)
    return {"gradient": found["gradient"], "hessian": found["hessian"]}


def curves(comm: Comm) -> Arrays:
    problem = convolutional()
    a = problem.weights()
    train(problem, 5)
    arrays: Arrays = {}
    for kind in ("bezier", "elastic_band"):
        curve, losses = train_curve(problem, a, problem.weights(), kind, comm, steps=3, rate=0.05)
        path = follow(problem, curve, np.linspace(0, 1, 5), comm)
        arrays |= {f"{kind}.points": curve.points.numpy(), f"{kind}.losses": losses, f"{kind}.loss": path.loss}
    return arrays


def closed_forms(comm: Comm) -> Arrays:
    """The worst error of every closed form over its limit, in both precisions."""
    rows = [(dtype, limit, worst(dtype, comm)) for dtype, limit in ACCURACY.items()]
    for dtype, limit, found in rows:
        for name, operator, error in found:
            assert error < limit, f"{name}: {operator} in {dtype} on {comm.size} ranks is off by {error:.1e}"
    return {str(dtype).removeprefix("torch."): [error / limit for *_, error in found] for dtype, limit, found in rows}


def other_data(comm: Comm) -> Arrays:
    """What a shuffling loader without a seed does to ranks is noticed."""
    torch.manual_seed(0)
    model, data = nn.Linear(3, 2), torch.randn(12, 3)
    torch.manual_seed(comm.rank)
    order = torch.randperm(12) if comm.rank else torch.arange(12)
    problem = Problem(model, F.mse_loss, (data[order], data[order, :2]), batch_size=4)
    told = ""
    try:
        self_check(operator_at(problem, problem.weights(), comm))
    except ProblemError as error:
        told = str(error)
    assert bool(told) == (comm.size > 1)
    assert not told or "rank 1 holds other data than rank 0" in told
    comm.barrier()
    return {"ranks": comm.size}


def main() -> None:
    comm = parallel.world()
    parallel.set_threads(1, comm)
    collectives(comm)
    found = {
        "float32": spectrum(comm, "float32", "hessian", ""),
        "float64": spectrum(comm, "float64", "hessian", ""),
        "preconditioned": spectrum(comm, "float64", "preconditioned", "2.*"),
        "difference": spectrum(comm, "float64", "hessian - fisher", "2"),
        "plane": on_a_plane(comm), "space": in_space(comm), "derivatives": derivatives(comm), "curves": curves(comm),
        "closed_forms": closed_forms(comm), "other_data": other_data(comm),
    }  # fmt: skip
    arrays: dict[str, Any] = {
        f"{group}/{name}": np.asarray(a) for group, entries in found.items() for name, a in entries.items()
    }
    same = {name: array for name, array in arrays.items() if name.split("/")[0] in ("plane", "space", "curves")}
    for other in comm.gather(same):
        for name, array in same.items():
            assert np.array_equal(other[name], array, equal_nan=True), f"ranks disagree on {name}"
    if comm.rank == 0:
        np.savez(sys.argv[1], **arrays)


main()
