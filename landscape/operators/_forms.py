"""What operators are made of: the Hessian of a function, or the Gauss-Newton matrix of a composition.

Each form offers its product with a vector in two ways, from which `landscape.engine.strategies` makes all strategies:

- `reverse(theta)`: reverse mode only, over a graph that is built once. Every layer with a double backward works, so
  this is the reference that all others are measured against;
- `forward(theta)`: forward mode over reverse mode; nothing is kept, the function of theta is evaluated anew.

Reverse mode over forward mode is in none of them: torch gets it silently wrong for LayerNorm, InstanceNorm and
BatchNorm in training mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp

from ..errors import ProblemError

Column = Callable[[Tensor], Tensor]  # v (size,) -> A v (size,)


@dataclass(frozen=True)
class HessianOf:
    """H v = d/dtheta <grad f(theta), v> (Pearlmutter 1994) of a scalar function f of the weights (size,)."""

    function: Callable[[Tensor], Tensor]

    def reverse(self, theta: Tensor) -> Column:
        theta = theta.detach().requires_grad_(True)
        value = self.function(theta)
        if not value.requires_grad:  # f does not depend on the weights
            return torch.zeros_like
        (gradient,) = torch.autograd.grad(value, theta, create_graph=True)
        if not gradient.requires_grad:  # f is linear in the weights
            return torch.zeros_like

        def column(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(gradient, theta, v, retain_graph=True, materialize_grads=True)
            return product

        return column

    def forward(self, theta: Tensor) -> Column:
        slope = grad(self.function)
        return lambda v: jvp(slope, (theta,), (v,))[1]


@dataclass(frozen=True)
class GaussNewtonOf:
    """J^T (d2 outer / dz2) J v with z = values(theta) and J = dz / dtheta: the curvature of `values` is left out."""

    values: Callable[[Tensor], Tensor]
    outer: Callable[[Tensor], Tensor]  # z -> scalar

    def reverse(self, theta: Tensor) -> Column:
        theta = theta.detach().requires_grad_(True)
        values = self.values(theta)
        if not values.requires_grad:  # no output depends on these weights
            return torch.zeros_like
        inside = values.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.outer(inside), inside, create_graph=True)
        return _between(values, theta, slope, inside)

    def forward(self, theta: Tensor) -> Column:
        values, pull = _pulled(self.values, theta)
        slope = grad(self.outer)

        def column(v: Tensor) -> Tensor:
            along = jvp(self.values, (theta,), (v,))[1]
            return pull(jvp(slope, (values,), (along,))[1])

        return column


@dataclass(frozen=True)
class GaussNewtonWithin:
    """The same where the model computes its own loss, so that only its graph leads from the outputs to the loss."""

    outcome: Callable[[Tensor], tuple[Tensor, Tensor]]  # theta -> (loss, outputs)

    def reverse(self, theta: Tensor) -> Column:
        theta = theta.detach().requires_grad_(True)
        loss, outputs = self.outcome(theta)
        if not outputs.requires_grad:  # no output depends on these weights
            return torch.zeros_like
        (slope,) = torch.autograd.grad(loss, outputs, create_graph=True)
        return _between(outputs, theta, slope, outputs)

    def forward(self, theta: Tensor) -> Column:
        raise NotImplementedError("the model computes its own loss: there is no function from outputs to loss")


def _pulled(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Column]:
    """(values, u -> J^T u)."""
    value, pull = vjp(function, at)[:2]
    return value, lambda u: pull(u)[0]


def _between(values: Tensor, theta: Tensor, slope: Tensor, at: Tensor) -> Column:
    """v -> J^T (d slope / d at) J v with J = d values / d theta; `at` are the values that `slope` is a function of."""
    if not slope.requires_grad:  # a function linear in the outputs
        return torch.zeros_like
    along = _pushforward(values, theta)

    def column(v: Tensor) -> Tensor:
        (curved,) = torch.autograd.grad(slope, at, along(v), retain_graph=True, materialize_grads=True)
        (product,) = torch.autograd.grad(values, theta, curved, retain_graph=True)
        return product

    return column


def _pushforward(values: Tensor, theta: Tensor) -> Column:
    """v (size,) -> J v, shaped as `values`, with J = d values / d theta.

    u -> J^T u is linear in u; differentiating it once more gives J v: reverse mode only, so that every layer with a
    double backward works.
    """
    dual = torch.zeros_like(values, requires_grad=True)
    (pulled,) = torch.autograd.grad(values, theta, dual, create_graph=True)  # J^T dual

    def product(v: Tensor) -> Tensor:
        (along,) = torch.autograd.grad(pulled, dual, v, retain_graph=True)
        return along

    return product


def outputs_of(problem: Any, theta: Tensor, batch: Any, operator: str) -> Tensor:
    """The network's outputs on a batch at theta (size,), differentiable; errors of `outcome_of`."""
    return outcome_of(problem, theta, batch, operator)[1]


def outcome_of(problem: Any, theta: Tensor, batch: Any, operator: str) -> tuple[Tensor, Tensor]:
    """(mean loss, the network's outputs) on a batch at theta (size,), differentiable.

    Raises:
        ProblemError: the problem computes its own loss, so that its outputs are unknown.
    """
    loss, outputs = problem.outcome(theta, batch)
    if not isinstance(outputs, Tensor):
        raise ProblemError(
            f"{operator} needs the model's outputs: state the problem as Problem(model, loss, data) with "
            "loss(outputs, targets), or use --operator hessian"
        )
    return loss, outputs


def slope_at(problem: Any, outputs: Tensor, targets: Any) -> Tensor:
    """dL/dz of the batch's mean loss at the outputs z, shaped as they are, as a constant."""
    inside = outputs.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = problem.loss(inside, targets)
        (slope,) = torch.autograd.grad(loss, inside, allow_unused=True, materialize_grads=True)
    return slope.detach()


def mean_outer_product(values: Callable[[Tensor], Tensor]) -> GaussNewtonOf:
    """1/n sum_i g_i g_i^T = J^T J / n, g_i = d values_i / d theta, one value a sample: no gradient is ever stored."""
    return GaussNewtonOf(values, lambda z: 0.5 * z.square().mean())
