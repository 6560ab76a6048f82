"""Low-rank layers of a checkpoint: their ranks, and how much of a direction keeps these ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..loss.problem import Problem
from .lowrank import Blocks, nearest, tangent_share, tangent_share_by_chance

_MARK = "sigma/"  # of a checkpoint's optimizer state: singular values of the weight that the name ends with


@dataclass(frozen=True)
class LowRank:
    """The low-rank weights of a checkpoint as parts of the flat vector (size,), with singular values by weight."""

    sigma: dict[str, Tensor]  # weight -> (rank,)
    blocks: Blocks
    size: int

    def tangent_shares(self, vectors: ArrayLike) -> list[float]:
        """|P_T v| / |v| of vectors (k, size): P_T projects onto the tangent space of the weights of these ranks."""
        return [tangent_share(vector, self.blocks) for vector in torch.as_tensor(vectors, dtype=torch.float64)]

    @property
    def by_chance(self) -> float:
        """What a random direction has: sqrt(dim T / size)."""
        return tangent_share_by_chance(self.size, self.blocks)


def low_rank(problem: Problem, weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> LowRank:
    """The low-rank layers that a checkpoint's optimizer state tells of; the factors are those of the weights.

    Only weights among the problem's own count.
    """
    sigma = {name.removeprefix(_MARK): values for name, values in optimizer.items() if name.startswith(_MARK)}
    places = {name: part for name, _shape, part in problem.named_slices() if name in sigma}
    blocks = [(part, nearest(weights[name].detach().double().flatten(1), len(sigma[name])))
              for name, part in places.items()]  # fmt: skip
    return LowRank({name: sigma[name] for name in places}, blocks, problem.size)

