"""Plane of the loss gradient at a checkpoint and an eigenvector."""

from __future__ import annotations

import torch
from torch import Tensor

from ...loss.problem import Problem
from ..gradients import loss_and_gradient
from ..plane import Plane, spanned
from .eigen import name_of


def gradient_plane(
    problem: Problem, origin: Tensor, eigenvector: Tensor, value: float, *, number: int = 1, step: int = 0,
    variant: str = "",
) -> Plane:  # fmt: skip
    """Axis 1 points down the gradient of the loss over all data, exactly; axis 2 is the eigenvector made orthogonal.

    `info["cosine"]` is that of gradient and eigenvector, `info["curvature"][0]` the curvature along the gradient, from
    the gradients at two points of that line.

    Raises:
        ProblemError: the gradient is zero, or parallel to the eigenvector.
    """
    _, gradient = loss_and_gradient(problem, origin)
    down = -gradient
    directions, cosine = spanned(
        f"the gradient and {name_of(number)} at step {step}", down.to(origin.dtype), eigenvector.to(down.device)
    )
    length = float(torch.linalg.norm(down))
    info = {
        "gradient_norm": length, "cosine": cosine, "values": [None, value], "pair": [None, number],
        "curvature": [_curvature(problem, origin, directions[0]), value],
    }  # fmt: skip
    labels = [
        f"downhill, gradient {length:.3g}",
        f"{name_of(number)} (cosine with the gradient {cosine:.2g}), eigenvalue {value:.3g}",
    ]
    return Plane("gradient", step, labels, origin.clone(), directions.to(origin.dtype), info, variant)


def _curvature(problem: Problem, origin: Tensor, direction: Tensor) -> float:
    """d^T H d by a central difference of gradients; good enough for the width of a grid."""
    reach = float(torch.linalg.norm(origin.double())) or 1.0
    h = torch.finfo(origin.dtype).eps ** (1 / 3) * reach
    ahead, behind = (loss_and_gradient(problem, (origin.double() + s * h * direction).to(origin.dtype))[1]
                     for s in (1, -1))  # fmt: skip
    return float((ahead - behind) @ direction / (2 * h))
