"""The quadratic model of a surface, and where it holds: computed from what the record stores, when it is looked at.

    m(p) = L0 + g.p + 1/2 p^T H p,   p = (u, v)

L0 is the loss at the plane's origin, g (2,) and H (2, 2) are the plane's parts of gradient and Hessian there
(`landscape.geometry.derivatives`). On a plane of two eigenvectors H is the diagonal matrix of their eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..records import Array, Surface
from .rounding import measured, rounding

TOLERANCE = 0.05  # of the rise: up to here the model is said to hold


@dataclass(frozen=True)
class Quadratic:
    """The loss to second order at the origin of a plane."""

    loss: float
    gradient: Array  # (2,) loss per unit of weight
    hessian: Array  # (2, 2) symmetric
    asymmetry: float  # |H01 - H10| / |H| before symmetrisation: the products' own error

    @classmethod
    def of(cls, surface: Surface) -> Self | None:
        """The model that a surface carries; None where it was not computed or is not finite."""
        stored, loss = surface.meta.get("quadratic"), surface.meta.get("centre_loss")
        if not isinstance(stored, dict) or "hessian" not in stored or loss is None:
            return None
        gradient, hessian = (np.array(stored[name], dtype=np.float64) for name in ("gradient", "hessian"))
        if not (np.isfinite(loss) and np.isfinite(gradient).all() and np.isfinite(hessian).all()):
            return None
        return cls(float(loss), gradient, hessian, float(stored["asymmetry"]))

    def on(self, u: Array, v: Array) -> Array:
        """m at every (u[column], v[row]), (row, column)."""
        p = _places(u, v)
        return np.asarray(self.loss + p @ self.gradient + 0.5 * np.einsum("...i,ij,...j", p, self.hessian, p))

    def terms(self, u: Array, v: Array) -> Array:
        """|g.p| + 1/2 p^T |H| p, (row, column): the size of its terms, also where they cancel."""
        p = _places(u, v)
        values, vectors = np.linalg.eigh(self.hessian)
        return np.asarray(np.abs(p @ self.gradient) + 0.5 * (p @ vectors) ** 2 @ np.abs(values))


def _places(u: Array, v: Array) -> Array:
    return np.stack(np.meshgrid(u, v), axis=-1)  # (row, column, 2)


@dataclass(frozen=True)
class Agreement:
    """Surface against model on the surface's grid; NaN where the loss is not finite, which counts as not holding."""

    model: Array  # (row, column)
    difference: Array  # (row, column) |L - m| / rise
    holds: NDArray[np.bool_]  # (row, column)
    radius: float  # around the origin the model holds at every measured grid point nearer than this
    to_the_edge: bool  # the radius ends at the window's edge, not at the model's
    share: float  # of the grid points where it holds
    tolerance: float
    nearest: float  # distance of the grid points next to the origin

    @property
    def words(self) -> str:
        """Where it holds, as a part of a sentence."""
        bound, share = f"{100 * self.tolerance:g} % of the rise", f"at {100 * self.share:.0f} % of the grid points"
        if not self.radius > 0:
            return f"holds to {bound} {share}"
        if self.radius <= self.nearest and not self.to_the_edge:
            return f"misses {bound} at grid points as near as {self.radius:.3g}, and holds {share}"
        within = f"{'at least ' if self.to_the_edge else ''}{self.radius:.3g}"
        return f"holds to {bound} within {within} units of weight of the origin, {share}"


def agreement(surface: Surface, model: Quadratic, tolerance: float = TOLERANCE) -> Agreement:
    """Where |L - m| is at most `tolerance` times the rise.

    The rise at p is the larger of |L(p) - L0| and |g.p| + 1/2 p^T |H| p: what was measured and the size of what is
    modelled, so that a level set through the origin is no zero to divide by. It counts at least as much as makes
    rounding invisible.
    """
    predicted = model.on(surface.u, surface.v)
    rise = np.maximum(np.abs(surface.loss - model.loss), model.terms(surface.u, surface.v))
    rise = np.maximum(rise, np.maximum(rounding(surface) / tolerance, np.finfo(np.float64).tiny))
    difference = np.abs(surface.loss - predicted) / rise
    holds = difference <= tolerance
    away = np.hypot(*np.meshgrid(surface.u, surface.v))
    fails = float(away[~holds & measured(surface)].min(initial=np.inf))
    edge = max(0.0, min(-surface.u[0], surface.u[-1], -surface.v[0], surface.v[-1]))
    return Agreement(
        predicted, difference, holds, min(fails, float(edge)), bool(edge < fails), float(holds.mean()), tolerance,
        float(away[away > 0].min(initial=np.inf)),
    )  # fmt: skip
