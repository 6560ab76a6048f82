"""Extragradient: descend by the gradient at the point where plain descent would end (Korpelevich 1976).

    x' = x - lr F(x),   x <- x - lr F(x')

For a game F holds every player's gradient of his own loss: where simultaneous descent circles outwards on
min_x max_y xy, this contracts by sqrt(1 - lr^2 + lr^4) a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Extragradient(torch.optim.Optimizer):
    """Every step needs a closure, which it calls twice: it must set every weight's gradient."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be positive, got {lr}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the loss at the weights themselves."""
        if closure is None:
            raise ValueError("extragradient steps need a closure that computes the loss and its gradient")
        with torch.enable_grad():
            loss = closure()
        held = [(p, p.clone(), group["lr"]) for group in self.param_groups for p in group["params"]
                if p.grad is not None]  # fmt: skip
        self._descend(held)
        with torch.enable_grad():
            closure()
        self._descend(held)
        return loss

    @staticmethod
    def _descend(held: list[tuple[Tensor, Tensor, float]]) -> None:
        """From where the weights were, by the gradients that there are now."""
        for weight, before, rate in held:
            weight.copy_(before if weight.grad is None else before.sub(weight.grad, alpha=rate))


def make(params: Iterable[Tensor], lr: float = 0.1) -> Extragradient:
    """Extragradient; two gradients a step."""
    return Extragradient(params, lr)
