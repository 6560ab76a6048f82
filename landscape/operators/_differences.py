"""Products from first differences only: what an operator is held against before a job trusts it.

Nothing here differentiates twice, so a fault of a second derivative, of a strategy or of the weights that a product is
taken at cannot hide in both. Every function is `(problem, vector, batch, v, step, first, seed) -> A v`, all (size,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def gradient(problem: Any, vector: Tensor, batch: Any) -> Tensor:
    """Gradient (size,) of the batch's mean loss; zero where it does not depend on the weights."""
    return _pull(lambda theta: problem.batch_loss(theta, batch), vector, None)


def hessian(problem: Any, vector: Tensor, batch: Any, v: Tensor, step: float, first: int = 0, seed: int = 0) -> Tensor:
    """(g(theta + step v) - g(theta - step v)) / (2 step)."""
    ends = (gradient(problem, vector + sign * step * v, batch) for sign in (1, -1))
    return (next(ends) - next(ends)) / (2 * step)


def gauss_newton(
    problem: Any, vector: Tensor, batch: Any, v: Tensor, step: float, first: int = 0, seed: int = 0
) -> Tensor:
    """J^T (s(z + step u) - s(z - step u)) / (2 step) with u = J v from differences of z and s = dL/dz."""
    outputs, along = _outputs(problem, vector, batch), _along(problem, vector, batch, v, step)
    curved = (_slope(problem, outputs + step * along, batch) - _slope(problem, outputs - step * along, batch)) / 2
    return _pull(lambda theta: problem.outcome(theta, batch)[1], vector, curved / step)


def residual(problem: Any, vector: Tensor, batch: Any, v: Tensor, step: float, first: int = 0, seed: int = 0) -> Tensor:
    """Hessian - Gauss-Newton."""
    return hessian(problem, vector, batch, v, step) - gauss_newton(problem, vector, batch, v, step)


def empirical_fisher(
    problem: Any, vector: Tensor, batch: Any, v: Tensor, step: float, first: int = 0, seed: int = 0
) -> Tensor:
    """1/n sum_i g_i <g_i, v>, <g_i, v> = <s_i, u_i>, s_i the slope of sample i's own loss and u = J v."""
    outputs = _outputs(problem, vector, batch)
    return _outer(problem, vector, batch, v, step, len(outputs) * _slope(problem, outputs, batch), len(outputs))


def fisher(problem: Any, vector: Tensor, batch: Any, v: Tensor, step: float, first: int = 0, seed: int = 0) -> Tensor:
    """As the empirical Fisher, with labels drawn from the model's softmax."""
    from .fisher import draw, uniform

    outputs = _outputs(problem, vector, batch)
    p = outputs.reshape(-1, outputs.shape[-1]).softmax(dim=1)
    each = -(-len(p) // max(problem.count(batch), 1))
    drawn = draw(p, uniform(seed, torch.arange(len(p), device=p.device) + first * each))
    slopes = p - torch.nn.functional.one_hot(drawn, p.shape[1])
    return _outer(problem, vector, batch, v, step, slopes, len(p))


def _outer(problem: Any, vector: Tensor, batch: Any, v: Tensor, step: float, slopes: Tensor, samples: int) -> Tensor:
    """1/n sum_i g_i <g_i, v> for n samples whose outputs are n equal pieces, g_i = J_i^T s_i."""
    along = _along(problem, vector, batch, v, step)
    s, u = (t.reshape(samples, -1) for t in (slopes, along))
    weighted = s * (s * u).sum(dim=1, keepdim=True) / samples
    return _pull(lambda theta: problem.outcome(theta, batch)[1], vector, weighted.reshape(along.shape))


def _outputs(problem: Any, vector: Tensor, batch: Any) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = problem.outcome(vector, batch)[1]
    return outputs.detach()


def _along(problem: Any, vector: Tensor, batch: Any, v: Tensor, step: float) -> Tensor:
    """J v from the difference of two outputs."""
    ends = (_outputs(problem, vector + sign * step * v, batch) for sign in (1, -1))
    return (next(ends) - next(ends)) / (2 * step)


def _slope(problem: Any, outputs: Tensor, batch: Any) -> Tensor:
    if problem.loss is None:
        raise NotImplementedError("the model computes its own loss: there is no function from outputs to loss")
    return _pull(lambda z: problem.loss(z, batch[1]), outputs, None)


def _pull(function: Callable[[Tensor], Tensor], at: Tensor, cotangent: Tensor | None) -> Tensor:
    """cotangent^T d function / d at, shaped as `at`."""
    at = at.detach().requires_grad_(True)
    with torch.enable_grad():
        values = function(at)
    if not values.requires_grad:
        return torch.zeros_like(at)
    (pulled,) = torch.autograd.grad(values, at, cotangent, allow_unused=True, materialize_grads=True)
    return pulled
