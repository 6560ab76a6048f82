"""What every regularizer offers, and the box that several of them share."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

Tensors = list[Tensor]


class Regularizer(Protocol):
    """Acts on the tensors of one parameter group together, so that a group of weights may span several of them."""

    trivial: bool  # prox(b) = b whatever b is

    def prox(self, points: Tensors, metric: Tensors) -> Tensors:
        """Minimisers for points b and metrics tau > 0 of the same shapes, or of shape () for one value a tensor."""
        ...

    def value(self, weights: Tensors) -> Tensor:
        """r(x), a scalar in float64."""
        ...


class Box:
    """low <= x <= high for every weight; either bound may be None.

    Raises:
        ValueError: the box is empty.
    """

    def __init__(self, low: float | None, high: float | None) -> None:
        if low is not None and high is not None and not low <= high:
            raise ValueError(f"the box is empty: low = {low} is not below high = {high}")
        self.low, self.high = low, high

    @property
    def whole(self) -> bool:
        return self.low is None and self.high is None

    def clip(self, points: Tensors) -> Tensors:
        if self.low is not None:
            points = list(torch._foreach_clamp_min(points, self.low))
        if self.high is not None:
            points = list(torch._foreach_clamp_max(points, self.high))
        return points

    def refuse(self, what: str) -> None:
        if not self.whole:
            raise ValueError(f"{what} has no closed form within a box; leave low and high out")


def check_strength(mu: float) -> float:
    if not 0 <= mu < float("inf"):
        raise ValueError(f"the strength mu must be a number of at least 0, got {mu}")
    return float(mu)


def total(parts: Tensors) -> Tensor:
    """Sum of scalars in float64."""
    return torch.stack([part.double().cpu() for part in parts]).sum() if parts else torch.zeros((), dtype=torch.float64)
