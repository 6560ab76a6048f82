"""Gradient and Hessian of the loss within a plane, at its origin: what the quadratic model of a surface is made of.

    g = D grad L(theta_0),   H = D hess L(theta_0) D^T,   D the plane's directions (2, size)

One gradient and two Hessian products over all data, with the engine's rules: batches dealt to ranks, sums in float64,
evaluation mode, BatchNorm statistics of the checkpoint at the origin.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ..distributed.parallel import Comm
from ..engine.checks import self_check
from ..engine.curvature import Curvature
from ..errors import STOPPED, LandscapeError
from ..loss.problem import Problem
from ..records import Surface
from .directions import Plane, from_surface
from .surface import check_centre


def plane_derivatives(problem: Problem, plane: Plane, comm: Comm) -> dict[str, Any]:
    """Gradient (2,), Hessian (2, 2) and its asymmetry |H01 - H10| / |H| before symmetrisation, equal on every rank.

    The product is held against difference quotients on one batch first: a wrong second derivative may raise nothing.

    Raises:
        ProblemError: the plane belongs to another model, other BatchNorm statistics are loaded, or a check fails.
        ResourceError: memory ran out.
    """
    with comm.together():
        check_centre(problem, plane)
    vector = plane.origin.to(problem.device, problem.dtype)
    rows = plane.directions.to(problem.device)
    gradient = _gradient(problem, vector, rows.double(), comm)
    curvature = Curvature(problem, vector, comm)
    self_check(curvature)
    with comm.together():
        local = rows.double() @ curvature.local_product(rows.T.to(problem.dtype).contiguous())  # (2, 2)
    hessian = comm.sum(local.cpu())
    norm = float(torch.linalg.norm(hessian))
    return {
        "gradient": gradient.tolist(),
        "hessian": ((hessian + hessian.T) / 2).tolist(),
        "asymmetry": float(abs(hessian[0, 1] - hessian[1, 0])) / norm if norm > 0 else 0.0,
    }


def _gradient(problem: Problem, vector: Tensor, rows: Tensor, comm: Comm) -> Tensor:
    """Two numbers a batch, added in the order of the batches whoever computed them: equal bytes on any ranks."""
    mine = {}
    with comm.together():
        for i in comm.share(range(len(problem.batches))):
            batch = problem.batches[i]
            leaf = vector.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(problem.batch_loss(leaf, batch), leaf)
            mine[i] = problem.count(batch) / problem.samples * (rows @ slope.double()).cpu()
    parts = {i: part for found in comm.gather(mine) for i, part in found.items()}
    return torch.stack([parts[i] for i in sorted(parts)]).sum(dim=0)


def with_derivatives(record: Surface, problem: Problem, comm: Comm) -> Surface:
    """The surface with `meta["quadratic"]`: derivatives at its origin, or the `reason` why there are none.

    A surface needs no derivatives: a model without a second one, or too little memory, costs the model and no more.
    """
    if "recomputed" in str(record.meta.get("batch_norm")):
        why = "BatchNorm statistics are recomputed at every point, and derivatives are those with frozen ones"
        return dataclasses.replace(record, meta={**record.meta, "quadratic": {"reason": why}})
    try:
        found = plane_derivatives(problem, from_surface(record), comm)
    except (LandscapeError, RuntimeError) as error:
        if getattr(error, "exit_code", None) == STOPPED:
            raise
        found = {"reason": (str(error).splitlines() or [type(error).__name__])[0]}
    return dataclasses.replace(record, meta={**record.meta, "quadratic": found})
