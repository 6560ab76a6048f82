"""What a job measures and the app shows: frozen records of numpy arrays with named axes and units.

A record stores measurements, never pictures: kernel widths, axes and error bands are chosen when it is looked at.
`AXES` names the axes of every array; a record checks its shapes against it when it is made.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Meta = dict[str, Any]

# record -> field -> (axes, unit). Axes of equal name have equal length within one record.
AXES: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "spectrum": {
        "nodes": (("probe", "node"), "eigenvalue: loss per squared unit of weight"),
        "weights": (("probe", "node"), "share of the spectrum; each probe sums to 1"),
        "gauss_weights": (("probe", "node"), "share of the spectrum; each probe sums to 1"),
        "residuals": (("probe", "node"), "eigenvalue"),
        "starts": (("probe", "node"), "components of the probe in the Ritz vectors; squared they are gauss_weights"),
    },
    "eigenpairs": {
        "values": (("pair",), "eigenvalue, largest first"),
        "residuals": (("pair",), "eigenvalue"),
        "lowest_values": (("low",), "eigenvalue, smallest first"),
        "lowest_residuals": (("low",), "eigenvalue"),
        "vectors": (("vector", "weight"), "unit vectors: first those of `values`, then those of `lowest_values`"),
    },
    "halves": {
        "samples": (("half",), "samples of the half"),
        "nodes": (("half", "probe", "node"), "eigenvalue: loss per squared unit of weight"),
        "weights": (("half", "probe", "node"), "share of the half's spectrum; each probe sums to 1"),
        "values": (("half", "pair"), "eigenvalue of the half's operator, largest first"),
        "lowest_values": (("half", "low"), "eigenvalue of the half's operator, smallest first"),
        "part_samples": (("part",), "samples of the part"),
        "quotients": (("part", "pair"), "v^T A v, A the part's operator, v the eigenvectors of all samples"),
        "lowest_quotients": (("part", "low"), "the same for the smallest"),
    },
    "surface": {
        "u": (("column",), "coordinate along the first direction, in units of weight"),
        "v": (("row",), "coordinate along the second direction, in units of weight"),
        "loss": (("row", "column"), "loss"),
        "accuracy": (("row", "column"), "fraction"),
        "test_loss": (("row", "column"), "loss"),
        "test_accuracy": (("row", "column"), "fraction"),
        "metrics": (("metric", "row", "column"), "the user's, in the order of metric_names"),
        "measured": (("row", "column"), "1 where the loss was measured, 0 where it is interpolated"),
        "error": (("row", "column"), "estimated error of the interpolation, in units of the loss; 0 where measured"),
        "directions": (("direction", "weight"), "orthonormal rows: the plane's axes"),
        "origin": (("weight",), "weights at u = v = 0"),
    },
    "volume": {
        "u": (("column",), "coordinate along the first direction, in units of weight"),
        "v": (("row",), "coordinate along the second direction, in units of weight"),
        "w": (("slab",), "coordinate along the third direction, in units of weight"),
        "loss": (("slab", "row", "column"), "loss"),
        "accuracy": (("slab", "row", "column"), "fraction"),
        "test_loss": (("slab", "row", "column"), "loss"),
        "test_accuracy": (("slab", "row", "column"), "fraction"),
        "metrics": (("metric", "slab", "row", "column"), "the user's own, in the order of `metric_names`"),
        "steps": (("checkpoint",), "optimizer step"),
        "path": (("checkpoint", "axis"), "coordinates u, v, w of the checkpoint's projection"),
        "off_volume": (("checkpoint",), "distance from the volume, in units of weight"),
        "distance": (("checkpoint",), "distance from the origin, in units of weight"),
        "path_loss": (("checkpoint",), "loss at the checkpoint itself"),
        "volume_loss": (("checkpoint",), "loss at the checkpoint's projection into the volume"),
        "directions": (("axis", "weight"), "orthonormal rows: the volume's axes"),
        "origin": (("weight",), "weights at u = v = w = 0"),
    },
    "trajectory": {
        "steps": (("checkpoint",), "optimizer step"),
        "u": (("checkpoint",), "coordinate along the first direction"),
        "v": (("checkpoint",), "coordinate along the second direction"),
        "off_plane": (("checkpoint",), "distance from the plane, in units of weight"),
        "distance": (("checkpoint",), "distance from the plane's origin, in units of weight"),
        "loss": (("checkpoint",), "loss at the checkpoint itself"),
        "surface_loss": (("checkpoint",), "loss at the checkpoint's projection onto the plane"),
        "moved": (("checkpoint",), "distance from the checkpoint before, in units of weight"),
        "gradient_u": (("checkpoint",), "loss gradient at the checkpoint along the first direction"),
        "gradient_v": (("checkpoint",), "loss gradient at the checkpoint along the second direction"),
        "gradient_norm": (("checkpoint",), "norm of the loss gradient at the checkpoint"),
    },
    "guest": {},  # as a trajectory, below
    "path": {
        "t": (("point",), "share of the path's length: 0 is A, 1 is B"),
        "loss": (("point",), "loss"),
        "accuracy": (("point",), "fraction"),
        "test_loss": (("point",), "loss"),
        "test_accuracy": (("point",), "fraction"),
        "straight_loss": (("point",), "loss on the straight line between the same ends"),
        "unaligned_loss": (("point",), "loss on the straight line to B as it was trained"),
        "overlap_a": (("point", "end_pair", "pair"), "squared cosine of eigenvectors: p-th of A, q-th at the point"),
        "overlap_b": (("point", "end_pair", "pair"), "squared cosine of eigenvectors: p-th of B, q-th at the point"),
    },
    "curve": {
        "points": (("control", "weight"), "weights: A, the trained bends, B"),
        "losses": (("training step",), "mean mini-batch loss at the places of a step"),
    },
}
AXES["guest"] = AXES["trajectory"]


def _check_axes(kind: str, record: Any) -> None:
    lengths: dict[str, int] = {}
    for name, (axes, _unit) in AXES[kind].items():
        array = getattr(record, name)
        if array is None:
            continue
        if array.ndim != len(axes):
            raise ValueError(f"{kind}.{name} must have axes {axes}, got an array of shape {array.shape}")
        for axis, length in zip(axes, array.shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise ValueError(f"{kind}.{name}: axis '{axis}' has length {length}, other arrays have {lengths[axis]}")


class Record:
    """Base of the records below: array fields are those of AXES[kind], all others are JSON values."""

    kind: ClassVar[str]
    large: ClassVar[tuple[str, ...]] = ()  # fields of weight dimension: kept apart on disk, read only on demand
    meta: Meta

    def __post_init__(self) -> None:
        _check_axes(self.kind, self)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The array fields that are present, by name."""
        found = {name: getattr(self, name) for name in AXES[self.kind]}
        return {name: array for name, array in found.items() if array is not None}

    def values_dict(self) -> dict[str, Any]:
        """The fields that are not arrays: JSON values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in AXES[self.kind]}  # type: ignore[arg-type]

    @classmethod
    def build(cls, arrays: dict[str, NDArray[Any]], values: dict[str, Any]) -> Self:
        """Inverse of `arrays()` and `values_dict()`; unknown entries of newer formats are ignored."""
        given: dict[str, Any] = {**values, **arrays}
        known = {f.name: f.type for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        numbers = {k: np.nan for k, v in given.items() if v is None and known.get(k) == "float"}  # NaN is null in JSON
        return cls(**{k: v for k, v in {**given, **numbers}.items() if k in known})


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
    step: int
    operator: str
    size: int
    nodes: Array  # (probe, node)
    weights: Array  # (probe, node)
    gauss_weights: Array  # (probe, node)
    residuals: Array  # (probe, node)
    meta: Meta = field(default_factory=dict)
    starts: Array | None = None  # (probe, node)


@dataclass(frozen=True)
class Eigenpairs(Record):
    """Extreme eigenvalues of an operator, each with its residual norm(A y - theta y) / norm(y)."""

    kind: ClassVar[str] = "eigenpairs"
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


@dataclass(frozen=True)
class Halves(Record):
    """The same operator on disjoint parts of the samples: what the spectrum's sampling error is read off.

    Two halves have spectra of their own; of up to 16 finer parts there are the Rayleigh quotients of the eigenvectors
    of all samples. Either group of arrays may be missing. `meta` names the rows of halves and parts.
    """

    kind: ClassVar[str] = "halves"
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


@dataclass(frozen=True)
class Surface(Record):
    """Loss and metrics on the grid origin + u * directions[0] + v * directions[1].

    `plane` is a kind such as 'eigen', or a variant such as 'eigen.1.3'; `step` is the checkpoint at the origin;
    `labels` name the two axes.
    NaN is a value: the loss there is not finite. Without `measured` every point was measured.
    """

    kind: ClassVar[str] = "surface"
    large: ClassVar[tuple[str, ...]] = ("directions", "origin")
    step: int
    plane: str
    labels: list[str]
    u: Array  # (column,)
    v: Array  # (row,)
    loss: Array  # (row, column)
    accuracy: Array | None = None
    test_loss: Array | None = None
    test_accuracy: Array | None = None
    directions: NDArray[Any] | None = None  # (2, weight)
    origin: NDArray[Any] | None = None  # (weight,)
    meta: Meta = field(default_factory=dict)
    metrics: Array | None = None  # (metric, row, column)
    metric_names: list[str] = field(default_factory=list)
    measured: Array | None = None  # (row, column)
    error: Array | None = None  # (row, column)


@dataclass(frozen=True)
class Volume(Record):
    """Loss and metrics on the grid origin + u d1 + v d2 + w d3, and the checkpoints in it, as far as it holds them.

    `plane` is 'eigen', 'pca' or 'random'; `step` is the checkpoint at the origin; `labels` name the three axes.
    NaN is a value: the loss there is not finite.
    """

    kind: ClassVar[str] = "volume"
    large: ClassVar[tuple[str, ...]] = ("directions", "origin")
    step: int
    plane: str
    labels: list[str]
    u: Array  # (column,)
    v: Array  # (row,)
    w: Array  # (slab,)
    loss: Array  # (slab, row, column)
    steps: NDArray[np.int64]  # (checkpoint,)
    path: Array  # (checkpoint, 3)
    off_volume: Array  # (checkpoint,)
    distance: Array  # (checkpoint,)
    path_loss: Array  # (checkpoint,)
    volume_loss: Array  # (checkpoint,)
    accuracy: Array | None = None
    test_loss: Array | None = None
    test_accuracy: Array | None = None
    metrics: Array | None = None  # (metric, slab, row, column)
    metric_names: list[str] = field(default_factory=list)
    directions: NDArray[Any] | None = None  # (3, weight)
    origin: NDArray[Any] | None = None  # (weight,)
    meta: Meta = field(default_factory=dict)


@dataclass(frozen=True)
class Trajectory(Record):
    """Checkpoints projected onto a surface's plane, with what the projection hides.

    Gradients are of the loss over all data, at the checkpoint itself and not at its projection.
    """

    kind: ClassVar[str] = "trajectory"
    step: int  # the plane's origin
    plane: str
    steps: NDArray[np.int64]  # (checkpoint,)
    u: Array
    v: Array
    off_plane: Array
    distance: Array
    loss: Array
    surface_loss: Array
    meta: Meta = field(default_factory=dict)
    moved: Array | None = None
    gradient_u: Array | None = None
    gradient_v: Array | None = None
    gradient_norm: Array | None = None


@dataclass(frozen=True)
class Guest(Trajectory):
    """The trajectory of another run on a plane of this run."""

    kind: ClassVar[str] = "guest"
    run: str = ""


@dataclass(frozen=True)
class Path(Record):
    """Loss, accuracy and (when computed) the spectrum along a curve between two minima.

    `barrier` is max over t of loss(t) - ((1 - t) loss(0) + t loss(1)). `spectra` and `eigenpairs` hold one entry a
    point, or are empty.
    """

    kind: ClassVar[str] = "path"
    run_a: str
    run_b: str
    step_a: int
    step_b: int
    shape: str  # 'linear' or another kind of landscape/curves/
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
    spectra: list[Spectrum] = field(default_factory=list)
    eigenpairs: list[Eigenpairs] = field(default_factory=list)
    meta: Meta = field(default_factory=dict)


@dataclass(frozen=True)
class Curve(Record):
    """A trained curve between two minima: the points that make it, by the formula of its file in landscape/curves/."""

    kind: ClassVar[str] = "curve"
    large: ClassVar[tuple[str, ...]] = ("points",)
    run_a: str
    run_b: str
    step_a: int
    step_b: int
    shape: str
    aligned: bool
    losses: Array  # (training step,)
    points: Array | None = None  # (control, weight)
    meta: Meta = field(default_factory=dict)


@dataclass(frozen=True)
class RunInfo:
    """One training run: enough to rebuild its problem and to read its pictures years later."""

    name: str
    problem: str  # 'digits_mlp', 'module:function' or 'file.py:function'
    problem_settings: dict[str, Any]
    optimizer: str  # class or plug-in name
    settings: dict[str, Any]  # hyperparameters as recorded from the optimizer
    every: int  # steps between checkpoints
    size: int  # trainable weights
    seed: int | None
    created: str  # ISO 8601, UTC
    finished: str | None = None
    meta: Meta = field(default_factory=dict)  # versions, command, commit, host


KINDS: dict[str, type[Record]] = {
    c.kind: c for c in (Spectrum, Eigenpairs, Halves, Surface, Volume, Trajectory, Guest, Path, Curve)
}
