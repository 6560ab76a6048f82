"""A nudged elastic band (Jonsson et al. 1998; Draxler et al. 2018): images that sink across the band, never along it.

    force on image i = -(g - (g.tau) tau) + K (|P_i+1 - P_i| - |P_i - P_i-1|) tau

The tangent tau points to the higher neighbour (Henkelman & Jonsson 2000). Springs act along the band alone, so that
they keep the images apart without cutting corners; the band follows the valley through its lowest pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._expected_loss import Float64, Gradients
from .polygon import coefficients

__all__ = ["BENDS", "coefficients", "gradient"]

BENDS = 9
STIFFNESS = 1.0  # loss per squared unit of weight


def gradient(
    points: Tensor, coefficients: Callable[[Float64, int], Float64], step: int, seed: int, gradients: Gradients
) -> tuple[Tensor, float]:
    """(minus the forces (points, size), mean loss of the images); all images see the same mini-batch."""
    found, losses = gradients(points, [step] * len(points))
    result = torch.zeros_like(points)
    ways = points[1:] - points[:-1]  # (pieces, size)
    spans = torch.linalg.norm(ways, dim=1)
    for i in range(1, len(points) - 1):
        before, after = losses[i] - losses[i - 1], losses[i + 1] - losses[i]
        tangent = _tangent(ways[i - 1], ways[i], float(before), float(after))
        along = float(found[i] @ tangent) + STIFFNESS * float(spans[i] - spans[i - 1])
        result[i] = found[i] - along * tangent
    return result, float(losses[1:-1].mean())


def _tangent(before: Tensor, after: Tensor, rise_before: float, rise_after: float) -> Tensor:
    """Unit vector along the band: of the piece towards the higher neighbour, at an extremum a mean by height."""
    if rise_before > 0 and rise_after > 0:
        way = after
    elif rise_before < 0 and rise_after < 0:
        way = before
    else:
        big, small = sorted((abs(rise_before), abs(rise_after)), reverse=True)
        higher_after = rise_after > -rise_before  # L(i+1) above L(i-1)
        way = (big * after + small * before) if higher_after else (small * after + big * before)
        if not big:
            way = before + after
    norm = torch.linalg.norm(way)
    return way / norm if float(norm) > 0 else way
