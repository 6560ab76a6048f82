"""The Jacobian J = dF / dtheta of a game's field F(theta) = (dL_p / dtheta_p)_p over all batches and ranks.

    J = [[H_GG, d2 L_G / dG dD], [d2 L_D / dD dG, H_DD]]   for a generator G and a discriminator D

J is not symmetric: where its eigenvalues have imaginary parts the players turn around each other, and descent
theta' = -F(theta) leaves a point where one has a negative real part. J v is one column, J^T u one row at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..distributed.parallel import Comm
from ..loss.batches import Batch
from .game import Game

Products = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]  # v -> J v and u -> J^T u of one batch


@dataclass
class Jacobian:
    """Products with J and its transpose at the weights `vector` (size,); batches are dealt whole to ranks.

    Args:
        keep: hold the graph of every batch between products; without, it is built for every product.
    """

    game: Game
    vector: Tensor
    comm: Comm
    keep: bool = True

    def __post_init__(self) -> None:
        self.size = self.game.size
        self._owned = {p: self.game.owned(p) for p in self.game.players}
        self._losses = {p: self.game.player(p).batch_loss for p in self.game.players}
        self._batches = self.comm.share(self.game.batches)
        self._kept: list[Products] = []

    def owned(self, player: str) -> Tensor:
        """Which entries (size,) are that player's."""
        return self._owned[player]

    def field(self) -> Tensor:
        """F over all samples, (size,) in float64."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self.vector.device)
        with self.comm.together():
            for batch in self._batches:
                total.add_(self._field(self.vector.detach().requires_grad_(True), batch, graph=False),
                           alpha=self._share(batch))  # fmt: skip
        return self.comm.sum(total)

    def product(self, block: Tensor) -> Tensor:
        """J times a block (size, b), equal on every rank: float64."""
        return self._summed(block, 0)

    def transposed(self, block: Tensor) -> Tensor:
        """J^T times a block (size, b), equal on every rank: float64."""
        return self._summed(block, 1)

    def _summed(self, block: Tensor, which: int) -> Tensor:
        total = torch.zeros(block.shape, dtype=torch.float64, device=self.vector.device)
        with self.comm.together():
            columns = block.to(self.vector).unbind(1)
            for batch, products in zip(self._batches, self._products(), strict=True):
                found = torch.stack([products[which](v) for v in columns], dim=1)
                total.add_(found, alpha=self._share(batch))
        return self.comm.sum(total)

    def _share(self, batch: Batch) -> float:
        return self.game.count(batch) / self.game.samples

    def _products(self) -> Iterator[Products]:
        if not self.keep:
            return (self._prepared(batch) for batch in self._batches)
        if len(self._kept) < len(self._batches):
            self._kept = [self._prepared(batch) for batch in self._batches]
        return iter(self._kept)

    def _field(self, theta: Tensor, batch: Batch, graph: bool) -> Tensor:
        """F of one batch, each player's part from his own loss."""
        parts = torch.zeros_like(theta)
        for player, loss in self._losses.items():
            value = loss(theta, batch)
            if value.requires_grad:
                (slope,) = torch.autograd.grad(value, theta, create_graph=graph, materialize_grads=True)
                parts = parts + torch.where(self._owned[player], slope, 0)
        return parts

    def _prepared(self, batch: Batch) -> Products:
        theta = self.vector.detach().requires_grad_(True)
        field = self._field(theta, batch, graph=True)
        if not field.requires_grad:  # losses linear in the weights
            return torch.zeros_like, torch.zeros_like
        dual = torch.zeros_like(field, requires_grad=True)
        (pulled,) = torch.autograd.grad(field, theta, dual, create_graph=True, materialize_grads=True)  # J^T dual

        def forwards(v: Tensor) -> Tensor:
            """d <J^T u, v> / du: reverse mode alone, so every layer that can be differentiated twice works."""
            (found,) = torch.autograd.grad(pulled, dual, v, retain_graph=True, materialize_grads=True)
            return found

        def backwards(u: Tensor) -> Tensor:
            (found,) = torch.autograd.grad(field, theta, u, retain_graph=True, materialize_grads=True)
            return found

        return forwards, backwards
