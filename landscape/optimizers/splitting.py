"""Splitting steepest descent: units split in two where the loss falls fastest (Liu, Wu & Wang 2019, NeurIPS).

    S_i = E[Phi'(s) grad^2 s],   s_i -> 1/2 s(theta_i + eps v) + 1/2 s(theta_i - eps v),   v: S_i v = lambda_min v
    L_split - L = eps^2 / 2 lambda_min + O(eps^4)

After every stage of ordinary training the units of lowest lambda_min < 0 over all layers are split. At a stationary
point each adds the eigenvalues eig(S_i) / 2 to the Hessian of the wider network, so lambda_min < 0 is a way out.
"""

from __future__ import annotations

from typing import Any

from ..growing.splits import steepest
from ..loss.problem import Problem
from ._splitting import UnitSplitting


class Splitting(UnitSplitting):
    """Units in two halves along the lowest eigenvector of their splitting matrix."""


def make(
    problem: Problem, inner: str = "sgd", every: int = 500, rounds: int = 10, schedule: str = "constant",
    fraction: float = 0.3, number: int = 0, budget: int = 0, eps: float = 1e-2, products: int = 24, samples: int = 0,
    layers: str | None = None, choose: str = "steepest", seed: int = 0, **inner_settings: Any,
) -> Splitting:  # fmt: skip
    """Splits between stages of an optimizer of torch.optim, which takes settings not named here (lr, ...)."""
    return Splitting(problem, steepest, inner, inner_settings, {
        "every": every, "rounds": rounds, "schedule": schedule, "fraction": fraction, "number": number,
        "budget": budget, "eps": eps, "products": products, "samples": samples, "layers": layers, "choose": choose,
        "seed": seed,
    })  # fmt: skip
