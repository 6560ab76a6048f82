"""What the optimizers that split units share: which units, how many, on which samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..growing import splits as rules
from ..growing.extremes import Extremes, lanczos
from ..growing.growth import Growth, grow, size_after
from ..growing.splits import Rule, Split
from ..growing.splitting import Splitting
from ..growing.units import Layer, layers_of
from ..krylov.probes import probe
from ..loss.problem import Problem
from ._growing import Growing


class UnitSplitting(Growing):
    """Stages of training with splits between them.

    Args:
        rule: how a unit is split, given the ends of its splitting matrix.
        settings: beside those of `Growing`: fraction of the units, or their number, added at a growth; budget of
            weights (0: none); eps; products of the eigenvalue search; samples that it sees (0: all); layers by name,
            separated by commas (None: all that can be split); choose 'steepest', or 'random' units and directions,
            which is what to compare with; seed.

    Raises:
        ValueError: a setting out of its range.
        ProblemError: no unit of the network can be split; the message says why.
    """

    method = "splitting"

    def __init__(
        self, problem: Problem, rule: Rule, inner: str, inner_settings: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        if settings["choose"] not in ("steepest", "random"):
            raise ValueError(f"choose must be steepest or random, got '{settings['choose']}'")
        if settings["fraction"] <= 0 or not 0 < settings["eps"] < 1 or settings["products"] < 2:
            raise ValueError("fraction must be positive, eps between 0 and 1 and products at least 2")
        super().__init__(problem, inner, inner_settings, settings)
        self.rule = rule
        found = layers_of(problem)
        self._layers, self._left_out = found.need(settings["layers"]), found.left_out()

    def layers(self) -> list[Layer]:
        """The layers that are split, with as many units as they have now."""
        return [dataclasses.replace(layer, units=len(self.problem.model.get_parameter(f"{layer.name}.weight")))
                for layer in self._layers]  # fmt: skip

    def grown(self) -> tuple[Problem, Growth] | None:
        settings, layers = self.settings, self.layers()
        samples = settings["samples"]
        seen = self.problem.subset(samples, settings["seed"]) if 0 < samples < self.problem.samples else self.problem
        splitting = Splitting(seen, layers)
        ends = lanczos(splitting.product, splitting.like(), settings["products"], settings["seed"] + self.rounds)
        picked = self._picked(layers, ends, splitting)
        while picked and settings["budget"] and size_after(seen, layers, picked) > settings["budget"]:
            picked = picked[:-1]
        if not picked:
            return None
        return grow(seen, layers, picked, settings["eps"], method=self.method, notes=splitting.kinks,
                    left_out=self._left_out)  # fmt: skip

    def _picked(self, layers: Sequence[Layer], ends: Mapping[str, Extremes], splitting: Splitting) -> list[Split]:
        units = sum(layer.units for layer in layers)
        wanted = self.settings["number"] or max(1, round(self.settings["fraction"] * units))
        if self.settings["choose"] == "steepest":
            found = rules.candidates(ends, self.rule)
            return rules.chosen(found, max(wanted, found[0].added)) if found else []
        every = [(layer.name, unit) for layer in layers for unit in range(layer.units)]
        seed = self.settings["seed"] * 1_000_003 + self.rounds
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).tolist()
        return [_random(layer, unit, ends, splitting, probe(i, splitting.dimension(layer), seed))
                for i in order[:wanted] for layer, unit in [every[i]]]  # fmt: skip


def _random(
    layer: str, unit: int, ends: Mapping[str, Extremes], splitting: Splitting, direction: torch.Tensor
) -> Split:  # fmt: skip
    """A unit in two halves along any direction."""
    own = ends[layer]
    v = torch.nn.functional.normalize(direction.to(own.low), dim=0)
    image = splitting.product({layer: v.expand_as(own.low_vectors).clone()})[layer][unit]
    return Split(layer, unit, [0.5, 0.5], torch.stack([v, -v]), float(v @ image), float(own.low[unit]),
                 float(own.high[unit]))  # fmt: skip
