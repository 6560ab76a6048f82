"""The loss over all data and its gradient at a weight vector."""

from __future__ import annotations

import torch
from torch import Tensor

from ..loss.problem import Problem


def loss_and_gradient(problem: Problem, vector: Tensor) -> tuple[float, Tensor]:
    """L(theta) as `Problem.evaluate` gives it, and grad L (size,) in float64, summed batch by batch."""
    leaf = vector.detach().to(problem.device, problem.dtype).requires_grad_()
    gradient = torch.zeros(leaf.shape, dtype=torch.float64, device=leaf.device)
    loss, total = 0.0, 0
    for batch in problem.batches:
        count = problem.count(batch)
        value = problem.batch_loss(leaf, batch)
        gradient += count * torch.autograd.grad(value, leaf)[0].double()
        loss += count * float(value.detach())
        total += count
    return loss / total, gradient / total
