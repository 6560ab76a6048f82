"""Shared by the operators: the network's outputs, products with their Jacobian, and blocks column by column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError


def by_column(column: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A product of vectors (size,) as a product of blocks (size, b) -> (size, b)."""
    return lambda block: torch.stack([column(v) for v in block.unbind(dim=1)], dim=1)


def outputs_of(problem: Any, theta: Tensor, batch: Any, operator: str) -> tuple[Tensor, Tensor]:
    """(mean loss of the batch, outputs) at theta (size,), differentiable.

    Raises:
        ProblemError: the problem computes its own loss, so that its outputs are unknown.
    """
    loss, outputs = problem.outcome(theta, batch)
    if not isinstance(outputs, Tensor):
        raise ProblemError(
            f"{operator} needs the model's outputs: state the problem as Problem(model, loss, data) with "
            "loss(outputs, targets), or use --operator hessian"
        )
    return loss, outputs


def pushforward(values: Tensor, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """v (size,) -> J v, shaped as `values`, with J = d values / d theta.

    u -> J^T u is linear in u; differentiating it once more gives J v: reverse mode only, so that every layer with a
    double backward works.
    """
    dual = torch.zeros_like(values, requires_grad=True)
    (pulled,) = torch.autograd.grad(values, theta, dual, create_graph=True)  # J^T dual

    def product(v: Tensor) -> Tensor:
        (along,) = torch.autograd.grad(pulled, dual, v, retain_graph=True)
        return along

    return product


def mean_outer_product(values: Tensor, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Product with 1/n sum_i g_i g_i^T, g_i = d values_i / d theta: block (size, b) -> (size, b).

    With J = d values / d theta (n, size) it is J^T (J v) / n: no gradient is ever stored by itself.

    Args:
        values: one number a sample (n,), a function of `theta` (size,).
    """
    if not values.requires_grad:  # no output depends on these weights
        return torch.zeros_like
    forward = pushforward(values, theta)

    def column(v: Tensor) -> Tensor:
        (product,) = torch.autograd.grad(values, theta, forward(v) / len(values), retain_graph=True)
        return product

    return by_column(column)
