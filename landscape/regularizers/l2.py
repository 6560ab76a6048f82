"""r(x) = mu/2 norm(x)^2: tau b / (tau + mu), clipped to the box; weight decay as a proximal step."""

from __future__ import annotations

from torch import Tensor

from ._base import Box, Regularizer, Tensors, check_strength, total


class L2:
    def __init__(self, mu: float, box: Box) -> None:
        self.mu, self.box = check_strength(mu), box
        self.trivial = self.mu == 0 and box.whole

    def prox(self, points: Tensors, metric: Tensors) -> Tensors:
        return self.box.clip([b * (tau / (tau + self.mu)) for b, tau in zip(points, metric, strict=True)])

    def value(self, weights: Tensors) -> Tensor:
        return 0.5 * self.mu * total([x.double().square().sum() for x in weights])


def make(mu: float, low: float | None = None, high: float | None = None) -> Regularizer:
    return L2(mu, Box(low, high))
