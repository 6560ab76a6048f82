"""Generalised Gauss-Newton matrix J^T (d2 loss / d outputs2) J: the Hessian without the network's own curvature.

Schraudolph 2002.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ._differences import gauss_newton as difference
from ._forms import GaussNewtonOf, GaussNewtonWithin, outcome_of, outputs_of

__all__ = ["difference", "form"]


def form(problem: Any, vector: Tensor, batch: Any) -> GaussNewtonOf | GaussNewtonWithin:
    """The Gauss-Newton matrix of one batch's mean loss.

    Raises (when multiplied):
        ProblemError: the problem computes its own loss, so that its outputs are unknown.
    """
    if problem.loss is None:
        return GaussNewtonWithin(lambda theta: outcome_of(problem, theta, batch, "gauss_newton"))
    return GaussNewtonOf(
        lambda theta: outputs_of(problem, theta, batch, "gauss_newton"), lambda z: problem.loss(z, batch[1])
    )
