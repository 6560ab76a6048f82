"""An attention head: its rows of query, key and value with their biases, and its columns of the output layer.

Read from `torch.nn.MultiheadAttention`, and from any module that offers `heads` and `head_blocks()`.
"""

from __future__ import annotations

from torch import nn

from ..loss.attention import head_blocks
from ._base import Part


def parts(model: nn.Module) -> list[Part]:
    found = []
    for name, module in model.named_modules():
        for tensor, (before, heads, after) in head_blocks(module).items():
            names = tuple(f"{name}.head{h}" for h in range(heads))
            found.append(Part(f"{name}.{tensor}" if name else tensor, before, names, after))
    return found
