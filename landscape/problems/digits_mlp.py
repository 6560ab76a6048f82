"""Handwritten digits (scikit-learn's, 8 x 8 pixels) and a network with one hidden layer: 2,410 weights as it comes."""

from __future__ import annotations

import itertools

from torch import nn

from ..errors import UsageError
from ..loss.problem import Problem
from ._data import digits
from ._layers import activation_layer, set_seed


def build(
    hidden: int | list[int] = 32,
    activation: str = "tanh",
    seed: int | None = None,
    batch_size: int = 256,
    test_share: float = 0.2,
    split_seed: int = 0,
) -> Problem:
    """64 - hidden - 10 network with cross-entropy.

    Args:
        hidden: width of the hidden layer, or a list of widths for several layers ([200, 200]).
        activation: tanh, gelu, silu, softplus (smooth: the Hessian exists everywhere) or relu.
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        batch_size: samples a batch of the curvature jobs; it changes no number.
        test_share: share of the 1,797 images that is held out.
        split_seed: which images are held out.
    """
    widths = hidden if isinstance(hidden, list) else [hidden]
    if not widths or not all(isinstance(width, int) and width >= 1 for width in widths):
        raise UsageError(f"hidden must be at least 1, or a list of such widths, got {hidden}")
    set_seed(seed)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise([64, *widths]):
        layers += [nn.Linear(before, width), activation_layer(activation)]
    model = nn.Sequential(*layers, nn.Linear(widths[-1], 10))
    train, test = digits(test_share, split_seed)
    return Problem(model, nn.functional.cross_entropy, train, batch_size=batch_size, test_data=test, name="digits_mlp")
