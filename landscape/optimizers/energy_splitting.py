"""Energy-aware splitting: which units split is a linear programme over operations (Wang, Li, Wu, Chandra & Liu 2019).

    minimise sum_i b_i lambda_i   subject to   sum_i b_i e_i <= share * sum_i e_i   for each group of layers,
    0 <= b_i <= 1, at most cap * units of a layer;   e_i = sqrt(operations of one more unit)

Units with b_i >= 0.99 and lambda_i < 0 become two halves along the lowest eigenvector of their splitting matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError
from ..growing import splits as rules
from ..growing.budget import flops, select, split_costs
from ..growing.extremes import Extremes
from ..growing.splits import Split
from ..growing.splitting import Splitting
from ..growing.units import Layer
from ..loss.problem import Problem
from ._splitting import UnitSplitting


class EnergySplitting(UnitSplitting):
    """Splits of the largest gain for their operations.

    Raises:
        ValueError: a share, a cap or a group out of its range.
        ProblemError: no unit of the network can be split, or its batches are no pairs of tensors.
    """

    method = "energy_splitting"

    def __init__(
        self, problem: Problem, inner: str, inner_settings: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        if not 0 < settings["share"] <= 1 or settings["cap"] <= 0:
            raise ValueError("share must lie between 0 and 1 and cap be positive")
        super().__init__(problem, rules.steepest, inner, inner_settings, settings)
        self._groups()
        _sample(problem)

    def _groups(self) -> list[list[str]]:
        able = [layer.name for layer in self._layers]
        if self.settings["groups"] is None:
            return [able]
        groups = [[n.strip() for n in group.split(",")] for group in str(self.settings["groups"]).split(";")]
        named = [n for group in groups for n in group]
        if sorted(named) != sorted(able):
            raise ValueError(f"groups must name each of the layers {', '.join(able)} once, as in '0,2;4'")
        return groups

    def _picked(self, layers: Sequence[Layer], ends: Mapping[str, Extremes], splitting: Splitting) -> list[Split]:
        counts = flops(self.problem.model, _sample(self.problem))
        costs = split_costs(counts, {layer.name: (layer.units, layer.readers) for layer in layers})
        chosen = select({name: e.low for name, e in ends.items()}, costs, self.settings["share"],
                        cap=self.settings["cap"], groups=self._groups())  # fmt: skip
        return [s for s in rules.candidates(ends, self.rule) if bool(chosen[s.layer][s.unit])]


def _sample(problem: Problem) -> Tensor:
    """Inputs of one sample."""
    batch = problem.batches[0]
    if not isinstance(batch, (tuple, list)) or not isinstance(batch[0], torch.Tensor):
        raise ProblemError("the operations of this network cannot be counted: its batches are no (inputs, targets)")
    return batch[0][:1]


def make(
    problem: Problem, inner: str = "sgd", every: int = 500, rounds: int = 10, schedule: str = "constant",
    share: float = 0.3, cap: float = 1.0, groups: str | None = None, budget: int = 0, eps: float = 1e-2,
    products: int = 24, samples: int = 0, layers: str | None = None, seed: int = 0, **inner_settings: Any,
) -> EnergySplitting:  # fmt: skip
    """Splits between stages of an optimizer of torch.optim, which takes settings not named here (lr, ...).

    Args:
        share: the budget of a growth, as a share of what splitting every unit of a group would cost.
        cap: largest share of a layer's units that split at once.
        groups: layers with a budget of their own: names with commas between, groups with semicolons; None: one.
        budget: of weights; 0: none.
    """
    return EnergySplitting(problem, inner, inner_settings, {
        "every": every, "rounds": rounds, "schedule": schedule, "share": share, "cap": cap, "groups": groups,
        "budget": budget, "eps": eps, "products": products, "samples": samples, "layers": layers,
        "choose": "steepest", "fraction": 1.0, "number": 0, "seed": seed,
    })  # fmt: skip
