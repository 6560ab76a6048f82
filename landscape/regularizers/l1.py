"""r(x) = mu norm(x)_1: soft thresholding sign(b) max(|b| - mu / tau, 0), clipped to the box.

Clipping the minimiser of a convex function of one variable is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import Box, Regularizer, Tensors, check_strength, total


class L1:
    def __init__(self, mu: float, box: Box) -> None:
        self.mu, self.box = check_strength(mu), box
        self.trivial = self.mu == 0 and box.whole

    def prox(self, points: Tensors, metric: Tensors) -> Tensors:
        shrunk = [torch.sgn(b) * (b.abs() - self.mu / tau).clamp_min_(0) for b, tau in zip(points, metric, strict=True)]
        return self.box.clip(shrunk)

    def value(self, weights: Tensors) -> Tensor:
        return self.mu * total([x.abs().sum(dtype=torch.float64) for x in weights])


def make(mu: float, low: float | None = None, high: float | None = None) -> Regularizer:
    return L1(mu, Box(low, high))
