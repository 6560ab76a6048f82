"""How one tensor falls into groups: sums over each group, and numbers of groups handed back to their weights."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

# One entry a tensor: (before, group of each unit, after), the tensor seen as (before, unit, after); None: in no group.
Layout = tuple[tuple[int, tuple[int, ...], int] | None, ...]


class Partition(Protocol):
    """Numbers of groups come in whatever shape `sum` gives them."""

    def sum(self, x: Tensor) -> Tensor: ...
    def spread(self, numbers: Tensor) -> Tensor:
        """The number of its group for every weight, of a shape that goes with the weights'."""
        ...

    def sizes(self, like: Tensor) -> Tensor: ...


class Rows:
    """A matrix (groups, size); numbers are (groups, 1)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def sum(self, x: Tensor) -> Tensor:
        return x.sum(dim=1, keepdim=True)

    def spread(self, numbers: Tensor) -> Tensor:
        return numbers

    def sizes(self, like: Tensor) -> Tensor:
        return like.new_full((self._shape[0], 1), self._shape[1])


class Scattered:
    """A long vector whose weights name their groups; numbers are (groups + 1,), the last of weights in no group."""

    def __init__(self, which: Tensor, groups: int) -> None:
        self._which, self._groups = which, groups
        self.free = which == groups  # in no group

    def sum(self, x: Tensor) -> Tensor:
        wide = torch.float32 if x.device.type == "mps" else torch.float64  # a group may have many weights
        zeros = torch.zeros(self._groups + 1, dtype=wide, device=x.device)
        return zeros.index_add_(0, self._which, x.to(wide)).to(x.dtype)

    def spread(self, numbers: Tensor) -> Tensor:
        return numbers[self._which]

    def sizes(self, like: Tensor) -> Tensor:
        counts = torch.bincount(self._which, minlength=self._groups + 1)
        return counts.to(like)


@lru_cache(maxsize=16)
def scattered(layout: Layout, sizes: tuple[int, ...], device: torch.device) -> Scattered:
    """The partition of all tensors of a layout as one long vector.

    Args:
        sizes: weights of each tensor.

    Raises:
        ValueError: the layout is of other tensors.
    """
    if len(layout) != len(sizes):
        raise ValueError(f"the groups are of {len(layout)} tensors, got {len(sizes)}")
    groups = 1 + max((max(entry[1]) for entry in layout if entry), default=-1)
    pieces = []
    for entry, size in zip(layout, sizes, strict=True):
        before, units, after = entry or (1, (groups,), size)
        if before * len(units) * after != size:
            raise ValueError(f"groups of {before} x {len(units)} x {after} weights do not fit a tensor of {size}")
        pieces.append(torch.tensor(units).repeat_interleave(after).repeat(before))
    return Scattered(torch.cat(pieces).to(device), groups)


def hashable(layout: Iterable[Any]) -> Layout:
    """A layout that came from JSON, with tuples for lists."""
    return tuple(e and (int(e[0]), tuple(e[1]), int(e[2])) for e in layout)
