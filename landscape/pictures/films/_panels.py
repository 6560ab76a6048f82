"""Panels that films are put together from: a map with a path, a moving density, a curve with a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Polygon

from ...readings import quadrature
from ...records import Surface, Trajectory
from .. import drawing
from ..drawing import FLOOR, MARKER
from ..motion import Measure, Moment
from ..scales import Array, LossScale
from ._stage import Stage

MOST_DOTS = 80  # more would hide the line


class Map:
    """Loss contours of a plane with the path up to now, a marker at its head and marks at its ends."""

    def __init__(self, stage: Stage, axes: Axes, surface: Surface, trajectory: Trajectory, scale: LossScale,
                 marker: str = MARKER) -> None:  # fmt: skip
        self.axes, self.colour = axes, marker
        drawing.draw_surface(axes, surface, scale)
        drawing.draw_ends(axes, trajectory)
        axes.locator_params(nbins=7)
        drawing.surface_head(axes, surface, trajectory)
        self.corners = np.column_stack([trajectory.u, trajectory.v])  # (checkpoint, 2)
        self.colours = scale.colours(trajectory.loss)
        (self.path,) = axes.plot([], [], color="white", lw=2.0, path_effects=drawing.outlined(2.0))
        self.dots: Any = axes.scatter([], [], s=20, edgecolors="white", linewidths=0.8)
        (self.marker,) = axes.plot([], [], "o", ms=12, mfc=marker, mec="white", mew=2, clip_on=False)
        self.outside = axes.text(0.02, 0.02, "", transform=axes.transAxes,
                                 color="white", size=9.5, path_effects=drawing.outlined(0.6))  # fmt: skip
        stage.animate(self.path, self.dots, self.marker, words=[self.outside])

    def move(self, m: Moment) -> None:
        here = np.array([m.u, m.v])
        self.path.set_data(*np.vstack([self.corners[: m.passed], here]).T)
        if len(self.corners) <= MOST_DOTS:
            self.dots.set_offsets(self.corners[: m.passed])
            self.dots.set_facecolor(self.colours[: m.passed])
        low, high = np.transpose([self.axes.get_xlim(), self.axes.get_ylim()])
        at = np.clip(here, low, high)
        inside = bool((at == here).all())
        self.marker.set_data([at[0]], [at[1]])
        self.marker.set_markerfacecolor(self.colour if inside else "white")
        self.marker.set_markeredgecolor("white" if inside else self.colour)
        self.outside.set_text("" if inside else "outside the computed surface")


class Density:
    """Densities of one or more runs on common, fixed axes, with ticks at their largest eigenvalues.

    `frames[k][i]` is the measure of run k in frame i; `values` are all eigenvalues that the axis has to hold.
    """

    def __init__(self, stage: Stage, axes: Axes, operator: str, frames: Sequence[Sequence[Measure]],
                 values: Sequence[Array], *, colours: Sequence[str], sticks: Sequence[str],
                 grey: Measure | None = None) -> None:  # fmt: skip
        u_range = drawing.lambda_range(values)
        self.axes, self.grid = axes, np.linspace(*u_range, 500)
        self.densities = [self._curves(measures) for measures in frames]  # per run (frame, grid): the axis holds all
        first = None if grey is None else drawing.density_of(*grey, self.grid)
        top = max(float(d.max()) for run in self.densities for d in run)
        drawing.density_axes(axes, u_range, max(top, float(first.max()) if first is not None else 0.0), operator)
        if first is not None:
            axes.plot(self.grid, np.maximum(first, FLOOR), color=stage.ink.faint, lw=1.2)
        blank = np.zeros((1, 2))
        self.areas: list[Any] = [axes.add_patch(Polygon(blank, closed=True, facecolor=c, alpha=0.2, lw=0))
                                 for c in colours]  # fmt: skip
        self.curves = [axes.plot([], [], color=c, lw=1.8)[0] for c in colours]
        self.sticks: list[Any] = [axes.add_collection(LineCollection([], colors=c, linewidths=1.4), autolim=False)
                                  for c in sticks]  # fmt: skip
        self.when = axes.text(0.015, 0.965, "", transform=axes.transAxes, va="top", size=9.5, color=stage.ink.muted)
        stage.animate(*self.areas, *self.curves, *self.sticks, words=[self.when])
        self.ink = stage.ink

    def _curves(self, measures: Sequence[Measure]) -> list[Array]:
        found: dict[int, Array] = {}  # a held frame is the same measure again
        for measure in measures:
            if id(measure) not in found:
                found[id(measure)] = np.maximum(drawing.density_of(*measure, self.grid), FLOOR)
        return [found[id(measure)] for measure in measures]

    def move(self, i: int, tops: Sequence[Array]) -> None:
        """Show frame i with ticks at these eigenvalues, one array a run."""
        ends = np.array([[self.grid[-1], FLOOR], [self.grid[0], FLOOR]])
        reach = self.axes.get_ylim()[1] / FLOOR
        for k, (run, values) in enumerate(zip(self.densities, tops, strict=True)):
            self.curves[k].set_data(self.grid, run[i])
            self.areas[k].set_xy(np.vstack([np.column_stack([self.grid, run[i]]), ends]))
            low, high = FLOOR * reach ** (0.10 * k), FLOOR * reach ** (0.10 * (k + 1))  # runs side by side, not on top
            self.sticks[k].set_segments([[(u, low), (u, high)] for u in quadrature.to_asinh(values)])

    def say(self, m: Moment) -> None:
        """Whether this density was measured, and where not, between which steps it is interpolated."""
        first, last = m.spectrum_between
        exact = f"step {first:,}" if m.measured else f"nearest: step {first:,}"
        self.when.set_text(exact if first == last else f"interpolated\n{first:,}–{last:,}")
        self.when.set_color(self.ink.muted if m.measured else self.ink.orange)


class Cursors:
    """A vertical line through several panels and a dot on every curve."""

    def __init__(self, stage: Stage, panels: Sequence[tuple[Axes, str]]) -> None:
        lines = {id(axes): axes for axes, _ in panels}.values()
        self.lines = [axes.axvline(0, color=stage.ink.muted, lw=1) for axes in lines]
        self.points = [axes.plot([], [], "o", ms=7, mfc=colour, mec="white", mew=1.4, clip_on=False)[0]
                       for axes, colour in panels]  # fmt: skip
        stage.animate(*self.lines, *self.points)

    def move(self, at: float, values: Sequence[float], places: Sequence[float] | None = None) -> None:
        """Lines at `at`, dots at these values, each at its own place where a run has ended before `at`."""
        for line in self.lines:
            line.set_xdata([at, at])
        for point, value, place in zip(self.points, values, places or [at] * len(values), strict=True):
            point.set_data([place], [value])


def curve_range(axes: Axes, values: Array, *, log: bool) -> None:
    """Fix the y range of a curve panel: logarithmic with a margin, or linear from zero."""
    values = values[np.isfinite(values)]
    if log and (values > 0).any():
        values = values[values > 0]
        drawing.log_axis(axes, float(values.min()) / 1.25, float(values.max()) * 1.25, 4)
        return
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    axes.set_ylim(low * 1.1, high * 1.12 if high > 0 else 1.0 if low == 0 else 0.0)
