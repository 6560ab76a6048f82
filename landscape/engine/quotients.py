"""An operator held against difference quotients in float64: is it that of this loss, at these weights?

A quotient needs no second derivative. Where it settles as its step shrinks, it is the truth, and a product that
disagrees is wrong. Where it does not settle, there is a kink nearby (ReLU, max-pooling), and nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from .. import plugins
from ..errors import UsageError
from ..krylov import probes
from ..loss.problem import Problem
from ..operators._differences import gradient
from . import combination
from .combination import Operator
from .curvature import Curvature, scale_of

STEPS = (1e-5, 1e-6, 1e-7)  # of a unit vector, in float64
AGREE = 1e-4  # relative; what goes wrong is 1e-2 and more
SETTLED = 0.1  # two quotients this much closer to each other than to the product have settled beside it


@dataclass(frozen=True)
class Verdict:
    """Relative difference of a product and its quotient, and whether that is agreement, a fault, or a kink between."""

    difference: float
    wrong: bool = False
    kink: bool = False
    steps: int = 0


def compare(curvature: Operator, problem: Problem, seed: int = 0) -> Verdict | None:
    """Product against quotient along one random unit vector, in float64; None where there is nothing to compare.

    An operator that knows other problems is compared on the problem's first batch, any other on all of it. What
    disagrees is looked at once more a little beside the weights: a kink exactly at them is no fault.
    """
    small = problem.first_batch()
    try:
        exact = (small if knows_problems(curvature) else problem).to(dtype=torch.float64)
        weights = curvature.vector.to(exact.dtype)
        verdict = _verdict(curvature, exact, weights, seed)
        if verdict is not None and verdict.wrong and knows_problems(curvature):
            noise = probes.probe(2**31 - 5, len(weights), seed).to(weights)
            beside = _verdict(curvature, exact, weights + 1e-3 * noise * weights.abs().mean(), seed)
            if beside is not None and not beside.wrong:
                return Verdict(verdict.difference, kink=True, steps=verdict.steps + beside.steps)
        return verdict
    except (TypeError, RuntimeError):  # a model or a device without float64
        return None


def knows_problems(curvature: Operator) -> bool:
    """Whether the operator can be made for another problem, and so looked at on one batch."""
    return type(curvature).on is not Operator.on


def _verdict(curvature: Operator, problem: Problem, weights: Tensor, seed: int) -> Verdict | None:
    v = probes.probe(2**31 - 4, problem.size, seed).to(weights)
    v = v / v.norm()
    found: list[Tensor] = []
    product: Tensor | None = None
    for step in STEPS:
        quotient = _quotient(curvature, problem, weights, v, step)
        if quotient is None:
            return None
        product = _product(curvature, problem, weights, v) if product is None else product
        apart = float((product - quotient).norm())
        scale = max(float(product.norm()), float(quotient.norm()))
        if apart > AGREE * scale:
            scale = max(scale, _rounding(problem, weights, v) / AGREE)
        if apart <= AGREE * scale:
            return Verdict(apart / scale if scale else 0.0, steps=len(found) + 1)
        if found and float((quotient - found[-1]).norm()) <= SETTLED * apart:
            return Verdict(apart / scale, wrong=True, steps=len(found) + 1)
        found.append(quotient)
    return Verdict(apart / scale, kink=True, steps=len(found))


def _product(curvature: Operator, problem: Problem, weights: Tensor, v: Tensor) -> Tensor:
    """A v (size,) in float64, of the operator on this problem where it knows it, else of the operator as it is."""
    if knows_problems(curvature):
        return curvature.on(problem, weights).matvec(v[:, None])[:, 0]
    part = curvature.matvec(v[curvature.part, None].to(curvature.vector))
    return curvature.comm.all_gather(part, curvature.size)[:, 0].double()


def _quotient(curvature: Operator, problem: Problem, weights: Tensor, v: Tensor, step: float) -> Tensor | None:
    """The same from first differences; None where an operator of the sum offers none."""
    total = torch.zeros_like(v)
    for factor, name, checkpoint, seed in _terms(curvature, problem):
        module = plugins.load("landscape.operators", name)
        if not hasattr(module, "difference") or (hasattr(module, "scale") and checkpoint is None):
            return None
        scale = scale_of(name, problem, checkpoint)
        inner = v if scale is None else scale.to(v) * v
        product = torch.zeros_like(v)
        firsts = accumulate((problem.count(b) for b in problem.batches), initial=0)
        for first, batch in zip(firsts, problem.batches, strict=False):
            share = problem.count(batch) / problem.samples
            product += share * module.difference(problem, weights, batch, inner, step, first, seed)
        total += factor * (product if scale is None else scale.to(v) * product)
    return total if _terms(curvature, problem) else None


def _terms(curvature: Operator, problem: Problem) -> list[tuple[float, str, Any, int]]:
    """(factor, name, checkpoint, seed) of an operator's terms, read off its name where it was made by hand."""
    if isinstance(curvature, combination.Combination):
        return [(f * g, *rest) for f, term in curvature.terms for g, *rest in _terms(term, problem)]
    if isinstance(curvature, Curvature):
        return [(1.0, curvature.operator, curvature.checkpoint, curvature.seed)]
    name = curvature.name.removesuffix(f"[{problem.block}]").removeprefix("(").removesuffix(")")
    try:
        terms = combination.read(name)
        for _, one in terms:
            plugins.load("landscape.operators", one)
    except UsageError:
        return []
    return [(factor, one, None, 0) for factor, one in terms]


def _rounding(problem: Problem, weights: Tensor, v: Tensor) -> float:
    """What a quotient may be off where the product itself is nothing: against the gradient and its change."""
    batch = problem.batches[0]
    slope, ahead = (gradient(problem, weights + move * v, batch) for move in (0.0, STEPS[0]))
    return 1e-7 * (float(slope.norm()) + float((ahead - slope).norm()) / STEPS[0])
