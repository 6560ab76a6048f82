"""Signed splitting: copies may count negatively, which escapes where splitting is stable (Wu, Ye, Lei, Lee & Liu 2020).

    s_i -> sum_j w_j s(theta_i + eps d_j),   sum w_j = 1,  sum |w_j| <= c,  sum w_j d_j = 0
    L_split - L = -eps^2 / 2 max(a, b (c-1)/(c+1))           two copies, a = max(-lambda_min, 0), b = max(lambda_max, 0)
                  -eps^2 / 2 ((c+1) a + (c-1) b) / 2         four, the best that any number can do

c = 1 is splitting steepest descent. The gain is zero only where the splitting matrix is.
"""

from __future__ import annotations

from typing import Any

from ..growing.splits import signed
from ..loss.problem import Problem
from ._splitting import UnitSplitting


class SignedSplitting(UnitSplitting):
    """Units in up to `copies` copies whose weights may be negative."""

    method = "signed_splitting"


def make(
    problem: Problem, inner: str = "sgd", every: int = 500, rounds: int = 10, schedule: str = "constant",
    fraction: float = 0.3, number: int = 0, budget: int = 0, copies: int = 2, c: float = 3.0, eps: float = 1e-2,
    products: int = 24, samples: int = 0, layers: str | None = None, seed: int = 0, **inner_settings: Any,
) -> SignedSplitting:  # fmt: skip
    """Signed splits between stages of an optimizer of torch.optim, which takes settings not named here (lr, ...)."""
    return SignedSplitting(problem, signed(copies, c), inner, inner_settings, {
        "every": every, "rounds": rounds, "schedule": schedule, "fraction": fraction, "number": number,
        "budget": budget, "copies": copies, "c": c, "eps": eps, "products": products, "samples": samples,
        "layers": layers, "choose": "steepest", "seed": seed,
    })  # fmt: skip
