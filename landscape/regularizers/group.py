"""r(x) = mu sum_g w_g norm(x_g)_2: whole groups of weights vanish together (Yuan & Lin 2006).

w_g is a power of the group's size times a factor of its own, such as what an operation costs.

With one tau a group: x_g = max(0, 1 - mu w_g / (tau norm(b_g))) b_g. With a diagonal tau, d = mu w_g / tau:
x_g = 0 exactly when norm(tau b_g) <= mu w_g, else x_g = b_g s / (s + d), where s = norm(x_g) > 0 solves
norm(b_g / (s + d)) = 1. The left side's reciprocal is concave in s, so Newton's method from s = 0 rises to the root
without a safeguard, quadratically (the secular equation of trust regions, Conn, Gould & Toint 2000, section 7.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._base import Box, Regularizer, Tensors, check_strength, total
from ._partition import Layout, Partition, Rows, Scattered, hashable, scattered

GROUPS = ("rows", "tensors", "all")
WEIGHTING = {"none": 0.0, "mul": 0.5, "div": -0.5}  # w_g = size of the group to this power
_NEWTON = 60  # steps at most; a handful is usual


class Group:
    """Groups are the rows of each tensor (filters, neurons), whole tensors, all tensors of a parameter group, or those
    of a layout, which may span tensors and leave weights out."""

    def __init__(
        self, mu: float, groups: str, weighting: str, mean_metric: bool, layout: Layout | None = None,
        factors: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        for name, value, choices in (("groups", groups, GROUPS), ("weighting", weighting, tuple(WEIGHTING))):
            if value not in choices and not (layout and name == "groups"):
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got '{value}'")
        if factors is not None and layout is None:
            raise ValueError("factors need groups of a layout: one of landscape/groupings")
        if any(not 0 <= factor < float("inf") for factor in factors or ()):
            raise ValueError(f"the groups' factors must be numbers of at least 0, got {min(factors or ())}")
        self.mu, self.groups, self.layout = check_strength(mu), groups, layout
        self.factors = None if factors is None else tuple(map(float, factors))
        self.power, self.mean_metric = WEIGHTING[weighting], mean_metric
        self.trivial = self.mu == 0

    def prox(self, points: Tensors, metric: Tensors) -> Tensors:
        if not points:
            return []
        if self.layout is None and self.groups != "all":
            return [self._matrix_prox(b, tau) for b, tau in zip(points, metric, strict=True)]
        long = torch.cat([b.reshape(-1) for b in points])
        same = all(tau.ndim == 0 for tau in metric)  # one number for all of them: the metric of the identity
        tau = metric[0].expand(long.shape) if same else torch.cat(
            [t.expand_as(b).reshape(-1) for b, t in zip(points, metric, strict=True)]
        )  # fmt: skip
        if self.layout is None:
            one = self._matrix_prox(long, tau)
        else:
            one = self._solve(scattered(self.layout, _sizes(points), long.device), long, tau, same)
        pieces = torch.split(one, list(_sizes(points)))
        return [piece.reshape(b.shape) for piece, b in zip(pieces, points, strict=True)]

    def _matrix_prox(self, points: Tensor, metric: Tensor) -> Tensor:
        """The minimiser for one tensor, whose metric has its shape or none."""
        b = self._matrix(points)
        one = metric.ndim == 0 or metric.stride() == (0,) * metric.ndim
        tau = metric.reshape(-1)[:1].expand(b.shape) if one else self._matrix(metric)
        return self._solve(Rows(tuple(b.shape)), b, tau, one).reshape(points.shape)

    def _matrix(self, x: Tensor) -> Tensor:
        """A tensor as (groups, size of a group); a vector's rows are its elements."""
        return x.reshape(x.shape[0], -1) if self.groups == "rows" and x.ndim > 0 else x.reshape(1, -1)

    def norms(self, weights: Tensors) -> list[Tensor]:
        """Norms of the groups of each tensor, float64; one entry where groups span tensors."""
        wide = [x.double() for x in weights]
        if self.layout is not None:
            long = torch.cat([x.reshape(-1) for x in wide])
            return [scattered(self.layout, _sizes(wide), long.device).sum(long.square()).sqrt()[:-1]]
        rows = [torch.linalg.vector_norm(self._matrix(x), dim=1) for x in wide]
        if self.groups == "all":
            return [torch.linalg.vector_norm(torch.cat([r.cpu() for r in rows]))[None]] if rows else []
        return rows

    def value(self, weights: Tensors) -> Tensor:
        norms = self.norms(weights)
        if self.layout is not None:
            counts = scattered(self.layout, _sizes(weights), norms[0].device).sizes(norms[0])[:-1]
            return total([(norms[0] * self._strength(counts)).sum()])
        sizes = [self._matrix(x).shape[1] for x in weights]
        if self.groups == "all":
            sizes = [sum(x.numel() for x in weights)] * bool(weights)
        return self.mu * total([n.sum() * size**self.power for n, size in zip(norms, sizes, strict=True)])

    def _strength(self, sizes: Tensor) -> Tensor:
        """mu w_g, of the shape of the sizes; those of a layout may end with the weights in no group."""
        found = self.mu * sizes**self.power
        if self.factors is None:
            return found
        groups = 1 + max((max(entry[1]) for entry in self.layout or () if entry), default=-1)
        if len(self.factors) != groups:
            raise ValueError(f"{groups} groups need as many factors, got {len(self.factors)}")
        return found * found.new_tensor([*self.factors, 1.0][: len(found)])

    # ------------------------------------------------------------------ the closed forms, for any partition

    def _solve(self, part: Partition, points: Tensor, metric: Tensor, same: bool) -> Tensor:
        """The minimiser; `same`: one tau for all."""
        sizes = part.sizes(points)
        strength = self._strength(sizes.clamp_min(1))
        if self.mean_metric or same:  # one value a group
            tau = metric.reshape(-1)[0] if same else part.sum(metric) / sizes.clamp_min(1)
            pull = tau * part.sum(points.square()).sqrt()
            keep = (1 - strength / pull.clamp_min(torch.finfo(pull.dtype).tiny)).clamp_min(0)
            found = points * part.spread(keep)
        else:
            pressure = part.spread(strength)
            s = part.spread(self._norm(part, points, metric, strength))
            found = torch.where(s > 0, points * (s / (s + pressure / metric)), 0.0)
        if not isinstance(part, Scattered):
            return found
        return torch.where(part.free | part.spread(strength == 0), points, found)

    @staticmethod
    def _norm(part: Partition, points: Tensor, metric: Tensor, strength: Tensor) -> Tensor:
        """norm(x_g) a group: 0, or the root s of norm(b / (s + mu w_g / tau)) = 1."""
        alive = part.sum((metric * points).square()).sqrt() > strength
        d = part.spread(strength) / metric
        s = torch.zeros_like(strength)
        for _ in range(_NEWTON):
            shifted = part.spread(s) + d
            ratio = (points / shifted).square()
            square, slope = part.sum(ratio), part.sum(ratio / shifted)  # slope: of -1/2 square
            step = torch.where(alive, square / slope * (square.sqrt() - 1), 0.0)
            s = s + step
            if not bool((step > 4 * torch.finfo(s.dtype).eps * s).any()):
                break
        return s


def _sizes(tensors: Tensors) -> tuple[int, ...]:
    return tuple(x.numel() for x in tensors)


def make(
    mu: float, low: float | None = None, high: float | None = None,
    groups: str = "rows", weighting: str = "none", mean_metric: bool = False, layout: Layout | None = None,
    factors: Sequence[float] | None = None,
) -> Regularizer:  # fmt: skip
    """`mean_metric` takes the mean of tau over a group instead of the exact diagonal: cheaper, and another method.

    A `layout` says for each tensor (before, group of each unit, after), the tensor seen as (before, unit, after); the
    files of `landscape/groupings` make them. `factors` multiply the weights of its groups, one a group by its number.
    """
    Box(low, high).refuse("the group regularizer")
    return Group(mu, groups, weighting, mean_metric, None if layout is None else hashable(layout),
                 factors)  # fmt: skip
