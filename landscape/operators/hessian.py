"""Hessian of the loss, reverse over reverse: the first-order graph is built once a batch and kept for all vectors.

H v = d/dtheta <grad L(theta), v> (Pearlmutter 1994). Reverse over forward is never used: torch gets it silently wrong
for LayerNorm, InstanceNorm and BatchNorm in training mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._derivatives import by_column
from ._differences import hessian as difference

__all__ = ["difference", "prepare"]


def prepare(problem: Any, vector: Tensor, batch: Any) -> Callable[[Tensor], Tensor]:
    """Product with the Hessian of one batch's mean loss at `vector` (size,): block (size, b) -> (size, b)."""
    theta = vector.detach().requires_grad_(True)
    loss = problem.batch_loss(theta, batch)
    if not loss.requires_grad:  # the loss does not depend on the weights
        return torch.zeros_like
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    if not gradient.requires_grad:  # the loss is linear in the weights
        return torch.zeros_like

    def column(v: Tensor) -> Tensor:
        (product,) = torch.autograd.grad(gradient, theta, v, retain_graph=True, materialize_grads=True)
        return product

    return by_column(column)
