"""Small problems with closed forms or real data, for tests of planes, surfaces, trajectories and paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from landscape.loss.problem import Problem


class Weights(nn.Module):
    """A model that is nothing but a weight vector."""

    def __init__(self, vector: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(vector.clone())


def quadratic(matrix: Tensor, at: Tensor | None = None, centre: Tensor | None = None) -> Problem:
    """L(w) = 1/2 (w - centre)^T A (w - centre), the mean of two unequal batches, at weights `at`."""
    at = torch.zeros(len(matrix), dtype=matrix.dtype) if at is None else at
    centre = torch.zeros_like(at) if centre is None else centre
    parts = [2 * matrix / 3, 4 * matrix / 3]  # their mean is A

    def batch_loss(model: nn.Module, batch: Tensor) -> Tensor:
        difference = model.w - centre.to(batch.dtype)
        return 0.5 * difference @ batch @ difference

    return Problem.from_batch_loss(Weights(at), batch_loss, parts, name="quadratic")


def symmetric(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return (square + square.T) / 2


def digits(samples: int = 400, test: bool = False) -> Problem:
    """The digits MLP, 64-32-10, in float32."""
    inputs, targets = load_digits(return_X_y=True)
    x, y = torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(targets)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    held_out = (x[samples : samples + 100], y[samples : samples + 100]) if test else None
    data = (x[:samples], y[:samples])
    return Problem(model, nn.functional.cross_entropy, data, batch_size=128, test_data=held_out, name="digits")


def two_minima(problem: Problem, steps: int = 120) -> list[dict[str, Tensor]]:
    """States after two trainings from random weights of their own; the problem ends at the second."""
    states = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        problem.load({
            n: torch.randn(v.shape, generator=generator) * v[0].numel() ** -0.5 for n, v in problem.state().items()
        })  # fmt: skip
        train(problem, steps)
        states.append(problem.state())
    return states


def convolutional(statistics: bool = True) -> Problem:
    """A small convolutional net on 8 x 8 digits, with BatchNorm or with GroupNorm, which keeps no statistics."""
    inputs, targets = load_digits(return_X_y=True)
    x, y = torch.tensor(inputs[:200] / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(targets[:200])
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(6) if statistics else nn.GroupNorm(2, 6)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), norm, nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 10),
    )
    return Problem(model, nn.functional.cross_entropy, (x, y), batch_size=64, name="convolutional")


def train(problem: Problem, steps: int, rate: float = 0.2, every: int = 5) -> list[Saved]:
    """Gradient descent with momentum in training mode; checkpoints on the way, the last one loaded.

    Written out because `torch.optim` would import a compiler, which costs every rank of a test a second.
    """
    weights = list(problem.model.parameters())
    moved = [torch.zeros_like(w) for w in weights]
    saved = [Saved(0, problem.state())]
    for step in range(1, steps + 1):
        problem.model.train()
        inputs, targets = problem.batches[step % len(problem.batches)]
        slope = torch.autograd.grad(nn.functional.cross_entropy(problem.model(inputs), targets), weights)
        with torch.no_grad():
            for w, m, g in zip(weights, moved, slope, strict=True):
                w -= rate * m.mul_(0.9).add_(g)
        problem.model.eval()
        if step % every == 0:
            saved.append(Saved(step, problem.state()))
    return saved


@dataclass(frozen=True)
class Saved:
    """A checkpoint in memory."""

    step: int
    weights: Mapping[str, Tensor]

    def state(self) -> Mapping[str, Tensor]:
        return self.weights
