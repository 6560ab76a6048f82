"""An operator on parts of the samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ._record import Array, Axes, Meta, Record, operator_key


def halves_key(operator: str, step: int) -> str:
    return f"halves-{operator_key(operator)}-{step:08d}"


@dataclass(frozen=True)
class Halves(Record):
    """The same operator on disjoint parts of the samples: what the spectrum's sampling error is read off.

    Two halves have spectra of their own; of up to 16 finer parts there are the Rayleigh quotients of the eigenvectors
    of all samples. Either group of arrays may be missing. `meta` names the rows of halves and parts.
    """

    kind: ClassVar[str] = "halves"
    made_by: ClassVar[str] = "spectrum RUN --halves"
    axes: ClassVar[Axes] = {
        "samples": (("half",), "samples of the half"),
        "nodes": (("half", "probe", "node"), "eigenvalue: loss per squared unit of weight"),
        "weights": (("half", "probe", "node"), "share of the half's spectrum; each probe sums to 1"),
        "values": (("half", "pair"), "eigenvalue of the half's operator, largest first"),
        "lowest_values": (("half", "low"), "eigenvalue of the half's operator, smallest first"),
        "part_samples": (("part",), "samples of the part"),
        "quotients": (("part", "pair"), "v^T A v, A the part's operator, v the eigenvectors of all samples"),
        "lowest_quotients": (("part", "low"), "the same for the smallest"),
    }
    step: int
    operator: str
    size: int
    samples: Array | None = None  # (half,)
    nodes: Array | None = None  # (half, probe, node) padded with NaN
    weights: Array | None = None  # (half, probe, node) padded with 0
    values: Array | None = None  # (half, pair)
    lowest_values: Array | None = None  # (half, low)
    part_samples: Array | None = None  # (part,)
    quotients: Array | None = None  # (part, pair)
    lowest_quotients: Array | None = None  # (part, low)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return halves_key(self.operator, self.step)
