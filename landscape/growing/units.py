"""Which layers have units that can be split or added: read from the traced graph, not from a table of architectures.

A unit must be produced by one linear or convolutional layer and read by such layers. Whether it also keeps to itself in
between (activation, pooling, BatchNorm with fixed statistics) is for `splitting` and `candidates` to see.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ProblemError
from ..loss.added import part_of_residual
from ..loss.fitting import CONVOLUTIONS, PRODUCERS, fitted
from ..loss.problem import Problem
from ..networks.symmetries import Symmetries, symmetries_of
from ..networks.wiring import Wiring
from .embedding import Cut, Widening

ORDERED = "its units feed a sum or an operation that keeps their order"
OUTPUTS = "its units are the network's outputs"
FEW = 4  # layers that are named with a reason


@dataclass(frozen=True)
class Layer:
    """A layer whose units may be split, with all that belongs to them."""

    name: str
    units: int
    produced: tuple[Cut, ...]
    read: tuple[Cut, ...]

    @property
    def readers(self) -> list[str]:
        return [cut.tensor.rpartition(".")[0] for cut in self.read]

    def widening(self, sources: Sequence[int], weights: Sequence[float]) -> Widening:
        return Widening(self.name, list(sources), list(weights), self.produced, self.read)


@dataclass(frozen=True)
class Layers:
    """Layers that can grow, in the order of the model, and why others cannot."""

    able: list[Layer]
    refused: dict[str, str]

    def need(self, names: str | None = None) -> list[Layer]:
        """All of them, or those whose names are listed, separated by commas.

        Raises:
            ProblemError: there are none, or a listed one cannot grow; the message says why.
        """
        wanted = [] if names is None else [name.strip() for name in names.split(",")]
        for name in wanted:
            if name not in {layer.name for layer in self.able}:
                reason = self.refused.get(name, "there is no such layer of hidden units")
                raise ProblemError(f"layer '{name}' cannot grow: {reason}")
        if not self.able:
            raise ProblemError(f"no layer of this network can grow: {'; '.join(self.left_out()) or 'there is none'}")
        return [layer for layer in self.able if not wanted or layer.name in wanted]

    def left_out(self) -> list[str]:
        """Those of hidden units that cannot grow by reason, in words; of many with one reason the first few."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.refused.items():
            if why != OUTPUTS or not self.able:
                by_reason.setdefault(why, []).append(f"'{name}'")
        return [f"{', '.join(names[:FEW])}{f' and {len(names) - FEW} more' if len(names) > FEW else ''}: {why}"
                for why, names in by_reason.items()]  # fmt: skip


def layers_of(problem: Problem, symmetries: Symmetries | None = None, *, passing: bool = False) -> Layers:
    """The layers of a problem's model whose units can be split.

    Args:
        passing: also those whose units pass through residual layers that the network has grown.
    """
    doubled = _doubled(problem)
    if doubled is not None:
        found = layers_of(doubled, passing=passing)
        if found.able:
            units = {layer.name: len(problem.model.get_parameter(f"{layer.name}.weight")) for layer in found.able}
            return Layers([replace(layer, units=units[layer.name]) for layer in found.able], found.refused)
    symmetries = symmetries_of(problem) if symmetries is None else symmetries
    if not symmetries.sizes and symmetries.obstacles:
        return Layers([], {type(problem.model).__name__: symmetries.obstacles[0]})
    wiring = Wiring(problem.model, symmetries)
    able: list[Layer] = []
    refused: dict[str, str] = {}
    for name, module in problem.model.named_modules():
        if isinstance(module, PRODUCERS):
            layer = _layer(name, module, wiring, symmetries, passing)
            if isinstance(layer, Layer):
                able.append(layer)
            else:
                refused[name or type(problem.model).__name__] = layer
    for name in _output_layers(problem, [name for name, why in refused.items() if why == ORDERED]):
        refused[name] = OUTPUTS
    return Layers(able, refused)


def _output_layers(problem: Problem, names: Sequence[str]) -> list[str]:
    """Those of the layers whose result is what the network returns."""
    made: dict[str, Any] = {}
    modules = dict(problem.model.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda _module, _inputs, result, name=name: made.update({name: result}))
        for name in names if name in modules
    ]  # fmt: skip
    try:
        with torch.no_grad():
            outputs = problem.outcome(problem.weights(), problem.batches[0])[1] if hooks else None
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(outputs, Tensor):
        return []
    return [name for name, result in made.items() if isinstance(result, Tensor) and torch.equal(result, outputs)]


def _doubled(problem: Problem) -> Problem | None:
    """With two units in every hidden layer of one, which the graph cannot tell from no axis; None where there is none.

    What a single unit is read by is guessed from the order of the modules; a wrong guess makes no network.
    """
    state = problem.state()
    producers = [(n, m) for n, m in problem.model.named_modules() if isinstance(m, PRODUCERS)]
    names = [name for name, _module in problem.model.named_modules()]
    single = False
    for (name, module), (reader, reading) in itertools.pairwise(producers):
        if len(module.get_parameter("weight")) == 1:
            single = True
            between = names[names.index(name) : names.index(reader)]
            for tensor in [n for n in state if n.rpartition(".")[0] in between and state[n].ndim]:
                state[tensor] = torch.cat([state[tensor]] * 2)
            state[f"{reader}.weight"] = torch.cat([state[f"{reader}.weight"]] * 2, dim=1)
            if isinstance(reading, CONVOLUTIONS) and reading.groups > 1:
                return None
    return problem.first_batch().with_model(fitted(problem.model, state)) if single else None


def _layer(name: str, module: nn.Module, wiring: Wiring, symmetries: Symmetries, passing: bool) -> Layer | str:
    """The layer, or why it is none."""
    weight = f"{name}.weight"
    out = wiring.places(weight, "out")
    if not out and not wiring.places(weight, "through"):
        return ORDERED
    if isinstance(module, CONVOLUTIONS) and module.groups > 1:
        return "it is a grouped convolution"
    group, rows = out[0].group, module.get_parameter("weight").shape[0]
    if group in wiring.fixed:
        return "its units feed a sum or an operation with weights of another kind of layer (an embedding?)"
    if len(out) > 1 or symmetries.factors[weight][0] != (rows, group):
        return "its units come in blocks (attention heads?)"
    produced: list[Cut] = []
    read: list[Cut] = []
    state = wiring.model.state_dict()
    for tensor in symmetries.factors:
        for place in (p for p in wiring._places[tensor] if p.group == group):
            cut = _cut(tensor, state[tensor], symmetries.factors[tensor], place.at)
            owner = tensor.rpartition(".")[0]
            added = passing and part_of_residual(wiring.model, owner) == "2"
            if cut is None:
                return "its units come in blocks"
            if place.role == "out" and tensor != weight and not added:
                return f"its units are also made by layer '{owner}', for both feed one sum"
            if place.role == "through":
                return f"its units go through the grouped convolution '{owner}'"
            (read if place.role == "in" else produced).append(cut)
    if not read:
        return "no linear or convolutional layer reads its units"
    return Layer(name, rows, tuple(produced), tuple(read))


def _cut(name: str, tensor: Tensor, factors: Sequence[tuple[int, int | None]], at: int) -> Cut | None:
    """The axis of a tensor in which a factor lies, and how much of it lies behind the factor; None where something
    lies before it, as of units that come in blocks."""
    start = 0
    for axis, length in enumerate(tensor.shape):
        product, stop = 1, start
        while product < length:
            product, stop = product * factors[stop][0], stop + 1
        if start <= at < stop:
            before = math.prod(size for size, _group in factors[start:at])
            return Cut(name, axis, length // factors[at][0]) if before == 1 else None
        start = stop
    return None
