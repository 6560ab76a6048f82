"""Which rows belong to a fixed subset, a half or a part, and batches cut to them.

Everything is drawn on the CPU from a seed alone, so that every rank and every start finds the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .batches import Batch, join, rows, split, take

LABELS = ("labels", "label", "targets", "target", "y")  # entries of a dict that may hold the classes
GROUPS = 16  # error bars of eigenvalues come from so many parts where the classes allow it


def classes(batches: Sequence[Batch]) -> Tensor | None:
    """The integer class of every row (rows,) on the CPU, or None where batches hold none.

    It is the second entry of a pair, triple, ..., and of a dict the first of `LABELS` that it has.
    """
    found = [_labels(b) for b in batches]
    good = [x for x in found if isinstance(x, Tensor) and x.ndim == 1 and not x.is_floating_point()]
    return torch.cat([x.cpu() for x in good]) if found and len(good) == len(found) else None


def rule(labels: Tensor | None) -> str:
    """How rows are drawn, in words."""
    return "random" if labels is None else "class-balanced"


def balanced_indices(targets: Tensor, samples: int, seed: int) -> Tensor:
    """`samples` sorted indices drawn once from `seed`, as equal a number of each integer class as there is."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    if targets.is_floating_point() or targets.ndim != 1:
        return order[:samples].sort().values
    shuffled = targets[order]
    turn = torch.empty(len(targets), dtype=torch.long)  # how many of its class come before a sample
    for label in torch.unique(shuffled):
        where = (shuffled == label).nonzero().flatten()
        turn[where] = torch.arange(len(where))
    return order[turn.argsort(stable=True)[:samples]].sort().values


def dealt(labels: Tensor | None, total: int, parts: int, seed: int) -> list[Tensor]:
    """All rows in `parts` disjoint parts, each sorted; sizes, also those within a class, differ by at most one.

    Of an even number of parts every second one makes one half, the others make the other.
    """
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    if labels is not None:
        order = order[labels[order].argsort(stable=True)]
    return [order[k::parts].sort().values for k in range(parts)]


def parts_for(labels: Tensor | None, total: int) -> int:
    """An even number of parts, at most `GROUPS`, of which each holds two rows of every class where that can be."""
    smallest = total if labels is None else int(torch.unique(labels, return_counts=True)[1].min())
    most = min(GROUPS, smallest // 2)
    return max(2, most - most % 2)


def digest(chosen: Tensor) -> str:
    """A short name of a set of rows."""
    return hashlib.sha256(chosen.to(torch.int64).numpy().tobytes()).hexdigest()[:16]


def cut(batches: Sequence[Batch], chosen: Tensor) -> list[Batch]:
    """The chosen rows (sorted numbers over all batches) in batches no larger than the largest of these.

    Raises:
        ProblemError: rows cannot be told, or batches differ in nesting or in the shape of a row.
    """
    taken, first, lengths = [], 0, [rows(b) for b in batches]
    for batch, length in zip(batches, lengths, strict=True):
        here = chosen[(chosen >= first) & (chosen < first + length)] - first
        if len(here):
            taken.append(take(batch, here))
        first += length
    return split(join(taken), max(lengths))


def _labels(batch: Batch) -> Any:
    if isinstance(batch, Mapping):
        return next((batch[name] for name in LABELS if name in batch), None)
    return batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
