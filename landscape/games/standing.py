"""How a game stands at a checkpoint: losses, gradients, the Jacobian's eigenvalues, what the generator makes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..distributed.parallel import Comm
from ..loss.batches import tensors
from ..records import Game as Record
from .arnoldi import cross_norms, eigenvalues
from .game import Game
from .jacobian import Jacobian


def standing(
    game: Game, comm: Comm, *, step: int = 0, count: int = 5, samples: int = 500, cross: bool = True,
    keep: bool = True, seed: int = 0, tolerance: float | None = None,
) -> Record:  # fmt: skip
    """The record of a game at its model's present weights.

    Args:
        count: eigenvalues of each end of the Jacobian's spectrum; see `arnoldi.eigenvalues`.
        samples: made and real samples that are kept in the record.
        cross: measure the cross blocks too.
        keep: of `Jacobian`.
    """
    started = time.perf_counter()
    vector = game.weights()
    jacobian = Jacobian(game, vector, comm, keep)
    found = eigenvalues(jacobian, count, seed, tolerance)
    crosses = cross_norms(jacobian, seed) if cross else {}
    field = jacobian.field()
    with comm.together():
        losses, made = game.losses(vector), game.made()
    meta: dict[str, Any] = {"samples": game.samples, "seconds": time.perf_counter() - started, "missed": found.missed}
    if made.shape:
        meta["sample_shape"] = list(made.shape)
    return Record(
        step, game.size, game.players,
        losses=np.array([losses[p] for p in game.players]),
        gradients=np.array([float(field[jacobian.owned(p)].norm()) for p in game.players]),
        real=found.values.real, imaginary=found.values.imag, residuals=found.residuals, shares=found.shares,
        cross_names=[f"{p}|{q}" for p, q in crosses], cross=np.array(list(crosses.values())) if crosses else None,
        metric_names=list(made.metrics), metrics=np.array(list(made.metrics.values())) if made.metrics else None,
        samples=None if made.samples is None else _array(made.samples, samples),
        real_samples=None if made.samples is None else _array(next(tensors(game.batches[0])), samples),
        mode_shares=None if made.shares is None else made.shares.double().numpy(), meta=meta,
    )  # fmt: skip


def _array(samples: torch.Tensor, most: int) -> NDArray[Any]:
    found: NDArray[Any] = samples[:most].flatten(1).float().cpu().numpy()
    return found


def standings(game: Game, checkpoints: Any, comm: Comm, **options: Any) -> Iterator[Record]:
    """The record of every checkpoint, yielded as each is finished; options of `standing`."""
    for checkpoint in checkpoints:
        with comm.together():
            checkpoint.load_into(game)
        yield standing(game, comm, step=checkpoint.step, **options)
