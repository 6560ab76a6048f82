"""What a trajectory video shows at any step: exact at checkpoints, honestly interpolated between them (numpy only).

Weights move on straight lines between checkpoints, which is exact on a plane. Densities are never cross-faded: their
quadrature nodes move (one-dimensional optimal transport), so that a peak travels instead of fading out and in.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import quadrature, smoothing
from .errors import ProblemError, UsageError
from .records import Eigenpairs, RunInfo, Spectrum, Surface, Trajectory
from .smoothing import Width

Array = NDArray[np.float64]
Measure = tuple[Array, Array, Array]  # nodes (m,) ascending, weights (m,) summing to 1, kernel widths (m,)
PLANES = ("pca", "eigen", "random")  # which plane is shown where none is asked for: the first that is there
PACES = ("checkpoints", "steps")


# ------------------------------------------------------------------ the records of one video


@dataclass(frozen=True)
class Scene:
    """The records that one video shows. `metrics` are columns of the training log: 'step', 'loss', ..."""

    info: RunInfo
    surface: Surface
    trajectory: Trajectory
    spectra: list[Spectrum]
    eigenpairs: list[Eigenpairs] = field(default_factory=list)
    metrics: dict[str, Array] = field(default_factory=dict)
    width: Width | None = None  # of the density's kernels; None: the automatic one of these spectra

    def __post_init__(self) -> None:
        if not self.spectra:
            raise ProblemError("a video needs at least one spectrum, got none")
        if not len(self.trajectory.steps):
            raise ProblemError("a video needs a trajectory of at least one checkpoint, got none")
        object.__setattr__(self, "spectra", sorted(self.spectra, key=lambda s: s.step))
        object.__setattr__(self, "eigenpairs", sorted(self.eigenpairs, key=lambda e: e.step))


class Readable(Protocol):
    """The part of a run that is read here: `landscape.Run` has it."""

    root: Any

    @property
    def info(self) -> RunInfo: ...
    def keys(self, kind: str | None = None) -> list[str]: ...
    def meta(self, key: str) -> dict[str, Any]: ...
    def read(self, key: str) -> Any: ...
    def metrics(self) -> dict[str, Array]: ...


def load(run: Readable, *, plane: str | None = None, operator: str = "hessian", origin: int | None = None) -> Scene:
    """Read the records of a run's video: the newest plane (of that name, through that step) with its trajectory.

    Raises:
        ProblemError: a record is missing; the message holds the command that makes it.
    """
    surface, trajectory = on_plane(run, plane, origin)
    found = {
        kind: [run.read(k) for k in run.keys(kind) if run.meta(k).get("operator") == operator]
        for kind in ("spectrum", "eigenpairs")
    }
    if not found["spectrum"]:
        raise ProblemError(
            f"run '{run.info.name}' has no {operator} spectrum. "
            f"Compute it with `landscape spectrum {run.root} --operator {operator}`"
        )
    return Scene(run.info, surface, trajectory, found["spectrum"], found["eigenpairs"], run.metrics())


def together(runs: Sequence[Readable], scenes: Sequence[Scene]) -> list[Scene]:
    """The same scenes on the first run's newest plane that holds the trajectories of all; without one, as they are."""
    first, guests = runs[0], dict[tuple[str, int], dict[str, str]]()
    for key in first.keys("guest"):
        meta = first.meta(key)
        guests.setdefault((meta["plane"], meta["step"]), {})[meta["run"]] = key
    names = [scene.info.name for scene in scenes[1:]]
    for plane, origin in sorted(guests, key=lambda place: (-place[1], place[0])):
        found = guests[plane, origin]
        if set(names) <= set(found):
            try:
                surface, own = on_plane(first, plane, origin)
            except ProblemError:
                continue  # the surface or the first run's own trajectory was removed
            paths = [own, *(first.read(found[name]) for name in names)]
            return [replace(scene, surface=surface, trajectory=path)
                    for scene, path in zip(scenes, paths, strict=True)]  # fmt: skip
    return list(scenes)


def on_plane(run: Readable, plane: str | None, origin: int | None) -> tuple[Surface, Trajectory]:
    """Surface and trajectory on the same plane, the plane with the latest origin where no origin is asked for.

    Raises:
        ProblemError: there is none; the message holds the command that makes it.
    """
    others = sorted({run.meta(key)["plane"] for key in run.keys("surface")} - set(PLANES))
    wanted = (plane,) if plane else (*PLANES, *(name for name in others if ".line" not in name))
    by_kind: dict[str, dict[tuple[str, int], str]] = {"surface": {}, "trajectory": {}}
    for kind, found in by_kind.items():
        for key in run.keys(kind):
            meta = run.meta(key)
            if meta["plane"] in wanted and origin in (None, meta["step"]):
                found[meta["plane"], meta["step"]] = key
    surfaces, trajectories = by_kind["surface"], by_kind["trajectory"]
    where = (f" of the {plane} plane" if plane else "") + (f" through step {origin}" if origin is not None else "")
    if not surfaces:
        raise ProblemError(
            f"run '{run.info.name}' has no surface{where}. "
            f"Compute it with `landscape surface {run.root} --plane {plane or PLANES[0]}`, then "
            f"`landscape trajectory {run.root}`"
        )
    both = surfaces.keys() & trajectories.keys()
    if not both:
        raise ProblemError(
            f"run '{run.info.name}' has a surface{where} but no trajectory on it. "
            f"Compute it with `landscape trajectory {run.root}`"
        )
    best = min(both, key=lambda name: (wanted.index(name[0]), -name[1]))
    return run.read(surfaces[best]), run.read(trajectories[best])


# ------------------------------------------------------------------ interpolation


@dataclass(frozen=True)
class Transport:
    """Optimal transport between two measures on a line: atom i moves from start[i] to end[i] with its weight."""

    start: Array  # (m,) ascending
    end: Array  # (m,) ascending
    weights: Array  # (m,)
    start_widths: Array  # (m,)
    end_widths: Array  # (m,)

    def at(self, share: float) -> Measure:
        """The measure after this share of the way: every quantile has moved linearly."""
        widths = (1 - share) * self.start_widths + share * self.end_widths
        return (1 - share) * self.start + share * self.end, self.weights, widths


def transport(a: Measure, b: Measure) -> Transport:
    """Match equal quantiles of two discrete measures (McCann 1997): exact at both ends, order is kept on the way."""
    tops = [np.cumsum(weights) / weights.sum() for _, weights, _ in (a, b)]
    levels = np.unique(np.concatenate(tops))
    levels = levels[np.append(np.diff(levels) > 1e-12, True)]  # equal levels but for rounding
    levels[-1] = 1.0
    weights = np.diff(levels, prepend=0.0)
    middle = levels - weights / 2
    (start, from_widths), (end, to_widths) = (
        (nodes[at], widths[at])
        for (nodes, _, widths), top in zip((a, b), tops, strict=True)
        for at in [np.searchsorted(top[:-1], middle)]
    )
    return Transport(start, end, weights, from_widths, to_widths)


def clock(checkpoints: ArrayLike, frames: int, pace: str = "checkpoints") -> Array:
    """Step shown by each frame, shape (frames,): both ends are held a little, checkpoints are hit exactly.

    Pace 'checkpoints' gives every interval between checkpoints the same time (log-spaced checkpoints then show the
    fast beginning slowly); 'steps' runs at constant steps a second.
    """
    at = np.asarray(checkpoints, dtype=np.float64)
    if frames < 1:
        raise UsageError(f"a video needs at least one frame, got {frames}")
    if pace not in PACES:
        raise UsageError(f"unknown pace '{pace}'; the choices are {', '.join(PACES)}")
    head, tail = (int(share * frames) for share in (0.04, 0.10))
    moving = frames - head - tail
    index = np.arange(len(at), dtype=np.float64)
    ruler = index if pace == "checkpoints" else at
    places = np.linspace(ruler[0], ruler[-1], moving)
    steps = np.interp(places, ruler, at)
    if len(at) > 1:  # the frame nearest to a checkpoint shows that checkpoint
        nearest = np.rint((ruler - ruler[0]) / (ruler[-1] - ruler[0]) * (moving - 1)).astype(int)
        steps[nearest] = at
    steps[0], steps[-1] = at[0], at[-1]  # in this order: a single frame shows the end
    return np.concatenate([np.full(head, steps[0]), steps, np.full(tail, at[-1])])


# ------------------------------------------------------------------ the scene at a step


@dataclass(frozen=True)
class Moment:
    """Everything that one frame shows. `between` names the checkpoints around an interpolated position."""

    step: float
    passed: int  # checkpoints of the trajectory at or before this step
    between: tuple[int, int] | None
    u: float
    v: float
    loss: float
    off_plane: float  # share of the distance from the plane's origin that the plane does not show
    sharpness: float
    tops: Array  # largest eigenvalues
    nodes: Array
    weights: Array
    widths: Array  # of the kernels, on the asinh axis
    spectrum_between: tuple[int, int]  # equal where the density is that of one checkpoint

    @property
    def measured(self) -> bool:
        """Whether the density and the sharpness were measured at this very step."""
        return self.spectrum_between == (self.step, self.step)


class Flow:
    """Densities over an ordered axis (steps, or t of a path): exact where measured, transported between."""

    def __init__(self, at: ArrayLike, spectra: Sequence[Spectrum], width: Width | None = None) -> None:
        self.places = np.asarray(at, dtype=np.float64)
        kernel = width or smoothing.automatic(spectra)
        self.measures: list[Measure] = [
            (*quadrature.measure(s), quadrature.kernel_widths(s, width_u=kernel.value, sharp_u=kernel.sharp))
            for s in spectra
        ]
        if not all(len(nodes) for nodes, _, _ in self.measures):
            raise ProblemError("a spectrum holds no finite node; compute it again with `landscape spectrum`")
        self.moves = [transport(a, b) for a, b in itertools.pairwise(self.measures)]

    def at(self, place: float) -> tuple[Measure, tuple[int, int]]:
        """The measure there and the indices of the spectra around it, equal where it is one of them."""
        k, share = _interval(self.places, place)
        return (self.moves[k].at(share), (k, k + 1)) if share else (self.measures[k], (k, k))


class Track:
    """Interpolates a scene's records; `sharpness` (len(sharp_steps),) is the curve that is drawn over the steps."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.steps = scene.trajectory.steps.astype(np.float64)
        self.spectrum_steps = np.array([s.step for s in scene.spectra], dtype=np.float64)
        self.flow = Flow(self.spectrum_steps, scene.spectra, scene.width)
        self.measures = self.flow.measures
        tops = {s.step: float(nodes[-1]) for s, (nodes, _, _) in zip(scene.spectra, self.measures, strict=True)}
        tops |= {e.step: float(e.values[0]) for e in scene.eigenpairs if len(e.values)}
        self.pairs = [(float(e.step), e.values) for e in scene.eigenpairs]
        self.sharp_steps = np.array(sorted(tops), dtype=np.float64)
        self.sharpness = np.array([tops[int(s)] for s in self.sharp_steps])

    def at(self, step: float) -> Moment:
        t = self.scene.trajectory
        i, share = _interval(self.steps, step)
        u, v, off, distance = (float(_mix(a, i, share)) for a in (t.u, t.v, t.off_plane, t.distance))
        (nodes, weights, widths), around = self.flow.at(step)
        return Moment(
            step=step, passed=i + 1, between=(int(t.steps[i]), int(t.steps[i + 1])) if share else None, u=u, v=v,
            loss=_mix_log(t.loss, i, share), off_plane=off / distance if distance > 0 else 0.0,
            sharpness=float(np.interp(step, self.sharp_steps, self.sharpness)), tops=tops_at(self.pairs, step),
            nodes=nodes, weights=weights, widths=widths,
            spectrum_between=(int(self.spectrum_steps[around[0]]), int(self.spectrum_steps[around[1]])),
        )  # fmt: skip


def tops_at(pairs: Sequence[tuple[float, Array]], place: float) -> Array:
    """Largest eigenvalues, matched by rank: the same matching that moves the density's outliers."""
    if not pairs:
        return np.empty(0)
    i, share = _interval(np.array([at for at, _ in pairs], dtype=np.float64), place)
    here = pairs[i][1]
    if not share:
        return here
    there = pairs[i + 1][1]
    count = min(len(here), len(there))
    return np.asarray((1 - share) * here[:count] + share * there[:count])


def _interval(steps: Array, step: float) -> tuple[int, float]:
    """Index of the checkpoint at or before a step and the share of the way to the next; the ends are held."""
    i = int(np.clip(np.searchsorted(steps, step, side="right") - 1, 0, len(steps) - 1))
    if i == len(steps) - 1 or step <= steps[i]:
        return i, 0.0
    return i, float((step - steps[i]) / (steps[i + 1] - steps[i]))


def _mix(values: Array, i: int, share: float) -> float:
    return float(values[i] if not share else (1 - share) * values[i] + share * values[i + 1])


def _mix_log(values: Array, i: int, share: float) -> float:
    """Interpolation of a loss: straight on the logarithmic axis on which it is drawn, where it is positive."""
    ends = values[i : i + 2]
    return float(np.exp(_mix(np.log(values), i, share))) if share and (ends > 0).all() else _mix(values, i, share)
