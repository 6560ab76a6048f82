"""The structure that a training leaves: zeros, norms of groups, dead units, and what each weight is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..loss.problem import Problem
from ..records import Structure
from .pruning import group_norms, prune
from .ranks import low_rank
from .symmetries import Symmetries

State = Mapping[str, Tensor]


def read_out(weights: State, optimizer: State, tolerance: float) -> dict[str, Tensor]:
    """Weights as the optimizer itself would hand them out: zero where it calls them dead and they are that small.

    `optimizer` is a checkpoint's state; 'dead/<weight>' marks the weights whose part of the proximal point is 0, which
    the weights themselves only tend to (Yang et al. 2020); 'gamma/<weight>' is a sparse copy, outside whose support the
    weight is zero whatever its size (Fu et al. 2020). Without such marks the weights stay as they are.
    """
    found = dict(weights)
    for name, weight in weights.items():
        dead = optimizer.get(f"dead/{name}")
        if dead is not None:
            found[name] = weight.masked_fill(dead.bool() & (weight.abs() <= tolerance), 0)
        gamma = optimizer.get(f"gamma/{name}")
        if gamma is not None:
            found[name] = weight.masked_fill(gamma == 0, 0)
    return found


def share_within(weights: State, names: Iterable[str], tolerance: float) -> float:
    """Share of the weights of these names whose size is at most `tolerance` (0: which are exactly zero)."""
    chosen = [weights[name] for name in names]
    small = sum(int((w.abs() <= tolerance).sum()) for w in chosen)
    return small / max(sum(w.numel() for w in chosen), 1)


def layers_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Weights by their module: '0.weight' and '0.bias' are those of '0'."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return found


def dead_rows(weight: Tensor, threshold: float) -> Tensor:
    """(rows,) True where all entries of a row lie within the threshold of zero."""
    return (weight.reshape(len(weight), -1).abs() <= threshold).all(dim=1)


def structure(
    problem: Problem, step: int, weights: State, optimizer: State, *, tolerance: float, threshold: float,
    read_out_at: float, symmetries: Symmetries | None = None, eigenvectors: tuple[Any, Any] | None = None,
) -> Structure:  # fmt: skip
    """The record of a checkpoint whose weights the problem's model holds.

    Args:
        optimizer: the checkpoint's optimizer state, for its own read-out of weights up to `read_out_at`.
        symmetries: of the model, for the weights left after pruning; None: they are not known.
        eigenvectors: eigenvalues (k,) and eigenvectors (k, size) of the Hessian there, for their parts along which
            low ranks stay.
    """
    layers = layers_of(name for name, _shape, _slice in problem.named_slices())
    zeros = read_out(weights, optimizer, read_out_at)
    norms = group_norms({name: weights[name] for names in layers.values() for name in names})
    owner = {name: number for number, names in enumerate(layers.values()) for name in names}
    left, removed = _left(problem, threshold, symmetries)
    return Structure(
        step, list(layers), tolerance, threshold,
        np.array([sum(weights[name].numel() for name in names) for names in layers.values()], dtype=np.int64),
        np.array([share_within(weights, names, tolerance) for names in layers.values()]),
        np.array([share_within(zeros, names, 0) for names in layers.values()]),
        _joined([n.numpy() for n in norms.values()], np.float64),
        _joined([np.full(len(n), owner[name]) for name, n in norms.items()], np.int64),
        _joined([dead_rows(weights[name], threshold).cpu().numpy() for name in norms], np.int8),
        left, removed, **_ranks(problem, weights, optimizer, owner, eigenvectors),
    )  # fmt: skip


def _ranks(
    problem: Problem, weights: State, optimizer: State, owner: Mapping[str, int], eigenvectors: tuple[Any, Any] | None
) -> dict[str, Any]:
    """What the record says of low-rank layers; nothing where there are none."""
    found = low_rank(problem, weights, optimizer)
    if not found.sigma:
        return {}
    told: dict[str, Any] = {
        "sigma": _joined([s.double().cpu().numpy() for s in found.sigma.values()], np.float64),
        "sigma_layers": _joined([np.full(len(s), owner[n]) for n, s in found.sigma.items()], np.int64),
        "tangent_chance": found.by_chance,
    }
    if eigenvectors is not None:
        values, vectors = eigenvectors
        told["tangent"] = np.array(found.tangent_shares(vectors))
        told["tangent_values"] = np.array(values)
    return told


def pruned_weights(problem: Problem, weights: State, optimizer: State, threshold: float, read_out_at: float) -> Tensor:
    """(size,) True for the weights of dead rows and for those that the optimizer's read-out sets to zero."""
    found, zeros = [], read_out(weights, optimizer, read_out_at)
    for name, _shape, _slice in problem.named_slices():
        gone = zeros[name] == 0
        if gone.ndim > 1:
            gone = gone | dead_rows(weights[name], threshold).reshape(-1, *[1] * (gone.ndim - 1))
        found.append(gone.reshape(-1))
    return torch.cat(found)


def _left(problem: Problem, threshold: float, symmetries: Symmetries | None) -> tuple[int | None, dict[str, int]]:
    if symmetries is None or not symmetries.sizes:
        return None, {}
    found = prune(problem, threshold, symmetries)
    return found.after, found.removed


def _joined(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate([np.empty(0), *parts]).astype(dtype)
