"""Generalised Gauss-Newton matrix J^T (d2 loss / d outputs2) J: the Hessian without the network's own curvature.

Schraudolph 2002.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._derivatives import by_column, outputs_of, pushforward
from ._differences import gauss_newton as difference

__all__ = ["difference", "prepare"]


def prepare(problem: Any, vector: Tensor, batch: Any) -> Callable[[Tensor], Tensor]:
    """Product with the Gauss-Newton matrix of one batch at `vector` (size,): block (size, b) -> (size, b).

    Raises:
        ProblemError: the problem computes its own loss, so that its outputs are unknown.
    """
    theta = vector.detach().requires_grad_(True)
    loss, outputs = outputs_of(problem, theta, batch, "gauss_newton")
    if not outputs.requires_grad:  # no output depends on these weights
        return torch.zeros_like
    (slope,) = torch.autograd.grad(loss, outputs, create_graph=True)
    if not slope.requires_grad:  # a loss linear in the outputs
        return torch.zeros_like
    forward = pushforward(outputs, theta)

    def column(v: Tensor) -> Tensor:
        (curved,) = torch.autograd.grad(slope, outputs, forward(v), retain_graph=True, materialize_grads=True)
        (product,) = torch.autograd.grad(outputs, theta, curved, retain_graph=True)
        return product

    return by_column(column)
