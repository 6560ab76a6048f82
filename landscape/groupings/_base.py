"""What every grouping gives: parts of tensors, and from them the layout that an optimizer takes and the norms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import plugins
from ..regularizers._partition import Layout

PACKAGE = "landscape.groupings"


@dataclass(frozen=True)
class Part:
    """A tensor seen as (before, unit, after): unit u belongs to the group `names[u]`."""

    tensor: str
    before: int
    names: tuple[str, ...]
    after: int


@dataclass(frozen=True)
class Norms:
    """Norm and number of weights of every group."""

    names: tuple[str, ...]
    norms: Tensor  # (group,) float64
    sizes: Tensor  # (group,) int64


def parts_of(model: nn.Module, grouping: str) -> list[Part]:
    """The parts of a model by a grouping's name.

    Raises:
        UsageError: no such grouping.
        ValueError: the model has no such groups, or a part does not fit its tensor.
    """
    found: list[Part] = plugins.load(PACKAGE, grouping).parts(model)
    if not found:
        raise ValueError(f"the model has no groups of the kind '{grouping}'")
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    for part in found:
        if part.before * len(part.names) * part.after != sizes.get(part.tensor, -1):
            raise ValueError(f"the groups of '{part.tensor}' do not fit its {sizes.get(part.tensor, 0)} weights")
    return found


def group_names(parts: Sequence[Part]) -> tuple[str, ...]:
    """Every group once, in the order of the model."""
    return tuple(dict.fromkeys(name for part in parts for name in part.names))


def layout(parts: Sequence[Part], tensors: Sequence[str]) -> Layout:
    """The groups of some tensors, by their names, as numbers.

    Raises:
        ValueError: two parts of one tensor.
    """
    number = {name: i for i, name in enumerate(group_names(parts))}
    by_tensor = {part.tensor: part for part in parts}
    if len(by_tensor) < len(parts):
        raise ValueError("a tensor has two groupings at once")
    found = [by_tensor.get(name) for name in tensors]
    return tuple((p.before, tuple(number[n] for n in p.names), p.after) if p else None for p in found)


def group_factors(parts: Sequence[Part], factors: Mapping[str, float] | str) -> tuple[float, ...]:
    """What multiplies the weight of every group: by its name, or 1, given or as "factors" in a JSON file.

    Raises:
        ValueError: a name of no group, or no such file.
    """
    if isinstance(factors, str):
        try:
            factors = json.loads(Path(factors).read_text(encoding="utf-8"))["factors"]
            assert isinstance(factors, dict)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise ValueError(f"'{factors}' is no file with the factors of groups, {{\"factors\": {{name: number}}}} "
                             f"({type(error).__name__}); `landscape coexplore` writes one") from error  # fmt: skip
    names = group_names(parts)
    if unknown := set(factors) - set(names):
        raise ValueError(f"the factors name '{min(unknown)}', no group; they are {', '.join(names[:3])}, ...")
    return tuple(float(factors.get(name, 1.0)) for name in names)


def group_norms(parts: Sequence[Part], state: Mapping[str, Tensor]) -> Norms:
    """Norms over all tensors of each group."""
    names = group_names(parts)
    number = {name: i for i, name in enumerate(names)}
    squares, sizes = torch.zeros(len(names), dtype=torch.float64), torch.zeros(len(names), dtype=torch.int64)
    for part in parts:
        units = state[part.tensor].detach().cpu().double().reshape(part.before, len(part.names), part.after)
        which = torch.tensor([number[n] for n in part.names])
        squares.index_add_(0, which, units.square().sum(dim=(0, 2)))
        sizes.index_add_(0, which, torch.full_like(which, part.before * part.after))
    return Norms(names, squares.sqrt(), sizes)


def rows(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[Part]:
    """The rows of the weights of some kinds of layers, each a group of its own; biases are in none."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            weight = module.get_parameter("weight")
            units = tuple(f"{name}[{i}]" for i in range(len(weight)))
            found.append(Part(f"{name}.weight" if name else "weight", 1, units, weight[0].numel()))
    return found
