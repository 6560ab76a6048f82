"""Minima, saddles and maxima of a sampled surface, and how high the passes between its basins are.

Sublevel sets {L <= t} of the grid grow with t: a component is born at a minimum and ends at the saddle where it meets
one that is older (deeper). Saddle minus minimum is its persistence, the barrier that keeps the basin apart
(Edelsbrunner, Letscher & Zomorodian 2002). Holes of the sublevel sets pair saddles with maxima in the same way.

Points of a sublevel set touch along sides and diagonals, those above it along sides alone, as the plane demands. What
lies outside the window counts as higher: a minimum at the border is one of the window, and a maximum there is none. A
loss that is not finite counts as +infinity. Equal losses are ordered by their place, and pairs of equal loss are none.

Union-find over sorted losses is 30 lines; a library for it (gudhi: 11 MB, and the oracle of the tests) is not worth it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..records import Array, Surface
from .rounding import uncertainty

Cell = tuple[int, int]  # row, column


# ------------------------------------------------------------------ pairs of cells


def sublevel_pairs(height: Array) -> list[tuple[Cell, Cell | None]]:
    """(minimum, saddle) of every component of {height <= t}; None: it never meets a deeper one. NaN is +infinity."""
    return _pairs(np.where(np.isnan(height), np.inf, height), math.inf, diagonals=True)


def hole_pairs(height: Array) -> list[tuple[Cell, Cell]]:
    """(maximum, saddle) of every hole of {height <= t}; the maximum may be a place that is not finite."""
    found = _pairs(-np.where(np.isnan(height), np.inf, height), -math.inf, diagonals=False)
    return [(top, saddle) for top, saddle in found if saddle is not None]  # all but the outside itself


def _pairs(height: Array, outside: float, *, diagonals: bool) -> list[tuple[Cell, Cell | None]]:
    """Birth and death of the components of {height <= t}, inside a frame of cells as high as `outside`."""
    framed = np.pad(height, 1, constant_values=outside)
    width, values = framed.shape[1], framed.ravel()
    steps = [-width, -1, 1, width] + ([-width - 1, -width + 1, width - 1, width + 1] if diagonals else [])
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    age = rank.tolist()
    parent = [-1] * (len(values) + width + 1)  # -1: not there yet; beyond the end, also counted from behind, nothing is

    def root(cell: int) -> int:
        while parent[cell] != cell:
            parent[cell] = cell = parent[parent[cell]]
        return cell

    died: dict[int, int | None] = {}
    for cell in order[: np.count_nonzero(values < math.inf)].tolist():
        roots = {root(cell + step) for step in steps if parent[cell + step] >= 0}
        eldest = min(roots, key=age.__getitem__) if roots else cell
        if not roots:
            died[cell] = None
        for younger in roots - {eldest}:
            parent[younger], died[younger] = eldest, cell
        parent[cell] = eldest
    ended = ((birth, death) for birth, death in died.items() if death is None or values[birth] < values[death])
    return [(_place(b, width), None if d is None else _place(d, width)) for b, d in ended]


def _place(cell: int, width: int) -> Cell:
    return cell // width - 1, cell % width - 1


# ------------------------------------------------------------------ what a surface shows


@dataclass(frozen=True)
class Critical:
    """A minimum, saddle or maximum of the grid; `border` says that the window's edge may have made it."""

    row: int
    column: int
    u: float
    v: float
    loss: float
    border: bool


@dataclass(frozen=True)
class Pair:
    """A basin (minimum) or a peak (maximum) with the saddle where it ends; the deepest basin has none."""

    extremum: Critical
    saddle: Critical | None
    persistence: float  # |saddle - extremum| in units of the loss; inf without a saddle


@dataclass(frozen=True)
class Topology:
    """Basins and peaks of a surface, the most persistent first, those that rise above what the losses may be off."""

    basins: list[Pair]
    peaks: list[Pair]
    unresolved: int  # pairs left out: no higher than rounding or the error of the interpolation
    not_finite: int  # grid points

    @property
    def saddles(self) -> list[Critical]:
        """Each once, though several basins may meet at it."""
        found = (pair.saddle for pair in (*self.basins, *self.peaks))
        return list(dict.fromkeys(saddle for saddle in found if saddle is not None))

    @property
    def words(self) -> str:
        """'3 minima (1 at the border), 2 saddles, 0 maxima'."""
        at_border = sum(pair.extremum.border for pair in self.basins)
        minima = _count(len(self.basins), "minimum", "minima") + (f" ({at_border} at the border)" if at_border else "")
        saddles, maxima = _count(len(self.saddles), "saddle", "saddles"), _count(len(self.peaks), "maximum", "maxima")
        return f"{minima}, {saddles}, {maxima}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def topology(surface: Surface, least: float | None = None) -> Topology:
    """Basins and peaks of a surface's loss that are more persistent than `least`; by default than `uncertainty`."""
    limit = uncertainty(surface) if least is None else np.full(surface.loss.shape, least)
    at = _critical(surface)
    basins = _read(surface.loss, sublevel_pairs(surface.loss), at)
    peaks = [p for p in _read(surface.loss, hole_pairs(surface.loss), at) if math.isfinite(p.extremum.loss)]
    deep, high = ([p for p in pairs if p.persistence > _limit(limit, p)] for pairs in (basins, peaks))
    left_out = len(basins) + len(peaks) - len(deep) - len(high)
    return Topology(deep, high, left_out, int(np.count_nonzero(~np.isfinite(surface.loss))))


def _critical(surface: Surface) -> Callable[[Cell], Critical]:
    rows, columns = surface.loss.shape

    def at(cell: Cell) -> Critical:
        i, j = cell
        border = i in (0, rows - 1) or j in (0, columns - 1)
        return Critical(i, j, float(surface.u[j]), float(surface.v[i]), float(surface.loss[i, j]), border)

    return at


def _read(loss: Array, pairs: Sequence[tuple[Cell, Cell | None]], at: Callable[[Cell], Critical]) -> list[Pair]:
    found = [
        Pair(at(low), None, math.inf) if high is None else Pair(at(low), at(high), float(abs(loss[high] - loss[low])))
        for low, high in pairs
    ]
    return sorted(found, key=lambda p: (-p.persistence, p.extremum.loss))


def _limit(limit: Array, pair: Pair) -> float:
    """The larger of its values at both ends of the pair."""
    ends = [pair.extremum] if pair.saddle is None else [pair.extremum, pair.saddle]
    return float(max(limit[e.row, e.column] for e in ends))
