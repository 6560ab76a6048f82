"""Firefly descent: of all ways to grow a little, the steepest few (Wu, Liu, Stone & Liu, NeurIPS 2020).

1. All candidates on: minimise the loss over moves and new weights, strengths at most eps.
2. Score each by its integrated gradient along the joint ray from nothing to what was found.
3. Keep the most negative scores, as many as the budget allows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..loss.problem import Problem
from .candidates import KINDS, Candidates, Choice, Loss
from .chains import changes_of
from .embedding import embed
from .growth import Growth

Losses = Callable[[nn.Module], list[Loss]]  # one a mini-batch, of a model
Fits = Callable[[nn.Module], bool]

PENALTY_OF_NEW = 1e-2  # of new weights relative to moves, as in the published code


@dataclass(frozen=True)
class Report:
    """What a growth changed, and by how much it was to change and changed the loss."""

    chosen: list[Choice]
    predicted: float  # sum of the chosen scores
    before: float  # mean loss
    after: float
    joint: float  # change of the loss with all candidates on, which all scores together predict
    total: float  # the sum of all scores
    origins: dict[str, Tensor] = field(default_factory=dict)  # layer -> (units,) which unit it was, -1: new

    @property
    def measured(self) -> float:
        return self.after - self.before

    def rows(self) -> list[dict[str, Any]]:
        """The chosen candidates as JSON values; new units by their number in the grown layer."""
        new = {name: (rows < 0).nonzero().squeeze(1).tolist() for name, rows in self.origins.items()}
        found = []
        for c in self.chosen:
            unit = new[c.layer].pop(0) if c.kind == "unit" else c.index
            weights = [0.5, 0.5] if c.kind == "split" else []
            found.append({"layer": c.layer, "unit": unit, "what": c.kind, "weights": weights, "predicted": c.score})
        return found

    def told(self) -> str:
        """How many of each kind, in words."""
        split, new, layer = (sum(c.kind == kind for c in self.chosen) for kind in KINDS)
        return f"firefly chose {split} splits, {new} new units and {layer} units of new layers"


class Tuner:
    """Step 1: RMSprop on moves and new weights, projected to strength eps after each step."""

    def __init__(
        self, candidates: Candidates, lr: float = 1e-3, penalty: float = 1e-2, momentum: float = 0.1,
        alpha: float = 0.9,
    ) -> None:  # fmt: skip
        self.candidates, self.penalty = candidates, penalty
        self.optimizer = torch.optim.RMSprop(list(candidates.weights.values()), lr, alpha, momentum=momentum)

    def step(self, loss: Loss) -> float:
        """One step on the loss of a batch; returns that loss, without the penalty."""
        weights = self.candidates.weights
        value = self.candidates.loss(loss)
        sizes = [w.square().sum() * (1 if key.endswith("/split") else PENALTY_OF_NEW) for key, w in weights.items()]
        total = value + self.penalty * torch.stack(sizes).sum()
        for w, g in zip(weights.values(), torch.autograd.grad(total, list(weights.values()), allow_unused=True),
                        strict=True):  # fmt: skip
            w.grad = g
        self.optimizer.step()
        self.candidates.project()
        return float(value.detach())


def mean(losses: Sequence[Loss]) -> float:
    with torch.no_grad():
        return float(sum(loss() for loss in losses)) / len(losses)


def pick(candidates: Candidates, scores: dict[str, Tensor], budget: int) -> list[Choice]:
    """The best of the candidates, of negative score, at most `budget`."""
    return [choice for choice in candidates.choices(scores)[:budget] if choice.score < 0]


def finish(
    candidates: Candidates, scores: dict[str, Tensor], chosen: list[Choice], losses: Sequence[Loss]
) -> Report:
    """Step 3, in place on the candidates' model."""
    before, joint = mean(losses), mean([partial(candidates.loss, loss) for loss in losses])
    origins = candidates.apply(chosen)
    total = float(sum(s.sum() for s in scores.values()))
    return Report(chosen, sum(c.score for c in chosen), before, mean(losses), joint - before, total, origins)


def grow_model(
    model: nn.Module, losses: Losses, *, budget: int | None = None, ratio: float = 0.35, steps: int = 200,
    points: int = 3, lr: float = 1e-3, penalty: float = 1e-2, fits: Fits | None = None, **candidates: Any,
) -> tuple[nn.Module, Report]:  # fmt: skip
    """(grown copy of the model, report).

    Args:
        losses: model -> list of losses, one a mini-batch, each a function of nothing.
        budget: candidates to keep; None: `ratio` of all units of hidden layers, at least one.
        steps: of the candidates' optimisation, over the losses in turn.
        points: midpoints of the integrated gradients.
        fits: whether a grown copy is small enough; candidates go, the worst first, until it is.
        candidates: settings of `Candidates`: eps, units, layers, splits, start, spread, seed.

    Raises:
        ProblemError: no layer of the model can grow.
    """
    grown = copy.deepcopy(model).eval()
    all_losses = losses(grown)
    found = Candidates(grown, **candidates)
    tuner = Tuner(found, lr, penalty)
    for step in range(steps):
        tuner.step(all_losses[step % len(all_losses)])
    scores = found.scores(all_losses, points)
    wanted = budget if budget is not None else max(1, round(ratio * sum(h.units for h in found.hidden.values())))
    chosen = pick(found, scores, wanted)
    while chosen and fits is not None and not fits(_tried(found, chosen)):
        chosen = chosen[:-1]
    return grown, finish(found, scores, chosen, all_losses)


def _tried(candidates: Candidates, chosen: Sequence[Choice]) -> nn.Module:
    """A grown copy, the candidates' own model untouched."""
    other = copy.deepcopy(candidates)
    other.apply(chosen)
    return other.model


def grow(problem: Problem, *, eps: float = 1e-2, **settings: Any) -> tuple[Problem, Growth] | None:
    """The problem with a grown network of its own, and what was done; None where no candidate gains.

    Args:
        settings: of `grow_model`, without losses: the problem's batches are the mini-batches.

    Raises:
        ProblemError: no layer of the model can grow.
    """
    model, report = grow_model(problem.model, _losses(problem), eps=eps, **settings)
    if not report.chosen:
        return None
    grown = problem.with_model(model)
    changes = changes_of(problem.model, model, report.origins)
    exact = grown.to(dtype=torch.float64)
    after = exact.evaluate(exact.weights())["loss"]
    start = problem.to(dtype=torch.float64)
    before = start.evaluate(start.weights())["loss"]
    exact.load(embed(start.state(), changes))
    identity = exact.evaluate(exact.weights())["loss"] - before
    return grown, Growth("firefly", eps, report.rows(), changes, before, report.predicted, after - before, identity,
                         problem.size, grown.size, notes=[report.told()])  # fmt: skip


def _losses(problem: Problem) -> Losses:
    """The mean losses of a problem's batches, weighted so that their mean is that of all samples."""

    def of(model: nn.Module) -> list[Loss]:
        other = problem.with_model(model)
        share = len(problem.batches) / problem.samples

        def loss(batch: Any) -> Loss:
            return lambda: other.training_loss(batch) * (problem.count(batch) * share)

        return [loss(batch) for batch in problem.batches]

    return of
