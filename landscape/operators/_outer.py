"""Shared by the Fisher matrices: means of outer products of gradients, no gradient ever stored by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def mean_outer_product(values: Tensor, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Product with 1/n sum_i g_i g_i^T, g_i = d values_i / d theta: block (size, b) -> (size, b).

    With J = d values / d theta (n, size) it is J^T (J v) / n. J v comes from differentiating u -> J^T u, which is
    linear in u, a second time: reverse mode only, so that every layer with a double backward works.

    Args:
        values: one number a sample (n,), a function of `theta` (size,).
    """
    if not values.requires_grad:  # no output depends on these weights
        return torch.zeros_like
    dual = torch.zeros_like(values, requires_grad=True)
    (pulled,) = torch.autograd.grad(values, theta, dual, create_graph=True)  # J^T dual

    def column(v: Tensor) -> Tensor:
        (along,) = torch.autograd.grad(pulled, dual, v, retain_graph=True)  # J v, (n,)
        (product,) = torch.autograd.grad(values, theta, along / len(values), retain_graph=True)
        return product

    return lambda block: torch.stack([column(v) for v in block.unbind(dim=1)], dim=1)
