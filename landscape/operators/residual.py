"""What the Hessian has beyond the Gauss-Newton matrix: sum_k dL/dz_k d2 z_k / d theta2, z the network's outputs.

Hessian = Gauss-Newton + residual (Schraudolph 2002, section 3; Sagun et al. 2017). The residual alone makes negative
eigenvalues, and it vanishes where every sample is fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._derivatives import by_column, outputs_of
from ._differences import residual as difference

__all__ = ["difference", "prepare"]


def prepare(problem: Any, vector: Tensor, batch: Any) -> Callable[[Tensor], Tensor]:
    """Product with the residual of one batch at `vector` (size,): block (size, b) -> (size, b).

    It is the Hessian of theta -> <s, z(theta)> with s = dL/dz held fixed, so nothing is lost to a difference.

    Raises:
        ProblemError: the problem computes its own loss, so that its outputs are unknown.
    """
    theta = vector.detach().requires_grad_(True)
    loss, outputs = outputs_of(problem, theta, batch, "residual")
    if not outputs.requires_grad:  # no output depends on these weights
        return torch.zeros_like
    (slope,) = torch.autograd.grad(loss, outputs, retain_graph=True)
    (gradient,) = torch.autograd.grad((slope.detach() * outputs).sum(), theta, create_graph=True)
    if not gradient.requires_grad:  # outputs linear in the weights
        return torch.zeros_like

    def column(v: Tensor) -> Tensor:
        (product,) = torch.autograd.grad(gradient, theta, v, retain_graph=True, materialize_grads=True)
        return product

    return by_column(column)
