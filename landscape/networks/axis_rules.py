"""What each operation of a traced network does with the axes of its tensors: one rule an operation of torch.

A rule unifies the axes that the operation makes meet and returns those of its output. Operations without a rule pin
everything they touch, which is always safe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .axes import Axes, Factor, fresh, length, pin, reshape, unify

Shape = tuple[int, ...]
Rule = Callable[[list[Any], Shape], Axes]  # arguments, in which tensors are their axes; shape of the output

LIKE_INPUT = {
    "dropout", "feature_dropout", "clone", "contiguous", "to", "_to_copy", "detach", "alias", "softmax", "_softmax",
    "log_softmax", "_log_softmax", "lift_fresh_copy", "hardswish", "hardtanh", "relu6", "selu", "celu",
}  # fmt: skip
REDUCTIONS = {"mean", "sum", "amax", "amin", "var", "std", "logsumexp"}
POOLS = {
    f"{kind}_pool{n}d" for n in (1, 2, 3) for kind in ("max", "avg", "adaptive_avg", "adaptive_max")
} | {"_adaptive_avg_pool2d", "upsample_nearest2d", "upsample_bilinear2d"}  # fmt: skip
RESHAPES = {"view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "_unsafe_view"}


def is_axes(value: Any) -> bool:
    """Whether an argument is a tensor's axes: a list of tuples of factors."""
    return isinstance(value, list) and all(
        isinstance(axis, tuple) and all(isinstance(f, Factor) for f in axis) for axis in value
    )


def outcome(target: Any, arguments: list[Any], shapes: Sequence[Shape]) -> list[Axes] | None:
    """Axes of each output of an operation, or None where no rule knows it.

    Args:
        arguments: the positional ones; in the place of a tensor stand its axes.
    """
    if not str(target).startswith("aten."):
        return None
    name = str(target).split(".")[1].removesuffix("_")
    if name in SEVERAL:
        return SEVERAL[name](arguments, shapes)
    for names, rule in ((LIKE_INPUT, _like), (REDUCTIONS, _reduction), (POOLS, _pool), (RESHAPES, _reshape)):
        if name in names:
            return [rule(arguments, shapes[0])]
    if name in RULES:
        return [RULES[name](arguments, shapes[0])]
    if torch.Tag.pointwise in getattr(target, "tags", ()):
        return [_elementwise(arguments, shapes[0])]
    return None


def _like(arguments: list[Any], shape: Shape) -> Axes:
    return list(arguments[0])


def _elementwise(arguments: list[Any], shape: Shape) -> Axes:
    """Broadcasting from the right: axes longer than one meet."""
    result = fresh(shape)
    for axes in arguments:
        if is_axes(axes):
            for mine, theirs in zip(reversed(result), reversed(axes), strict=False):
                if length(theirs) > 1:
                    unify(mine, theirs)
    return result


def _reduction(arguments: list[Any], shape: Shape) -> Axes:
    """A sum does not care about order: the axes summed over stay free."""
    axes: Axes = arguments[0]
    dims = next((a for a in arguments[1:] if isinstance(a, (list, int)) and not isinstance(a, bool)), None)
    if not dims and dims != 0:
        return fresh(shape)
    gone = {d % len(axes) for d in (dims if isinstance(dims, list) else [dims])}
    if len(shape) == len(axes):
        return [() if i in gone else axis for i, axis in enumerate(axes)]
    return [axis for i, axis in enumerate(axes) if i not in gone]


def _pool(arguments: list[Any], shape: Shape) -> Axes:
    """Places are pinned; samples and channels pass."""
    axes: Axes = arguments[0]
    places = len(shape) - 2
    for axis in axes[-places:]:
        pin(axis)
    return [*axes[:-places], *fresh(shape[-places:], pinned=True)]


def _reshape(arguments: list[Any], shape: Shape) -> Axes:
    return reshape(arguments[0], shape)


def _linear(arguments: list[Any], shape: Shape) -> Axes:
    inputs, weight, bias = arguments[0], arguments[1], [*arguments, None][2]
    unify(inputs[-1], weight[1])
    if bias is not None:
        unify(weight[0], bias[0])
    return [*inputs[:-1], weight[0]]


def _convolution(arguments: list[Any], shape: Shape) -> Axes:
    """Channels of group g meet the weight's second axis; with groups both sides are (group, channel in the group)."""
    inputs, weight, bias = arguments[0], arguments[1], [*arguments, None][2]
    groups = next((a for a in arguments[6:7] if isinstance(a, int)), 1)
    for axis in [*inputs[2:], *weight[2:]]:
        pin(axis)
    if groups == 1:
        unify(inputs[1], weight[1])
    else:
        group = Factor(groups)
        unify((group, *weight[1]), inputs[1])
        unify((group, Factor(length(weight[0]) // groups)), weight[0])
    if bias is not None:
        unify(weight[0], bias[0])
    return [inputs[0], weight[0], *fresh(shape[2:], pinned=True)]


def _transposed_convolution(arguments: list[Any], shape: Shape) -> Axes:
    """The weight is (in, out / groups, ...); with groups everything is pinned."""
    inputs, weight, bias = arguments[0], arguments[1], [*arguments, None][2]
    for axis in [*inputs[2:], *weight[2:]]:
        pin(axis)
    unify(inputs[1], weight[0])
    out = weight[1]
    if length(out) != shape[1]:
        for axis in (*weight[:2], inputs[1], *(bias or [])):
            pin(axis)
        out = fresh(shape[1:2], pinned=True)[0]
    elif bias is not None:
        unify(out, bias[0])
    return [inputs[0], out, *fresh(shape[2:], pinned=True)]


def _batch_norm(arguments: list[Any], shape: Shape) -> Axes:
    """Weight, bias and both statistics go with the channels."""
    axes: Axes = arguments[0]
    for vector in arguments[1:5]:
        if is_axes(vector):
            unify(axes[1], vector[0])
    return list(axes)


def _layer_norm(arguments: list[Any], shape: Shape) -> Axes:
    axes: Axes = arguments[0]
    for weight in arguments[2:4]:
        if is_axes(weight):
            for mine, theirs in zip(axes[-len(weight) :], weight, strict=True):
                unify(mine, theirs)
    return list(axes)


def _rms_norm(arguments: list[Any], shape: Shape) -> Axes:
    return _layer_norm([*arguments[:3], None], shape)


def _group_norm(arguments: list[Any], shape: Shape) -> Axes:
    """Whole groups may be exchanged, and channels inside them alike in every group."""
    axes: Axes = arguments[0]
    groups = int(arguments[1])
    unify((Factor(groups), Factor(shape[1] // groups)), axes[1])
    for weight in arguments[2:4]:
        if is_axes(weight):
            unify(axes[1], weight[0])
    return list(axes)


def _prelu(arguments: list[Any], shape: Shape) -> Axes:
    axes, weight = arguments[:2]
    if length(weight[0]) > 1:
        unify(axes[1], weight[0])
    return list(axes)


def _permute(arguments: list[Any], shape: Shape) -> Axes:
    axes: Axes = arguments[0]
    return [axes[d] for d in arguments[1]]


def _transpose(arguments: list[Any], shape: Shape) -> Axes:
    axes = list(arguments[0])
    one, two = (arguments[1:3] if len(arguments) > 2 else (0, 1)) if len(axes) > 1 else (0, 0)
    axes[one], axes[two] = axes[two], axes[one]
    return axes


def _matmul(arguments: list[Any], shape: Shape) -> Axes:
    one, two = arguments[:2]
    unify(one[-1], two[-2] if len(two) > 1 else two[-1])
    rows = [one[-2]] if len(one) > 1 else []
    columns = [two[-1]] if len(two) > 1 else []
    return [*_elementwise([one[:-2], two[:-2]], shape[: len(shape) - len(rows) - len(columns)]), *rows, *columns]


def _addmm(arguments: list[Any], shape: Shape) -> Axes:
    return _elementwise([arguments[0], _matmul(arguments[1:3], shape)], shape)


def _attention(arguments: list[Any], shape: Shape) -> Axes:
    """Queries (..., L, E), keys (..., S, E), values (..., S, F) to (..., L, F); places are pinned."""
    query, key, value = arguments[:3]
    unify(query[-1], key[-1])
    for axis in (query[-2], key[-2], value[-2]):
        pin(axis)
    mask = [arguments[3][:-2]] if len(arguments) > 3 and is_axes(arguments[3]) else []
    return [*_elementwise([query[:-2], key[:-2], value[:-2], *mask], shape[:-2]), query[-2], value[-1]]


def _embedding(arguments: list[Any], shape: Shape) -> Axes:
    table, places = arguments[:2]
    pin(table[0])
    return [*places, table[1]]


def _expand(arguments: list[Any], shape: Shape) -> Axes:
    axes: Axes = arguments[0]
    new = fresh(shape, pinned=True)
    for i, axis in enumerate(reversed(axes), start=1):
        if length(axis) == shape[-i]:
            new[-i] = axis
    return new


def _select(arguments: list[Any], shape: Shape) -> Axes:
    axes = list(arguments[0])
    pin(axes.pop(arguments[1]))
    return axes


def _slice(arguments: list[Any], shape: Shape) -> Axes:
    """An axis of which a part is taken is pinned."""
    axes = list(arguments[0])
    for i, axis in enumerate(axes):
        if length(axis) != shape[i]:
            pin(axis)
            axes[i] = fresh(shape[i : i + 1], pinned=True)[0]
    return axes


def _concatenate(arguments: list[Any], shape: Shape) -> Axes:
    """The joined axis is pinned, all others meet."""
    parts: Sequence[Axes] = arguments[0]
    dim = (arguments[1] if len(arguments) > 1 else 0) % len(shape)
    result = fresh(shape)
    for part in parts:
        for i, axis in enumerate(part):
            if i == dim:
                pin(axis)
            else:
                unify(result[i], axis)
    pin(result[dim])
    return result


def _parts(arguments: list[Any], shapes: Sequence[Shape]) -> list[Axes]:
    """The axis is (block, place in it), blocks as long as all parts allow; places are exchanged alike in all blocks."""
    axes: Axes = arguments[0]
    dim = (arguments[2] if len(arguments) > 2 else 0) % len(axes)
    sizes = [shape[dim] for shape in shapes]
    block = math.gcd(*sizes) if all(sizes) else 1
    place = fresh([block])[0]
    unify((Factor(sum(sizes) // block, pinned=True), *place), axes[dim])
    parts = [(Factor(size // block, pinned=True), *place) if size != block else place for size in sizes]
    return [[*axes[:dim], part, *axes[dim + 1 :]] for part in parts]


def _unbind(arguments: list[Any], shapes: Sequence[Shape]) -> list[Axes]:
    """One output an index: the axis is pinned, all others stay what they are in every output."""
    axes = list(arguments[0])
    pin(axes.pop(arguments[1] if len(arguments) > 1 else 0))
    return [axes for _ in shapes]


def _broadcast(arguments: list[Any], shapes: Sequence[Shape]) -> list[Axes]:
    return [_expand([axes], shape) for axes, shape in zip(arguments[0], shapes, strict=True)]


SEVERAL: dict[str, Callable[[list[Any], Sequence[Shape]], list[Axes]]] = {
    "chunk": _parts, "split": _parts, "split_with_sizes": _parts, "unbind": _unbind,
    "broadcast_tensors": _broadcast,
}  # fmt: skip
RULES: dict[str, Rule] = {
    "linear": _linear, "conv1d": _convolution, "conv2d": _convolution, "conv3d": _convolution,
    "conv_transpose1d": _transposed_convolution, "conv_transpose2d": _transposed_convolution,
    "batch_norm": _batch_norm, "instance_norm": _batch_norm, "layer_norm": _layer_norm, "rms_norm": _rms_norm,
    "group_norm": _group_norm, "prelu": _prelu, "permute": _permute, "transpose": _transpose, "t": _transpose,
    "matmul": _matmul, "bmm": _matmul, "mm": _matmul, "addmm": _addmm,
    "scaled_dot_product_attention": _attention, "embedding": _embedding, "expand": _expand, "select": _select,
    "slice": _slice, "cat": _concatenate,
}  # fmt: skip
