"""r(x) = mu times the number of weights that are not 0: hard thresholding.

With c = clip(b) the minimiser is 0 where 0 lies in the box and tau/2 b^2 <= tau/2 (c - b)^2 + mu, and c elsewhere.
r is not convex, so the convergence theorem of ProxSGD does not cover it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import Box, Regularizer, Tensors, check_strength, total


class L0:
    def __init__(self, mu: float, box: Box) -> None:
        self.mu, self.box = check_strength(mu), box
        self.trivial = self.mu == 0 and box.whole
        self.may_vanish = (box.low is None or box.low <= 0) and (box.high is None or box.high >= 0)

    def prox(self, points: Tensors, metric: Tensors) -> Tensors:
        clipped = self.box.clip(points)
        if not self.may_vanish:
            return clipped
        return [
            torch.where(0.5 * tau * (b.square() - (c - b).square()) <= self.mu, 0.0, c)
            for b, c, tau in zip(points, clipped, metric, strict=True)
        ]

    def value(self, weights: Tensors) -> Tensor:
        return self.mu * total([x.count_nonzero() for x in weights])


def make(mu: float, low: float | None = None, high: float | None = None) -> Regularizer:
    return L0(mu, Box(low, high))
