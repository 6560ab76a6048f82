"""Winning tickets: which weights a network keeps, and the same network with all others held at zero.

A mask is a boolean tensor a weight tensor. The masked network computes with mask * weight (a parametrization), so
that its zeros stay zero under every optimizer, and its loss does not see them: their rows of the Hessian are zero.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ProblemError
from ..loss.problem import Problem

Masks = dict[str, Tensor]
State = Mapping[str, Tensor]


def support(optimizer: State) -> Masks:
    """The support of Gamma, by tensor, of a checkpoint's optimizer state (DessiLBI; Fu et al. 2020).

    Raises:
        ProblemError: the training has no Gamma.
    """
    found = {name.partition("/")[2]: gamma != 0 for name, gamma in optimizer.items() if name.startswith("gamma/")}
    if not found:
        raise ProblemError("the checkpoint holds no sparse copy Gamma of the weights; train with --optimizer dessilbi")
    return found


def structured(optimizer: State, masks: Masks) -> set[str]:
    """The tensors whose units are rows (filters) and not entries: their `entered` has a number a row."""
    return {name for name, mask in masks.items()
            if (entered := optimizer.get(f"entered/{name}")) is not None and entered.ndim < mask.ndim}  # fmt: skip


def largest(weights: State, masks: Masks, rows: set[str]) -> Masks:
    """As many units of every tensor as `masks` keeps: those of the largest size, or norm in the tensors of `rows`."""
    found = {}
    for name, mask in masks.items():
        weight = weights[name].detach()
        size = weight.reshape(len(weight), -1).norm(dim=1) if name in rows else weight.abs().reshape(-1)
        found[name] = _keep(size.argsort(descending=True, stable=True), mask, name in rows)
    return found


def by_lot(masks: Masks, rows: set[str], seed: int) -> Masks:
    """As many units of every tensor as `masks` keeps, drawn from (seed, number of the tensor)."""
    found = {}
    for number, (name, mask) in enumerate(masks.items()):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        order = torch.randperm(len(mask) if name in rows else mask.numel(), generator=generator)
        found[name] = _keep(order, mask, name in rows)
    return found


def _keep(order: Tensor, mask: Tensor, rows: bool) -> Tensor:
    """A mask of the first units in `order`, as many as `mask` keeps."""
    found = torch.zeros_like(mask)
    if rows:
        found[order[: int(mask.reshape(len(mask), -1).any(dim=1).sum())]] = True
    else:
        found.view(-1)[order[: int(mask.sum())]] = True
    return found


class Mask(nn.Module):
    """weight -> mask * weight."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def masked(problem: Problem, weights: State, masks: Masks) -> Problem:
    """The problem with a network that starts at `weights` and computes with the weights of the masks alone.

    Tensors without a mask are whole. A masked tensor's weights are named 'layer.parametrizations.weight.original'.

    Raises:
        ProblemError: masks of another model.
    """
    model = copy.deepcopy(problem.model)
    model.load_state_dict({name: value.to(own) for (name, own), value in _paired(model.state_dict(), weights)})
    shapes = {name: w.shape for name, w in model.named_parameters()}
    for name, mask in masks.items():
        if shapes.get(name) != mask.shape:
            raise ProblemError(f"the mask of '{name}' is {tuple(mask.shape)}, the model has {shapes.get(name)}")
        path, _, leaf = name.rpartition(".")
        parametrize.register_parametrization(
            model.get_submodule(path), leaf, Mask(mask.to(problem.device, problem.dtype))
        )
    return problem.with_model(model)


def _paired(own: State, given: State) -> list[tuple[tuple[str, Tensor], Tensor]]:
    if own.keys() != given.keys():
        raise ProblemError("the initial weights are of another model: their names differ")
    return [((name, value), given[name]) for name, value in own.items()]


def zeroed(weights: State, masks: Masks) -> dict[str, Tensor]:
    """The weights with those outside the masks at zero."""
    return {name: w * masks[name].to(w) if name in masks else w for name, w in weights.items()}


def share(masks: Masks) -> float:
    """Share of the masked tensors' weights that are kept."""
    return sum(int(m.sum()) for m in masks.values()) / max(sum(m.numel() for m in masks.values()), 1)
