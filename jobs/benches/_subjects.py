"""What is measured: the shipped problems at fixed sizes, and the plain torch code that they are measured against."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem

Product = Callable[[Tensor], Tensor]  # (size, b) -> (size, b)


@dataclass(frozen=True)
class Subject:
    """A shipped problem and its size: settings, and those of a quick run."""

    settings: dict[str, Any]
    quick: dict[str, Any] = field(default_factory=dict)
    quick_samples: int = 32
    one_batch: int = 64  # samples of a single batch that fits into memory with its graph

    def build(self, name: str, *, quick: bool, seed: int, one_batch: bool = False) -> Problem:
        """The problem at fixed initial weights.

        Raises:
            LandscapeError: its data is not installed.
        """
        settings = {**self.settings, **(self.quick if quick else {})}
        torch.manual_seed(seed)
        problem = build_problem(name, settings)
        samples = min(
            self.quick_samples if quick else problem.samples, self.one_batch if one_batch else problem.samples
        )
        if samples < problem.samples:
            problem = problem.subset(samples, seed)
        return joined(problem) if one_batch else problem


SUBJECTS = {
    "digits_mlp": Subject({"test_share": 0.0}, {"hidden": 8}, 200, one_batch=1797),
    "lenet": Subject({"samples": 1024, "batch_size": 128, "activation": "relu", "pool": "max"}, {}, 16, one_batch=512),
    "resnet20": Subject({"samples": 64, "batch_size": 32}, {"batch_size": 2}, 4, one_batch=32),
    "gpt": Subject(
        {"samples": 64, "batch_size": 16}, {"batch_size": 2, "width": 16, "layers": 1, "context": 16}, 4, one_batch=16
    ),
}


def built(name: str, args: argparse.Namespace, *, one_batch: bool = False) -> Problem | str:
    """The problem, or the sentence that says why it cannot be had here."""
    try:
        subject = SUBJECTS.get(name, Subject({}, quick_samples=64))
        return subject.build(name, quick=args.quick, seed=args.seed, one_batch=one_batch)
    except LandscapeError as error:
        return str(error)


def joined(problem: Problem) -> Problem:
    """The problem with all its data in one batch."""
    if len(problem.batches) == 1:
        return problem
    inputs, targets = (torch.cat([batch[i] for batch in problem.batches]) for i in (0, 1))
    other = problem.subset(problem.samples)
    other.batches = [(inputs, targets)]
    return other


def descend(problem: Problem, done: int, steps: int, seed: int, batch: int = 64) -> int:
    """Train on from `done` to `steps` Adam steps (lr 0.003); the mini-batches are named by the seed and the step."""
    inputs, labels = (torch.cat([b[i] for b in problem.batches]) for i in (0, 1))
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=3e-3)
    for step in range(done, steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        picked = torch.randint(len(labels), (batch,), generator=generator)
        optimizer.zero_grad()
        problem.training_loss((inputs[picked], labels[picked])).backward()
        optimizer.step()
    return steps


# ---------------------------------------------------------------------- what everything is measured against


def gradient(problem: Problem, theta: Tensor) -> Tensor:
    """The gradient of the mean loss, batch by batch: the unit of cost."""
    total = torch.zeros_like(theta)
    for batch in problem.batches:
        vector = theta.detach().requires_grad_(True)
        (found,) = torch.autograd.grad(problem.batch_loss(vector, batch), vector)
        total.add_(found, alpha=problem.count(batch) / problem.samples)
    return total


def first_order(problem: Problem, theta: Tensor, batch: Any) -> Callable[[Tensor, bool], Tensor]:
    """Build a batch's first-order graph; (v, keep) -> its Hessian times v."""
    vector = theta.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(problem.batch_loss(vector, batch), vector, create_graph=True)

    def column(v: Tensor, keep: bool) -> Tensor:
        return torch.autograd.grad(slope, vector, v, retain_graph=keep)[0]

    return column


def recomputed(problem: Problem, theta: Tensor) -> Product:
    """Reverse over reverse as most peers write it: every vector builds the graph of every batch again."""

    def column(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for batch in problem.batches:
            share = problem.count(batch) / problem.samples
            total.add_(first_order(problem, theta, batch)(v, False), alpha=share)
        return total

    return lambda block: torch.stack([column(v) for v in block.unbind(1)], dim=1)


def kept(problem: Problem, theta: Tensor) -> Product:
    """Reverse over reverse with the graphs of all batches kept, which is what memory rarely allows."""
    graphs = [(problem.count(b) / problem.samples, first_order(problem, theta, b)) for b in problem.batches]

    def column(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for share, product in graphs:
            total.add_(product(v, True), alpha=share)
        return total

    return lambda block: torch.stack([column(v) for v in block.unbind(1)], dim=1)
