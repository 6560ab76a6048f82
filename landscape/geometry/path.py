"""Along a curve between two minima: loss, accuracy, barrier and, when asked, spectrum and eigenvectors at every point.

Points lie at equal steps of the curve's length; t = 0 and t = 1 are A and B bit for bit, combined in float64.
BatchNorm statistics are never interpolated: they are recomputed at every point in one pass over the training batches
(Izmailov et al. 2018; Garipov et al. 2018). A low barrier on a line says little alone (Lucas et al. 2021).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distributed.parallel import Comm
from ..distributed.tasks import Tasks
from ..errors import ProblemError, UsageError
from ..loss.batch_statistics import recompute_statistics
from ..loss.problem import Problem
from ..readings.overlaps import consecutive, sketched
from ..records import Eigenpairs, Path, Record, Spectrum
from .curve import Curve
from .surface import Meter, has_statistics

Float64 = NDArray[np.float64]
Point = dict[str, NDArray[Any]]  # what is kept of one point: its metrics, and its records as 'spectrum/nodes', ...
SpectrumAt = Callable[[Tensor, int, Comm], tuple[Spectrum, Eigenpairs]]  # (vector, index, the ranks at work on it)
Keep = Callable[[int, Point], None]
R = TypeVar("R", bound=Record)


def follow(
    problem: Problem,
    curve: Curve,
    t: Float64,
    comm: Comm,
    *,
    beside: Mapping[str, Curve] | None = None,
    spectrum_at: SpectrumAt | None = None,
    done: Mapping[int, Mapping[str, NDArray[Any]]] | None = None,
    on_point: Keep | None = None,
    groups: int = 1,
    run_a: str = "A",
    run_b: str = "B",
    step_a: int = 0,
    step_b: int = 0,
    aligned: bool = False,
) -> Path:
    """Metrics at every t, which must hold 0 and 1, and barrier = max over t of loss(t) - chord(t); equal on all ranks.

    Losses are dealt over ranks; then `spectrum_at(vector, index, comm)` runs on all ranks together at both ends and by
    groups of ranks at the points between, each group on one that is left: where it hands over eigenvectors, their
    overlaps with those of A and of B, and of each point with the next, are kept. `on_point(index, arrays)` is called on
    one rank when a point's metrics are known and again when its spectrum is; what it kept last may come back as `done`
    (rank 0's counts) to go on after a kill. The problem's weights are never moved; its BatchNorm statistics are put
    back at the end.

    Args:
        beside: other curves by the field of the record that takes their loss: 'straight_loss', 'unaligned_loss'.

    Raises:
        ProblemError: a curve is not of this problem's size.
        UsageError: t is not ascending, or lacks 0 or 1, or leaves [0, 1] on a curve that is not straight.
    """
    began = time.monotonic()
    t = _check_t(t, curve)
    for vector, name in ((curve.points[0], run_a), (curve.points[-1], run_b)):
        _check_vector(vector, problem, name)
    points: dict[int, Point] = comm.broadcast({i: dict(p) for i, p in (done or {}).items() if 0 <= i < len(t)})
    keep = on_point or (lambda index, point: None)
    meter, before, home = Meter(problem), problem.weights(), problem.state()
    way = _Way(meter, curve, beside or {}, t)
    try:
        points = _measure_points(way, comm, points, keep)
        if spectrum_at is not None:
            _add_spectra(way, comm, points, keep, spectrum_at, groups)
    finally:
        problem.load(home)
    names = [name for name in points[0] if "/" not in name]
    metrics = {name: np.array([float(points[i][name]) for i in range(len(t))]) for name in names}
    at, barrier = highest(t, metrics["loss"])
    meta = {
        "barrier_t": at,
        **{name.replace("loss", "barrier"): highest(t, metrics[name])[1] for name in beside or {}},
        **{name.replace("loss", "length"): other.length for name, other in (beside or {}).items()},
        "distance": curve.distance,
        "bends": len(curve.points) - 2,
        "batch_norm": "recomputed at every point in one pass over the training batches"
        if has_statistics(problem) else "none",
        "weights_unchanged": bool(torch.equal(before, problem.weights())),
        "not_finite": int(np.isnan(metrics["loss"]).sum()),
        "seconds": time.monotonic() - began,
        "samples": problem.samples,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "ranks": comm.size,
    }
    with_spectra = range(len(t)) if spectrum_at is not None else ()
    return Path(
        run_a, run_b, step_a, step_b, curve.kind, curve.length, t, barrier=barrier, aligned=aligned, **metrics,
        spectra=[_unpack(points[i], "spectrum", Spectrum) for i in with_spectra],
        eigenpairs=[_unpack(points[i], "eigenpairs", Eigenpairs) for i in with_spectra],
        overlap_a=_stacked(points, "overlap/a", len(with_spectra)),
        overlap_b=_stacked(points, "overlap/b", len(with_spectra)),
        overlap_next=consecutive([points[i].get("sketch/vectors") for i in with_spectra]),
        meta=meta,
    )


def highest(t: Float64, loss: Float64) -> tuple[float | None, float]:
    """(t of the barrier or None, barrier): the largest height of the loss above the chord between A and B."""
    inside = (t >= 0) & (t <= 1)
    excess = (loss - _chord(t, loss))[inside]
    barrier = float(excess.max())
    return float(t[inside][np.argmax(excess)]) if np.isfinite(barrier) else None, barrier


@dataclass(frozen=True)
class _Way:
    """What is measured where."""

    meter: Meter
    curve: Curve
    beside: Mapping[str, Curve]
    t: Float64

    def vector(self, i: int, curve: Curve | None = None) -> Tensor:
        """The weights of point i, with the model's BatchNorm statistics set to theirs."""
        problem = self.meter.problem
        vector = (curve or self.curve).at(float(self.t[i])).to(problem.device, problem.dtype)
        recompute_statistics(problem, vector)
        return vector

    def measure(self, i: int) -> Point:
        found = self.meter.measure(self.vector(i)[None])
        point: Point = {name: found[name][0] for name in _measured(self.meter)}
        for name, curve in self.beside.items():
            point[name] = self.meter.measure(self.vector(i, curve)[None])["loss"][0]
        return point


def _measured(meter: Meter) -> set[str]:
    """The metrics that a path keeps: loss and accuracy, not the user's own."""
    return {name for name in meter.names() if name.removeprefix("test_") not in meter.problem.metrics}


def _measure_points(way: _Way, comm: Comm, points: dict[int, Point], keep: Keep) -> dict[int, Point]:
    """Metrics of the points that lack them, each on one rank."""
    names = _measured(way.meter) | set(way.beside)
    mine: dict[int, Point] = {}
    for i in comm.share([i for i in range(len(way.t)) if not names <= set(points.get(i, {}))]):
        mine[i] = way.measure(i)
        keep(i, mine[i])
    found = dict(points)
    for part in comm.gather(mine):
        found |= part
    return found


def _add_spectra(
    way: _Way, comm: Comm, points: dict[int, Point], keep: Keep, spectrum_at: SpectrumAt, groups: int
) -> None:
    """Spectra of the points that lack them: the ends, whose vectors are kept, by all ranks; the others by groups."""
    ends = [int(np.flatnonzero(way.t == x)[0]) for x in (0.0, 1.0)]
    lacking = [i for i, point in points.items() if not {"spectrum/json", "eigenpairs/json"} <= set(point)]
    for i in (i for i in ends if i in lacking):
        points[i] |= _spectrum_of(way, i, comm, spectrum_at, ends, points)
        if comm.rank == 0:
            keep(i, points[i])
    for i in ends if groups > 1 else ():
        vectors = comm.broadcast(points[i].get("end/vectors"))
        points[i] |= {} if vectors is None else {"end/vectors": vectors}
    tasks = Tasks(sorted(set(lacking) - set(ends)), comm, groups, comm if groups == 1 else None)
    mine: dict[int, Point] = {}
    for i in tasks:
        points[i] |= _spectrum_of(way, i, tasks.group, spectrum_at, ends, points)
        if tasks.group.rank == 0:
            mine[i] = points[i]
            keep(i, points[i])
    tasks.close()
    for part in comm.gather(mine):
        points |= part
    for i in ends:
        if "end/vectors" in points[i]:
            points[i] |= _overlaps(points[i]["end/vectors"], *(points[end].get("end/vectors") for end in ends))


def _spectrum_of(
    way: _Way, i: int, comm: Comm, spectrum_at: SpectrumAt, ends: list[int], points: Mapping[int, Point]
) -> Point:
    """Spectrum and eigenpairs of point i as arrays; the vectors of an end, the overlaps with them of another."""
    spectrum, eigenpairs = spectrum_at(way.vector(i), i, comm)
    found = _pack("spectrum", spectrum) | _pack("eigenpairs", eigenpairs)
    if eigenpairs.vectors is None:
        return found
    top = np.asarray(eigenpairs.vectors[: len(eigenpairs.values)])  # (pair, weight)
    found["sketch/vectors"] = sketched(top)
    if i in ends:
        return found | {"end/vectors": top}
    return found | _overlaps(top, *(points[end].get("end/vectors") for end in ends))


def _overlaps(top: NDArray[Any], a: NDArray[Any] | None, b: NDArray[Any] | None) -> Point:
    """(v_p(A) . v_q(t))^2 of every pair of eigenvectors (end_pair, pair), and the same for B."""
    return {
        f"overlap/{end}": np.square(np.asarray(vectors, dtype=np.float64) @ np.asarray(top, dtype=np.float64).T)
        for end, vectors in (("a", a), ("b", b)) if vectors is not None
    }  # fmt: skip


def _stacked(points: Mapping[int, Point], name: str, count: int) -> NDArray[Any] | None:
    """One array of all points, or None where one lacks it or they differ in shape."""
    arrays = [points[i].get(name) for i in range(count)]
    found = [a for a in arrays if a is not None]
    return np.stack(found) if found and len(found) == count and len({a.shape for a in found}) == 1 else None


# ------------------------------------------------------------------ checks


def compare_models(
    state_a: Mapping[str, Tensor], state_b: Mapping[str, Tensor], name_a: str = "A", name_b: str = "B"
) -> None:
    """Check that two state dicts belong to one architecture.

    Raises:
        ProblemError: they do not; the message names the first tensor that differs.
    """
    difference = _first_difference(state_a, state_b)
    if difference:
        counts = [f"{len(s)} tensors, {sum(x.numel() for x in s.values()):,} values" for s in (state_a, state_b)]
        raise ProblemError(
            f"no path: A and B are different models. {name_a} has {counts[0]}; {name_b} has {counts[1]}. "
            f"First difference: {difference}. Choose two runs of the same problem with the same settings"
        )


def _first_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> str:
    for name in [*a, *(n for n in b if n not in a)]:
        if name not in a or name not in b:
            return f"{name} only in {'A' if name in a else 'B'}"
        if a[name].shape != b[name].shape:
            return f"{name} has shape {tuple(a[name].shape)} in A and {tuple(b[name].shape)} in B"
    return ""


def _check_vector(vector: Tensor, problem: Problem, name: str) -> None:
    if vector.shape != (problem.size,):
        raise ProblemError(
            f"no path: {name} has {vector.numel():,} weights, the model of the problem {problem.size:,}; "
            "choose two runs of the same problem"
        )
    if not bool(torch.isfinite(vector).all()):
        raise ProblemError(f"no path: {name} holds NaN or infinite weights; choose an earlier checkpoint")

def _check_t(t: Float64, curve: Curve) -> Float64:
    t = np.asarray(t, dtype=np.float64)
    if t.ndim != 1 or not (np.diff(t) > 0).all() or not {0.0, 1.0} <= set(t.tolist()):
        raise UsageError(f"t must ascend and hold 0 and 1 (A and B themselves), got {np.array2string(t, threshold=8)}")
    if len(curve.points) > 2 and (t[0] < 0 or t[-1] > 1):
        raise UsageError(f"a {curve.kind} path ends at A and B: t must lie in [0, 1], got {t[0]:g} to {t[-1]:g}")
    return t


def _chord(t: Float64, loss: Float64) -> Float64:
    """The straight line through the losses of A and B."""
    chord: Float64 = (1 - t) * loss[t == 0] + t * loss[t == 1]
    return chord


# ------------------------------------------------------------------ records as arrays


def _pack(prefix: str, record: Record) -> Point:
    """A record as arrays that a store keeps without pickle; eigenvectors are left out, they would fill the disk."""
    arrays = {f"{prefix}/{name}": array for name, array in record.arrays().items() if name not in record.large}
    return {**arrays, f"{prefix}/json": np.array(json.dumps(record.values_dict(), default=_plain))}


def _plain(value: Any) -> Any:
    """numpy scalars and arrays in a record's meta, as JSON knows them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _unpack(point: Mapping[str, NDArray[Any]], prefix: str, cls: type[R]) -> R:
    arrays = {n.removeprefix(f"{prefix}/"): a for n, a in point.items() if n.startswith(f"{prefix}/")}
    values = json.loads(str(arrays.pop("json")))
    return cls.build(arrays, values)
