"""Empirical Fisher 1/n sum_i g_i g_i^T: the second moment of the per-sample gradients g_i at the data's own targets.

It is no approximation of the Hessian, not even near a minimum (Kunstner, Balles & Hennig 2019): it is what adaptive
optimizers average, and its trace is the mean squared norm of a sample's gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError
from ._differences import empirical_fisher as difference
from ._forms import GaussNewtonOf, mean_outer_product, slope_at

__all__ = ["difference", "form", "semidefinite"]


def form(problem: Any, vector: Tensor, batch: Any) -> GaussNewtonOf:
    """The empirical Fisher of one batch at `vector` (size,).

    With z_i the outputs for sample i and L = 1/n sum_i loss_i(z_i), g_i = J_i^T s_i with s_i = n dL/dz_i: the gradient
    of <s_i, z_i> with s_i held fixed.

    Raises:
        ProblemError: outputs are unknown, or the loss of a batch is not the mean of its samples' losses.
    """
    with torch.no_grad():
        _, outputs = problem.outcome(vector, batch)
    if problem.loss is None or not isinstance(outputs, Tensor):
        raise ProblemError(
            "empirical_fisher needs the loss of each sample: state the problem as Problem(model, loss, data) with "
            "loss(outputs, targets), or use --operator hessian"
        )
    n = len(outputs)
    slopes = n * slope_at(problem, outputs, batch[1])
    _check_mean(problem, outputs, batch[1], slopes)
    return mean_outer_product(lambda theta: (slopes * problem.outcome(theta, batch)[1]).reshape(n, -1).sum(dim=1))


def semidefinite(problem: Any) -> bool:
    """A sum of outer products has no negative eigenvalue."""
    return True


def _check_mean(problem: Any, outputs: Tensor, targets: Any, slopes: Tensor) -> None:
    """The steepest sample alone must have the slope that it has within the batch."""
    fits = isinstance(targets, Tensor) and targets.ndim > 0 and len(targets) == len(outputs)
    if fits:
        worst = int(slopes.reshape(len(slopes), -1).norm(dim=1).argmax())
        slope = slope_at(problem, outputs[worst : worst + 1], targets[worst : worst + 1])
        difference, length = float((slope[0] - slopes[worst]).norm()), float(slopes[worst].norm())
        fits = difference <= 1e-3 * length
    if not fits:
        raise ProblemError(
            "empirical_fisher needs a loss that is the mean over the batch of one loss a sample; this one sums them, "
            "weights them or leaves some out. Use the plain mean, or --operator gauss_newton"
        )
