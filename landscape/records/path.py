"""Loss and spectra along a path between two minima."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ._record import Array, Axes, Meta, Record, file_name
from .eigenpairs import Eigenpairs
from .spectrum import Spectrum


def path_key(run_b: str, shape: str, aligned: bool = False) -> str:
    return f"path-{shape}{'.aligned' if aligned else ''}-{file_name(run_b)}"


@dataclass(frozen=True)
class Path(Record):
    """Loss, accuracy and (when computed) the spectrum along a curve between two minima.

    `barrier` is max over t of loss(t) - ((1 - t) loss(0) + t loss(1)). `spectra` and `eigenpairs` hold one entry a
    point, or are empty.
    """

    kind: ClassVar[str] = "path"
    made_by: ClassVar[str] = "path RUN OTHER_RUN"
    axes: ClassVar[Axes] = {
        "t": (("point",), "share of the path's length: 0 is A, 1 is B"),
        "loss": (("point",), "loss"),
        "accuracy": (("point",), "fraction"),
        "test_loss": (("point",), "loss"),
        "test_accuracy": (("point",), "fraction"),
        "straight_loss": (("point",), "loss on the straight line between the same ends"),
        "unaligned_loss": (("point",), "loss on the straight line to B as it was trained"),
        "overlap_a": (("point", "end_pair", "pair"), "squared cosine of eigenvectors: p-th of A, q-th at the point"),
        "overlap_b": (("point", "end_pair", "pair"), "squared cosine of eigenvectors: p-th of B, q-th at the point"),
        "overlap_next": (("interval", "pair", "next_pair"), "cosine of eigenvectors: p-th here, q-th at the next"),
    }
    nested: ClassVar[dict[str, type[Record]]] = {"spectra": Spectrum, "eigenpairs": Eigenpairs}
    run_a: str
    run_b: str
    step_a: int
    step_b: int
    shape: str  # 'linear' or another kind of landscape/geometry/curves/
    length: float  # of the path; of the linear one norm(theta_B - theta_A)
    t: Array
    loss: Array
    barrier: float
    accuracy: Array | None = None
    test_loss: Array | None = None
    test_accuracy: Array | None = None
    aligned: bool = False  # B's units were permuted onto A's first
    straight_loss: Array | None = None  # (point,)
    unaligned_loss: Array | None = None  # (point,)
    overlap_a: Array | None = None  # (point, end_pair, pair)
    overlap_b: Array | None = None  # (point, end_pair, pair)
    overlap_next: Array | None = None  # (point - 1, pair, pair)
    spectra: list[Spectrum] = field(default_factory=list)
    eigenpairs: list[Eigenpairs] = field(default_factory=list)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return path_key(self.run_b, self.shape, self.aligned)
