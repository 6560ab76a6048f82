"""Plane through three minima, or any three checkpoints (Garipov et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..plane import Plane, spanned


def minima_plane(
    origin: Tensor, second: Tensor, third: Tensor, *, names: Sequence[str] = ("A", "B", "C"), step: int = 0,
    variant: str = "",
) -> Plane:  # fmt: skip
    """Axis 1 points from A (the origin) to B; axis 2 is the part of C - A orthogonal to it, with C at positive v.

    `info["corners"]` holds [name, u, v] of the three.

    Raises:
        ProblemError: two of the three are equal, or they lie on one line.
    """
    a, b, c = names
    directions, _cosine = spanned(f"{b} - {a} and {c} - {a}", second - origin, third - origin)
    plane = Plane(
        "minima", step, [f"from {a} to {b}", f"towards {c}, orthogonal to the first"], origin.clone(),
        directions.to(origin.dtype), {}, variant,
    )  # fmt: skip
    plane.info["corners"] = [
        [name, *plane.coordinates(vector)[:2]] for name, vector in zip(names, (origin, second, third), strict=True)
    ]
    return plane
