"""Generalised Gauss-Newton matrix J^T (d2 loss / d outputs2) J: the Hessian without the network's own curvature.

Schraudolph 2002. J v comes from differentiating u -> J^T u twice (reverse mode only), so that every layer with a double
backward works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError


def prepare(problem: Any, vector: Tensor, batch: Any) -> Callable[[Tensor], Tensor]:
    """Product with the Gauss-Newton matrix of one batch at `vector` (size,): block (size, b) -> (size, b).

    Raises:
        ProblemError: the problem computes its own loss, so that its outputs are unknown.
    """
    theta = vector.detach().requires_grad_(True)
    loss, outputs = problem.outcome(theta, batch)
    if not isinstance(outputs, Tensor):
        raise ProblemError(
            "gauss_newton needs the model's outputs: state the problem as Problem(model, loss, data) with "
            "loss(outputs, targets), or use --operator hessian"
        )
    (slope,) = torch.autograd.grad(loss, outputs, create_graph=True)
    dual = torch.zeros_like(outputs, requires_grad=True)
    (pulled,) = torch.autograd.grad(outputs, theta, dual, create_graph=True)  # J^T dual, linear in dual

    def column(v: Tensor) -> Tensor:
        (forward,) = torch.autograd.grad(pulled, dual, v, retain_graph=True)  # J v
        if not slope.requires_grad:  # a loss linear in the outputs
            return torch.zeros_like(v)
        (curved,) = torch.autograd.grad(slope, outputs, forward, retain_graph=True, materialize_grads=True)
        (product,) = torch.autograd.grad(outputs, theta, curved, retain_graph=True)
        return product

    return lambda block: torch.stack([column(v) for v in block.unbind(dim=1)], dim=1)
