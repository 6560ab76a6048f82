"""Axes of tensors as products of index sets, and what it means that two axes must be permuted alike.

An axis is a tuple of factors, slowest first: after a flatten of (channels, rows, columns) the one axis that is left has
three. Two axes that meet in an operation are unified, factor by factor; a factor splits where the other side has
smaller ones. A factor that is pinned (pixels, classes, anything an unknown operation touches) keeps its order. What
is left free at the end may be permuted without changing the function.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


class Factor:
    """One index set; after unification several names stand for it, or it is the product of smaller ones."""

    def __init__(self, size: int, pinned: bool = False) -> None:
        self.size = size
        self.pinned = pinned
        self.parts: tuple[Factor, ...] = ()  # what it is now, where it was joined or split


Axis = tuple[Factor, ...]
Axes = list[Axis]  # one entry an axis of a tensor


def fresh(shape: Iterable[int], pinned: bool = False) -> Axes:
    """New axes of these lengths that nothing is known about."""
    return [(Factor(int(size), pinned),) if size != 1 else () for size in shape]


def resolve(axis: Axis) -> Axis:
    """The factors that an axis stands for now; factors of one index are left out."""
    found: list[Factor] = []
    for factor in axis:
        found.extend(resolve(factor.parts) if factor.parts else (factor,))
    return tuple(f for f in found if f.size != 1)


def length(axis: Axis) -> int:
    return math.prod(f.size for f in axis)


def pin(axis: Axis) -> None:
    for factor in resolve(axis):
        factor.pinned = True


def unify(*axes: Axis) -> None:
    """Let axes of one length be permuted alike; where their factors do not fit into each other they are pinned."""
    for other in axes[1:]:
        _unify(axes[0], other)


def _unify(one: Axis, two: Axis) -> None:
    while True:
        left, right = resolve(one), resolve(two)
        pair = next(((a, b) for a, b in zip(left, right, strict=False) if a is not b), None)
        if pair is None:
            if len(left) != len(right):
                pin(left)
                pin(right)
            return
        a, b = pair
        if a.size == b.size:
            a.pinned |= b.pinned
            b.parts = (a,)
        elif not (_split(a, b.size) if a.size > b.size else _split(b, a.size)):
            pin(left)
            pin(right)
            return


def _split(factor: Factor, slow: int) -> bool:
    """Make a factor the product of `slow` indices and the rest; False where that is no whole number."""
    if factor.size % slow:
        return False
    factor.parts = (Factor(slow, factor.pinned), Factor(factor.size // slow, factor.pinned))
    return True


def reshape(axes: Sequence[Axis], shape: Sequence[int]) -> Axes:
    """The axes after a reshape: factors are dealt anew, split where an axis is cut; what cannot be cut is pinned."""
    result: Axes = []
    taken = 0  # factors of the whole that are dealt already
    for size in shape:
        mine: list[Factor] = []
        need = int(size)
        while need > 1:
            rest = [f for axis in axes for f in resolve(axis)][taken:]
            if not rest or not _fits(rest[0], need):
                for axis in axes:
                    pin(axis)
                return fresh(shape, pinned=True)
            if rest[0].size > need:
                continue  # it was split: look again
            mine.append(rest[0])
            need //= rest[0].size
            taken += 1
        result.append(tuple(mine))
    return result


def _fits(factor: Factor, need: int) -> bool:
    """Whether a factor can be dealt to an axis that lacks `need`: as it is, or after it was split here."""
    if factor.size <= need:
        return need % factor.size == 0
    return _split(factor, need)
