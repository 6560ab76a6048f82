"""Descent of the mean loss along a curve, E over s in [0, 1] of L(theta(s)), from a few places and mini-batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Float64 = NDArray[np.float64]
PLACES = 4  # a step; one in each quarter of the curve, which halves the noise of independent ones and more

Gradients = Callable[[Tensor, list[int]], tuple[Tensor, Float64]]


def gradient(
    points: Tensor, coefficients: Callable[[Float64, int], Float64], step: int, seed: int, gradients: Gradients
) -> tuple[Tensor, float]:
    """(points * d/dP_j of the mean loss (points, size), that loss), each place s with a mini-batch of its own.

    dL/dP_j = mean over places of c_j(s) grad L(theta(s)); the places are named by (seed, step). Times the number of
    points it is a mean gradient, so that a rate means the same for every number of bends.
    """
    generator = np.random.default_rng([seed, step])
    s = (np.arange(PLACES) + generator.random(PLACES)) / PLACES
    c = torch.from_numpy(coefficients(s, len(points)))  # (place, point)
    found, losses = gradients(c @ points, [step * PLACES + k for k in range(PLACES)])
    return len(points) * (c.T @ found) / PLACES, float(losses.mean())
