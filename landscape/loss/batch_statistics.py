"""BatchNorm statistics away from a checkpoint: recomputed in one pass, or those of each mini-batch while training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .batches import Batch
from .problem import Problem


def _layers(problem: Problem) -> list[nn.modules.batchnorm._NormBase]:
    layers = [m for m in problem.model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    return [m for m in layers if m.running_var is not None]


def has_statistics(problem: Problem) -> bool:
    """Whether the model keeps running statistics of its activations (BatchNorm)."""
    return any(getattr(module, "running_var", None) is not None for module in problem.model.modules())


@contextlib.contextmanager
def of_the_batch(problem: Problem, batch: Batch) -> Iterator[None]:
    """BatchNorm layers use the statistics of the batch at hand, dropout stays off; one sample alone has none."""
    layers = _layers(problem) if problem.count(batch) > 1 else []
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for layer in layers:
            layer.eval()


def recompute_statistics(problem: Problem, vector: Tensor) -> None:
    """Set the model's BatchNorm statistics to those of a weight vector: the mean over all training batches.

    Only BatchNorm layers leave evaluation mode, dropout stays off. A batch counts by its samples, so that a short
    last one does not distort the mean. Without such layers nothing happens.
    """
    layers = _layers(problem)
    if not layers:
        return
    momenta = [m.momentum for m in layers]
    seen = 0
    try:
        for batch in problem.batches:
            if problem.count(batch) < 2 and len(problem.batches) > 1:
                continue  # one sample alone has no variance
            seen += problem.count(batch)
            for layer in layers:
                layer.train()
                layer.momentum = problem.count(batch) / seen  # a running mean; 1 at the first batch forgets the past
            with torch.no_grad():
                problem.outcome(vector, batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.eval()
            layer.momentum = momentum
