"""Layers that are added as an identity, and a model that gets those which a state dict has."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ADDED = re.compile(r"(.+)\.1\.inner\.0\.weight")  # behind an activation, which then stands at '.0' beside it


class Residual(nn.Module):
    """A layer added as an identity: h + U phi(V h + c), with U = 0 where it was before (Wu et al. 2020)."""

    def __init__(self, inner: nn.Sequential) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, h: Tensor) -> Tensor:
        found: Tensor = h + self.inner(h)
        return found


def residual(activation: nn.Module, shape: Sequence[int], like: Tensor) -> Residual:
    """A residual layer by the shape of V: (r, units), or (r, units, k, k) of a convolution that keeps the pixels."""
    first: nn.Linear | nn.Conv2d
    last: nn.Linear | nn.Conv2d
    if len(shape) == 2:
        first, last = nn.Linear(shape[1], shape[0]), nn.Linear(shape[0], shape[1], bias=False)
    else:
        first = nn.Conv2d(shape[1], shape[0], shape[2], padding=shape[2] // 2)
        last = nn.Conv2d(shape[0], shape[1], 1, bias=False)
    return Residual(nn.Sequential(first, copy.deepcopy(activation), last).to(like).train(activation.training))


def insert(model: nn.Module, place: str, added: Residual) -> None:
    """Put a residual layer behind the activation at a place; no other tensor changes its name."""
    parent, _, key = place.rpartition(".")
    owner = model.get_submodule(parent)
    activation = owner._modules[key]
    assert activation is not None
    owner._modules[key] = nn.Sequential(activation, added).train(activation.training)


def match_added(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Give a model the added residual layers that a state dict has, and no others; whether any came or went."""
    known = model.state_dict()
    places = [(found[1], t) for n, t in state.items() if n not in known and (found := ADDED.fullmatch(n))]
    done = _remove(model, state)
    like = next(model.parameters())
    for place, tensor in sorted(places, key=lambda item: len(item[0])):
        activation = dict(model.named_modules()).get(place)
        if activation is not None and not isinstance(activation, nn.Sequential):
            insert(model, place, residual(activation, tensor.shape, like))
            done = True
    return done


def _remove(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Take out the residual layers that a state dict lacks, those added last first; whether there were any."""
    added = [name for name, module in model.named_modules() if isinstance(module, Residual)]
    names = [name for name in added if f"{name}.inner.0.weight" not in state]
    for name in sorted(names, key=len, reverse=True):
        place = name.removesuffix(".1")
        parent, _, key = place.rpartition(".")
        pair = model.get_submodule(place)
        model.get_submodule(parent)._modules[key] = pair.get_submodule("0")
    return bool(names)


def part_of_residual(model: nn.Module, layer: str) -> str:
    """'0' or '2' for the first or last layer of a residual layer that was added, '' for any other."""
    place, _, part = layer.rpartition(".inner.")
    return part if place and isinstance(model.get_submodule(place), Residual) else ""


@dataclass(frozen=True)
class Insertion:
    """Tensors of layers that were not there before, by name with their shapes; at zero they change nothing."""

    tensors: Mapping[str, Sequence[int]]

    def apply(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of the network without them in that of the one with them."""
        like = next(t for t in state.values() if t.is_floating_point())
        new = {name: torch.zeros(tuple(shape), dtype=like.dtype, device=like.device)
               for name, shape in self.tensors.items()}  # fmt: skip
        return {**state, **new}

    def as_dict(self) -> dict[str, Any]:
        """JSON values, of an event."""
        return {"layer": ", ".join(self.tensors), "tensors": {name: list(s) for name, s in self.tensors.items()}}
