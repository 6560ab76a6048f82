"""Where the places and operations of a searched cell are drawn: numbers for whatever draws them.

Inputs stand at the left, one above the other, nodes in a row to their right. The operations of an edge are strands
that leave and reach the same places side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..records import Architecture, Array

STEP = 3.0  # between two nodes; the inputs stand at plus and minus one
GAP = 0.13  # between two strands at the middle of an edge
POINTS = 41  # of a strand


@dataclass(frozen=True)
class Place:
    """An input or a node of a cell."""

    number: int
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Strand:
    """One operation on one edge; `group` is its row in the record."""

    group: int
    points: Array  # (point, 2), from the middle of the source to the middle of the target


@dataclass(frozen=True)
class Drawing:
    """A cell in the plane."""

    kind: str
    places: list[Place]
    strands: list[Strand]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Least and largest x and y of everything."""
        every = np.concatenate([[[p.x, p.y] for p in self.places], *(s.points for s in self.strands)])
        (left, low), (right, high) = every.min(axis=0), every.max(axis=0)
        return float(left), float(right), float(low), float(high)


def drawing(record: Architecture, kind: str) -> Drawing:
    """A kind of cell of an architecture; strands of one edge never cross, and none runs through a place.

    Raises:
        ValueError: the record has no such kind.
    """
    if kind not in record.kinds:
        raise ValueError(f"the architecture has no '{kind}' cell; it has {', '.join(dict.fromkeys(record.kinds))}")
    places = [_place(number) for number in range(record.nodes + 2)]
    edges: dict[tuple[int, int], list[int]] = {}
    for group, name in enumerate(record.kinds):
        if name == kind:
            edges.setdefault((int(record.source[group]), int(record.target[group])), []).append(group)
    strands = []
    for (source, target), groups in sorted(edges.items()):
        middle = _middle(places[source], places[target])
        for i, group in enumerate(groups):
            strands.append(Strand(group, _beside(middle, GAP * (i - (len(groups) - 1) / 2))))
    return Drawing(kind, places, strands)


def _place(number: int) -> Place:
    if number < 2:
        return Place(number, ("k-2", "k-1")[number], 0.0, 1.0 - 2.0 * number)
    return Place(number, str(number - 1), STEP * (number - 1), 0.0)


def _middle(source: Place, target: Place) -> Array:
    """The edge itself: a parabola, straight to the next place, else the higher the farther it goes."""
    ends = np.array([[source.x, source.y], [target.x, target.y]])
    over = target.number - max(source.number, 1) - 1  # nodes that it passes
    side = (1.0, -1.0)[source.number] if source.number < 2 else (1.0, -1.0)[source.number % 2]
    share = 0.45 if source.number < 2 else 0.5
    control = ends[0] + share * (ends[1] - ends[0])
    if over:
        control[1] = side * (1.0 + 1.1 * over)
    t = np.linspace(0, 1, POINTS)[:, None]
    curve: Array = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * control + t**2 * ends[1]
    return curve


def _beside(middle: Array, distance: float) -> Array:
    """The curve at a distance from another in its middle part, with the same ends."""
    slope = np.gradient(middle, axis=0)
    across = np.stack([-slope[:, 1], slope[:, 0]], axis=1) / np.linalg.norm(slope, axis=1, keepdims=True)
    t = np.linspace(0, 1, len(middle))[:, None]
    curve: Array = middle + distance * (1 - (1 - 2 * t) ** 4) * across
    return curve
