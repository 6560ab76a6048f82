"""Firefly descent: of all ways to grow a little, the steepest few (Wu, Liu, Stone & Liu, NeurIPS 2020).

1. All candidates on: minimise the loss over moves and new weights, strengths at most eps.
2. Score each by its integrated gradient along the joint ray from nothing to what was found.
3. Keep the most negative scores, as many as the budget allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..loss.problem import Problem
from .candidates import KINDS, Candidates, Choice
from .embedding import Change, Widening, embed
from .growth import Growth

PENALTY_OF_NEW = 1e-2  # of new weights relative to moves, as in the published code


class Tuner:
    """Step 1: RMSprop on moves and new weights, projected to strength eps after each step."""

    def __init__(
        self, candidates: Candidates, lr: float = 1e-3, penalty: float = 1e-2, momentum: float = 0.1,
        alpha: float = 0.9,
    ) -> None:  # fmt: skip
        self.candidates, self.penalty = candidates, penalty
        self.optimizer = torch.optim.RMSprop(list(candidates.weights.values()), lr, alpha, momentum=momentum)

    def step(self, number: int) -> float:
        """One step on the loss of a batch; returns that loss, without the penalty."""
        weights = self.candidates.weights
        value = self.candidates.loss(number)
        sizes = [w.square().sum() * (1 if key.endswith("/split") else PENALTY_OF_NEW) for key, w in weights.items()]
        total = value + self.penalty * torch.stack(sizes).sum()
        for w, g in zip(weights.values(), torch.autograd.grad(total, list(weights.values()), allow_unused=True),
                        strict=True):  # fmt: skip
            w.grad = g
        self.optimizer.step()
        self.candidates.project()
        return float(value.detach())


def pick(candidates: Candidates, scores: dict[str, Tensor], number: int, most: int = 0) -> list[Choice]:
    """The best of the candidates, of negative score, at most `number`, so that there are at most `most` weights."""
    chosen = [choice for choice in candidates.choices(scores)[:number] if choice.score < 0]
    while chosen and most and candidates.grown(chosen)[0].size > most:
        chosen = chosen[:-1]
    return chosen


def grow(
    problem: Problem, *, eps: float = 1e-2, number: int | None = None, ratio: float = 0.35, steps: int = 200,
    points: int = 3, lr: float = 1e-3, penalty: float = 1e-2, most: int = 0, **settings: Any,
) -> tuple[Problem, Growth] | None:  # fmt: skip
    """The problem with a grown network of its own, and what was done; None where no candidate gains.

    Args:
        number: candidates to keep; None: `ratio` of all units of layers that can grow, at least one.
        steps: of the candidates' optimisation, over the batches in turn.
        points: midpoints of the integrated gradients.
        most: weights of the grown network; 0: no bound.
        settings: of `Candidates`: units, layers, splits, start, spread, seed.

    Raises:
        ProblemError: no layer of the model can grow.
    """
    found = Candidates(problem, eps=eps, **settings)
    tuner = Tuner(found, lr, penalty)
    for step in range(steps):
        tuner.step(found.batches[step % len(found.batches)])
    wanted = number if number is not None else max(1, round(ratio * sum(layer.units for layer in found.layers)))
    chosen = pick(found, found.scores(points), wanted, most)
    if not chosen:
        return None
    grown, changes = found.grown(chosen)
    exact, start = grown.to(dtype=torch.float64), problem.to(dtype=torch.float64)
    after = exact.evaluate(exact.weights())["loss"]
    before = start.evaluate(start.weights())["loss"]
    exact.load(embed(start.state(), changes))
    identity = exact.evaluate(exact.weights())["loss"] - before
    return grown, Growth("firefly", eps, _rows(chosen, changes), changes, before, sum(c.score for c in chosen),
                         after - before, identity, problem.size, grown.size, notes=[_told(chosen)],
                         left_out=found.left_out)  # fmt: skip


def _rows(chosen: Sequence[Choice], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The chosen candidates as JSON values; new units by their number in the grown layer."""
    new = {w.layer: [unit for unit, source in enumerate(w.sources) if source < 0]
           for w in changes if isinstance(w, Widening)}  # fmt: skip
    found = []
    for c in chosen:
        unit = new[c.layer].pop(0) if c.kind == "unit" else c.index
        weights = [0.5, 0.5] if c.kind == "split" else []
        found.append({"layer": c.layer, "unit": unit, "what": c.kind, "weights": weights, "predicted": c.score})
    return found


def _told(chosen: Sequence[Choice]) -> str:
    """How many of each kind, in words."""
    split, new, layer = (sum(c.kind == kind for c in chosen) for kind in KINDS)
    return f"firefly chose {split} splits, {new} new units and {layer} units of new layers"
