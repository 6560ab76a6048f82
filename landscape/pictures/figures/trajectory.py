"""The projected path with what the projection hides: distance from the plane, and true loss beside the map's."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ...records import Surface, Trajectory
from .. import drawing
from ..scene import Readable, on_plane
from . import surface as contours
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, drawn


def off_plane(axes: Axes, trajectory: Trajectory) -> None:
    """Bars on one scale: each checkpoint's distance from the origin, and how far it is from the plane."""
    ink, t = drawing.ink(), trajectory
    gaps = np.diff(t.steps.astype(np.float64))
    left = t.steps - np.append(gaps[:1], gaps) / 2 if len(gaps) else np.array([-0.5])
    right = t.steps + np.append(gaps, gaps[-1:]) / 2 if len(gaps) else np.array([0.5])
    bars = ((t.distance, ink.faint, "distance"), (t.off_plane, ink.orange, "off the plane: hidden"))
    for values, colour, label in bars:
        axes.bar((left + right) / 2, values, 0.8 * (right - left), color=colour, label=label, lw=0)
    axes.set_ylabel("units of weight")
    axes.legend(loc="upper right", handlelength=1.0)
    axes.set_ylim(0, 1.25 * float(np.nanmax(t.distance, initial=1e-12)))
    axes.set_title("What the plane hides")


def losses(axes: Axes, trajectory: Trajectory) -> None:
    """True loss of the checkpoints beside the loss at their projections."""
    ink, t = drawing.ink(), trajectory
    axes.plot(t.steps, t.loss, color=ink.blue, lw=1.5, marker="o", ms=2.5, label="true loss")
    axes.plot(t.steps, t.surface_loss, color=ink.orange, lw=1.2, ls="--", label="on the map")
    values = np.concatenate([t.loss, t.surface_loss])
    if np.nanmin(values) > 0:
        drawing.log_axis(axes, float(np.nanmin(values)) / 1.25, float(np.nanmax(values)) * 1.25, 4)
    axes.set_ylabel("training loss" + ("\n(log scale)" if np.nanmin(values) > 0 else ""))
    axes.legend(loc="upper right")
    axes.grid(True)


def draw(page: Any, surface: Surface, trajectory: Trajectory, sheet: Sheet) -> None:
    if sheet.narrow:
        panels = page.subplots(3, 1, height_ratios=(2.6, 1, 1))
        map_axes, bars, curves = panels
    else:
        grid = page.add_gridspec(2, 2, width_ratios=(1.25, 1))
        map_axes, bars, curves = (page.add_subplot(where) for where in (grid[:, 0], grid[0, 1], grid[1, 1]))
    contours.draw(map_axes, surface, trajectory, narrow=True)
    off_plane(bars, trajectory)
    losses(curves, trajectory)
    for axes in (bars, curves):
        drawing.step_axis(axes, trajectory.steps, 5)
    gap = float(trajectory.steps[-1] - trajectory.steps[0]) * 0.03 or 0.5
    bars.set_xlim(trajectory.steps[0] - gap, trajectory.steps[-1] + gap)
    curves.set_xlim(bars.get_xlim())


def figure(surface: Surface, trajectory: Trajectory, *, sheet: Sheet | None = None, about: str = "") -> Plate:
    sheet = sheet or Sheet.of("text")
    words = "Bars: distance of each checkpoint from the plane's origin, and from the plane."
    caption = f"{about} {about_projection(surface, trajectory)} {words}".strip()
    return drawn(sheet, 1.6 if sheet.narrow else 0.52, caption, lambda page: draw(page, surface, trajectory, sheet))


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the plane that is asked for, or the first of PCA, eigenvectors and random that has a path."""
    return figure(*on_plane(run, choice.plane, choice.step), sheet=sheet, about=about_run(run))
