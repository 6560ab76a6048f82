"""LeNet-5 (LeCun et al. 1998, all feature maps connected): 61,706 weights, on Fashion-MNIST or enlarged digits."""

from __future__ import annotations

from torch import nn

from ..errors import UsageError
from ..loss.problem import Problem
from ._data import FASHION_MNIST, images
from ._layers import activation_layer, set_seed

POOLS: dict[str, type[nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


def build(
    data: str = "fashion_mnist",
    activation: str = "tanh",
    pool: str = "average",
    samples: int | None = None,
    test_samples: int = 1000,
    data_root: str = FASHION_MNIST,
    seed: int | None = None,
    batch_size: int = 128,
) -> Problem:
    """LeNet-5 with cross-entropy: by default the smooth form of 1998; activation=relu pool=max is the common one today.

    Args:
        data: 'fashion_mnist' (28 x 28 pixels, read from `data_root`) or 'digits' (scikit-learn's 8 x 8 pixels, each
            repeated 3 x 3 times in a frame of zeros).
        activation: tanh, gelu, silu, softplus (smooth: the Hessian exists everywhere) or relu.
        pool: average (smooth) or max.
        samples: training images, equally many of each class; None for 2,000, or all where there are fewer.
        test_samples: test images; 0 for none. The digits have 359.
        data_root: folder of the four idx files (gzipped or not).
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        batch_size: samples a batch of the curvature jobs; it changes no number.
    """
    train, test = images(data, ("fashion_mnist", "digits"), 28, samples, test_samples, data_root)
    set_seed(seed)
    model = network(activation, pool)
    name = f"lenet on {data}"
    return Problem(model, nn.functional.cross_entropy, train, batch_size=batch_size, test_data=test, name=name)


def network(
    activation: str, pool: str, channels: tuple[int, int] = (6, 16), hidden: tuple[int, int] = (120, 84)
) -> nn.Sequential:
    """Two 5 x 5 convolutions, each pooled 2 x 2, and three linear layers: (samples, 1, 28, 28) -> (samples, 10).

    Raises:
        UsageError: an unknown activation or pool.
    """
    if pool not in POOLS:
        raise UsageError(f"unknown pool '{pool}'; the choices are {', '.join(POOLS)}")
    return nn.Sequential(
        nn.Conv2d(1, channels[0], 5, padding=2), activation_layer(activation), POOLS[pool](2),
        nn.Conv2d(channels[0], channels[1], 5), activation_layer(activation), POOLS[pool](2), nn.Flatten(),
        nn.Linear(25 * channels[1], hidden[0]), activation_layer(activation),
        nn.Linear(hidden[0], hidden[1]), activation_layer(activation), nn.Linear(hidden[1], 10),
    )  # fmt: skip
