"""A problem: a model, a loss and a fixed list of batches. It maps flat weight vectors to losses.

The loss is L(theta) = sum_b n_b * batch_loss_b(theta) / sum_b n_b over the frozen batches, n_b their sample counts, so
the size of a batch, or a short last one, never changes the loss surface. The model is held in evaluation mode
(dropout off, BatchNorm statistics frozen) and is called functionally: weights handed in, never written.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import ProblemError
from . import subsets
from .batches import Batch, count_answers, count_correct, count_samples, freeze, move, rebatched, rows, total_count
from .flat import FlatWeights
from .objective import BatchLoss, Loss, Metric, Objective, check_metrics
from .weights import unmoved_buffers


class Problem(FlatWeights):
    """Model + loss + fixed batches.

    Args:
        model: the network; the problem puts it into evaluation mode and keeps it.
        loss: `loss(outputs, targets)`, the mean over the batch, a scalar.
        data: a pair of tensors (inputs, targets), a Dataset, a DataLoader or a list of (inputs, targets) batches.
            It is read once, in order, and kept: the same samples answer every question.
        batch_size: samples a batch for a pair of tensors or a Dataset; the unit of work dealt to ranks.
        test_data: the same forms; adds test loss and accuracy to surfaces and paths.
        count: samples (or tokens) of a batch, its weight in the mean; default the length of its first tensor.
        metrics: what surfaces show beside loss and accuracy: {"margin": metric}, each `metric(outputs, targets)` the
            mean over the batch (targets are the whole batch where the model computes its own loss).
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
        metrics: Mapping[str, Metric] | None = None,
        name: str = "",
    ) -> None:
        self._set_up(Objective(model, loss, None), data, batch_size, test_data, count, metrics, name)

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
        metrics: Mapping[str, Metric] | None = None,
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
        problem._set_up(Objective(model, None, batch_loss), data, batch_size, test_data, count, metrics, name)
        return problem

    def _set_up(
        self,
        objective: Objective,
        data: Any,
        batch_size: int,
        test_data: Any,
        count: Callable[[Batch], int] | None,
        metrics: Mapping[str, Metric] | None,
        name: str,
    ) -> None:
        self.name = name
        self.count: Callable[[Batch], int] = count or count_samples
        self.metrics = check_metrics(metrics or {})
        self._hold(objective)
        self.sampling: dict[str, Any] = {}  # which rows of which data `subset` or `parts` took; empty: all
        self.batches: list[Batch] = [move(b, self.device) for b in freeze(data, batch_size)]
        self.samples = total_count(self.batches, count, f"the data of {name or 'the problem'}")
        self.test_batches: list[Batch] = []
        if test_data is not None:
            self.test_batches = [move(b, self.device) for b in freeze(test_data, batch_size)]
            total_count(self.test_batches, count, f"the test data of {name or 'the problem'}")

    # ------------------------------------------------------------------ losses

    @property
    def loss(self) -> Loss | None:
        """The loss of outputs and targets; None where the model computes its own."""
        return self._objective.loss

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

    def training_field(self, batch: Batch) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
        """(mean loss, gradient by weight with its graph) of one batch at the model's own weights."""
        loss = self.training_loss(batch)
        weights = [p for p in self._parameters.values() if p.requires_grad]
        found = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
        return loss, dict(zip(weights, found, strict=True))

    def drawn_anew(self, batch: Batch, seed: int, step: int) -> Batch:
        """A mini-batch with what the training draws anew at every step, from (seed, step): here nothing."""
        return batch

    def turns(self) -> Sequence[contextlib.AbstractContextManager[None]]:
        """Within each of these in turn an optimizer takes its step: here once, with all weights."""
        return [contextlib.nullcontext()]

    def judged(self) -> dict[str, float]:
        """What is measured at a checkpoint beside loss and metrics of the batches: here nothing."""
        return {}

    def unmoved_buffers(self) -> contextlib.AbstractContextManager[list[str]]:
        """Buffers of the model end as they began; those that were moved in between are in the list afterwards."""
        return unmoved_buffers(self.model)

    @torch.no_grad()
    def evaluate(self, vector: Tensor, which: str = "train") -> dict[str, float]:
        """Mean loss, and accuracy for classification, over all batches of 'train' or 'test'; NaN is a value."""
        batches = self.batches if which == "train" else self.test_batches
        loss, correct, answers, total, classified = 0.0, 0, 0, 0, True
        others = dict.fromkeys(self.metrics, 0.0)
        for batch in batches:
            value, outputs = self.outcome(vector, batch)
            n = self.count(batch)
            loss += n * float(value)
            hits = count_correct(outputs, batch)
            classified = classified and hits is not None
            if hits is not None:
                correct += hits
                answers += count_answers(batch)
            for name, mean in self.measured(outputs, batch).items():
                others[name] += n * float(mean)
            total += n
        result = {"loss": loss / total if total else math.nan}
        if classified and answers:
            result["accuracy"] = correct / answers
        return result | {name: value / total if total else math.nan for name, value in others.items()}

    def measured(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """The user's metrics of a batch by name, each its mean."""
        targets = batch if self.loss is None else batch[1]
        return {name: torch.as_tensor(metric(outputs, targets)) for name, metric in self.metrics.items()}

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

    def with_model(self, model: nn.Module) -> Problem:
        """The problem with another model: the same loss and data, all trainable weights of that model."""
        other = copy.copy(self)
        other._hold(self._objective.of(model))
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
        other = copy.copy(self)
        other.batches = rebatched(self.batches, size, ranks)
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

    def subset(self, samples: int, seed: int = 0) -> Problem:
        """The problem on a fixed random subset, class-balanced where targets are integers; drawn from `seed` alone.

        `samples` counts rows: where `count` counts tokens, `other.samples` are the tokens of these rows.

        Raises:
            ProblemError: more samples asked for than there are, or batches whose rows cannot be told.
        """
        count, labels = sum(map(rows, self.batches)), subsets.classes(self.batches)
        if not 1 <= samples <= count:
            raise ProblemError(f"samples must lie between 1 and {count}, got {samples}")
        chosen = subsets.balanced_indices(torch.empty(count) if labels is None else labels, samples, seed)
        return self._on(chosen, subsets.rule(labels), seed)

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
        total, labels = sum(map(rows, self.batches)), subsets.classes(self.batches)
        count = subsets.parts_for(labels, total) if count is None else count
        if total < count:
            raise ProblemError(f"{count} disjoint parts need at least {count} samples, got {total}")
        dealt = subsets.dealt(labels, total, count, seed)
        return [self._on(r, f"{subsets.rule(labels)} part {k} of {count}", seed) for k, r in enumerate(dealt, start=1)]

    def _on(self, chosen: Tensor, rule: str, seed: int) -> Problem:
        """The problem on some rows of its batches, in batches as large as before."""
        other = copy.copy(self)
        other.batches = subsets.cut(self.batches, chosen)
        other.samples = sum(map(self.count, other.batches))
        of = sum(map(rows, self.batches))
        drawn = {"rule": rule, "rows": len(chosen), "of": of, "seed": seed, "digest": subsets.digest(chosen)}
        other.sampling = drawn
        return other
