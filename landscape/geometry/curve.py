"""A curve between two weight vectors, its length, and places on it by share of the length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import plugins

KINDS = "landscape.geometry.curves"
Float64 = NDArray[np.float64]
FINE = 2000  # chords a piece; a smooth curve's length is then right to 1e-7


def kind_module(kind: str) -> Any:
    """The file of a kind of curve.

    Raises:
        UsageError: no such kind; the message lists the choices.
    """
    return plugins.load(KINDS, kind)


@dataclass(frozen=True, eq=False)
class Curve:
    """theta(s) = sum_j c_j(s) points[j]; t in [0, 1] is the share of its length that lies behind."""

    kind: str
    points: Tensor  # (points, size) float64; the first is A, the last B

    @property
    def coefficients(self) -> Callable[[Float64, int], Float64]:
        found: Callable[[Float64, int], Float64] = kind_module(self.kind).coefficients
        return found

    @cached_property
    def _travelled(self) -> tuple[Float64, Float64]:
        """Parameters s, and the length of the curve up to each."""
        s = np.linspace(0, 1, FINE * (len(self.points) - 1) + 1)
        away = self.points - self.points[0]
        gram = (away @ away.T).cpu().numpy()
        moves = np.diff(self.coefficients(s, len(self.points)), axis=0)
        chords = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", moves, gram, moves), 0))
        return s, np.concatenate([[0.0], np.cumsum(chords)])

    @property
    def length(self) -> float:
        return self.distance if len(self.points) == 2 else float(self._travelled[1][-1])

    @property
    def distance(self) -> float:
        """||theta_B - theta_A||."""
        return float(torch.linalg.norm(self.points[-1] - self.points[0]))

    def parameter(self, t: float) -> float:
        """The s at which the share t of the length lies behind; t itself on the straight line and beyond the ends."""
        if len(self.points) == 2 or not 0 < t < 1:
            return t
        s, length = self._travelled
        return float(np.interp(t, length / length[-1], s)) if length[-1] > 0 else t

    def at(self, t: float) -> Tensor:
        """The weights (size,) at a share t of the length, float64; exactly A at 0 and B at 1."""
        c = self.coefficients(np.array([self.parameter(t)]), len(self.points))[0]
        return torch.stack([float(x) * p for x, p in zip(c, self.points, strict=True) if x != 0]).sum(0)


def straight(a: Tensor, b: Tensor) -> Curve:
    """The straight line from a to b."""
    return Curve("linear", torch.stack([a.double(), b.double()]))
