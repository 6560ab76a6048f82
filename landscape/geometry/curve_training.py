"""Train the bends of a curve between two minima: what step k does depends on the seed and k alone.

Gradient descent with momentum 0.9; the rate is constant for half of the steps, then falls to a hundredth (Garipov et
al. 2018). BatchNorm uses each mini-batch's own statistics meanwhile, dropout is off. The places of a step are dealt
over ranks and summed in one order, so that every number of ranks gives the same curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distributed.parallel import Comm
from ..errors import ProblemError, UsageError
from ..learning.training import MiniBatches
from ..loss.batch_statistics import of_the_batch
from ..loss.batches import Batch
from ..loss.problem import Problem
from .curve import Curve, kind_module, straight

Float64 = NDArray[np.float64]
State = dict[str, NDArray[Any]]  # points, momentum, losses: all that the rest of the training depends on

MOMENTUM = 0.9


def train_curve(
    problem: Problem,
    a: Tensor,
    b: Tensor,
    kind: str,
    comm: Comm,
    *,
    bends: int | None = None,
    steps: int = 1000,
    rate: float = 0.1,
    batch_size: int | None = None,
    seed: int = 0,
    begin: Mapping[str, NDArray[Any]] | None = None,
    on_state: Callable[[State], None] = lambda state: None,
    every: int = 100,
) -> tuple[Curve, Float64]:
    """A curve from a to b whose bends, at first equally spaced on the straight line, were trained; losses a step.

    `on_state(state)` is called on every rank after each `every` steps; a state may come back as `begin` (rank 0's
    counts) to go on after a kill, to the same numbers. The problem's weights are never moved, its BatchNorm statistics
    are: put its state back afterwards.

    Raises:
        UsageError: numbers out of range, or a kind without bends.
        ProblemError: the loss along the curve is not finite.
    """
    module = kind_module(kind)
    bends = module.BENDS if bends is None else bends
    if bends < 1 or not module.BENDS:
        raise UsageError(f"a {kind} curve with {bends} bends has nothing to train; choose another kind or more bends")
    if steps < 1 or not 0 < rate < float("inf"):
        raise UsageError(f"a curve needs at least 1 step and a positive rate, got {steps} steps at rate {rate}")
    state = comm.broadcast(dict(begin) if begin is not None else _start(straight(a, b), bends))
    points, momentum = (torch.from_numpy(np.array(state[n])) for n in ("points", "momentum"))
    losses = [float(x) for x in state["losses"]]
    gradients = _Gradients(problem, MiniBatches(problem, batch_size, seed), comm)
    for step in range(len(losses), steps):
        found, loss = module.gradient(points, module.coefficients, step, seed, gradients)
        if not np.isfinite(loss) or not bool(torch.isfinite(found).all()):
            raise ProblemError(f"the loss along the {kind} curve is not finite at step {step}; lower its rate {rate:g}")
        found[0] = found[-1] = 0
        momentum = MOMENTUM * momentum + found
        points = points - rate * _schedule(step / steps) * momentum
        losses.append(loss)
        if len(losses) % every == 0 or len(losses) == steps:
            on_state({"points": points.numpy(), "momentum": momentum.numpy(), "losses": np.array(losses)})
    return Curve(kind, points), np.array(losses)


def _start(line: Curve, bends: int) -> State:
    points = torch.stack([line.at(float(t)) for t in np.linspace(0, 1, bends + 2)]).cpu()
    return {"points": points.numpy(), "momentum": np.zeros(points.shape), "losses": np.empty(0)}


def _schedule(share: float) -> float:
    """Factor of the rate after a share of the steps: 1 up to a half, 0.01 from nine tenths on, linear between."""
    return 1 - 0.99 * min(max((share - 0.5) / 0.4, 0.0), 1.0)


class _Gradients:
    """Gradients of mini-batch losses at several weight vectors, dealt over ranks; equal on every rank."""

    def __init__(self, problem: Problem, batches: MiniBatches, comm: Comm) -> None:
        self.problem, self.batches, self.comm = problem, batches, comm

    def __call__(self, vectors: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Float64]:
        """(gradients (vectors, size) in float64, losses (vectors,)) of vector i on mini-batch numbers[i]."""
        with self.comm.together():
            mine = {
                i: self._one(vectors[i], self.batches.at(numbers[i])) for i in self.comm.share(range(len(vectors)))
            }
        found = {i: pair for part in self.comm.gather(mine) for i, pair in part.items()}
        gradients = torch.stack([torch.from_numpy(found[i][0]) for i in range(len(vectors))])
        return gradients.double(), np.array([found[i][1] for i in range(len(vectors))])

    def _one(self, vector: Tensor, batches: list[Batch]) -> tuple[NDArray[Any], float]:
        leaf = vector.to(self.problem.device, self.problem.dtype).requires_grad_()
        total = sum(self.problem.count(batch) for batch in batches)
        gradient, loss = torch.zeros_like(leaf), 0.0
        for batch in batches:
            with of_the_batch(self.problem, batch):
                value = self.problem.batch_loss(leaf, batch) * (self.problem.count(batch) / total)
            gradient = gradient + torch.autograd.grad(value, leaf)[0]
            loss += float(value.detach())
        return gradient.cpu().numpy(), loss
