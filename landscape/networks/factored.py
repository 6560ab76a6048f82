"""Layers as two thin ones: x -> K (V^T x), from dense layers and back; a network in that form where it is smaller.

A convolution's kernel (F, C, J, K) is the matrix (F, C J K): V holds r kernels, K mixes their outputs point by point.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..loss.problem import Problem
from .lowrank import Factors, nearest, rank_within

Layer = nn.Linear | nn.Conv2d
T = TypeVar("T", nn.Linear, nn.Conv2d)


def is_layer(module: nn.Module) -> TypeGuard[Layer]:
    """Whether a module multiplies by one matrix: exactly nn.Linear, or nn.Conv2d without groups.

    Subclasses may use their weight elsewhere than in `forward`, so they are none.
    """
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """The layers of a model by name whose weight is theirs alone."""
    owners: dict[int, int] = {}
    for _name, weight in model.named_parameters(remove_duplicate=False):
        owners[id(weight)] = owners.get(id(weight), 0) + 1
    found = {name: module for name, module in model.named_modules() if is_layer(module)}
    return {name: module for name, module in found.items() if owners[id(module.weight)] == 1}


def matrix_of(layer: Layer) -> Tensor:
    """The weight as a matrix (m, n), a view."""
    return layer.weight.detach().reshape(len(layer.weight), -1)


def through_rows(layer: Layer, inputs: Tensor, rows: Tensor) -> Tensor:
    """A layer's inputs times other rows (k, n) in place of its weight's, without the bias."""
    if isinstance(layer, nn.Conv2d):
        found: Tensor = layer._conv_forward(inputs, rows.reshape(len(rows), *layer.weight.shape[1:]), None)
        return found
    return functional.linear(inputs, rows)


def through_columns(layer: Layer, features: Tensor, columns: Tensor, bias: Tensor | None = None) -> Tensor:
    """What came through k rows times columns (m, k), point by point of an image."""
    if isinstance(layer, nn.Conv2d):
        return functional.conv2d(features, columns[:, :, None, None], bias)
    return functional.linear(features, columns, bias)


def flat(layer: Layer, features: Tensor) -> Tensor:
    """Features (samples, k, height, width) of a convolution or (..., k) of a linear layer as rows (points, k)."""
    last = features.movedim(1, -1) if isinstance(layer, nn.Conv2d) else features
    return last.reshape(-1, last.shape[-1])


# ---------------------------------------------------------------------- modules


class FactoredLinear(nn.Module):
    """y = K (V^T x) + b: `first` holds V^T (r, n), `second` K = U S (m, r) and the bias."""

    def __init__(self, layer: nn.Linear, factors: Factors) -> None:
        super().__init__()
        self.first = nn.Linear(layer.in_features, factors.rank, bias=False)
        self.second = nn.Linear(factors.rank, layer.out_features, bias=layer.bias is not None)
        _fill(self.first, self.second, layer, factors)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.second(self.first(inputs))
        return outputs

    def dense(self) -> nn.Linear:
        """The same layer with one weight W = K V^T."""
        layer = nn.Linear(self.first.in_features, self.second.out_features, bias=self.second.bias is not None)
        return _filled(layer, self.first, self.second)


class FactoredConv2d(nn.Module):
    """A convolution by r kernels, then K (m, r) and the bias point by point."""

    def __init__(self, layer: nn.Conv2d, factors: Factors) -> None:
        super().__init__()
        self.first = _convolution(layer, factors.rank, False)
        self.second = nn.Conv2d(factors.rank, layer.out_channels, 1, bias=layer.bias is not None)
        _fill(self.first, self.second, layer, factors)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.second(self.first(inputs))
        return outputs

    def dense(self) -> nn.Conv2d:
        """The same layer with one kernel."""
        layer = _convolution(self.first, self.second.out_channels, self.second.bias is not None)
        return _filled(layer, self.first, self.second)


def _convolution(like: nn.Conv2d, channels: int, bias: bool) -> nn.Conv2d:
    """A convolution with another one's kernel size, stride, padding and dilation."""
    geometry: dict[str, Any] = {name: getattr(like, name) for name in (
        "kernel_size", "stride", "padding", "dilation", "padding_mode")}  # fmt: skip
    return nn.Conv2d(like.in_channels, channels, bias=bias, **geometry)


@torch.no_grad()
def _fill(first: Layer, second: Layer, layer: Layer, factors: Factors) -> None:
    first.to(layer.weight.device, layer.weight.dtype)
    second.to(layer.weight.device, layer.weight.dtype)
    first.weight.copy_(factors.v.T.reshape(first.weight.shape))
    second.weight.copy_(factors.left.reshape(second.weight.shape))
    if layer.bias is not None and second.bias is not None:
        second.bias.copy_(layer.bias)


@torch.no_grad()
def _filled(layer: T, first: Layer, second: Layer) -> T:
    layer.to(first.weight.device, first.weight.dtype)
    layer.weight.copy_((matrix_of(second) @ matrix_of(first)).reshape(layer.weight.shape))
    if layer.bias is not None and second.bias is not None:
        layer.bias.copy_(second.bias)
    return layer


# ---------------------------------------------------------------------- networks


@dataclass(frozen=True)
class Factorised:
    """A problem whose network is factored where that is smaller, and the ranks of these layers."""

    problem: Problem
    before: int  # weights
    ranks: dict[str, int]  # layer -> rank
    error: float  # largest |W - K V^T| / |W| (Frobenius) over these layers

    @property
    def after(self) -> int:
        return self.problem.size

    def __str__(self) -> str:
        layers = ", ".join(f"{name} {rank}" for name, rank in self.ranks.items()) or "none"
        return f"{self.before:,} -> {self.after:,} weights ({self.before / self.after:.2f} x); ranks: {layers}"


def factorise(problem: Problem, tau: float = 1e-5) -> Factorised:
    """Replace every layer by a factored one of the smallest rank with |W - K V^T| <= tau |W|, where that is smaller.

    The problem stays as it is; the new one has a model of its own, with the same batches.
    """
    model = copy.deepcopy(problem.model)
    ranks, worst = dict[str, int](), 0.0
    for name, layer in layers_of(model).items():
        matrix = matrix_of(layer)
        rank = rank_within(torch.linalg.svdvals(matrix), tau)
        if rank * sum(matrix.shape) >= matrix.numel():
            continue
        factors = nearest(matrix, rank)
        worst = max(worst, float((factors.matrix() - matrix).norm() / matrix.norm().clamp(min=1e-300)))
        ranks[name] = rank
        model = _replaced(model, name, factored(layer, factors))
    return Factorised(problem.with_model(model), problem.size, ranks, worst)


def factored(layer: Layer, factors: Factors) -> FactoredLinear | FactoredConv2d:
    """A layer in factored form."""
    made = FactoredConv2d(layer, factors) if isinstance(layer, nn.Conv2d) else FactoredLinear(layer, factors)
    return made.train(layer.training)


def dense(model: nn.Module) -> nn.Module:
    """A copy of a network with every factored layer dense again."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, FactoredLinear | FactoredConv2d):
            model = _replaced(model, name, module.dense().train(module.training))
    return model


def _replaced(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """The model with another module in a place; '' is the model itself."""
    if not name:
        return module
    model.set_submodule(name, module)
    return model
