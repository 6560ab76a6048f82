"""The same functions in another order of work: faster on a CPU, equal to rounding.

    with Reordered():
        loss = model(inputs)

PyTorch's CPU kernels for a maximum over small windows, for products of few outputs and for a softmax over few classes
walk along the short axis; here the long axis is innermost, so that the processor's vectors are full. Whatever does not
fit a rule goes the usual way. Whether it pays is for a measurement to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_WIDEST = 64  # classes; from about there on the usual kernel is as good
_LARGEST = 4  # positions along one side of a window


class Reordered(TorchFunctionMode):
    """Within it `max_pool2d` over windows that tile the image, narrow `linear` layers, and `cross_entropy` and `argmax`
    of few classes are done here; pooling stays as it is without `pools`."""

    def __init__(self, *, pools: bool = True) -> None:
        super().__init__()
        self._pools = pools

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.cross_entropy:
            found = cross_entropy(*args, **kwargs)
        elif self._pools and func in (functional.max_pool2d, torch.max_pool2d):
            found = max_pool(*args, **kwargs)
        elif func is functional.linear:
            found = linear(*args, **kwargs)
        elif func in (torch.Tensor.argmax, torch.argmax):
            found = argmax(*args, **kwargs)
        else:
            found = None
        return func(*args, **kwargs) if found is None else found


def cross_entropy(input: Tensor, target: Tensor, *others: Any, **options: Any) -> Tensor | None:  # noqa: A002
    """Mean over samples of log sum_c exp(input_c) - input_target of (n, classes); None for any other form of it.

    No target may be masked (negative): to look would cost what is saved.
    """
    plain = not others and all(value == _DEFAULTS.get(name, value) for name, value in options.items())
    if not plain or input.ndim != 2 or input.shape[1] > _WIDEST or target.ndim != 1 or target.is_floating_point():
        return None
    by_class = input.transpose(0, 1).contiguous()  # (classes, n)
    top = by_class.amax(0)
    normaliser = (by_class - top).exp().sum(0).log() + top
    return (normaliser - by_class.gather(0, target[None])[0]).mean()


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:  # noqa: A002
    """W x + b of samples (n, in) by a layer of few outputs, as the transpose of a product (out, n); None for others.

    The outputs keep that layout, which is the one that the losses of few classes want.
    """
    if input.ndim != 2 or weight.ndim != 2 or weight.shape[0] > _WIDEST or input.shape[0] < 2 * weight.shape[0]:
        return None
    samples = input.transpose(0, 1)  # (in, n)
    product = weight @ samples if bias is None else torch.addmm(bias[:, None], weight, samples)
    return product.transpose(0, 1)


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | None:  # noqa: A002
    """The first of the largest of few classes, (n, classes) -> (n,); None for any other form of it.

    A row with a NaN has none: the answer is the number of classes.
    """
    if input.ndim != 2 or dim not in (-1, 1) or keepdim or input.shape[1] > _WIDEST or not input.is_floating_point():
        return None
    by_class = input.transpose(0, 1).contiguous()  # (classes, n)
    classes = len(by_class)
    places = torch.arange(classes, 0, -1, dtype=input.dtype, device=input.device)[:, None]
    largest = (by_class == by_class.amax(0)).to(input.dtype)
    return classes - (largest * places).amax(0).long()


def equal(one: Tensor, other: Tensor) -> Tensor:
    """1 where a tensor equals another that fits into its shape, 0 elsewhere, in its dtype: many times quicker than as
    booleans."""
    return torch.eq(one, other, out=torch.empty_like(one, memory_format=torch.contiguous_format))


_DEFAULTS: dict[str, Any] = {
    "weight": None, "size_average": None, "reduce": None, "reduction": "mean", "label_smoothing": 0.0,
    "ignore_index": -100,
}  # fmt: skip


def max_pool(
    input: Tensor,  # noqa: A002
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    """Maximum over windows that tile the image: over the rows of a window, then over its columns; None for others."""
    window = pair(kernel_size)
    if return_indices or not tiles(kernel_size, stride, padding, dilation, ceil_mode):
        return None
    for axis, size in ((-2, window[0]), (-1, window[1])):
        whole = input.shape[axis] // size * size
        if not whole:
            return None
        slices = [_every(input, axis, start, whole, size) for start in range(size)]
        input = slices[0]  # noqa: A001
        for other in slices[1:]:
            input = torch.maximum(input, other)  # noqa: A001
    return input


def tiles(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> bool:
    """Whether small windows lie side by side and nothing else."""
    window = pair(kernel_size)
    beside = pair(stride) == window if stride is not None and stride != [] else True
    simple = beside and pair(padding) == (0, 0) and pair(dilation) == (1, 1) and not ceil_mode
    return simple and max(window) <= _LARGEST and min(window) >= 1


def pooled(input: Tensor, *options: Any) -> Tensor:  # noqa: A002
    """`max_pool` wherever it can, the usual one elsewhere."""
    found = max_pool(input, *options)
    return functional.max_pool2d(input, *options) if found is None else found


def _every(image: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
    taken = slice(start, stop, step)
    return image[..., taken, :] if axis == -2 else image[..., taken]


def pair(value: Any) -> tuple[int, int]:
    """Rows and columns of an option that may be one number for both."""
    return (int(value[0]), int(value[-1])) if isinstance(value, (tuple, list)) else (int(value), int(value))
