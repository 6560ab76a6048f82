"""First layers on a plane: where the data enters, outputs are affine in the coordinates.

A linear map's output is linear in its weights, so for a Linear, convolution or Embedding whose input does not depend on
the weights,

    layer(x; origin + sum_k c_k directions[k]) = layer(x; origin) + sum_k c_k layer(x; directions[k])

exactly, biases included: one product for each of 1 + k weight vectors a batch, instead of one for every point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..loss.batches import Batch

_LINEAR = (
    nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


class Entries:
    """The layers of an objective that see nothing but data, with the products of each batch.

    `objective` is the caller's own copy: its entry layers hand out what `at` sets, and are not computed any more.
    """

    def __init__(self, objective: nn.Module, named: Sequence[Mapping[str, Tensor]], batch: Batch) -> None:
        """`named` are the weights by name at the origin and along each direction."""
        self._named = named
        self._objective = objective
        self.layers = {name: objective.get_submodule(name) for name in _found(objective, named[0], batch)}
        self._values: dict[str, Tensor] = {}

    def products(self, batch: Batch) -> list[Tensor]:
        """Of every entry layer (1 + k, ...): its outputs with the weights of the origin and of each direction.

        Raises:
            RuntimeError: a layer is not called exactly once for this batch.
        """
        inputs = _inputs(self._objective, self.layers, self._named[0], batch)
        return [self._product(name, inputs[name]) for name in self.layers]

    def _product(self, name: str, entering: Tensor) -> Tensor:
        layer, found = self.layers[name], []
        own = dict(layer.named_parameters())
        for number, weights in enumerate(self._named):
            # A weight that is held fixed does not move along a direction.
            still = own if number == 0 else {n: torch.zeros_like(p) for n, p in own.items()}
            moved = {n: weights.get(f"{name}.{n}", p) for n, p in still.items()}
            found.append(functional_call(layer, moved, (entering,)))
        return torch.stack(found)

    def _answer(self, name: str, _entering: Tensor) -> Tensor:
        return self._values[name]

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Within it the entry layers answer with the values of `at`, whatever their input."""
        for name, layer in self.layers.items():
            layer.forward = partial(self._answer, name)
        try:
            yield
        finally:
            for layer in self.layers.values():
                del layer.forward
            self._values = {}

    def at(self, values: Sequence[Tensor]) -> None:
        """The outputs of the entry layers from now on, in their order."""
        self._values = dict(zip(self.layers, values, strict=True))


def combined(products: Tensor, places: Tensor) -> Tensor:
    """Outputs (points, ...) at places (points, k) from the products (1 + k, ...) of one layer."""
    weights = torch.cat([torch.ones_like(places[:, :1]), places], dim=1)  # (points, 1 + k)
    stacked = weights.to(products.dtype) @ products.flatten(1)
    return stacked.reshape(len(places), *products.shape[1:])


class Walk:
    """Outputs of one layer at one place after the other; along a row of a grid only the first coordinate changes."""

    def __init__(self, products: Tensor, *, maxima: bool = False) -> None:
        """`products` (1 + k, ...); with `maxima` (1 + k, parts, ...), of whose outputs the largest part is wanted."""
        self._products, self._maxima = products, maxima
        self._row: Sequence[float] | None = None  # the other coordinates
        self._base = products[0]  # outputs at (0, row)

    def at(self, place: Sequence[float]) -> Tensor:
        """Outputs (...) at a place (k,), in memory of their own."""
        if self._row != place[1:]:
            self._row = place[1:]
            self._base = self._products[0]
            for c, product in zip(self._row, self._products[2:], strict=True):
                self._base = torch.add(self._base, product, alpha=c)
        along, u = self._products[1], place[0]
        if not self._maxima:
            return torch.add(self._base, along, alpha=u)
        found, other = torch.add(self._base[0], along[0], alpha=u), torch.empty_like(along[0])
        for base, part in zip(self._base[1:], along[1:], strict=True):  # the memory of one part stays in the cache
            torch.maximum(found, torch.add(base, part, alpha=u, out=other), out=found)
        return found


def _found(objective: nn.Module, origin: Mapping[str, Tensor], batch: Batch) -> list[str]:
    """Names of the layers that are linear in their weights, run once, and whose input carries no gradient."""
    candidates = {
        n: m for n, m in objective.named_modules()
        if type(m) in _LINEAR and getattr(m, "max_norm", None) is None and any(f"{n}.{p}" in origin for p in _own(m))
    }  # fmt: skip
    calls: dict[str, list[bool]] = {name: [] for name in candidates}

    def note(name: str, args: Any) -> None:
        calls[name].append(len(args) == 1 and isinstance(args[0], Tensor) and not args[0].requires_grad)

    hooks = [m.register_forward_pre_hook(lambda _m, args, n=n: note(n, args)) for n, m in candidates.items()]
    try:
        leaves = {n: w.detach().requires_grad_(True) for n, w in origin.items()}
        with torch.enable_grad():
            functional_call(objective, leaves, (batch,))
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name, seen in calls.items() if seen == [True]]


def _own(layer: nn.Module) -> list[str]:
    return [name for name, _ in layer.named_parameters(recurse=False)]


def _inputs(
    objective: nn.Module, layers: Mapping[str, nn.Module], origin: Mapping[str, Tensor], batch: Batch
) -> dict[str, Tensor]:
    """What enters each of the layers."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = [m.register_forward_pre_hook(lambda _m, args, n=n: seen[n].append(args[0])) for n, m in layers.items()]
    try:
        with torch.no_grad():
            functional_call(objective, dict(origin), (batch,))
    finally:
        for hook in hooks:
            hook.remove()
    if any(len(inputs) != 1 for inputs in seen.values()):
        raise RuntimeError("a first layer is not called exactly once")
    return {name: inputs[0] for name, inputs in seen.items()}
