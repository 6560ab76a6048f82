"""Optimistic descent: the next gradient is guessed to differ from this one as this one does from the last (Popov 1980;
Daskalakis, Ilyas, Syrgkanis & Zeng 2018).

    x <- x - 2 lr F_t + lr F_{t-1},   F_{-1} = F_0

One gradient a step; on min_x max_y xy it contracts by the larger root of z^2 - (1 - 2 i lr) z - i lr.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ._base import evaluated


class Optimistic(torch.optim.Optimizer):
    """For a game the gradients are every player's of his own loss."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be positive, got {lr}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        loss = evaluated(closure)
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    last = self.state[weight].setdefault("last", weight.grad.clone())
                    weight.sub_(2 * weight.grad - last, alpha=group["lr"])
                    last.copy_(weight.grad)
        return loss


def make(params: Iterable[Tensor], lr: float = 0.1) -> Optimistic:
    """Optimistic descent; its first step is plain descent."""
    return Optimistic(params, lr)
