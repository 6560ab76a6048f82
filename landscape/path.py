"""The straight path between two minima: loss, accuracy, barrier and, when asked, the spectrum at every point.

    theta(t) = (1 - t) theta_A + t theta_B, combined in float64; t = 0 and t = 1 are A and B bit for bit

BatchNorm statistics are never interpolated: they are recomputed at every point in one pass over the training batches
(Izmailov et al. 2018; Garipov et al. 2018). A low barrier on a line says little alone (Lucas et al. 2021).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import ProblemError, UsageError
from .parallel import Comm
from .problem import Problem
from .records import Eigenpairs, Path, Record, Spectrum
from .surface import Meter, has_statistics

Float64 = NDArray[np.float64]
Point = dict[str, NDArray[Any]]  # what is kept of one point: its metrics, and its records as 'spectrum/nodes', ...
SpectrumAt = Callable[[Tensor, int], tuple[Spectrum, Eigenpairs]]
R = TypeVar("R", bound=Record)


def straight_path(
    problem: Problem,
    vector_a: Tensor,
    vector_b: Tensor,
    t: Float64,
    comm: Comm,
    *,
    spectrum_at: SpectrumAt | None = None,
    done: Mapping[int, Mapping[str, NDArray[Any]]] | None = None,
    on_point: Callable[[int, Point], None] | None = None,
    run_a: str = "A",
    run_b: str = "B",
    step_a: int = 0,
    step_b: int = 0,
) -> Path:
    """Metrics at every t, which must hold 0 and 1, and barrier = max over t of loss(t) - chord(t); equal on all ranks.

    Losses are dealt over ranks; then `spectrum_at(vector, index)` runs on all ranks together at every point.
    `on_point(index, arrays)` is called on one rank when a point's metrics are known and again, on rank 0, when its
    spectrum is; what it kept last may come back as `done` (rank 0's counts) to go on after a kill. The problem's
    weights are never moved; its BatchNorm statistics are put back at the end.

    Raises:
        ProblemError: the vectors are not of this problem's size.
        UsageError: t is not ascending, or lacks 0 or 1.
    """
    began = time.monotonic()
    t = _check_t(t)
    a, b = (_check_vector(v, problem, name) for v, name in ((vector_a, run_a), (vector_b, run_b)))
    points: dict[int, Point] = comm.broadcast({i: dict(p) for i, p in (done or {}).items() if 0 <= i < len(t)})
    keep = on_point or (lambda index, point: None)
    meter, before, home = Meter(problem), problem.weights(), problem.state()
    try:
        points = _measure_points(meter, (a, b, t), comm, points, keep)
        if spectrum_at is not None:
            _add_spectra(problem, (a, b, t), comm, points, keep, spectrum_at)
    finally:
        problem.load(home)
    names = [name for name in points[0] if "/" not in name]
    metrics = {name: np.array([float(points[i][name]) for i in range(len(t))]) for name in names}
    excess = metrics["loss"] - _chord(t, metrics["loss"])
    inside = (t >= 0) & (t <= 1)
    barrier = float(excess[inside].max())
    meta = {
        "barrier_t": float(t[inside][np.argmax(excess[inside])]) if np.isfinite(barrier) else None,
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
        run_a, run_b, step_a, step_b, "linear", float(torch.linalg.norm(b - a)), t, barrier=barrier, **metrics,
        spectra=[_unpack(points[i], "spectrum", Spectrum) for i in with_spectra],
        eigenpairs=[_unpack(points[i], "eigenpairs", Eigenpairs) for i in with_spectra],
        meta=meta,
    )


Line = tuple[Tensor, Tensor, Float64]  # A and B in float64, and t


def _at(line: Line, i: int, problem: Problem) -> Tensor:
    a, b, t = line
    point: Tensor = (1 - float(t[i])) * a + float(t[i]) * b
    return point.to(problem.dtype)


def _measure_points(
    meter: Meter, line: Line, comm: Comm, points: dict[int, Point], keep: Callable[[int, Point], None]
) -> dict[int, Point]:
    """Metrics of the points that lack them, each on one rank."""
    names = meter.names()
    mine: dict[int, Point] = {}
    for i in comm.share([i for i in range(len(line[2])) if not names <= set(points.get(i, {}))]):
        vector = _at(line, i, meter.problem)
        recompute_statistics(meter.problem, vector)
        mine[i] = {name: values[0] for name, values in meter.measure(vector[None]).items()}
        keep(i, mine[i])
    found = dict(points)
    for part in comm.gather(mine):
        found |= part
    return found


def _add_spectra(
    problem: Problem,
    line: Line,
    comm: Comm,
    points: dict[int, Point],
    keep: Callable[[int, Point], None],
    spectrum_at: SpectrumAt,
) -> None:
    """Spectra of the points that lack them, each on all ranks together."""
    for i in range(len(line[2])):
        if "spectrum/json" in points[i] and "eigenpairs/json" in points[i]:
            continue
        vector = _at(line, i, problem)
        recompute_statistics(problem, vector)
        spectrum, eigenpairs = spectrum_at(vector, i)
        points[i] = {**points[i], **_pack("spectrum", spectrum), **_pack("eigenpairs", eigenpairs)}
        if comm.rank == 0:
            keep(i, points[i])


def recompute_statistics(problem: Problem, vector: Tensor) -> None:
    """Set the model's BatchNorm statistics to those of a weight vector: the mean over all training batches.

    Only BatchNorm layers leave evaluation mode, dropout stays off. A batch counts by its samples, so that a short
    last one does not distort the mean. Without such layers nothing happens.
    """
    layers = [m for m in problem.model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    layers = [m for m in layers if m.running_var is not None]
    if not layers:
        return
    momenta = [m.momentum for m in layers]
    seen = 0
    try:
        for batch in problem.batches:
            if problem.count(batch) < 2 and len(problem.batches) > 1:
                continue  # one sample alone has no variance
            seen += problem.count(batch)
            for layer in layers:
                layer.train()
                layer.momentum = problem.count(batch) / seen  # a running mean; 1 at the first batch forgets the past
            with torch.no_grad():
                problem.outcome(vector, batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.eval()
            layer.momentum = momentum


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
            f"no straight path: A and B are different models. {name_a} has {counts[0]}; {name_b} has {counts[1]}. "
            f"First difference: {difference}. Choose two runs of the same problem with the same settings"
        )


def _first_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> str:
    for name in [*a, *(n for n in b if n not in a)]:
        if name not in a or name not in b:
            return f"{name} only in {'A' if name in a else 'B'}"
        if a[name].shape != b[name].shape:
            return f"{name} has shape {tuple(a[name].shape)} in A and {tuple(b[name].shape)} in B"
    return ""


def _check_vector(vector: Tensor, problem: Problem, name: str) -> Tensor:
    if vector.shape != (problem.size,):
        raise ProblemError(
            f"no straight path: {name} has {vector.numel():,} weights, the model of the problem {problem.size:,}; "
            "choose two runs of the same problem"
        )
    if not bool(torch.isfinite(vector).all()):
        raise ProblemError(f"no straight path: {name} holds NaN or infinite weights; choose an earlier checkpoint")
    return vector.to(problem.device).double()


def _check_t(t: Float64) -> Float64:
    t = np.asarray(t, dtype=np.float64)
    if t.ndim != 1 or not (np.diff(t) > 0).all() or not {0.0, 1.0} <= set(t.tolist()):
        raise UsageError(f"t must ascend and hold 0 and 1 (A and B themselves), got {np.array2string(t, threshold=8)}")
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
