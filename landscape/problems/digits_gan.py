"""Handwritten digits (scikit-learn's, 8 x 8 pixels) made by a generator against a discriminator."""

from __future__ import annotations

from torch import nn

from ..games.modes import ClassJudge, fixed_noise
from ..loss.problem import Problem
from ._data import digits
from ._gan import JUDGED_SEED, game, players


def build(
    payoff: str = "nsgan",
    updates: str = "simultaneous",
    player: str | None = None,
    width: int = 128,
    depth: int = 1,
    noise: int = 16,
    activation: str = "relu",
    seed: int | None = None,
    judged: int = 1000,
    batch_size: int = 500,
    test_share: float = 0.2,
) -> Problem:
    """A game on images (64,) in [0, 1]; modes are the ten classes, told by a small classifier.

    Args:
        payoff: nsgan, minimax, least_squares or wgan.
        updates: simultaneous or alternating, of `landscape train`.
        player: generator or discriminator: the curvature jobs take his weights and his loss alone; training moves both.
        width, depth: of the hidden layers of both networks.
        noise: numbers that the generator makes an image of.
        activation: relu, tanh, gelu, silu or softplus.
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        judged: made images that classes are counted in.
        batch_size: samples a batch of the curvature jobs; it changes no number.
        test_share: share of the 1,797 images that is held out.
    """
    (images, labels), held_out = digits(test_share, 0)
    model = players(64, noise, width, depth, activation, seed, nn.Sigmoid())
    judge = ClassJudge(images, labels, fixed_noise(judged, noise, JUDGED_SEED), (8, 8))
    test = held_out and held_out[0]
    return game(model, payoff, images, test, noise, judge, updates, player, batch_size, "digits_gan")
