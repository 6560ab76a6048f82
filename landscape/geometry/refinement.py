"""From coarse to fine: which points of a grid to measure next, and what the others are by interpolation.

Levels are nested tensor grids of strides ..., 4, 2, 1. From one level to the next a bicubic spline (of the log of a
positive quantity) predicts the new points. What measuring them changes, the surplus, shrinks from level to level where
the surface is smooth, so a new point is measured only where the surplus around it lets expect more than the tolerance,
and wherever a corner has diverged. Some of the others are measured all the same, and held out: one that was predicted
worse than the tolerance has its surroundings measured too. So the error estimate is itself checked.

Errors are relative to the range of the measured loss, and where all losses are positive to that of its log too,
whichever is larger: what is drawn is the log.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import distance_transform_edt, maximum_filter

Float64 = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

_COARSEST = 11  # points an axis at least, so that a first picture costs a twentieth of 51 x 51
_DECAY = 0.5  # of the surplus from level to level that is counted on; a smooth surface has 1/16
_SAFETY = 0.25 # of the tolerance: the surplus around a point is not the error at it
_HELD_OUT = 24  # one of so many points that seem good enough is measured to see whether it is
_AROUND = 5  # points on either side, together, that a surplus speaks for


@dataclass
class Grid:
    """A loss on the grid u x v as far as it is measured; `expected` and `held_out` are kept by `refine`."""

    u: Float64
    v: Float64
    loss: Float64 = field(init=False)  # (row, column)
    measured: Mask = field(init=False)  # (row, column)
    expected: Float64 = field(init=False)  # (row, column) error of what is not measured, relative
    held_out: list[float] = field(default_factory=list)  # errors of the points that seemed good enough, relative

    def __post_init__(self) -> None:
        shape = len(self.v), len(self.u)
        self.loss, self.measured = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        self.expected = np.zeros(shape)

    def put(self, index: Index, loss: Float64) -> None:
        self.loss.flat[index] = loss
        self.measured.flat[index] = True

    @property
    def ranges(self) -> tuple[float, float]:
        """Largest less smallest measured loss, and the same of its log; infinite where a loss is not positive."""
        finite = self.loss[self.measured & np.isfinite(self.loss)]
        if not len(finite):
            return 1.0, np.inf
        wide = float(np.ptp(finite)) or 1.0
        return wide, (float(np.ptp(np.log(finite))) or 1.0) if finite.min() > 0 else np.inf

    def difference(self, one: Float64, other: Float64) -> Float64:
        """How far two losses are apart, relative to the ranges; infinite where one of them alone has diverged."""
        linear, logarithmic = self.ranges
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            apart = np.abs(one - other) / linear
            if np.isfinite(logarithmic):
                apart = np.maximum(apart, np.abs(np.log(one) - np.log(other)) / logarithmic)
        only_one = np.isnan(one) != np.isnan(other)
        return np.where(only_one, np.inf, np.nan_to_num(apart, nan=0.0, posinf=np.inf))


def refine(grid: Grid, tolerance: float | None) -> Generator[Index, None, None]:
    """Flat indices of the points to measure next, level by level; the caller puts their losses into the grid.

    Without a tolerance every point is measured, coarse ones first.
    """
    strides = levels(grid.u, grid.v)
    yield _flat(_on(grid, strides[0]) & ~grid.measured)
    surplus = _first_surplus(grid, strides[0])
    for stride in strides[1:]:
        new = _on(grid, stride) & ~_on(grid, 2 * stride)
        if tolerance is None:
            yield _flat(new)
            continue
        surplus = yield from _one_level(grid, stride, new, surplus, tolerance)


def _one_level(
    grid: Grid, stride: int, new: Mask, surplus: Float64, tolerance: float
) -> Generator[Index, None, Float64]:
    """Measures what is needed of a level's new points; returns the surplus (row, column) of the level."""
    predicted = filled(grid.u, grid.v, grid.loss, grid.measured, until=stride)
    expected = _DECAY * _envelope(surplus, 2 * stride, grid)
    wanted = new & ((expected > _SAFETY * tolerance) | _beside_diverged(grid, predicted, stride))
    spread = np.random.default_rng(stride).random(new.shape) < 1 / _HELD_OUT
    held_out = new & ~wanted & spread
    todo = wanted | held_out
    while todo.any():
        yield _flat(todo)
        error = np.where(grid.measured & new, grid.difference(grid.loss, predicted), 0.0)
        wrong = held_out & (error > tolerance)
        grid.held_out += error[held_out & ~wrong].tolist()
        held_out = np.zeros_like(new)
        near = maximum_filter(wrong, size=2 * _AROUND * stride + 1, mode="constant")
        todo = new & near & ~grid.measured
        # What has just been measured may be wrong at its own edge: then its surroundings follow as well.
        held_out = todo.copy()
    grid.expected = np.where(new & ~grid.measured, expected, np.where(grid.measured, 0.0, grid.expected))
    surplus = np.where(grid.measured, grid.difference(grid.loss, predicted), expected)
    return np.where(new, surplus, 0.0)


def levels(u: Float64, v: Float64) -> list[int]:
    """Strides from coarse to fine, halving; the coarsest leaves at least 11 points an axis, as far as there are."""
    stride = 1
    while min(len(places(len(u), 2 * stride)), len(places(len(v), 2 * stride))) >= _COARSEST:
        stride *= 2
    return [stride >> k for k in range(stride.bit_length())]


def places(count: int, stride: int) -> Index:
    """Every stride-th place of an axis, and its last one."""
    return np.unique(np.append(np.arange(0, count, stride), count - 1))


def filled(u: Float64, v: Float64, values: Float64, measured: Mask, *, until: int = 1) -> Float64:
    """All values on the grid, those not measured by splines from level to level (the coarsest level must be whole).

    NaN where the corners around a point are all NaN, or where it was measured so.
    """
    strides = levels(u, v)
    known = values[measured & np.isfinite(values)]
    log = len(known) > 0 and bool(known.min() > 0)
    whole = np.full(values.shape, np.nan)
    rows, columns = places(len(v), strides[0]), places(len(u), strides[0])
    block = values[np.ix_(rows, columns)]
    for stride in strides[1:]:
        if stride < until:
            break
        finer = places(len(v), stride), places(len(u), stride)
        predicted = _spline(v[rows], u[columns], block, v[finer[0]], u[finer[1]], log)
        rows, columns = finer
        inside = np.ix_(rows, columns)
        block = np.where(measured[inside], values[inside], predicted)
    whole[np.ix_(rows, columns)] = block
    return whole


def _spline(y: Float64, x: Float64, z: Float64, fine_y: Float64, fine_x: Float64, log: bool) -> Float64:
    """Bicubic through z (y, x), of the log where told; what has diverged is bridged by its nearest finite neighbour."""
    finite = np.isfinite(z)
    if not finite.any():
        return np.full((len(fine_y), len(fine_x)), np.nan)
    if not finite.all():
        nearest = distance_transform_edt(~finite, return_distances=False, return_indices=True)
        bridged = z[tuple(nearest)]
    else:
        bridged = z
    heights = np.log(bridged) if log else bridged
    found = RectBivariateSpline(y, x, heights, kx=min(3, len(y) - 1), ky=min(3, len(x) - 1), s=0)(fine_y, fine_x)
    with np.errstate(over="ignore"):
        found = np.exp(found) if log else found
    return np.where(_any_corner(finite, y, x, fine_y, fine_x), found, np.nan)


def _any_corner(mask: Mask, y: Float64, x: Float64, fine_y: Float64, fine_x: Float64) -> Mask:
    """Whether any of the corners around a fine point is set."""
    i = np.clip(np.searchsorted(y, fine_y, side="right") - 1, 0, len(y) - 2)
    j = np.clip(np.searchsorted(x, fine_x, side="right") - 1, 0, len(x) - 2)
    four = [mask[np.ix_(i + a, j + b)] for a in (0, 1) for b in (0, 1)]
    return four[0] | four[1] | four[2] | four[3]


def _on(grid: Grid, stride: int) -> Mask:
    """The points of a level."""
    mask = np.zeros(grid.loss.shape, dtype=bool)
    mask[np.ix_(places(len(grid.v), stride), places(len(grid.u), stride))] = True
    return mask


def _flat(mask: Mask) -> Index:
    return np.flatnonzero(mask)


def _first_surplus(grid: Grid, stride: int) -> Float64:
    """What every second point of the coarsest level says about the others."""
    rows, columns = places(len(grid.v), stride), places(len(grid.u), stride)
    if min(len(rows), len(columns)) < 5:
        return np.where(grid.measured, np.inf, 0.0)  # too few to say anything
    block = grid.loss[np.ix_(rows, columns)]
    known = block[np.isfinite(block)]
    log = len(known) > 0 and bool(known.min() > 0)
    y, x = places(len(rows), 2), places(len(columns), 2)
    predicted = _spline(grid.v[rows][y], grid.u[columns][x], block[np.ix_(y, x)], grid.v[rows], grid.u[columns], log)
    surplus = np.zeros(grid.loss.shape)
    surplus[np.ix_(rows, columns)] = grid.difference(block, predicted)
    return surplus


def _envelope(surplus: Float64, stride: int, grid: Grid) -> Float64:
    """Largest surplus around each point of the grid, as far as two points of a level reach."""
    finite = np.where(np.isfinite(surplus), surplus, 1.0)
    found: Float64 = maximum_filter(finite, size=4 * stride + 1, mode="constant")
    return found


def _beside_diverged(grid: Grid, predicted: Float64, stride: int) -> Mask:
    """New points some of whose surroundings have diverged, and some not: no interpolation crosses that edge."""
    rows, columns = places(len(grid.v), stride), places(len(grid.u), stride)
    nan = np.isnan(predicted[np.ix_(rows, columns)])
    edge = maximum_filter(nan, size=3, mode="nearest") & maximum_filter(~nan, size=3, mode="nearest")
    mask = np.zeros(grid.loss.shape, dtype=bool)
    mask[np.ix_(rows, columns)] = edge
    return mask
