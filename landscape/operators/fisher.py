"""Monte-Carlo Fisher 1/n sum_i g_i g_i^T with labels drawn from the model's own softmax, one a sample.

Its expectation over the draws, the exact Fisher, equals the Gauss-Newton matrix for softmax cross-entropy (Martens
2020, section 9): take `gauss_newton` for the exact matrix. This one has the rank of what a natural-gradient optimizer
estimates from one draw a sample.

A draw is named by the seed and the number of its sample in the problem: the same on any number of ranks, in any
batches, in float32 and float64, and at every checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError
from ._differences import fisher as difference
from ._forms import GaussNewtonOf, mean_outer_product

__all__ = ["difference", "draw", "form", "semidefinite", "uniform"]


def form(problem: Any, vector: Tensor, batch: Any, first: int = 0, seed: int = 0) -> GaussNewtonOf:
    """The sampled Fisher of one batch at `vector` (size,).

    g_i = J_i^T (p_i - e_y) with p_i the softmax of the logits of sample i and y drawn from p_i.

    Args:
        first: number of the batch's first sample in the problem.

    Raises:
        ProblemError: the loss is not the mean softmax cross-entropy of the model's outputs.
    """
    with torch.no_grad():
        loss, outputs = problem.outcome(vector, batch)
    logits = _classification(loss, outputs, batch)
    rows, classes = logits.shape
    each = -(-rows // max(problem.count(batch), 1))  # labels a sample: more than one for sequences
    numbers = torch.arange(rows, device=logits.device) + first * each
    p = logits.softmax(dim=1)
    slopes = p - torch.nn.functional.one_hot(draw(p, uniform(seed, numbers)), classes)
    return mean_outer_product(
        lambda theta: (slopes * problem.outcome(theta, batch)[1].reshape(-1, classes)).sum(dim=1)
    )


def semidefinite(problem: Any) -> bool:
    """A sum of outer products has no negative eigenvalue."""
    return True


def _classification(loss: Tensor, outputs: Any, batch: Any) -> Tensor:
    """Logits (rows, classes), when the loss is their mean cross-entropy."""
    targets = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.shape[:-1] == targets.shape:
        classes = outputs.shape[-1]
        logits, labels = outputs.reshape(-1, classes), targets.reshape(-1)
        inside = not labels.is_floating_point() and bool(((labels >= 0) & (labels < classes)).all())
        if inside:
            exact = torch.nn.functional.cross_entropy(logits.detach(), labels)
            if torch.isclose(loss.detach(), exact, rtol=1e-4, atol=1e-6):
                return logits
    raise ProblemError(
        "fisher draws labels from the model's softmax, so it needs Problem(model, loss, data) with logits (..., "
        "classes), integer targets and their mean cross-entropy as loss. Use --operator gauss_newton for other losses: "
        "it is their exact Fisher wherever there is one"
    )


def draw(p: Tensor, u: Tensor) -> Tensor:
    """Labels (n,) from probabilities (n, classes) by inversion of uniform numbers u (n,)."""
    below = p.double().cumsum(dim=1) <= u[:, None] * p.double().sum(dim=1, keepdim=True)
    return below.sum(dim=1).clamp(max=p.shape[1] - 1)


def uniform(seed: int, numbers: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) named by a seed and integers: splitmix64 (Steele, Lea & Flood 2014), in float64."""
    word = _mix(torch.tensor(seed, dtype=torch.int64, device=numbers.device))
    word = _mix(word + numbers.to(torch.int64) * -7046029254386353131)  # 0x9E3779B97F4A7C15, wrapping
    return _right(word, 11).double() * 2.0**-53


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _right(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _right(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _right(x, 31)


def _right(x: Tensor, bits: int) -> Tensor:
    """Shift to the right with zeros coming in, which int64 itself does not do."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
