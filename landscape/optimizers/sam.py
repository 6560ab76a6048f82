"""Sharpness-aware minimisation: descend at the worst point of a ball around the weights (Foret et al. 2021).

    e = rho g(theta) / norm(g(theta)),   theta <- theta - step of SGD with g(theta + e)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class SAM(torch.optim.SGD):
    """SGD on the gradient at the ascent point; every step needs a closure, which it calls twice."""

    def __init__(self, params: Iterable[Tensor], lr: float, rho: float, momentum: float, weight_decay: float) -> None:
        if not rho >= 0:
            raise ValueError(f"rho must not be negative, got {rho}")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group["rho"] = rho

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the loss at the weights themselves."""
        if closure is None:
            raise ValueError("sharpness-aware steps need a closure that computes the loss and its gradient")
        with torch.enable_grad():
            loss = closure()
        moved = [(p, p.detach().clone(), group["rho"]) for group in self.param_groups for p in group["params"]
                 if p.grad is not None]  # fmt: skip
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p, _, _ in moved]))
        for parameter, _, rho in moved:
            parameter.add_(parameter.grad, alpha=rho / max(float(norm), 1e-12))
        with torch.enable_grad():
            closure()
        for parameter, before, _ in moved:
            parameter.copy_(before)  # copied back, not subtracted: the weights stay exact
        super().step()
        return loss


def make(
    params: Iterable[Tensor], lr: float = 0.1, rho: float = 0.05, momentum: float = 0.0, weight_decay: float = 0.0
) -> SAM:
    """SAM over SGD; rho = 0 is SGD itself."""
    return SAM(params, lr, rho, momentum, weight_decay)
