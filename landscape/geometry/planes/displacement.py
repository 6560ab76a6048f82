"""Plane of the way that training has gone and an eigenvector: what an eigenvector plane alone does not hold."""

from __future__ import annotations

from torch import Tensor

from ..plane import Plane, spanned
from .eigen import name_of


def displacement_plane(
    origin: Tensor, start: Tensor, eigenvector: Tensor, value: float, *, number: int = 1, step: int = 0,
    start_step: int = 0, variant: str = "",
) -> Plane:  # fmt: skip
    """Axis 1 points from the checkpoint `origin` back to `start`, exactly; axis 2 is the eigenvector made orthogonal.

    Raises:
        ProblemError: the two checkpoints are equal, or their difference is parallel to the eigenvector.
    """
    directions, cosine = spanned(
        f"the way back to step {start_step} and {name_of(number)} at step {step}",
        start.to(origin.dtype) - origin, eigenvector.to(origin.device),
    )  # fmt: skip
    info = {
        "start": start_step, "cosine": cosine, "values": [None, value], "pair": [None, number],
        "curvature": [None, value],
    }  # fmt: skip
    labels = [
        f"back to step {start_step:,}",
        f"{name_of(number)} (cosine with the way {cosine:.2g}), eigenvalue {value:.3g}",
    ]
    return Plane("displacement", step, labels, origin.clone(), directions.to(origin.dtype), info, variant)
