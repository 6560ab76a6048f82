"""What a trajectory video shows at any step: exact at checkpoints, honestly interpolated between them (numpy only).

Weights move on straight lines between checkpoints, which is exact on a plane. Densities are never cross-faded: their
quadrature nodes move (one-dimensional optimal transport), so that a peak travels instead of fading out and in. The
largest eigenvalues move along their eigenvectors' branches where eigenvectors were stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ProblemError, UsageError
from ..readings import quadrature, smoothing
from ..readings.smoothing import Width
from ..records import Spectrum
from .scene import Scene

Array = NDArray[np.float64]
Measure = tuple[Array, Array, Array]  # nodes (m,) ascending, weights (m,) summing to 1, kernel widths (m,)
PACES = ("checkpoints", "steps")


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
        self.lowest = None if scene.branches is None else scene.branches.lowest()
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
            sharpness=float(np.interp(step, self.sharp_steps, self.sharpness)), tops=self.tops(step),
            nodes=nodes, weights=weights, widths=widths,
            spectrum_between=(int(self.spectrum_steps[around[0]]), int(self.spectrum_steps[around[1]])),
        )  # fmt: skip


    def tops(self, step: float) -> Array:
        """Largest eigenvalues: followed by their vectors where these were stored, so that a tick keeps its identity
        through a crossing; matched by rank elsewhere."""
        branches, lowest = self.scene.branches, self.lowest
        if branches is None or lowest is None or not branches.steps[0] <= step <= branches.steps[-1]:
            return tops_at(self.pairs, step)
        found = [value for branch, value in branches.at(step).items() if not lowest[branch]]
        return np.array(sorted(found, reverse=True))


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
