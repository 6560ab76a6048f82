"""Removes dead units for good: a smaller network with the same outputs.

A unit (neuron, channel, attention head) is dead when every layer that produces it has weights of zero for it: it then
gives a constant, which goes into the biases of the layers that read it, and its rows, columns and statistics are cut
out of all tensors. Which tensors belong to a unit is read from the traced graph (`symmetries`), so residual sums,
flattened images and normalisation need no table. Where the constant cannot be moved (a padded convolution that reads
it, a normalisation across units) the unit stays. The outputs are compared in float64 before the result is handed out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ProblemError
from ..loss.batches import tensors
from ..loss.problem import Problem
from .symmetries import Symmetries, symmetries_of
from .wiring import Masks, Wiring

_EXACT = 1e-8  # largest relative change of the outputs, in float64, that is rounding


@dataclass(frozen=True)
class Pruned:
    """The smaller problem, and what is no more."""

    problem: Problem
    before: int  # weights
    removed: dict[str, int]  # layer -> units that it no longer produces
    stayed: int  # dead units that could not be removed
    change: float  # largest relative change of the outputs by removing, in float64
    zeroed: float  # the same by setting weights within the threshold to zero

    @property
    def after(self) -> int:
        return self.problem.size

    def __str__(self) -> str:
        layers = ", ".join(f"{name} {count}" for name, count in self.removed.items()) or "none"
        return f"{self.before:,} -> {self.after:,} weights ({self.before / self.after:.2f} x); units removed: {layers}"


def prune(problem: Problem, threshold: float = 0.0, symmetries: Symmetries | None = None) -> Pruned:
    """Remove the units whose incoming weights are all within `threshold` of zero, at the model's own weights.

    The problem stays as it is; the smaller one has a model of its own, with the same batches. `symmetries` of the same
    model, where they are known, save tracing it.

    Raises:
        ProblemError: the model cannot be traced; the message says why.
    """
    symmetries = symmetries_of(problem) if symmetries is None else symmetries
    if not symmetries.sizes and symmetries.obstacles:
        raise ProblemError(f"nothing can be pruned: {symmetries.obstacles[0]}")
    wiring = Wiring(problem.model, symmetries)
    dead = wiring.dead(threshold)
    zeroed = _with_zeros(problem, wiring, dead)
    exact = zeroed.first_batch().to(dtype=torch.float64)
    wanted = _outputs(exact)
    going = wiring.movable(exact, dead)
    smaller, going, change = _largest(zeroed, exact, wiring, going, wanted)
    moved = _difference(wanted, _outputs(problem.first_batch().to(dtype=torch.float64)))
    stayed = int(sum(mask.sum() for mask in dead) - sum(mask.sum() for mask in going))
    return Pruned(smaller, problem.size, wiring.removed(going), stayed, change, moved)


def _with_zeros(problem: Problem, wiring: Wiring, dead: Masks) -> Problem:
    model = copy.deepcopy(problem.model)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            for place in wiring.places(name, "out"):
                wiring.blocks(name, tensor).movedim(place.at, 0)[dead[place.group].to(tensor.device)] = 0
    return problem.with_model(model)


def _largest(
    zeroed: Problem, exact: Problem, wiring: Wiring, going: Masks, wanted: list[Tensor]
) -> tuple[Problem, Masks, float]:
    """All groups at once where that keeps the outputs, else one group after another, those that do."""
    def attempt(masks: Masks) -> tuple[Problem | None, float]:
        try:
            change = _difference(_outputs(wiring.cut(exact, masks)), wanted)
        except (RuntimeError, ValueError, TypeError, IndexError):  # a forward that has a size written into it
            return None, math.inf
        return (wiring.cut(zeroed, masks), change) if change < _EXACT else (None, change)

    found, change = attempt(going)
    if found is not None:
        return found, going, change
    kept = [torch.zeros_like(mask) for mask in going]
    best: tuple[Problem, float] = (zeroed, 0.0)
    for group, mask in enumerate(going):
        if mask.any():
            trial = [mask if g == group else k for g, k in enumerate(kept)]
            found, change = attempt(trial)
            if found is not None:
                kept, best = trial, (found, change)
    return best[0], kept, best[1]


@torch.no_grad()
def _outputs(problem: Problem) -> list[Tensor]:
    loss, outputs = problem.outcome(problem.weights(), problem.batches[0])
    return [loss, *tensors(outputs)]


def _difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    pairs = [(a, b) for a, b in zip(found, wanted, strict=True) if b.numel()]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-300)) for a, b in pairs)


def group_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Norms of the rows (filters, neurons) of every weight with at least two axes, float64."""
    return {name: torch.linalg.vector_norm(t.detach().double().reshape(len(t), -1), dim=1).cpu()
            for name, t in state.items() if t.ndim > 1 and t.is_floating_point()}  # fmt: skip
