"""What the shipped adversarial networks share: two players, frozen noise, and a game of them."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..games.game import Game, Judge
from ..games.modes import MixtureJudge, fixed_noise
from ..games.payoffs import adversarial
from ..loss.problem import Problem
from ._layers import activation_layer, set_seed

NOISE_SEED = 2_020_096  # of the frozen noise: no setting, so that all runs of a problem answer for the same
JUDGED_SEED = 73_000_011  # of the noise that samples are judged by


class Players(nn.Module):
    """Generator and discriminator as one model, so that one checkpoint holds both."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator


def perceptron(widths: list[int], activation: str, *last: nn.Module) -> nn.Sequential:
    """Linear layers of these widths with an activation between them, and `last` at the end."""
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.Linear(before, width), activation_layer(activation)]
    return nn.Sequential(*layers[:-1], *last)


def players(sample: int, noise: int, width: int, depth: int, activation: str, seed: int | None,
            *last: nn.Module) -> Players:  # fmt: skip
    """Two perceptrons with `depth` hidden layers each; `last` ends the generator.

    Raises:
        UsageError: a size below 1.
    """
    for name, value in (("noise", noise), ("width", width), ("depth", depth)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    set_seed(seed)
    hidden = [width] * depth
    generator = perceptron([noise, *hidden, sample], activation, *last)
    return Players(generator, perceptron([sample, *hidden, 1], activation))


def game(
    model: Players, payoff: str, real: Tensor, test: Tensor | None, noise: int, judge: Judge, updates: str,
    player: str | None, batch_size: int, name: str,
) -> Problem:  # fmt: skip
    """The game on real samples (n, coordinate), each beside noise of its own, frozen; so for the held-out ones.

    Raises:
        UsageError: no such player.
    """
    parts = [(x, fixed_noise(len(x), noise, NOISE_SEED + i)) for i, x in enumerate((real, test)) if x is not None]
    found = Game(
        model, adversarial(payoff), parts[0], test_data=parts[1] if test is not None else None,
        updates=updates, redraw=redrawn, judge=judge, batch_size=batch_size, name=name,
    )  # fmt: skip
    if player is not None and player not in found.players:
        raise UsageError(f"there is no player '{player}'; the players are {', '.join(found.players)}")
    return found if player is None else found.restricted(f"{player}.*")


def mixture_game(
    centres: Tensor, deviation: float, samples: int, judged: int, noise: int, width: int, depth: int, activation: str,
    seed: int | None, payoff: str, updates: str, player: str | None, batch_size: int, name: str,
) -> Problem:  # fmt: skip
    """The game on equal Gaussians at the centres (modes, 2); a quarter as many samples are held out."""
    model = players(centres.shape[1], noise, width, depth, activation, seed)
    judge = MixtureJudge(centres, deviation, fixed_noise(judged, noise, JUDGED_SEED))
    real, test = (mixture(centres, deviation, n, s) for n, s in ((samples, 1), (max(samples // 4, 1), 2)))
    return game(model, payoff, real, test, noise, judge, updates, player, batch_size, name)


def redrawn(batch: Any, generator: torch.Generator) -> Any:
    """The real samples of a mini-batch beside new noise."""
    real, noise = batch
    return real, torch.randn(noise.shape, generator=generator).to(noise)


def mixture(centres: Tensor, deviation: float, samples: int, seed: int) -> Tensor:
    """Samples of a mixture of equal Gaussians (samples, coordinate), as equal a number of each as there is."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.arange(samples) % len(centres)
    shifted = centres[which] + deviation * torch.randn(samples, centres.shape[1], generator=generator)
    return shifted[torch.randperm(samples, generator=generator)]
