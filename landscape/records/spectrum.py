"""Spectral densities of an operator as Gauss quadrature rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ._record import Array, Axes, Meta, Record, operator_key


def spectrum_key(operator: str, step: int) -> str:
    return f"spectrum-{operator_key(operator)}-{step:08d}"


@dataclass(frozen=True)
class Spectrum(Record):
    """Spectral density of an operator as Gauss quadrature rules, one row per probe.

    A rule row may be padded at its end with nodes NaN and weights 0 where a Krylov space ended early.
    `weights` are variance-reduced: a converged isolated Ritz value carries exactly 1/size (Bhattacharjee et al.
    2024, arXiv 2410.21690); `gauss_weights` are the plain squared first components of the Ritz vectors.
    `residuals` bound the distance of each node to an eigenvalue. `starts` are the same components with their signs:
    with the nodes they determine the projected operator, hence the rules of shorter runs and all error bounds.
    """

    kind: ClassVar[str] = "spectrum"
    made_by: ClassVar[str] = "spectrum RUN"
    axes: ClassVar[Axes] = {
        "nodes": (("probe", "node"), "eigenvalue: loss per squared unit of weight"),
        "weights": (("probe", "node"), "share of the spectrum; each probe sums to 1"),
        "gauss_weights": (("probe", "node"), "share of the spectrum; each probe sums to 1"),
        "residuals": (("probe", "node"), "eigenvalue"),
        "starts": (("probe", "node"), "components of the probe in the Ritz vectors; squared they are gauss_weights"),
    }
    step: int
    operator: str
    size: int
    nodes: Array  # (probe, node)
    weights: Array  # (probe, node)
    gauss_weights: Array  # (probe, node)
    residuals: Array  # (probe, node)
    meta: Meta = field(default_factory=dict)
    starts: Array | None = None  # (probe, node)

    @property
    def key(self) -> str:
        return spectrum_key(self.operator, self.step)
