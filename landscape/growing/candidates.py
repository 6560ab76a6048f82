"""All ways in which a network may grow, at once and differentiable (firefly; Wu, Liu, Stone & Liu 2020).

    split       s(theta_i)  ->  1/2 [ s(theta_i + v_i) + s(theta_i - v_i) ]
    new unit    + w_j phi(delta_j . h)
    new layer   h  ->  h + sum_j u_j phi(delta_j . h)

with |v_i|, |w_j|, |u_j| <= eps: the strength and the direction of a candidate in one vector. A gate multiplies each of
these, so that the gradient by a gate is the derivative by the strength. The network with all candidates on is the wider
network of `widening`, whose weights are functions of the candidates' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ProblemError
from ..loss.fitting import fitted
from ..loss.problem import Problem
from .embedding import Change
from .places import activations_of
from .units import Layer, Layers, layers_of
from .widening import Additions, out_entries, widened

KINDS = ("split", "unit", "layer")
MIXED = "its units act on each other before they are read (a normalisation across units?), or its size is fixed"


@dataclass(frozen=True)
class Choice:
    """One candidate: what it is, where, and the change of the loss that its score predicts."""

    kind: str  # split, unit, layer
    layer: str
    index: int
    score: float


class Candidates:
    """Candidates of every layer of a problem's model that can grow; the problem stays as it is.

    Args:
        eps: largest strength.
        units: new units a layer.
        layers: units of the new layer behind each layer whose activation is a module.
        splits: whether old units may split.
        start: v is drawn from U(-start, start), entry by entry, then cut to eps.
        spread: standard deviation of delta.

    Raises:
        ProblemError: no layer of the model can grow.
    """

    def __init__(
        self, problem: Problem, *, eps: float = 1e-2, units: int = 70, layers: int = 0, splits: bool = True,
        start: float = 0.1, spread: float = 0.1, seed: int = 0,
    ) -> None:  # fmt: skip
        self.problem, self.eps = problem, eps
        found = layers_of(problem, passing=True)
        self.places = activations_of(problem, found.able) if layers else {}
        self.weights: dict[str, Tensor] = {}  # '<layer>/<what>'
        generator = torch.Generator().manual_seed(seed)
        for layer in found.need():
            self._draw(layer, generator, (splits, units, layers if layer.name in self.places else 0), start, spread)
        self.project()
        self.layers = found.able
        self.layers, self.left_out = self._preserving(found)
        self._wide = self._grown(self._additions(None), trained=True)[0]

    def _draw(
        self, layer: Layer, generator: torch.Generator, counts: tuple[bool, int, int], start: float, spread: float
    ) -> None:
        def uniform(*shape: int, size: float) -> Tensor:
            return size * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)

        def normal(*shape: int) -> Tensor:
            return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)

        splits, units, layers = counts
        producer = self.problem.model.get_submodule(layer.name)
        weight = producer.get_parameter("weight")
        inputs = weight[0].numel() + (producer.bias is not None)
        drawn = {
            "split": uniform(layer.units if splits else 0, inputs, size=start),
            "unit_in": normal(units, inputs),
            "unit": uniform(units, out_entries(self.problem.model, layer), size=self.eps),
            "layer_in": normal(layers, layer.units * 3 ** (weight.ndim - 2) + 1),
            "layer": uniform(layers, layer.units, size=self.eps),
        }
        for what, value in drawn.items():
            self.weights[f"{layer.name}/{what}"] = value.to(weight).requires_grad_()

    @torch.no_grad()
    def project(self) -> None:
        """Cut every strength to eps."""
        for rows in self.weights_of_strength().values():
            rows.mul_((self.eps / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1))

    def weights_of_strength(self) -> dict[str, Tensor]:
        return {key: value for key, value in self.weights.items() if key.rpartition("/")[2] in KINDS}

    # ------------------------------------------------------------------ the network with candidates

    @property
    def batches(self) -> range:
        """Numbers of the problem's batches."""
        return range(len(self.problem.batches))

    def loss(self, number: int, gates: dict[str, Tensor] | None = None) -> Tensor:
        """The loss of a batch with all candidates on, each multiplied by its gate; BatchNorm frozen, dropout off.

        Batches are weighted so that the mean over them is that over all samples.
        """
        problem, batch = self.problem, self.problem.batches[number]
        with torch.enable_grad():
            state, _changes = widened(problem.model, self.layers, self._additions(gates))
            vector = torch.cat([state[name].reshape(-1) for name, _shape, _slice in self._wide.named_slices()])
            return self._wide.batch_loss(vector, batch) * (problem.count(batch) * len(self.batches) / problem.samples)

    def gates(self, value: float) -> dict[str, Tensor]:
        """A gate a candidate."""
        return {key: w.new_full((len(w),), value).requires_grad_() for key, w in self.weights_of_strength().items()}

    def _additions(
        self, gates: dict[str, Tensor] | None, chosen: dict[str, dict[str, Tensor]] | None = None
    ) -> dict[str, Additions]:
        """Those chosen (layer -> kind -> numbers), or all, by layer."""
        found = {}
        for layer in self.layers:
            if chosen is not None and layer.name not in chosen:
                continue
            w = {what: self.weights[f"{layer.name}/{what}"] for what in (*KINDS, "unit_in", "layer_in")}
            on = {kind: w[kind] if gates is None else w[kind] * gates[f"{layer.name}/{kind}"][:, None]
                  for kind in KINDS}  # fmt: skip
            mine = {kind: torch.arange(len(on[kind]), device=on[kind].device) for kind in KINDS}
            mine |= {} if chosen is None else chosen[layer.name]
            found[layer.name] = Additions(
                split=mine["split"], moves=on["split"][mine["split"]],
                fresh_in=w["unit_in"][mine["unit"]], fresh_out=on["unit"][mine["unit"]],
                layer_in=w["layer_in"][mine["layer"]], layer_out=on["layer"][mine["layer"]].T,
                place=self.places.get(layer.name, ""),
            )  # fmt: skip
        return found

    def _grown(self, additions: dict[str, Additions], trained: bool = False) -> tuple[Problem, list[Change]]:
        """With a model of its own; `trained`: all weights are variables, those that are no trained ones too."""
        with torch.no_grad():
            state, changes = widened(self.problem.model, self.layers, additions)
        model = fitted(self.problem.model, state)
        grown = self.problem.with_model(model.requires_grad_() if trained else model)
        grown.load(state)
        return grown, changes

    def _preserving(self, found: Layers) -> tuple[list[Layer], list[str]]:
        """The layers that may grow at strength zero without a change of the loss, and why others are left out.

        Raises:
            ProblemError: there are none.
        """
        if not self._preserved(found.able):
            alone = [self._preserved([layer]) for layer in found.able]
            mixed = {layer.name: MIXED for layer, fine in zip(found.able, alone, strict=True) if not fine}
            able = [layer for layer in found.able if layer.name not in mixed]
            self.weights = {key: w for key, w in self.weights.items() if key.rpartition("/")[0] not in mixed}
            found = Layers(able, {**found.refused, **mixed})
        return found.need(), found.left_out()

    @torch.no_grad()
    def _preserved(self, layers: list[Layer]) -> bool:
        """Whether every second candidate of these layers, at strength zero, leaves the loss as it is."""
        self.layers = layers
        some = {layer.name: {kind: torch.arange(0, len(self.weights[f"{layer.name}/{kind}"]), 2,
                                                device=self.problem.device) for kind in KINDS}
                for layer in layers}  # fmt: skip
        gates = {key: torch.zeros_like(gate) for key, gate in self.gates(0.0).items()}
        batch = self.problem.batches[0]
        before = self.problem.batch_loss(self.problem.weights(), batch)
        try:
            wide = self._grown(self._additions(gates, some))[0]
            after = wide.batch_loss(wide.weights(), batch)
        except (RuntimeError, ValueError, IndexError, ProblemError):  # what a forward pass raises that relies on a size
            return False
        return bool((after - before).abs() <= 1e3 * torch.finfo(before.dtype).eps * before.abs().clamp(min=1e-3))

    # ------------------------------------------------------------------ score, choose

    def scores(self, points: int) -> dict[str, Tensor]:
        """s_i = mean over midpoints t of dL / d gate_i at t, all candidates scaled together: integrated gradients.

        Their sum is L(all on) - L(all off) up to the error of the midpoint rule.
        """
        found = {key: torch.zeros(len(w)).to(w) for key, w in self.weights_of_strength().items()}
        for point in range(points):
            for number in self.batches:
                gates = self.gates((point + 0.5) / points)
                got = torch.autograd.grad(self.loss(number, gates), list(gates.values()), materialize_grads=True)
                for key, value in zip(gates, got, strict=True):
                    found[key] += value / (points * len(self.batches))
        return found

    def choices(self, scores: dict[str, Tensor]) -> list[Choice]:
        """All candidates, the most negative score first."""
        found = []
        for key, values in scores.items():
            layer, _, kind = key.rpartition("/")
            found += [Choice(kind, layer, i, score) for i, score in enumerate(values.tolist())]
        return sorted(found, key=lambda c: c.score)

    def grown(self, chosen: Sequence[Choice]) -> tuple[Problem, list[Change]]:
        """The problem with a network of its own, grown by the chosen candidates, and how the small one stands in it."""
        numbers: dict[str, dict[str, Tensor]] = {}
        for layer in self.layers:
            mine = {kind: torch.tensor([c.index for c in chosen if (c.layer, c.kind) == (layer.name, kind)],
                                       dtype=torch.long, device=self.problem.device) for kind in KINDS}  # fmt: skip
            if any(len(rows) for rows in mine.values()):
                numbers[layer.name] = mine
        return self._grown(self._additions(None, numbers))
