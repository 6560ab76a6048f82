"""Firefly descent: between stages of training, the steepest few of all ways to grow (Wu et al., NeurIPS 2020).

    candidates  1/2 [s(theta_i + v_i) + s(theta_i - v_i)],  + w_j phi(delta_j . h),  h + u_j phi(delta_j . h)
    |v_i|, |w_j|, |u_j| <= eps
    score       s_i = mean over midpoints t of dL/dgate_i at t, all candidates scaled together

Splits gain with eps^2, new units with eps; the scores weigh one against the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..growing import firefly
from ..growing.growth import Growth
from ..growing.units import layers_of
from ..loss.problem import Problem
from ._growing import Growing


class Firefly(Growing):
    """Splits, new units and units of new layers, those of the most negative scores.

    Raises:
        ValueError: a setting out of its range.
        ProblemError: no layer of the network can grow.
    """

    method = "firefly"

    def __init__(
        self, problem: Problem, inner: str, inner_settings: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        if settings["ratio"] <= 0 or settings["eps"] <= 0 or settings["points"] < 1 or settings["tune"] < 0:
            raise ValueError("ratio and eps must be positive, points at least 1 and tune not negative")
        super().__init__(problem, inner, inner_settings, settings)
        layers_of(problem, passing=True).need()

    def grown(self) -> tuple[Problem, Growth] | None:
        settings, problem = self.settings, self.problem
        samples = settings["samples"]
        seen = problem.subset(samples, settings["seed"]) if 0 < samples < problem.samples else problem

        return firefly.grow(
            seen, eps=settings["eps"], number=settings["number"] or None, ratio=settings["ratio"],
            steps=settings["tune"], points=settings["points"], lr=settings["rate"], penalty=settings["penalty"],
            most=settings["budget"], units=settings["units"], layers=settings["layers"], splits=settings["splits"],
            spread=settings["spread"], seed=settings["seed"] + self.rounds,
        )  # fmt: skip


def make(
    problem: Problem, inner: str = "sgd", every: int = 500, rounds: int = 10, schedule: str = "constant",
    ratio: float = 0.35, number: int = 0, budget: int = 0, eps: float = 1e-2, units: int = 70, layers: int = 0,
    splits: bool = True, tune: int = 200, rate: float = 1e-3, points: int = 3, penalty: float = 1e-2,
    spread: float = 0.1, samples: int = 0, seed: int = 0, **inner_settings: Any,
) -> Firefly:  # fmt: skip
    """Grows between stages of an optimizer of torch.optim, which takes the settings not named here (lr, ...).

    Args:
        ratio, number: units added at a growth, as a share of those there are, or as a number.
        budget: of weights; 0: none.
        units: new units that are tried in each layer; splits: whether old ones may split; layers: units of a new
            residual layer that is tried behind each activation that is a module (0: none).
        tune, rate, penalty: steps, rate and penalty of the candidates' optimisation.
        spread: standard deviation of the first in-weights of new units.
        samples: that a growth sees; 0: all.
    """
    return Firefly(problem, inner, inner_settings, {
        "every": every, "rounds": rounds, "schedule": schedule, "ratio": ratio, "number": number, "budget": budget,
        "eps": eps, "units": units, "layers": layers, "splits": splits, "tune": tune, "rate": rate, "points": points,
        "penalty": penalty, "spread": spread, "samples": samples, "seed": seed,
    })  # fmt: skip
