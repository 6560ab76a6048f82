"""r(x) = mu sum_g w_g norm(x_g)_2: whole groups of weights vanish together (Yuan & Lin 2006).

With one tau a group: x_g = max(0, 1 - mu w_g / (tau norm(b_g))) b_g. With a diagonal tau, d = mu w_g / tau:
x_g = 0 exactly when norm(tau b_g) <= mu w_g, else x_g = b_g s / (s + d), where s = norm(x_g) > 0 solves
norm(b_g / (s + d)) = 1. The left side's reciprocal is concave in s, so Newton's method from s = 0 rises to the root
without a safeguard, quadratically (the secular equation of trust regions, Conn, Gould & Toint 2000, section 7.3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import Box, Regularizer, Tensors, check_strength, total

GROUPS = ("rows", "tensors", "all")
WEIGHTING = {"none": 0.0, "mul": 0.5, "div": -0.5}  # w_g = size of the group to this power
_NEWTON = 60  # steps at most; a handful is usual


class Group:
    """Groups are the rows of each tensor (filters, neurons), whole tensors, or all tensors of a parameter group."""

    def __init__(self, mu: float, groups: str, weighting: str, mean_metric: bool) -> None:
        for name, value, choices in (("groups", groups, GROUPS), ("weighting", weighting, tuple(WEIGHTING))):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got '{value}'")
        self.mu, self.groups = check_strength(mu), groups
        self.power, self.mean_metric = WEIGHTING[weighting], mean_metric
        self.trivial = self.mu == 0

    def prox(self, points: Tensors, metric: Tensors) -> Tensors:
        if self.groups != "all":
            return [self._one(b, tau) for b, tau in zip(points, metric, strict=True)]
        if not points:
            return []
        long = torch.cat([b.reshape(-1) for b in points])
        same = all(tau.ndim == 0 for tau in metric)  # one number for all of them: the metric of the identity
        full = [metric[0]] if same else [t.expand_as(b).reshape(-1) for b, t in zip(points, metric, strict=True)]
        one = self._one(long, full[0] if same else torch.cat(full))
        pieces = torch.split(one, [b.numel() for b in points])
        return [piece.reshape(b.shape) for piece, b in zip(pieces, points, strict=True)]

    def _one(self, points: Tensor, metric: Tensor) -> Tensor:
        """The minimiser for one tensor, whose metric has its shape or none."""
        b = self._matrix(points)
        tau = metric.expand(b.shape) if metric.ndim == 0 else self._matrix(metric)
        return self._rows(b, tau).reshape(points.shape)

    def norms(self, weights: Tensors) -> list[Tensor]:
        """Norms of the groups of each tensor, float64; one entry of one norm where all tensors are one group."""
        rows = [torch.linalg.vector_norm(self._matrix(x), dim=1, dtype=torch.float64) for x in weights]
        if self.groups == "all":
            return [torch.linalg.vector_norm(torch.cat([r.cpu() for r in rows]))[None]] if rows else []
        return rows

    def value(self, weights: Tensors) -> Tensor:
        sizes = [self._matrix(x).shape[1] for x in weights]
        if self.groups == "all":
            sizes = [sum(x.numel() for x in weights)] * bool(weights)
        return self.mu * total([n.sum() * size**self.power for n, size in zip(self.norms(weights), sizes, strict=True)])

    def _matrix(self, x: Tensor) -> Tensor:
        """A tensor as (groups, size of a group); a vector's rows are its elements."""
        return x.reshape(x.shape[0], -1) if self.groups == "rows" and x.ndim > 0 else x.reshape(1, -1)

    def _rows(self, points: Tensor, metric: Tensor) -> Tensor:
        """The minimiser row by row, (groups, size)."""
        strength = self.mu * points.shape[1] ** self.power
        if self.mean_metric or metric.stride(1) == 0:  # one value a group
            tau = metric.mean(dim=1, keepdim=True) if self.mean_metric else metric[:, :1]
            pull = tau * torch.linalg.vector_norm(points, dim=1, keepdim=True)
            keep: Tensor = (1 - strength / pull.clamp_min(torch.finfo(pull.dtype).tiny)).clamp_min(0)
            return points * keep
        s, d = self._norm(points, metric, strength), strength / metric
        return torch.where(s > 0, points * (s / (s + d)), 0.0)

    @staticmethod
    def _norm(points: Tensor, metric: Tensor, strength: float) -> Tensor:
        """norm(x_g) (groups, 1): 0, or the root s of norm(b / (s + mu/tau)) = 1."""
        alive = torch.linalg.vector_norm(metric * points, dim=1, keepdim=True) > strength
        d = strength / metric
        s = torch.zeros_like(points[:, :1])
        for _ in range(_NEWTON):
            ratio = points / (s + d)
            square = ratio.square().sum(dim=1, keepdim=True)
            slope = (ratio.square() / (s + d)).sum(dim=1, keepdim=True)  # of -1/2 square
            step = torch.where(alive, square / slope * (square.sqrt() - 1), 0.0)
            s = s + step
            if not bool((step > 4 * torch.finfo(s.dtype).eps * s).any()):
                break
        return s


def make(
    mu: float, low: float | None = None, high: float | None = None,
    groups: str = "rows", weighting: str = "none", mean_metric: bool = False,
) -> Regularizer:  # fmt: skip
    """`mean_metric` takes the mean of tau over a group instead of the exact diagonal: cheaper, and another method."""
    Box(low, high).refuse("the group regularizer")
    return Group(mu, groups, weighting, mean_metric)
