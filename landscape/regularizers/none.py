"""No regularizer: r = 0. With a box its proximal operator is the projection, clip(b, low, high)."""

from __future__ import annotations

from torch import Tensor

from ._base import Box, Regularizer, Tensors, total


class Nothing:
    def __init__(self, box: Box) -> None:
        self.box, self.trivial = box, box.whole

    def prox(self, points: Tensors, metric: Tensors) -> Tensors:
        return self.box.clip(points)

    def value(self, weights: Tensors) -> Tensor:
        return total([])


def make(mu: float = 0.0, low: float | None = None, high: float | None = None) -> Regularizer:
    if mu:
        raise ValueError(f"mu = {mu} needs a regularizer; choose one, e.g. l1")
    return Nothing(Box(low, high))
