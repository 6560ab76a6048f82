"""Batches: tensors in any nesting of tuples, lists and dicts, read once, moved, counted, cut into rows and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..errors import ProblemError

Batch = Any


# ---------------------------------------------------------------------- reading and moving


def freeze(data: Any, batch_size: int) -> list[Batch]:
    """Read data once, in a fixed order, into a list of batches.

    Raises:
        ProblemError: inputs and targets of different length, or an unusable form of data.
    """
    if batch_size < 1:
        raise ProblemError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(data, tuple) and _is_pair(data):
        inputs, targets = data
        if len(inputs) != len(targets):
            raise ProblemError(f"data has {len(inputs)} inputs but {len(targets)} targets; they must pair up")
        return [take(data, slice(start, start + batch_size)) for start in range(0, len(targets), batch_size)]
    if isinstance(data, DataLoader):
        return list(data)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return list(DataLoader(data, batch_size=batch_size)) if len(cast(Sized, data)) else []
    if isinstance(data, (Sequence, Iterable)) and not isinstance(data, (Tensor, str, bytes, Mapping)):
        return list(data)
    raise ProblemError(
        f"data must be a pair (inputs, targets) of tensors, a Dataset, a DataLoader or a list of batches, "
        f"got {type(data).__name__}"
    )


def _is_pair(data: Any) -> bool:
    return isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(x, Tensor) and x.ndim for x in data)


def leaves(batch: Batch) -> Iterator[Any]:
    """Everything in a nested batch that is no container, depth first."""
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (tuple, list)):
        for value in batch:
            yield from leaves(value)
    else:
        yield batch


def tensors(batch: Batch) -> Iterator[Tensor]:
    """All tensors in a nested batch, depth first."""
    return (leaf for leaf in leaves(batch) if isinstance(leaf, Tensor))


def move(batch: Batch, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
    """A batch on a device; floating-point tensors also in `dtype` when given. The nesting is kept."""

    def moved(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.to(device, dtype) if dtype is not None and leaf.is_floating_point() else leaf.to(device)

    return _over([batch], lambda same: moved(same[0]))


def _over(batches: Sequence[Batch], combine: Callable[[Sequence[Any]], Any]) -> Batch:
    """One batch of the same nesting, each leaf combined from those in the same place of all."""
    first = batches[0]
    if isinstance(first, Mapping):
        if any(set(b) != set(first) for b in batches):
            raise KeyError("their dicts have different keys")
        return {k: _over([b[k] for b in batches], combine) for k in first}
    if isinstance(first, (tuple, list)):
        parts = [_over(same, combine) for same in zip(*batches, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)  # named tuples take arguments
    return combine(batches)


# ---------------------------------------------------------------------- rows


def rows(batch: Batch) -> int:
    """Rows of a batch of tensors: the leading length that all of them have.

    Raises:
        ProblemError: something in it is no tensor with rows, or leading lengths differ.
    """
    found = list(leaves(batch))
    if not found or not all(isinstance(x, Tensor) and x.ndim for x in found):
        strange = next((type(x).__name__ for x in found if not isinstance(x, Tensor)), "scalar" if found else "empty")
        raise ProblemError(
            f"the rows of a batch can be told of tensors, and of tuples, lists and dicts of tensors, with one row a "
            f"sample; here is a part of type {strange}. Hand over fewer batches where fewer samples are wanted"
        )
    lengths = sorted({len(x) for x in found})
    if len(lengths) > 1:
        raise ProblemError(
            f"the rows of a batch can be told where every tensor has one row a sample; here leading lengths are "
            f"{', '.join(map(str, lengths))}. Hand over fewer batches where fewer samples are wanted"
        )
    return lengths[0]


def take(batch: Batch, index: slice | Tensor) -> Batch:
    """Some rows of a batch: of a slice as views, of row numbers (count,) as a copy."""
    return _over([batch], lambda same: same[0][index if isinstance(index, slice) else index.to(same[0].device)])


def first_rows(batch: Batch, size: int) -> Batch:
    """The first `size` rows of a batch, as views."""
    return take(batch, slice(size))


def split(batch: Batch, size: int) -> list[Batch]:
    """Parts of at most `size` rows each and as equal as can be, as views, in order."""
    length = rows(batch)
    size = -(-length // max(-(-length // size), 1))
    return [take(batch, slice(i, i + size)) for i in range(0, length, size)]


def join(batches: Sequence[Batch]) -> Batch:
    """All rows of several batches in one.

    Raises:
        ProblemError: the batches differ in more than their length.
    """
    try:
        return batches[0] if len(batches) == 1 else _over(batches, lambda same: torch.cat(list(same)))
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ProblemError(
            "batches cannot be joined unless they have one form, and rows of one shape (pad sequences to one length): "
            f"{str(error).splitlines()[0]}"
        ) from error


def rebatched(batches: Sequence[Batch], size: int, ranks: int = 1) -> list[Batch]:
    """The same rows in the same order in batches of at most `size`, as many for each of `ranks` as can be.

    Raises:
        ProblemError: rows cannot be told, or batches differ in more than their length.
    """
    lengths = [rows(b) for b in batches]
    total = sum(lengths)
    count = -(-total // max(size, 1))
    count = min(-(-count // ranks) * ranks, total)  # whole batches are dealt to ranks: as many for each
    size = -(-total // count)
    sources = batches if size <= min(lengths) else [join(batches)]
    return [part for source in sources for part in split(source, size)]


# ---------------------------------------------------------------------- counting


def count_samples(batch: Batch) -> int:
    """Samples of a batch: the length of its first tensor.

    Raises:
        ProblemError: the batch holds no tensor.
    """
    for tensor in tensors(batch):
        return len(tensor) if tensor.ndim else 1
    raise ProblemError(f"a batch of type {type(batch).__name__} holds no tensor, so its samples cannot be counted")


def total_count(batches: Sequence[Batch], count: Callable[[Batch], int] | None, what: str) -> int:
    """Samples of all batches, by `count` where it is given; `what` names the data.

    Raises:
        ProblemError: no samples, a batch without any, or a batch's mean that is not over its samples.
    """
    if count is None and is_uneven(batches):
        raise ProblemError(
            f"{what} has labels that are masked (-100) or unequally long, so a batch's mean is not over its samples; "
            "say over how many it is: count=lambda batch: int((batch['labels'] != -100).sum()), "
            "batch['labels'][:, 1:] where the model shifts them"
        )
    found = [(count or count_samples)(b) for b in batches]
    empty = next((number for number, n in enumerate(found) if n <= 0), None)
    if empty is not None:  # its mean is 0 / 0
        raise ProblemError(f"batch {empty} of {what} counts {found[empty]} samples; leave it out")
    if not found:
        raise ProblemError(f"{what} is empty: 0 samples in 0 batches; hand over at least one sample")
    return sum(found)


def count_correct(outputs: Any, batch: Batch) -> int | None:
    """Right answers of a classification batch, or None when it is no classification.

    Outputs are (n, classes) for targets (n,), or (n, ..., classes) for sequences of targets (n, ...).
    """
    if not isinstance(outputs, Tensor) or not _is_pair(batch) or outputs.ndim < 2:
        return None
    targets = batch[1]
    if targets.is_floating_point() or targets.shape != outputs.shape[:-1]:
        return None
    return int((outputs.argmax(dim=-1) == targets).sum())


def count_answers(batch: Batch) -> int:
    """Answers that a classification batch asks for: its targets, less the masked ones (negative)."""
    return int((batch[1] >= 0).sum())


def is_uneven(batches: Sequence[Batch]) -> bool:
    """Whether a mean over labels weighs samples unequally: some are -100 (masked, for torch), or lengths differ."""
    found = [b.get("labels") if isinstance(b, Mapping) else b[1] if _is_pair(b) else None for b in batches]
    labels = [x for x in found if isinstance(x, Tensor) and x.ndim and not x.is_floating_point()]
    masked = any(bool((x == -100).any()) for x in labels)
    return len(batches) > 1 and (masked or len({x.shape[1:] for x in labels}) > 1)
