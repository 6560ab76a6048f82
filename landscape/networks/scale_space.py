"""The inverse scale space path of a run: which units of its sparse copy Gamma appear, and when (DessiLBI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..records import ScaleSpace

State = dict[str, Tensor]
PATHS = 24  # a layer, of those that enter first
POINTS = 50_000  # units whose entry is kept; of more of them a sample


class CheckpointLike(Protocol):
    @property
    def step(self) -> int: ...

    def optimizer_state(self) -> State: ...


def scale_space(checkpoints: Sequence[CheckpointLike], paths: int = PATHS, points: int = POINTS) -> ScaleSpace | None:
    """The record up to the last of some checkpoints of a run, in order; None where no checkpoint has a Gamma.

    A checkpoint without a Gamma is one before the first step: its support is empty. Needs the state
    'gamma/<weight>' (the weight's shape) and 'entered/<weight>' (that shape, or a number a row: filters).
    """
    last = checkpoints[-1].optimizer_state()
    names = [name.partition("/")[2] for name in last if name.startswith("entered/")]
    if not names:
        return None
    entered = {name: last[f"entered/{name}"].reshape(-1) for name in names}
    chosen = {name: _first(entered[name], paths) for name in names}
    selected, drawn = [], []
    for checkpoint in checkpoints:
        state = last if checkpoint is checkpoints[-1] else checkpoint.optimizer_state()
        norms = {name: _norms(state.get(f"gamma/{name}"), entered[name]) for name in names}
        selected.append([int(norms[name].count_nonzero()) for name in names])
        drawn.append(torch.cat([norms[name][chosen[name]] for name in names]))
    sizes = [len(entered[name]) for name in names]
    owner = np.repeat(np.arange(len(names)), sizes)
    sample = _sample(sum(sizes), points)
    picked = [len(chosen[name]) for name in names]
    return ScaleSpace(
        checkpoints[-1].step, [name.removesuffix(".weight") for name in names],
        ["filters" if last[f"entered/{name}"].ndim < last[f"gamma/{name}"].ndim else "weights" for name in names],
        np.array(sizes, dtype=np.int64), np.array([c.step for c in checkpoints], dtype=np.int64),
        np.array(selected, dtype=np.int64), torch.cat(list(entered.values()))[sample].numpy(), owner[sample.numpy()],
        torch.stack(drawn).double().numpy(), np.repeat(np.arange(len(names)), picked),
        torch.cat([chosen[name] for name in names]).numpy(),
        torch.cat([entered[name][chosen[name]] for name in names]).numpy(),
    )  # fmt: skip


def _first(entered: Tensor, count: int) -> Tensor:
    """Numbers of the units that entered first, in that order."""
    inside = entered.nonzero().reshape(-1)
    return inside[entered[inside].argsort(stable=True)[:count]]


def _norms(gamma: Tensor | None, like: Tensor) -> Tensor:
    """(unit,) size of a weight's Gamma, norm of a filter's."""
    return torch.zeros(len(like)) if gamma is None else gamma.reshape(len(like), -1).norm(dim=1)


def _sample(size: int, points: int) -> Tensor:
    if size <= points:
        return torch.arange(size)
    return torch.randperm(size, generator=torch.Generator().manual_seed(0))[:points].sort().values
