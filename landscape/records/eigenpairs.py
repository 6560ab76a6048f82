"""Extreme eigenvalues and eigenvectors of an operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record, operator_key


def eigenpairs_key(operator: str, step: int) -> str:
    return f"eigenpairs-{operator_key(operator)}-{step:08d}"


@dataclass(frozen=True)
class Eigenpairs(Record):
    """Extreme eigenvalues of an operator, each with its residual norm(A y - theta y) / norm(y)."""

    kind: ClassVar[str] = "eigenpairs"
    made_by: ClassVar[str] = "spectrum RUN"
    axes: ClassVar[Axes] = {
        "values": (("pair",), "eigenvalue, largest first"),
        "residuals": (("pair",), "eigenvalue"),
        "lowest_values": (("low",), "eigenvalue, smallest first"),
        "lowest_residuals": (("low",), "eigenvalue"),
        "vectors": (("vector", "weight"), "unit vectors: first those of `values`, then those of `lowest_values`"),
    }
    large: ClassVar[tuple[str, ...]] = ("vectors",)
    step: int
    operator: str
    size: int
    values: Array  # (pair,) largest first
    residuals: Array  # (pair,)
    lowest_values: Array  # (low,) smallest first
    lowest_residuals: Array  # (low,)
    vectors: NDArray[Any] | None = None  # (pair + low, weight)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return eigenpairs_key(self.operator, self.step)
