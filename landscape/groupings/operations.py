"""An operation of a cell: the same operation on the same edge of all cells of one kind is one group.

Read from every module that offers `operation_parts()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from ._base import Part


@runtime_checkable
class HasOperations(Protocol):
    """A module of operations; its tensors by name are (before, name of each unit's group, after)."""

    def operation_parts(self) -> dict[str, tuple[int, Sequence[str], int]]: ...


def parts(model: nn.Module) -> list[Part]:
    found = []
    for name, module in model.named_modules():
        if isinstance(module, HasOperations):
            for tensor, (before, names, after) in module.operation_parts().items():
                found.append(Part(f"{name}.{tensor}" if name else tensor, before, tuple(names), after))
    return found
