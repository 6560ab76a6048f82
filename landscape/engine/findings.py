"""What is told of finished Krylov runs beside their numbers: precision, products, the pairs."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..distributed.parallel import Comm
from ..krylov.extremes import Extremes
from ..loss import subsets
from ..loss.problem import Problem
from ..records import Eigenpairs, Spectrum
from .checks import SelfCheck, noise_level
from .combination import Operator
from .products import Products
from .solving import Solving

_CHEAP = 0.05  # of a checkpoint's products: up to this the precision is measured at every checkpoint


def noise_of(record: Spectrum | Eigenpairs, problem: Problem) -> tuple[float, int] | None:
    """The precision of the first checkpoint, measured at its step, for those where measuring it costs too much."""
    return None if problem.dtype == torch.float64 else (record.meta["lambda_noise"], record.step)


def noise(
    problem: Problem, vector: Tensor, operator: str | Operator, seed: int, checkpoint: Any, run: Solving, comm: Comm,
    check: bool, before: tuple[float, int] | None, step: int,
) -> dict[str, Any]:  # fmt: skip
    """lambda_noise, measured here where that is cheap; else that of an earlier checkpoint, with its step."""
    # One product on the first batch in each precision, by every rank: float64 takes about twice as long.
    cost = 3 * problem.count(problem.batches[0]) * comm.size / max(problem.samples * run.spent, 1)
    if isinstance(operator, str) and (check or (before is not None and cost <= _CHEAP)):
        level = noise_level(problem, vector, operator, seed, checkpoint)
        if level is not None:
            return {"lambda_noise": level}
    if before is not None:
        return {"lambda_noise": before[0], "lambda_noise_step": before[1]}
    assert run.pairs is not None
    found = [nodes for nodes, _, _ in run.rules] or [run.pairs.values, run.pairs.lowest_values]
    top = max(np.abs(values).max(initial=0.0) for values in found)
    return {"lambda_noise": float(torch.finfo(vector.dtype).eps * top)}


def numbers(
    problem: Problem, vector: Tensor, comm: Comm, run: Solving, started: float, checked: SelfCheck | None,
    products: Products,
) -> dict[str, Any]:  # fmt: skip
    """Effort, data and precision of a finished run, and the norm of the weights (size,) that it was at."""
    meta: dict[str, Any] = {
        "matvecs": run.spent, "matvecs_resumed": run.resumed, "seconds": time.perf_counter() - started,
        "ranks": comm.size, "samples": problem.samples, "dtype": str(problem.dtype).removeprefix("torch."),
        "seed": run.seed, "products": products.table, "weights_norm": float(vector.double().norm()),
    }  # fmt: skip
    if problem.sampling:
        meta["sampling"] = problem.sampling
    loss = problem.batch_loss if problem.loss is None else problem.loss
    meta["loss"] = getattr(loss, "__name__", type(loss).__name__)
    if math.isfinite(run.curvature.lowest):
        meta["lowest"] = run.curvature.lowest
    if problem.block:
        meta["weights"] = [weight for weight, _, _ in problem.named_slices()]
    labels = subsets.classes(problem.batches)
    if labels is not None:
        meta["classes"] = len(labels.unique())
    if checked is not None:
        meta |= {"asymmetry": checked.asymmetry, "repeats": checked.repeats, "self_check": checked.record()}
    return meta


def gradient(problem: Problem, curvature: Operator, pairs: Extremes) -> dict[str, Any]:
    """`{"gradient": {"norm", "cosines"}}`: of the loss over all data, with each eigenvector, largest pairs first.

    The squares of the cosines add up to the gradient's share in the eigenspace (Gur-Ari, Roberts & Dyer 2018). Of the
    preconditioned Hessian both are in its coordinates P^1/2 theta. Nothing for sums whose terms have their own.
    """
    comm, total = curvature.comm, torch.zeros(curvature.size, dtype=torch.float64, device=curvature.vector.device)
    with comm.together():
        for batch in comm.share(problem.batches):
            leaf = curvature.vector.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(problem.batch_loss(leaf, batch), leaf)
            total.add_(slope, alpha=problem.count(batch) / problem.samples)
    mine = curvature.covector(comm.sum_scatter(total[:, None])[:, 0])
    if mine is None:
        return {}
    products = curvature.reduce(torch.stack([mine @ mine, *(row.double() @ mine for row in pairs.vectors)])[:, None])
    square, *along = products[:, 0].tolist()
    norm = square**0.5
    return {"gradient": {"norm": norm, "cosines": [value / norm if norm > 0 else 0.0 for value in along]}}


def record(pairs: Extremes, curvature: Operator, step: int, meta: dict[str, Any]) -> Eigenpairs:
    """The record; its vectors, gathered one at a time, are rank 0's alone."""
    kept = None
    if curvature.comm.rank == 0:
        shape = (len(pairs.vectors), curvature.size)
        kept = np.empty(shape, str(curvature.vector.dtype).removeprefix("torch."))
    for number, row in enumerate(pairs.vectors):
        full = curvature.comm.collect(row[:, None].contiguous(), curvature.size)
        if kept is not None and full is not None:
            kept[number] = full[:, 0].cpu().numpy()
    return Eigenpairs(
        step, curvature.name, curvature.size, pairs.values, pairs.residuals, pairs.lowest_values,
        pairs.lowest_residuals, kept, {**meta, "converged": pairs.converged, "missed": pairs.missed},
    )  # fmt: skip
