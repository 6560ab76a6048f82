"""An operation of a cell: the same operation on the same edge of all cells of one kind is one group.

Read from every module that offers `operation_parts()`: its tensors by name, as (before, name of each unit's group,
after).
"""

from __future__ import annotations

from torch import nn

from ._base import Part


def parts(model: nn.Module) -> list[Part]:
    found = []
    for name, module in model.named_modules():
        if hasattr(module, "operation_parts"):
            for tensor, (before, names, after) in module.operation_parts().items():  # type: ignore[operator]
                found.append(Part(f"{name}.{tensor}" if name else tensor, before, tuple(names), after))
    return found
