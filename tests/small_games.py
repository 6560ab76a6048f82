"""Games whose Jacobian is known: in closed form, or dense."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from landscape.games.game import Game
from landscape.loss.loading import build_problem


class Pair(nn.Module):
    """Two players of two weights each."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([1.0, -0.5], dtype=torch.float64))
        self.y = nn.Parameter(torch.tensor([0.7, 0.2], dtype=torch.float64))


def bilinear(updates: str = "simultaneous") -> Game:
    """min_x max_y <x, A y> with A = diag(1, 3), on two batches that share the factor 2."""
    scale = torch.tensor([1.0, 3.0], dtype=torch.float64)

    def loss(model: Any, batch: Any) -> Tensor:
        value: Tensor = batch[0].mean() * (model.x * scale * model.y).sum()
        return value

    batches = [(torch.tensor([b], dtype=torch.float64), torch.zeros(1)) for b in (0.5, 1.5)]
    return Game(Pair(), {"x": loss, "y": lambda m, b: -loss(m, b)}, batches, updates=updates)


def small(payoff: str = "nsgan", **settings: Any) -> Game:
    """A ring of 8 with 53 weights in float64, its data in three unequal batches."""
    torch.manual_seed(0)
    asked = {"width": 4, "depth": 1, "activation": "tanh", "samples": 50, "batch_size": 20, "payoff": payoff}
    return build_problem("ring_gan", asked | settings).to(dtype=torch.float64)  # type: ignore[return-value]


def dense(game: Game) -> Tensor:
    """J (size, size) from the definition, row by row of the players' own gradients."""
    rows = torch.zeros(game.size, game.size, dtype=torch.float64)
    for batch in game.batches:
        for player in game.players:
            full = torch.func.hessian(game.player(player).batch_loss)(game.weights(), batch)
            rows[game.owned(player)] += full[game.owned(player)] * game.count(batch) / game.samples
    return rows
