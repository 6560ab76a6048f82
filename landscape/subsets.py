"""Rows of batches: which belong to a fixed subset or a half, and how batches of any nesting are cut to them.

Everything is drawn on the CPU from a seed alone, so that every rank and every start finds the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import ProblemError

Batch = Any
LABELS = ("labels", "label", "targets", "target", "y")  # entries of a dict that may hold the classes
GROUPS = 16  # error bars of eigenvalues come from so many parts where the classes allow it


def rows_in(batch: Batch) -> int:
    """Rows of a batch of tensors: the leading length that all of them have.

    Raises:
        ProblemError: something in it is no tensor with rows, or leading lengths differ.
    """
    leaves = list(_leaves(batch))
    if not leaves or not all(isinstance(x, Tensor) and x.ndim for x in leaves):
        strange = next((type(x).__name__ for x in leaves if not isinstance(x, Tensor)), "scalar" if leaves else "empty")
        raise ProblemError(
            f"a subset needs batches whose rows can be told: tensors, or tuples, lists and dicts of tensors with one "
            f"row a sample; here is a batch with a part of type {strange}. Hand over fewer batches instead"
        )
    lengths = sorted({len(x) for x in leaves})
    if len(lengths) > 1:
        raise ProblemError(
            f"a subset needs one row a sample in every tensor of a batch; here leading lengths are "
            f"{', '.join(map(str, lengths))}. Hand over fewer batches instead"
        )
    return lengths[0]


def classes(batches: Sequence[Batch]) -> Tensor | None:
    """The integer class of every row (rows,) on the CPU, or None where batches hold none.

    It is the second entry of a pair, triple, ..., and of a dict the first of `LABELS` that it has.
    """
    found = [_labels(b) for b in batches]
    good = [x for x in found if isinstance(x, Tensor) and x.ndim == 1 and not x.is_floating_point()]
    return torch.cat([x.cpu() for x in good]) if found and len(good) == len(found) else None


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


def dealt(labels: Tensor | None, rows: int, parts: int, seed: int) -> list[Tensor]:
    """All rows in `parts` disjoint parts, each sorted; sizes, also those within a class, differ by at most one.

    Of an even number of parts every second one makes one half, the others make the other.
    """
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    if labels is not None:
        order = order[labels[order].argsort(stable=True)]
    return [order[k::parts].sort().values for k in range(parts)]


def parts_for(labels: Tensor | None, rows: int) -> int:
    """An even number of parts, at most `GROUPS`, of which each holds two rows of every class where that can be."""
    smallest = rows if labels is None else int(torch.unique(labels, return_counts=True)[1].min())
    most = min(GROUPS, smallest // 2)
    return max(2, most - most % 2)


def digest(rows: Tensor) -> str:
    """A short name of a set of rows."""
    return hashlib.sha256(rows.to(torch.int64).numpy().tobytes()).hexdigest()[:16]


def cut(batches: Sequence[Batch], rows: Tensor, size: int) -> list[Batch]:
    """The chosen rows (sorted numbers over all batches) as batches of at most `size` rows.

    Raises:
        ProblemError: rows cannot be told, or batches differ in nesting or in the shape of a row.
    """
    taken, first = [], 0
    for batch in batches:
        count = rows_in(batch)
        here = rows[(rows >= first) & (rows < first + count)] - first
        if len(here):
            taken.append(_mapped(batch, lambda x, here=here: x[here.to(x.device)]))
        first += count
    try:
        whole = _joined(taken)
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ProblemError(
            "a subset needs batches of one form, and rows of one shape (pad sequences to one length); "
            f"joining rows of two batches failed: {str(error).splitlines()[0]}"
        ) from error
    return [_mapped(whole, lambda x, s=s: x[s : s + size]) for s in range(0, len(rows), size)]


def _leaves(batch: Batch) -> Iterator[Any]:
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (tuple, list)):
        for value in batch:
            yield from _leaves(value)
    else:
        yield batch


def _labels(batch: Batch) -> Any:
    if isinstance(batch, Mapping):
        return next((batch[name] for name in LABELS if name in batch), None)
    return batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None


def _rebuilt(like: Any, values: list[Any]) -> Any:
    return type(like)(*values) if hasattr(like, "_fields") else type(like)(values)  # named tuples take arguments


def _mapped(batch: Batch, function: Any) -> Batch:
    if isinstance(batch, Mapping):
        return {k: _mapped(v, function) for k, v in batch.items()}
    if isinstance(batch, (tuple, list)):
        return _rebuilt(batch, [_mapped(v, function) for v in batch])
    return function(batch)


def _joined(batches: Sequence[Batch]) -> Batch:
    first = batches[0]
    if isinstance(first, Mapping):
        if any(set(b) != set(first) for b in batches):
            raise KeyError("their dicts have different keys")
        return {k: _joined([b[k] for b in batches]) for k in first}
    if isinstance(first, (tuple, list)):
        return _rebuilt(first, [_joined(list(values)) for values in zip(*batches, strict=True)])
    return torch.cat(list(batches))
