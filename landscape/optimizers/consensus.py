"""Consensus optimisation: descend by the players' gradients and by their length (Mescheder, Nowozin & Geiger 2017).

    w <- w - lr (F + gamma J^T F),   J^T F = grad norm(F)^2 / 2

F holds every player's gradient of his own loss, J is its Jacobian with the cross derivatives. Of a single loss F is
the gradient and J the Hessian. On min_x max_y xy it contracts by sqrt((1 - lr gamma)^2 + lr^2) a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Consensus(torch.optim.Optimizer):
    """Every step needs a closure that returns (loss, {weight: its gradient with the graph})."""

    returns_field = True  # what the training loop asks

    def __init__(self, params: Iterable[Tensor], lr: float, gamma: float) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be positive, got {lr}")
        if not gamma >= 0:
            raise ValueError(f"gamma must not be negative, got {gamma}")
        super().__init__(params, {"lr": lr, "gamma": gamma})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the loss."""
        if closure is None:
            raise ValueError("consensus steps need a closure that returns the loss and the gradients with their graph")
        with torch.enable_grad():
            loss, field = closure()
            length = torch.stack([g.square().sum() for g in field.values()]).sum() / 2
            weights = list(field)
            pull = (torch.autograd.grad(length, weights, materialize_grads=True) if length.requires_grad
                    else [torch.zeros_like(w) for w in weights])  # fmt: skip
        towards = dict(zip(weights, pull, strict=True))
        for group in self.param_groups:
            for weight in group["params"]:
                if weight in towards:
                    weight.sub_(field[weight] + group["gamma"] * towards[weight], alpha=group["lr"])
        return loss


def make(params: Iterable[Tensor], lr: float = 0.1, gamma: float = 0.1) -> Consensus:
    """Consensus optimisation; gamma = 0 is plain descent."""
    return Consensus(params, lr, gamma)
