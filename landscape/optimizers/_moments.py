"""An optimizer's memory of a factor, carried into other bases.

A factor M in new bases is A M B. What is linear in gradients (momentum) is carried the same way. A mean of squares is
carried by the squares of A and B: exact where the entries of the gradient are uncorrelated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LINEAR = ("momentum_buffer", "exp_avg", "grad_avg")
SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "acc_delta")


@torch.no_grad()
def carry(
    optimizer: torch.optim.Optimizer, factor: nn.Parameter, value: Tensor, left: Tensor | None, right: Tensor | None
) -> None:
    """Give a factor (a, b) its new value (a', b') and carry its moments by left (a', a) and right (b, b').

    None is the identity. Other memory of the factor's shape stays where the shape does, else all of it starts anew.
    """
    before, factor.data, factor.grad = factor.shape, value, None
    state = optimizer.state.get(factor, {})
    for name, memory in list(state.items()):
        if not isinstance(memory, Tensor) or (memory.numel() == 1 and factor.numel() > 1):
            continue
        if name in LINEAR and memory.shape == before:
            state[name] = _between(left, memory, right)
        elif name in SQUARES and memory.shape == before:
            state[name] = _between(_squares(left), memory, _squares(right))
        elif before != value.shape:
            del optimizer.state[factor]
            return


def _between(left: Tensor | None, memory: Tensor, right: Tensor | None) -> Tensor:
    moved = memory if left is None else left @ memory
    return moved if right is None else moved @ right


def _squares(matrix: Tensor | None) -> Tensor | None:
    return None if matrix is None else matrix.square()
