"""Generalised Gauss-Newton matrix J^T (d2 loss / d outputs2) J: the Hessian without the network's own curvature.

Schraudolph 2002.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ._differences import gauss_newton as difference
from ._forms import GaussNewtonOf, GaussNewtonWithin, outcome_of, outputs_of

__all__ = ["difference", "form", "semidefinite"]

_CONVEX = (
    F.cross_entropy, F.nll_loss, F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss,
    F.binary_cross_entropy_with_logits, F.multi_margin_loss, F.soft_margin_loss,
)  # fmt: skip
_CONVEX_MODULES = (
    nn.CrossEntropyLoss, nn.NLLLoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss,
    nn.MultiMarginLoss, nn.SoftMarginLoss,
)  # fmt: skip


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


def semidefinite(problem: Any) -> bool:
    """Whether the loss is known to be convex in the outputs: one of torch's, or one with an attribute `convex`."""
    loss = problem.loss
    while isinstance(loss, partial):
        loss = loss.func
    return loss in _CONVEX or isinstance(loss, _CONVEX_MODULES) or bool(getattr(loss, "convex", False))
