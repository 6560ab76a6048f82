"""What a network of cells costs on its hardware: an analytic model in which every operation has its share.

The hardware has an array of rows x columns multipliers, to whose rows input channels and to whose columns output
channels are assigned, and lanes for what multiplies nothing. Layers run one after the other. A convolution of k x k
taps from m to n channels at p places takes

    cycles = ceil(m / rows) ceil(n / columns) k^2 p
    reads  = k^2 p (m ceil(n / columns) + n ceil(m / rows)) + k^2 m n     inputs, partial sums, weights once a sample

a pooling or skip connection ceil(n / lanes) k^2 p cycles and n k^2 p reads; normalisation is part of the weights before
it. Energy is that of multiplications, of reads, and of all multipliers and lanes for all cycles.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..loss.problem import Problem
from ..problems._cell import Stacked
from .coexploration import IDLE, MULTIPLY, READ, Cost, best, undominated

SIDES = (1, 2, 4, 8)  # rows, columns and lanes that can be built
_POOL = 9  # taps of a pooling


@dataclass(frozen=True, order=True)
class Design:
    """Hardware that all layers share."""

    rows: int
    columns: int
    lanes: int

    @property
    def area(self) -> int:
        return self.rows * self.columns + self.lanes

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}+{self.lanes}"


@dataclass(frozen=True)
class Layer:
    """One operation of one cell, or what every network has (`group` '')."""

    group: str
    inputs: int  # channels
    outputs: int
    taps: int
    places: int
    multiplies: bool

    @property
    def multiplications(self) -> int:
        return self.inputs * self.outputs * self.taps * self.places if self.multiplies else 0


def price(layers: Iterable[Layer], design: Design) -> Cost:
    """The sum over layers, a sample."""
    cycles = reads = work = 0
    for layer in layers:
        each = layer.taps * layer.places
        if layer.multiplies:
            down, across = -(-layer.inputs // design.rows), -(-layer.outputs // design.columns)
            cycles += down * across * each
            reads += each * (layer.inputs * across + layer.outputs * down) + layer.taps * layer.inputs * layer.outputs
            work += layer.multiplications
        else:
            cycles += -(-layer.outputs // design.lanes) * each
            reads += layer.outputs * each
    energy = MULTIPLY * work + READ * reads + IDLE * design.area * cycles
    return Cost(cycles, cycles, design.area, energy, work / max(design.rows * design.columns * cycles, 1))


def layers_of(problem: Problem) -> list[Layer]:
    """The layers of a network of cells, measured on a sample that goes through it; 'none' is no layer."""
    found: list[Layer] = []
    inner = {m.convolution for m in problem.model.modules() if isinstance(m, Stacked)}

    def seen(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        found.extend(_layers(module, output))

    watched = [m for m in problem.model.modules()
               if isinstance(m, (Stacked, nn.Conv2d, nn.Linear)) and m not in inner]  # fmt: skip
    hooks = [module.register_forward_hook(seen) for module in watched]
    try:
        with torch.no_grad():
            problem.model(problem.batches[0][0][:1])
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _layers(module: nn.Module, output: torch.Tensor) -> Iterator[Layer]:
    places = output.shape[-2:].numel() if output.ndim > 2 else 1
    if isinstance(module, Stacked):
        taps = 1 if module.pool is None else _POOL
        if module.convolution is not None:
            taps = module.convolution.kernel_size[0] ** 2
        for group in module.groups if not module.zero else ():
            yield Layer(group, module.channels, module.channels, taps, places, module.convolution is not None)
    elif isinstance(module, nn.Conv2d):
        yield Layer("", module.in_channels, module.out_channels, module.weight[0, 0].numel(), places, True)
    elif isinstance(module, nn.Linear):
        yield Layer("", module.in_features, module.out_features, 1, places, True)


def designs(area: int, sides: Sequence[int] = SIDES) -> list[Design]:
    """All that fit into an area."""
    return [d for d in itertools.starmap(Design, itertools.product(sides, repeat=3)) if d.area <= area]


def best_design(layers: Sequence[Layer], area: int) -> tuple[Design, Cost] | None:
    """The design of fewest cycles, then of least energy; None where none fits. Exact, by trying all."""
    return best((design, price(layers, design)) for design in designs(area))


def design_front(layers: Sequence[Layer], area: int) -> list[tuple[Design, Cost]]:
    """The designs that no others beat in both cycles and energy, by cycles."""
    return undominated((design, price(layers, design)) for design in designs(area))


def factors(layers: Sequence[Layer], design: Design, power: float = 1.0) -> dict[str, float]:
    """What each operation costs on a design over all cells that share it, as a factor of its penalty of mean 1.

    c_g is half its share of the cycles and half that of the energy; the factors are c_g^power. With power 1 the penalty
    mu sum_g c_g norm(x_g) is the relaxation of the cost mu sum_g c_g [x_g != 0], as an l1 norm is of a number of
    non-zeros.
    """
    groups = [name for name in dict.fromkeys(layer.group for layer in layers) if name]
    costs = [price([layer for layer in layers if layer.group == name], design) for name in groups]
    cycles, energy = sum(c.cycles for c in costs), sum(c.energy for c in costs)
    raised = [(c.cycles / cycles + c.energy / energy) ** power for c in costs]
    return {name: value * len(groups) / sum(raised) for name, value in zip(groups, raised, strict=True)}
