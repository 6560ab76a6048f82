"""A problem: a model, a loss and a fixed list of batches. It maps flat weight vectors to losses.

The loss is L(theta) = sum_b n_b * batch_loss_b(theta) / sum_b n_b over the frozen batches, n_b their sample counts, so
the size of a batch, or a short last one, never changes the loss surface. The model is held in evaluation mode
(dropout off, BatchNorm statistics frozen) and is called functionally: weights handed in, never written.
"""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset, IterableDataset

from . import subsets
from .errors import ProblemError, UsageError
from .subsets import balanced_indices

Batch = Any
Loss = Callable[[Any, Any], Tensor]
BatchLoss = Callable[[nn.Module, Batch], Any]  # the mean loss, (mean loss, outputs), or an object with `.loss`


class _Objective(nn.Module):
    """The model together with its loss as one module, so that `functional_call` replaces weights inside both."""

    def __init__(self, model: nn.Module, loss: Loss | None, batch_loss: BatchLoss | None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.batch_loss = batch_loss

    def forward(self, batch: Batch) -> tuple[Tensor, Any]:
        if self.batch_loss is not None:
            found: Any = self.batch_loss(self.model, batch)
            if isinstance(found, tuple):
                return found[0], found[1] if len(found) > 1 else None
            return getattr(found, "loss", found), getattr(found, "logits", None)
        assert self.loss is not None
        inputs, targets = batch
        outputs = self.model(inputs)
        return self.loss(outputs, targets), outputs


class Problem:
    """Model + loss + fixed batches.

    Args:
        model: the network; the problem puts it into evaluation mode and keeps it.
        loss: `loss(outputs, targets)`, the mean over the batch, a scalar.
        data: a pair of tensors (inputs, targets), a Dataset, a DataLoader or a list of (inputs, targets) batches.
            It is read once, in order, and kept: the same samples answer every question.
        batch_size: samples a batch for a pair of tensors or a Dataset; the unit of work dealt to ranks.
        test_data: the same forms; adds test loss and accuracy to surfaces and paths.
        count: samples (or tokens) of a batch, its weight in the mean; default the length of its first tensor.
        name: shown in messages and records.

    Raises:
        ProblemError: no samples, no trainable weights, weights of several dtypes, or an unusable form of data.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Any,
        *,
        batch_size: int = 256,
        test_data: Any = None,
        count: Callable[[Batch], int] | None = None,
        name: str = "",
    ) -> None:
        self._set_up(_Objective(model, loss, None), data, batch_size, test_data, count, name)

    @classmethod
    def from_batch_loss(
        cls,
        model: nn.Module,
        batch_loss: BatchLoss,
        data: Any,
        *,
        batch_size: int = 256,
        test_data: Any = None,
        count: Callable[[Batch], int] | None = None,
        name: str = "",
    ) -> Problem:
        """A problem whose `batch_loss(model, batch)` returns the batch mean: for models that compute their own loss.

        It may also return (mean loss, outputs), or an object with `.loss` and `.logits` as Hugging Face's models do:
        where the loss is a function of those outputs, `gauss_newton` and `residual` work as well. Batches may be
        anything that holds tensors, a dict for one. `count` is how many terms the batch's mean has. A causal language
        model on dicts of input_ids, attention_mask and labels averages over the labels that are not masked, shifted:

            Problem.from_batch_loss(
                model, lambda model, batch: model(**batch), loader,
                count=lambda batch: int((batch["labels"][:, 1:] != -100).sum()),
            )

        Raises:
            ProblemError: as for `Problem`; or labels are masked, or their lengths differ from batch to batch, and
                `count` is not given.
        """
        problem = cls.__new__(cls)
        problem._set_up(_Objective(model, None, batch_loss), data, batch_size, test_data, count, name)
        return problem

    def _set_up(
        self,
        objective: _Objective,
        data: Any,
        batch_size: int,
        test_data: Any,
        count: Callable[[Batch], int] | None,
        name: str,
    ) -> None:
        self.name = name
        self.count: Callable[[Batch], int] = count or count_samples
        self._count_given = count is not None
        self._objective = objective.eval()
        self._parameters = {n: p for n, p in objective.model.named_parameters() if p.requires_grad}
        if not self._parameters:
            raise ProblemError(f"{self._who()} has no trainable weights; check requires_grad of its parameters")
        kinds = {(p.dtype, p.device) for p in self._parameters.values()}
        if len(kinds) > 1:
            raise ProblemError(
                f"{self._who()} has weights of several dtypes or devices "
                f"({', '.join(sorted(f'{d} on {v}' for d, v in kinds))}); convert the model to one, e.g. model.float()"
            )
        ((self.dtype, self.device),) = kinds
        self._fixed: dict[str, nn.Parameter] = {}  # trainable, but held at the model's own values
        self.sampling: dict[str, Any] = {}  # which rows of which data `subset` or `parts` took; empty: all
        self.block = ""  # what `restricted` was asked for; empty: all trainable weights
        self._sizes = [p.numel() for p in self._parameters.values()]
        self.size: int = sum(self._sizes)
        self.batches: list[Batch] = [move(b, self.device) for b in freeze(data, batch_size)]
        self.samples = self._check_count(self.batches, "data")
        self.test_batches: list[Batch] = (
            [] if test_data is None else [move(b, self.device) for b in freeze(test_data, batch_size)]
        )
        if test_data is not None:
            self._check_count(self.test_batches, "test data")

    def _who(self) -> str:
        return f"the model of '{self.name}'" if self.name else "the model"

    def _check_count(self, batches: list[Batch], what: str) -> int:
        if not self._count_given and _is_uneven(batches):
            raise ProblemError(
                f"the {what} of {self.name or 'the problem'} has labels that are masked (-100) or unequally long, so a "
                "batch's mean is not over its samples; say over how many it is: "
                "count=lambda batch: int((batch['labels'] != -100).sum()), batch['labels'][:, 1:] where the model "
                "shifts them"
            )
        total = 0
        for number, batch in enumerate(batches):
            n = self.count(batch)
            if n <= 0:  # its mean is 0 / 0
                raise ProblemError(
                    f"batch {number} of the {what} of {self.name or 'the problem'} counts {n} samples; leave it out"
                )
            total += n
        if total <= 0:
            raise ProblemError(
                f"the {what} of {self.name or 'the problem'} is empty: 0 samples in {len(batches)} batches; "
                "hand over at least one sample"
            )
        return total

    # ------------------------------------------------------------------ weights and vectors

    @property
    def model(self) -> nn.Module:
        return self._objective.model

    @property
    def objective(self) -> nn.Module:
        """Model and loss as one module: `objective(batch)` is (mean loss, outputs or None)."""
        return self._objective

    @property
    def loss(self) -> Loss | None:
        """The loss of outputs and targets; None where the model computes its own."""
        return self._objective.loss

    def named_slices(self) -> list[tuple[str, tuple[int, ...], slice]]:
        """(name, shape, slice of the flat vector) of every trainable tensor, in order."""
        found, start = [], 0
        for name, parameter in self._parameters.items():
            found.append((name, tuple(parameter.shape), slice(start, start + parameter.numel())))
            start += parameter.numel()
        return found

    def weights(self) -> Tensor:
        """A copy of the model's weights as one flat vector (size,)."""
        return torch.cat([p.detach().reshape(-1) for p in self._parameters.values()])

    def vector_from(self, state: Mapping[str, Tensor]) -> Tensor:
        """The flat vector (size,) of a state dict, in this problem's dtype and on its device.

        Raises:
            ProblemError: names or shapes do not fit, or a weight is not finite.
        """
        self._check_state(state)
        parts = [state[n].detach().reshape(-1).to(self.device, self.dtype) for n in self._parameters]
        return torch.cat(parts)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a state dict (weights and buffers) into the model.

        Raises:
            ProblemError: names or shapes do not fit, or a weight is not finite.
        """
        self._check_state(state)
        own = dict(self.model.state_dict(keep_vars=True))
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value.to(own[name].device, own[name].dtype))

    def state(self) -> dict[str, Tensor]:
        """A copy of the model's state dict: weights and buffers by name."""
        return {n: v.detach().clone() for n, v in self.model.state_dict().items()}

    def _check_state(self, state: Mapping[str, Tensor]) -> None:
        own = self.model.state_dict()
        fix = ""
        if state and all(k.startswith("module.") for k in state) and not any(k.startswith("module.") for k in own):
            fix = f" All {len(state)} names start with 'module.' (DataParallel): save model.module.state_dict()."
        missing = sorted(set(own) - set(state))
        extra = sorted(set(state) - set(own))
        if missing or extra:
            first = f"'{missing[0]}' is missing in it" if missing else f"'{extra[0]}' is unknown to the model"
            raise ProblemError(
                f"the checkpoint does not fit {self._who()}: {len(missing)} tensors missing, {len(extra)} unknown; "
                f"{first}.{fix or ' Was it made by another architecture?'}"
            )
        wrong = [n for n in own if tuple(own[n].shape) != tuple(state[n].shape)]
        if wrong:
            n = wrong[0]
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise ProblemError(
                f"the checkpoint does not fit {self._who()}: '{n}' has shape {tuple(state[n].shape)} in the checkpoint "
                f"and {tuple(own[n].shape)} in the model{more}. Was it trained with other problem settings?"
            )
        for name, value in state.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).sum())
                raise ProblemError(
                    f"the checkpoint's tensor '{name}' has {bad} of {value.numel()} values that are not finite "
                    "(NaN or infinity): training diverged before it; choose an earlier checkpoint"
                )

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector (size,) as the model's named weights; differentiable."""
        parts = torch.split(vector, self._sizes)
        return {n: v.view(p.shape) for (n, p), v in zip(self._parameters.items(), parts, strict=True)}

    # ------------------------------------------------------------------ losses

    def outcome(self, vector: Tensor, batch: Batch) -> tuple[Tensor, Any]:
        """(mean loss of the batch, outputs or None) at a flat vector (size,); differentiable in the vector."""
        named = {f"model.{n}": v for n, v in self.unflatten(vector).items()}
        named |= {f"model.{n}": p.detach() for n, p in self._fixed.items()}
        # The flash and memory-efficient attention kernels have no double backward; the math backend has.
        with sdpa_kernel(SDPBackend.MATH):
            loss, outputs = functional_call(self._objective, named, (batch,))
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ProblemError(f"the loss of a batch must be a scalar (the mean over the batch), got {shape}")
        return loss.reshape(()), outputs

    def batch_loss(self, vector: Tensor, batch: Batch) -> Tensor:
        """Mean loss of one batch at a flat vector (size,); differentiable in the vector."""
        return self.outcome(vector, batch)[0]

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean loss of one batch at the model's own weights, differentiable in them: what an optimizer descends."""
        loss: Tensor = self._objective(batch)[0]
        return loss

    @contextlib.contextmanager
    def unmoved_buffers(self) -> Iterator[list[str]]:
        """Buffers of the model end as they began; those that were moved in between are in the list afterwards."""
        buffers = dict(self.model.named_buffers())
        before = {name: buffer.detach().clone() for name, buffer in buffers.items()}
        moved: list[str] = []
        try:
            yield moved
        finally:
            moved += [n for n, b in buffers.items() if not _equal(b.detach(), before[n])]
            with torch.no_grad():
                for name in moved:
                    buffers[name].copy_(before[name])

    @torch.no_grad()
    def evaluate(self, vector: Tensor, which: str = "train") -> dict[str, float]:
        """Mean loss, and accuracy for classification, over all batches of 'train' or 'test'; NaN is a value."""
        batches = self.batches if which == "train" else self.test_batches
        loss, correct, answers, total, classified = 0.0, 0, 0, 0, True
        for batch in batches:
            value, outputs = self.outcome(vector, batch)
            n = self.count(batch)
            loss += n * float(value)
            hits = count_correct(outputs, batch)
            classified = classified and hits is not None
            if hits is not None:
                correct += hits
                answers += count_answers(batch)
            total += n
        result = {"loss": loss / total if total else math.nan}
        if classified and answers:
            result["accuracy"] = correct / answers
        return result

    @property
    def has_test(self) -> bool:
        return bool(self.test_batches)

    @property
    def has_accuracy(self) -> bool:
        """Whether the problem is a classification: integer targets (n, ...) and outputs (n, ..., classes)."""
        with torch.no_grad():
            return count_correct(self.outcome(self.weights(), self.batches[0])[1], self.batches[0]) is not None

    # ------------------------------------------------------------------ variants

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Problem:
        """The same problem in another precision or on another device (a copy; floating-point inputs follow)."""
        other = copy.copy(self)
        other._objective = copy.deepcopy(self._objective).to(device=device, dtype=dtype)
        own = dict(other.model.named_parameters())
        other._parameters = {n: own[n] for n in self._parameters}
        other._fixed = {n: own[n] for n in self._fixed}
        other.dtype, other.device = dtype or self.dtype, torch.device(device) if device is not None else self.device
        other.batches = [move(b, other.device, dtype) for b in self.batches]
        other.test_batches = [move(b, other.device, dtype) for b in self.test_batches]
        return other

    def first_batch(self) -> Problem:
        """The problem on its first batch alone: enough to time or to compare products."""
        return self.one_batch(0)

    def one_batch(self, number: int) -> Problem:
        """The problem on one of its batches alone."""
        other = copy.copy(self)
        other.batches, other.test_batches = [self.batches[number]], []
        other.samples = self.count(self.batches[number])
        return other

    def identity(self) -> tuple[Any, ...]:
        """What two problems have in common that are the same function of as many samples, in as many batches."""
        return id(self._objective), self.block, self.size, self.samples, len(self.batches), self.dtype, self.device

    def rebatched(self, size: int, ranks: int = 1) -> Problem:
        """The problem in batches of at most `size` rows, in the same order, as many for each of `ranks` as can be.

        Whether its loss allows that is for `parts_agree` to say.

        Raises:
            ProblemError: batches whose tensors have no common length, or that differ in more than their length.
        """
        lengths = [rows(b) for b in self.batches]
        total = sum(lengths)
        count = -(-total // max(size, 1))
        count = min(-(-count // ranks) * ranks, total)  # whole batches are dealt to ranks: as many for each
        size = -(-total // count)
        other = copy.copy(self)
        sources = self.batches if size <= min(lengths) else [join(self.batches)]
        other.batches = [part for source in sources for part in split(source, size)]
        return other

    def parts_agree(self, vector: Tensor, whole: Batch, parts: Sequence[Batch]) -> bool:
        """Whether a batch and its parts have one count and, weighted, one loss at the weights (size,), to rounding."""
        with torch.no_grad():
            losses = [float(self.batch_loss(vector, b)) for b in (whole, *parts)]
        counts = [self.count(b) for b in parts]
        if sum(counts) != self.count(whole):
            return False
        mean = sum(n * loss for n, loss in zip(counts, losses[1:], strict=True)) / sum(counts)
        return abs(mean - losses[0]) <= 1e3 * torch.finfo(self.dtype).eps * max(abs(mean), abs(losses[0]), 1e-30)

    def restricted(self, *patterns: str) -> Problem:
        """The problem as a function of a block of its weights; the others stay at the model's own values.

        Its operators are the diagonal blocks of the full ones. The model is shared: `load` on either serves both.

        Args:
            patterns: shell patterns ('0.*', 'layer1.*', '*.bias'), each of a weight's name or of the name of the
                module that owns it; the block is the union of what they match, in the order of the model.

        Raises:
            UsageError: a pattern matches no weight; the message lists the names.
        """
        for pattern in patterns:
            if not any(_matches(n, pattern) for n in self._parameters):
                names = _listed(self._parameters)
                raise UsageError(f"no weight of {self._who()} matches '{pattern}'; there are {names}")
        other = copy.copy(self)
        other._parameters = {n: p for n, p in self._parameters.items() if any(_matches(n, t) for t in patterns)}
        other._fixed = {**self._fixed, **{n: p for n, p in self._parameters.items() if n not in other._parameters}}
        other._sizes = [p.numel() for p in other._parameters.values()]
        other.size = sum(other._sizes)
        other.block = ",".join(patterns)
        return other

    def layers(self) -> list[str]:
        """Names of the modules that own trainable weights, in the model's order: patterns of `restricted`.

        A weight of the outermost module stands for itself.
        """
        return list(dict.fromkeys(n.rpartition(".")[0] or n for n in self._parameters))

    def subset(self, samples: int, seed: int = 0) -> Problem:
        """The problem on a fixed random subset, class-balanced where targets are integers; drawn from `seed` alone.

        `samples` counts rows: where `count` counts tokens, `other.samples` are the tokens of these rows.

        Raises:
            ProblemError: more samples asked for than there are, or batches whose rows cannot be told.
        """
        rows = sum(subsets.rows_in(b) for b in self.batches)
        if not 1 <= samples <= rows:
            raise ProblemError(f"samples must lie between 1 and {rows}, got {samples}")
        labels = subsets.classes(self.batches)
        chosen = balanced_indices(torch.empty(rows) if labels is None else labels, samples, seed)
        return self._on(chosen, _rule(labels), seed)

    def halves(self, seed: int = 0) -> tuple[Problem, Problem]:
        """The problem on two disjoint halves of its samples, class-balanced where targets are integers.

        Raises:
            ProblemError: fewer than two samples, or batches whose rows cannot be told.
        """
        first, second = self.parts(2, seed)
        return first, second

    def parts(self, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The problem on disjoint parts that together are all samples; every second part makes a half of `halves`.

        `count` is by default as many, up to 16, as leave two rows of every class in each part.

        Raises:
            ProblemError: fewer samples than parts, or batches whose rows cannot be told.
        """
        rows = sum(subsets.rows_in(b) for b in self.batches)
        labels = subsets.classes(self.batches)
        count = subsets.parts_for(labels, rows) if count is None else count
        if rows < count:
            raise ProblemError(f"{count} disjoint parts need at least {count} samples, got {rows}")
        dealt = subsets.dealt(labels, rows, count, seed)
        return [self._on(r, f"{_rule(labels)} part {k} of {count}", seed) for k, r in enumerate(dealt, start=1)]

    def _on(self, rows: Tensor, rule: str, seed: int) -> Problem:
        """The problem on some rows of its batches, in batches as large as before."""
        other = copy.copy(self)
        total = [subsets.rows_in(b) for b in self.batches]
        other.batches = subsets.cut(self.batches, rows, max(total))
        other.samples = sum(self.count(b) for b in other.batches)
        other.sampling = {
            "rule": rule, "rows": len(rows), "of": sum(total), "seed": seed, "digest": subsets.digest(rows),
        }  # fmt: skip
        return other


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | ((one != one) & (other != other))).all())  # NaN is itself here


def _rule(labels: Tensor | None) -> str:
    return "random" if labels is None else "class-balanced"


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rpartition(".")[0], pattern)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    shown = names if len(names) <= 20 else [*names[:15], f"... {len(names) - 18} more ...", *names[-3:]]
    return ", ".join(shown)


# ---------------------------------------------------------------------- batches


def freeze(data: Any, batch_size: int) -> list[Batch]:
    """Read data once, in a fixed order, into a list of batches.

    Raises:
        ProblemError: inputs and targets of different length, or an unusable form of data.
    """
    if batch_size < 1:
        raise ProblemError(f"batch_size must be at least 1, got {batch_size}")
    if _is_pair(data) and isinstance(data, tuple):
        inputs, targets = data
        if len(inputs) != len(targets):
            raise ProblemError(f"data has {len(inputs)} inputs but {len(targets)} targets; they must pair up")
        return list(_split_pair(inputs, targets, batch_size))
    if isinstance(data, DataLoader):
        return list(data)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return list(DataLoader(data, batch_size=batch_size)) if len(data) else []  # type: ignore[arg-type]
    if isinstance(data, (Sequence, Iterable)) and not isinstance(data, (Tensor, str, bytes, Mapping)):
        return list(data)
    raise ProblemError(
        f"data must be a pair (inputs, targets) of tensors, a Dataset, a DataLoader or a list of batches, "
        f"got {type(data).__name__}"
    )


def _is_pair(data: Any) -> bool:
    return isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(x, Tensor) and x.ndim for x in data)


def _split_pair(inputs: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(targets), size):
        yield inputs[start : start + size], targets[start : start + size]


def tensors(batch: Batch) -> Iterator[Tensor]:
    """All tensors in a nested batch, depth first."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from tensors(value)


def move(batch: Batch, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
    """A batch on a device; floating-point tensors also in `dtype` when given. The nesting is kept."""
    if isinstance(batch, Tensor):
        return batch.to(device, dtype) if dtype is not None and batch.is_floating_point() else batch.to(device)
    if isinstance(batch, Mapping):
        return {k: move(v, device, dtype) for k, v in batch.items()}
    if isinstance(batch, (tuple, list)):
        moved = [move(v, device, dtype) for v in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)  # named tuples take arguments
    return batch


def rows(batch: Batch) -> int:
    """The common leading length of all tensors in a nested batch.

    Raises:
        ProblemError: they have none, or the batch holds something else than tensors.
    """
    lengths = {len(t) if t.ndim else None for t in tensors(batch)}
    if len(lengths) != 1 or None in lengths or not _only_tensors(batch):
        raise ProblemError("the tensors of a batch have no common leading length, so it is computed as it is")
    return int(lengths.pop() or 0)


def _only_tensors(batch: Batch) -> bool:
    if isinstance(batch, Mapping):
        return all(_only_tensors(v) for v in batch.values())
    if isinstance(batch, (tuple, list)):
        return all(_only_tensors(v) for v in batch)
    return isinstance(batch, Tensor)


def split(batch: Batch, size: int) -> list[Batch]:
    """Parts of at most `size` rows each and as equal as can be, as views, in order."""
    length = rows(batch)
    size = -(-length // max(-(-length // size), 1))
    return [_over([batch], lambda ts, i=i: ts[0][i : i + size]) for i in range(0, length, size)]  # type: ignore[misc]


def first_rows(batch: Batch, size: int) -> Batch:
    """The first `size` rows of a batch, as views."""
    return _over([batch], lambda ts: ts[0][:size])


def join(batches: Sequence[Batch]) -> Batch:
    """All rows of several batches in one.

    Raises:
        ProblemError: the batches differ in more than their length.
    """
    try:
        return batches[0] if len(batches) == 1 else _over(batches, lambda ts: torch.cat(list(ts)))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ProblemError(f"batches that differ in more than their length cannot be joined ({error})") from error


def _over(batches: Sequence[Batch], combine: Callable[[Sequence[Tensor]], Tensor]) -> Batch:
    """One batch of the same nesting, its tensors combined from those in the same place."""
    first = batches[0]
    if isinstance(first, Tensor):
        return combine(batches)
    if isinstance(first, Mapping):
        return {k: _over([b[k] for b in batches], combine) for k in first}
    parts = [_over(items, combine) for items in zip(*batches, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)


def count_samples(batch: Batch) -> int:
    """Samples of a batch: the length of its first tensor.

    Raises:
        ProblemError: the batch holds no tensor.
    """
    for tensor in tensors(batch):
        return len(tensor) if tensor.ndim else 1
    raise ProblemError(f"a batch of type {type(batch).__name__} holds no tensor, so its samples cannot be counted")


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


def _is_uneven(batches: list[Batch]) -> bool:
    """Whether a mean over labels weighs samples unequally: some are -100 (masked, for torch), or lengths differ."""
    found = [b.get("labels") if isinstance(b, Mapping) else b[1] if _is_pair(b) else None for b in batches]
    labels = [x for x in found if isinstance(x, Tensor) and x.ndim and not x.is_floating_point()]
    masked = any(bool((x == -100).any()) for x in labels)
    return len(batches) > 1 and (masked or len({x.shape[1:] for x in labels}) > 1)
