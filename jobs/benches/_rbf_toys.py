"""Radial-basis toys: one-dimensional students that grow unit by unit towards a teacher of 15 units, all seeds at once.

    f(x) = sum_i a_i exp(-(w_i x + b_i)^2 / 2),   w, b ~ N(0, 1),  a ~ U(-3, 3),   200 points in [-5, 5]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from landscape.loss.problem import Problem

POINTS = torch.linspace(-5, 5, 200, dtype=torch.float64)


@dataclass
class Students:
    """Students of all seeds: w, b, a (seeds, units), and what they are to learn (seeds, points)."""

    w: Tensor
    b: Tensor
    a: Tensor
    targets: Tensor

    def losses(self) -> Tensor:
        """(seeds,) mean squared errors."""
        return (_outputs(self.w, self.b, self.a) - self.targets).square().mean(dim=1)

    def train(self, steps: int, lr: float = 0.02) -> None:
        """Adam with a cosine schedule, every seed for itself: Adam works entry by entry and the losses are added."""
        weights = [torch.nn.Parameter(t.clone()) for t in (self.w, self.b, self.a)]
        optimizer = torch.optim.Adam(weights, lr, foreach=True)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.zero_grad()
            error = _outputs(*weights) - self.targets
            error.square().mean(dim=1).sum().backward()
            optimizer.step()
        self.w, self.b, self.a = (w.detach() for w in weights)

    def problem(self, seed: int) -> Problem:
        """One student as a network with its loss."""
        from torch import nn

        from landscape.loss.problem import Problem
        from landscape.problems._layers import activation_layer

        units = self.w.shape[1]
        first, last = nn.Linear(1, units).double(), nn.Linear(units, 1, bias=False).double()
        with torch.no_grad():
            first.weight.copy_(self.w[seed][:, None])
            first.bias.copy_(self.b[seed])
            last.weight.copy_(self.a[seed][None])
        model = nn.Sequential(first, activation_layer("gaussian"), last)
        return Problem(model, nn.functional.mse_loss, (POINTS[:, None], self.targets[seed][:, None]))

    def take(self, models: list[nn.Module]) -> None:
        """Students from grown networks of equal width."""
        found = [m.state_dict() for m in models]
        self.w = torch.stack([state["0.weight"][:, 0] for state in found])
        self.b = torch.stack([state["0.bias"] for state in found])
        self.a = torch.stack([state["2.weight"][0] for state in found])


def students(seeds: range) -> Students:
    """Students of one unit."""
    drawn = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        theta = torch.randn(2, 16, generator=generator, dtype=torch.float64)
        out = 6 * torch.rand(16, generator=generator, dtype=torch.float64) - 3
        drawn.append((theta[0], theta[1], out))
    w, b, a = (torch.stack(t) for t in zip(*drawn, strict=True))
    return Students(w[:, 15:], b[:, 15:], a[:, 15:], _outputs(w[:, :15], b[:, :15], a[:, :15]))


def _outputs(w: Tensor, b: Tensor, a: Tensor) -> Tensor:
    """(seeds, points)."""
    z = w[:, :, None] * POINTS + b[:, :, None]
    return torch.einsum("su,sup->sp", a, torch.exp(-z.square() / 2))
