"""The structure that a training leaves: zeros, norms of groups, dead units, and what each weight is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def read_out(weights: State, optimizer: State, tolerance: float) -> dict[str, Tensor]:
    """Weights as the optimizer itself would hand them out: zero where it calls them dead and they are that small.

    `optimizer` is a checkpoint's state; 'dead/<weight>' marks the weights whose part of the proximal point is 0, which
    the weights themselves only tend to (Yang et al. 2020). Without such marks the weights stay as they are.
    """
    found = dict(weights)
    for name, weight in weights.items():
        dead = optimizer.get(f"dead/{name}")
        if dead is not None:
            found[name] = weight.masked_fill(dead.bool() & (weight.abs() <= tolerance), 0)
    return found


def share_within(weights: State, names: Iterable[str], tolerance: float) -> float:
    """Share of the weights of these names whose size is at most `tolerance` (0: which are exactly zero)."""
    chosen = [weights[name] for name in names]
    small = sum(int((w.abs() <= tolerance).sum()) for w in chosen)
    return small / max(sum(w.numel() for w in chosen), 1)


def flat(weights: State, names: Iterable[str]) -> Tensor:
    """(size,) all weights of these names, one behind the other."""
    return torch.cat([weights[name].reshape(-1) for name in names])
