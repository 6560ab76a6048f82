"""A small convolutional network on real images: scikit-learn's digits, or Fashion-MNIST from a folder of idx files."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import UsageError
from ..loss.problem import Problem
from ._data import FASHION_MNIST, digits, fashion_mnist
from ._layers import activation_layer, set_seed


def build(
    data: str = "digits",
    width: int = 8,
    activation: str = "tanh",
    seed: int | None = None,
    batch_size: int = 256,
    samples: int = 2000,
    test_samples: int = 1000,
    data_root: str = FASHION_MNIST,
) -> Problem:
    """Two strided 3 x 3 convolutions and a linear layer with cross-entropy.

    Args:
        data: 'digits' (8 x 8 pixels, in scikit-learn) or 'fashion_mnist' (28 x 28 pixels, read from `data_root`).
        width: channels of the first convolution; the second has twice as many.
        activation: tanh, gelu, silu, softplus (smooth: the Hessian exists everywhere) or relu.
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        batch_size: samples a batch of the curvature jobs; it changes no number.
        samples: training images of Fashion-MNIST, equally many of each class.
        test_samples: test images of Fashion-MNIST; 0 for none.
        data_root: folder of the four idx files (gzipped or not), for Fashion-MNIST or anything of that layout.
    """
    if data not in ("digits", "fashion_mnist"):
        raise UsageError(f"unknown data '{data}'; the choices are digits, fashion_mnist")
    if width < 1:
        raise UsageError(f"width must be at least 1, got {width}")
    if data == "digits":
        train, test = digits(0.2, 0)
        train, test = _as_images(train), _as_images(test) if test else None
    else:
        train, test = fashion_mnist(data_root, samples, test_samples)
    set_seed(seed)
    model = network(train[0].shape[-1], width, activation)
    name = f"cnn on {data}"
    return Problem(model, nn.functional.cross_entropy, train, batch_size=batch_size, test_data=test, name=name)


def network(pixels: int, width: int, activation: str) -> nn.Sequential:
    """Convolutions of stride 2 twice, then a linear layer to ten classes."""
    after = (pixels + 3) // 4  # pixels a side after two strides of 2, rounded up
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1),
        activation_layer(activation),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        activation_layer(activation),
        nn.Flatten(),
        nn.Linear(2 * width * after * after, 10),
    )


def _as_images(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return pair[0].view(-1, 1, 8, 8), pair[1]
