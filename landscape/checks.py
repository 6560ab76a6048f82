"""What a job finds out about an operator before it trusts it: symmetric, repeatable, finite, and how precise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import probes
from .combination import Operator
from .curvature import operator_at
from .errors import ProblemError
from .parallel import Comm
from .problem import Problem


@dataclass(frozen=True)
class SelfCheck:
    """What two products say of an operator: relative asymmetry, and whether a product repeats bit for bit."""

    asymmetry: float
    repeats: bool


def self_check(curvature: Operator, seed: int = 0) -> SelfCheck:
    """Two block products with two random vectors: |u.Av - v.Au| / (norm(Av) norm(u)) and bitwise repeatability.

    Raises:
        ProblemError: the operator is not finite, not repeatable or not symmetric; the message names the usual cause.
    """
    size, part = curvature.size, curvature.part
    pair = probes.probes(range(2**31 - 2, 2**31), size, seed, part).to(curvature.vector)
    first = curvature.matvec(pair)
    curvature.forget()  # a kept graph would repeat what the model drew at random
    second = curvature.matvec(pair)
    sums = torch.stack([
        (pair[:, 0] * first[:, 1]).double().sum(), (pair[:, 1] * first[:, 0]).double().sum(),
        first[:, 1].double().square().sum(), pair[:, 0].double().square().sum(),
        (first != second).double().sum(),
    ])
    uav, vau, product, length, different = curvature.reduce(sums).tolist()
    name = curvature.name
    if not all(map(_finite, (uav, vau, product))):
        raise ProblemError(
            f"the {name} product is not finite: the loss overflows or a layer has no second derivative at these "
            "weights; look at the loss of this checkpoint and at square roots or norms of zero"
        )
    if different:
        raise ProblemError(
            f"the same {name} product twice gave two results: the model draws random numbers or changes its own state "
            "when called. Switch off dropout called with training=True, random augmentation and stateful layers"
        )
    asymmetry = abs(uav - vau) / max((product * length) ** 0.5, 1e-300)
    limit = 1e-3 if curvature.vector.dtype == torch.float32 else 1e-8
    if asymmetry > limit:
        raise ProblemError(
            f"the {name} is not symmetric (relative difference {asymmetry:.1e}): a custom backward of the model is "
            "wrong, or its loss is not a function of the weights alone"
        )
    return SelfCheck(asymmetry, True)


def noise_level(
    problem: Problem, vector: Tensor, operator: str = "hessian", seed: int = 0, checkpoint: Any = None
) -> float | None:
    """lambda_noise = |A v - A_64 v| / |v| on the first batch, A in the problem's precision and A_64 in float64.

    Eigenvalues below a few times this have no sign in that precision. One product in each; every rank does the same.
    None for float64, whose own error no higher precision measures here, and where the device has no float64.
    """
    if problem.dtype == torch.float64:
        return None
    one = problem.first_batch()
    v = probes.probe(2**31 - 3, problem.size, seed).to(vector.device, vector.dtype)[:, None]
    try:
        exact = one.to(dtype=torch.float64)
        rough, fine = (
            operator_at(p, vector.to(p.dtype), Comm(), operator, checkpoint=checkpoint, seed=seed).matvec(v.to(p.dtype))
            for p in (one, exact)
        )
    except (TypeError, RuntimeError):
        return None
    level = float((rough.double() - fine).norm() / v.double().norm())
    return level if _finite(level) else None


def _finite(value: float) -> bool:
    return value - value == 0.0
