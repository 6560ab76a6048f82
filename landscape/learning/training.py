"""A small reproducible training loop: step k's mini-batch depends on the seed and k alone, so a killed run goes on."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import plugins
from ..errors import ProblemError, UsageError
from ..loss.batches import Batch
from ..loss.loading import check_arguments
from ..loss.problem import Problem
from ..optimizers._torch import torch_optimizers

SHIPPED = "landscape.optimizers"
DEFAULT_BATCH = 64


class MiniBatches:
    """Mini-batches by step: every epoch is a permutation drawn from (seed, epoch).

    Args:
        size: samples a mini-batch; 0 for all samples at once; None for 64, or, where the data are no (inputs, targets)
            tensors, for the problem's own batches.

    Raises:
        UsageError: a size for data that cannot be cut anew.
    """

    def __init__(self, problem: Problem, size: int | None, seed: int) -> None:
        self.problem, self.seed = problem, seed
        pairs = all(isinstance(b, (tuple, list)) and len(b) == 2 and all(isinstance(x, Tensor) for x in b)
                    for b in problem.batches)  # fmt: skip
        if size and not pairs:
            raise UsageError("this problem's data are ready-made batches; leave --batch-size out, or say 0 for all")
        self.full = size == 0
        rows = sum(len(b[0]) for b in problem.batches) if pairs else 0  # a row may count as several samples, or tokens
        self.size = min(size or DEFAULT_BATCH, rows) if pairs else 1
        self._pair = (
            [torch.cat([batch[i] for batch in problem.batches]) for i in (0, 1)] if pairs and not self.full else None
        )
        self.items = rows if pairs else len(problem.batches)
        self.samples = problem.samples if self.full else self.size * (1 if pairs else problem.count(problem.batches[0]))
        self.an_epoch = 1 if self.full else -(-self.items // self.size)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> list[Batch]:
        """The batches whose mean loss step number `step` (from 0) descends."""
        if self.full:
            return self.problem.batches
        epoch, position = divmod(step, self.an_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.items, generator=generator)
        chosen = self._order[position * self.size : (position + 1) * self.size]
        if self._pair is None:
            return [self.problem.batches[int(i)] for i in chosen]
        return [self.problem.drawn_anew((self._pair[0][chosen], self._pair[1][chosen]), self.seed, step)]


def train_step(problem: Problem, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> float:
    """One optimizer step on the mean loss of some batches in training mode; returns that loss before the step.

    In a game of alternating updates it is one step of every player, each after the other's.
    The model comes back in evaluation mode. Running statistics (BatchNorm) move with the first evaluation, the one at
    the weights themselves, not with what an optimizer tries elsewhere.
    """
    total = sum(problem.count(b) for b in batches)
    first: list[float] = []
    statistics: list[Tensor] = []

    def shares() -> Iterator[Tensor]:
        for batch in batches:
            yield problem.training_loss(batch) * (problem.count(batch) / total)

    def field() -> tuple[float, dict[nn.Parameter, Tensor]]:
        value, gradients = 0.0, dict[nn.Parameter, Tensor]()
        with sdpa_kernel(SDPBackend.MATH):
            for batch in batches:
                loss, found = problem.training_field(batch)
                share = problem.count(batch) / total
                value += share * float(loss.detach())
                gradients = {w: share * g + gradients.get(w, 0) for w, g in found.items()}
        seen(value)
        return value, gradients

    def seen(value: float) -> None:
        if not first:
            statistics.extend(b.clone() for b in problem.model.buffers())
        first.append(value)

    def closure() -> float:
        optimizer.zero_grad()
        value = 0.0
        for share in shares():
            share.backward()
            value += float(share.detach())
        seen(value)
        return value

    def graph() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # the other attention kernels have no double backward
            loss = torch.stack(list(shares())).sum()
        seen(float(loss.detach()))
        return loss

    # LBFGS and the sharpness-aware ones ask for the loss more than once; some differentiate it, or the gradient, again.
    asked: Any = closure
    if getattr(optimizer, "returns_graph", False):
        asked = graph
    elif getattr(optimizer, "returns_field", False):
        asked = field
    problem.model.train()
    try:
        for turn in problem.turns():
            with turn:
                optimizer.step(asked)
    finally:
        problem.model.eval()
    if len(first) > 1:
        for buffer, value in zip(problem.model.buffers(), statistics, strict=True):
            buffer.copy_(value)
    return first[0]


class Norms:
    """Norms of the last gradient and of the last update of a model's trainable weights; keeps one copy of them."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = [p for p in model.parameters() if p.requires_grad]
        self._before = [p.detach().clone() for p in self._weights]

    def __call__(self) -> dict[str, float]:
        """`{"grad_norm", "update_norm"}` of the step since the last call; the gradient is the one that it left."""
        slopes = [p.grad for p in self._weights if p.grad is not None]
        moves = [p.detach() - old for p, old in zip(self._weights, self._before, strict=True)]
        for old, p in zip(self._before, self._weights, strict=True):
            old.copy_(p.detach())
        return {"grad_norm": _norm(slopes), "update_norm": _norm(moves)}


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def evaluation(problem: Problem) -> dict[str, float]:
    """Loss, accuracy and what else the problem judges, over all training and test samples, at the present weights."""
    weights = problem.weights()
    found = {f"train_{k}": v for k, v in problem.evaluate(weights).items()}
    if problem.has_test:
        found |= {f"test_{k}": v for k, v in problem.evaluate(weights, "test").items()}
    return found | problem.judged()


# ---------------------------------------------------------------------- optimizers by name


def make_optimizer(
    name: str, model: nn.Module, settings: Mapping[str, Any], problem: Problem | None = None
) -> torch.optim.Optimizer:
    """An optimizer of torch.optim (any case) or of `landscape/optimizers/`, over the trainable weights of a model.

    A file of `landscape/optimizers/` whose `make` takes `model` first is given the model instead of its weights, one
    that takes `named` first is given (name, weight) pairs, and one that takes `problem` first the problem, such as
    those that change the network.

    Raises:
        UsageError: no such optimizer, or settings that it does not take; the message names the choices.
    """
    maker = _maker(name)
    first = next(iter(inspect.signature(maker).parameters))  # its name says what it wants
    check_arguments(maker, settings, f"optimizer '{name}'", "--set", given=(first,))
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if first == "problem" and problem is None:
        raise UsageError(f"optimizer '{name}' changes the network and needs its problem: make_optimizer(..., problem)")
    given: Any = {"model": model, "named": named, "problem": problem}.get(first, [p for _, p in named])
    try:
        optimizer = maker(given, **settings)
    except (ValueError, TypeError, RuntimeError) as error:
        words = [f"{key}={value}" for key, value in settings.items() if isinstance(value, str)]
        text = f" ({', '.join(words)} is text, no number)" if words and isinstance(error, TypeError) else ""
        raise UsageError(f"optimizer '{name}' refuses its settings: {str(error).splitlines()[0]}{text}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ProblemError(f"optimizer '{name}' must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def _maker(name: str) -> Callable[..., Any]:
    own = plugins.names(SHIPPED)
    if name in own:
        found: Callable[..., Any] = plugins.load(SHIPPED, name).make
        return found
    known = torch_optimizers()
    if name.lower() not in known:
        choices = sorted({*known, *own})
        close = difflib.get_close_matches(name.lower(), choices, n=1)
        guess = f" Did you mean {close[0]}?" if close else ""
        raise UsageError(f"unknown optimizer '{name}'.{guess} The choices are {', '.join(choices)}")
    return known[name.lower()]
