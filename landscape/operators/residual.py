"""What the Hessian has beyond the Gauss-Newton matrix: sum_k dL/dz_k d2 z_k / d theta2, z the network's outputs.

Hessian = Gauss-Newton + residual (Schraudolph 2002, section 3; Sagun et al. 2017). The residual alone makes negative
eigenvalues, and it vanishes where every sample is fitted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._differences import residual as difference
from ._forms import HessianOf, outcome_of, outputs_of, slope_at

__all__ = ["difference", "form"]


def form(problem: Any, vector: Tensor, batch: Any) -> HessianOf:
    """The residual of one batch at `vector` (size,).

    It is the Hessian of theta -> <s, z(theta)> with s = dL/dz held fixed, so nothing is lost to a difference.

    Raises:
        ProblemError: the problem computes its own loss, so that its outputs are unknown.
    """
    if problem.loss is None:  # only the graph leads from the outputs to the loss
        loss, outputs = outcome_of(problem, vector.detach().requires_grad_(True), batch, "residual")
        slope = torch.autograd.grad(loss, outputs)[0] if outputs.requires_grad else torch.zeros_like(outputs)
    else:
        with torch.no_grad():
            outputs = outputs_of(problem, vector, batch, "residual")
        slope = slope_at(problem, outputs, batch[1])
    return HessianOf(lambda theta: (slope * outputs_of(problem, theta, batch, "residual")).sum())
