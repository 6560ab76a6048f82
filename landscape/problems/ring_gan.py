"""Eight Gaussians on a ring, learned by a generator against a discriminator: the smallest game that collapses."""

from __future__ import annotations

import math

import torch

from ..loss.problem import Problem
from ._gan import mixture_game


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
    return mixture_game(centres, deviation, samples, judged, noise, width, depth, activation, seed, payoff, updates,
                        player, batch_size, "ring_gan")  # fmt: skip
