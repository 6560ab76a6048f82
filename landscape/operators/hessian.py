"""Hessian of the loss: H v = d/dtheta <grad L(theta), v> (Pearlmutter 1994)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ._differences import hessian as difference
from ._forms import HessianOf

__all__ = ["difference", "form"]


def form(problem: Any, vector: Tensor, batch: Any) -> HessianOf:
    """The Hessian of one batch's mean loss."""
    return HessianOf(lambda theta: problem.batch_loss(theta, batch))
