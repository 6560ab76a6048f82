"""How a unit is split, given the ends of its splitting matrix: copies, directions, what it gains, what it adds.

    s -> sum_j w_j s(theta + eps d_j),  sum w_j = 1, sum w_j d_j = 0, |d_j| <= 1
    L_split = L + eps^2 / 2 sum_j w_j d_j' S d_j + O(eps^3)

w_j >= 0 (Liu, Wu & Wang 2019): two halves along +-v_min. sum |w_j| <= c (Wu, Ye, Lei, Lee & Liu 2020): copies may count
negatively, which uses the positive end of S too. With P = (c + 1) / 2, Q = (c - 1) / 2, a = max(-l_min, 0),
b = max(l_max, 0) the largest gains are max(a, Q b / P) for two copies and P a + Q b for four; more gain nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .extremes import Extremes

Rule = Callable[[Extremes, int], tuple[list[float], Tensor]]  # (ends, unit) -> weights w_j, directions d_j (copy, d)


@dataclass(frozen=True)
class Split:
    """A unit and what becomes of it.

    Attributes:
        weights: (copy,) w_j; the first copy stands in the unit's place.
        directions: (copy, d) d_j, of the row of the weight and the bias.
        curvature: sum_j w_j d_j' S d_j, twice the change of the loss over eps^2; less than 0 where it gains.
        low, high: the ends of S.
    """

    layer: str
    unit: int
    weights: list[float]
    directions: Tensor
    curvature: float
    low: float
    high: float

    @property
    def added(self) -> int:
        return len(self.weights) - 1

    def eigenvalues(self) -> list[float]:
        """Ends of what the split adds to the Hessian at eps = 0 and a stationary point, where that is known exactly.

        Copies j, k of equal weight w add w eig(S), along (u, -u) for each eigenvector u of S (two halves: eig(S) / 2).
        """
        weights = sorted(self.weights)
        pairs = {w for w, other in itertools.pairwise(weights) if w == other}
        return sorted({w * end for w in pairs for end in (self.low, self.high)})

    def bound(self) -> float:
        """An upper bound on the smallest eigenvalue of the grown Hessian: its smallest Rayleigh quotient known.

        Two copies along (w_2 u, -w_1 u) have the quotient w_1 w_2 / (w_1^2 + w_2^2) u' S u.
        """
        shares = [
            a * b * (a + b) / (a * a + b * b)
            for i, a in enumerate(self.weights) for b in self.weights[i + 1 :]
        ]  # fmt: skip
        return min(share * end for share in shares for end in (self.low, self.high))


def steepest(ends: Extremes, unit: int) -> tuple[list[float], Tensor]:
    """Two halves along +-v_min."""
    v = ends.low_vectors[unit]
    return [0.5, 0.5], torch.stack([v, -v])


def signed(copies: int, c: float) -> Rule:
    """Up to `copies` (2 or 4) signed copies with sum |w| <= c.

    Raises:
        ValueError: copies is neither, or c below 1.
    """
    if copies not in (2, 4) or c < 1:
        raise ValueError(f"signed splits take copies 2 or 4 and c of at least 1, got {copies} and {c}")
    p, q = (c + 1) / 2, (c - 1) / 2

    def two(ends: Extremes, unit: int) -> tuple[list[float], Tensor]:
        a, b = max(-float(ends.low[unit]), 0), max(float(ends.high[unit]), 0)
        if a >= b * q / p:
            return steepest(ends, unit)
        v = ends.high_vectors[unit]
        return [p, -q], torch.stack([v * (q / p), v])

    def four(ends: Extremes, unit: int) -> tuple[list[float], Tensor]:
        low, high = ends.low_vectors[unit], ends.high_vectors[unit]
        if q == 0:
            return steepest(ends, unit)
        if ends.high[unit] <= 0:  # copies that stay where they are count together
            return [p / 2, p / 2, -q], torch.stack([low, -low, torch.zeros_like(low)])
        if ends.low[unit] >= 0:
            return [p, -q / 2, -q / 2], torch.stack([torch.zeros_like(high), high, -high])
        return [p / 2, p / 2, -q / 2, -q / 2], torch.stack([low, -low, high, -high])

    return two if copies == 2 else four


def candidates(found: Mapping[str, Extremes], rule: Rule) -> list[Split]:
    """The split of every unit, largest gain for an added copy first; those that gain nothing are left out."""
    splits = []
    for layer, ends in found.items():
        for unit in range(len(ends.low)):
            low, high = float(ends.low[unit]), float(ends.high[unit])
            weights, directions = rule(ends, unit)
            curvature = sum(w * _quotient(d, ends, unit) for w, d in zip(weights, directions, strict=True))
            splits.append(Split(layer, unit, weights, directions, curvature, low, high))
    return sorted((s for s in splits if s.curvature < 0), key=lambda s: s.curvature / s.added)


def _quotient(direction: Tensor, ends: Extremes, unit: int) -> float:
    """d' S d of a multiple of one of the two eigenvectors."""
    pairs = ((float(ends.low[unit]), ends.low_vectors[unit]), (float(ends.high[unit]), ends.high_vectors[unit]))
    value, _vector = max(pairs, key=lambda pair: abs(float(pair[1] @ direction)))
    return value * float(direction @ direction)


def chosen(splits: list[Split], budget: int) -> list[Split]:
    """From the front, as many as add no more than `budget` copies together."""
    found, left = [], budget
    for split in splits:
        if split.added <= left:
            found.append(split)
            left -= split.added
    return found
