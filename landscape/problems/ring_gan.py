"""Eight Gaussians on a ring, learned by a generator against a discriminator: the smallest game that collapses."""

from __future__ import annotations

import math

import torch

from ..modes import MixtureJudge, fixed_noise
from ..problem import Problem
from ._gan import JUDGED_SEED, game, mixture, players


def build(
    payoff: str = "nsgan",
    updates: str = "simultaneous",
    player: str | None = None,
    width: int = 64,
    depth: int = 2,
    noise: int = 2,
    activation: str = "relu",
    seed: int | None = None,
    samples: int = 2000,
    deviation: float = 0.02,
    judged: int = 2500,
    batch_size: int = 1000,
) -> Problem:
    """A game on 8 modes at radius 2.

    Args:
        payoff: nsgan, minimax, least_squares or wgan.
        updates: simultaneous or alternating, of `landscape train`.
        player: generator or discriminator: the curvature jobs take his weights and his loss alone; training moves both.
        width, depth: of the hidden layers of both networks.
        noise: numbers that the generator makes a sample of.
        activation: relu, tanh, gelu, silu or softplus.
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        samples: real ones, frozen; a quarter as many are held out.
        deviation: of each mode.
        judged: made samples that modes are counted in.
        batch_size: samples a batch of the curvature jobs; it changes no number.
    """
    angles = torch.arange(8) * (2 * math.pi / 8)
    centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)  # (8, 2)
    model = players(2, noise, width, depth, activation, seed)
    judge = MixtureJudge(centres, deviation, fixed_noise(judged, noise, JUDGED_SEED))
    real, test = (mixture(centres, deviation, n, s) for n, s in ((samples, 1), (max(samples // 4, 1), 2)))
    return game(model, payoff, real, test, noise, judge, updates, player, batch_size, "ring_gan")
