"""ResNet-20 for 3 x 32 x 32 images (He et al. 2016, section 4.2; shortcuts without weights): 269,722 weights.

BatchNorm uses the statistics of a mini-batch while it trains; every curvature job takes the averages that the
checkpoint holds, frozen.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import UsageError
from ..loss.problem import Problem
from ._data import FASHION_MNIST, images
from ._layers import activation_layer, set_seed


def build(
    data: str = "fashion_mnist",
    width: int = 16,
    blocks: int = 3,
    activation: str = "relu",
    samples: int | None = None,
    test_samples: int = 500,
    data_root: str = FASHION_MNIST,
    seed: int | None = None,
    batch_size: int = 64,
) -> Problem:
    """A residual network of 6 * blocks + 2 layers with cross-entropy, on real images.

    Args:
        data: 'fashion_mnist' (28 x 28 pixels in a frame of zeros, the one channel three times), 'cifar10' (the binary
            version, data_batch_1.bin to data_batch_5.bin and test_batch.bin, in `data_root`), or 'digits'
            (scikit-learn's 8 x 8 pixels, each repeated 4 x 4 times, the one channel three times).
        width: channels of the first stage; the second and third have two and four times as many.
        blocks: residual blocks a stage, of two convolutions each.
        activation: relu (the published one), or tanh, gelu, silu, softplus (smooth: the Hessian exists everywhere).
        samples: training images, equally many of each class; None for 2,000, or all where there are fewer.
        test_samples: test images; 0 for none. The digits have 359.
        data_root: folder of the data's files.
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        batch_size: samples a batch of the curvature jobs; it changes no number.
    """
    if min(width, blocks) < 1:
        raise UsageError(f"width and blocks must be at least 1, got {width} and {blocks}")
    train, test = images(data, ("fashion_mnist", "cifar10", "digits"), 32, samples, test_samples, data_root)
    set_seed(seed)
    model = network(width, blocks, activation)
    name = f"resnet{6 * blocks + 2} on {data}"
    return Problem(
        model, nn.functional.cross_entropy, _coloured(train), batch_size=batch_size,
        test_data=None if test is None else _coloured(test), name=name,
    )  # fmt: skip


def _coloured(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Three channels (samples, 3, 32, 32) of a view where there is one: no bytes are copied."""
    return pair[0].expand(-1, 3, -1, -1), pair[1]


def network(width: int, blocks: int, activation: str) -> nn.Sequential:
    """A convolution, three stages of residual blocks, the mean over pixels: (samples, 3, n, n) -> (samples, 10)."""
    parts: list[nn.Module] = [
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), activation_layer(activation)
    ]  # fmt: skip
    channels = width
    for stage, after in enumerate((width, 2 * width, 4 * width)):
        for block in range(blocks):
            parts.append(Residual(channels, after, 2 if stage and not block else 1, activation))
            channels = after
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return model


class Residual(nn.Module):
    """f(x) + shortcut(x); where the shape changes the shortcut takes every second pixel and adds channels of zeros."""

    def __init__(self, before: int, after: int, stride: int, activation: str) -> None:
        super().__init__()
        self.stride = stride
        self.padding = (after - before) // 2, after - before - (after - before) // 2  # channels of zeros
        self.f = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after),
            activation_layer(activation),
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if any(self.padding):
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, *self.padding))
        out: Tensor = self.activation(self.f(x) + shortcut)
        return out
