"""Contours of the loss on a plane, with the path and its checkpoints coloured by their true loss."""

from __future__ import annotations

from matplotlib.axes import Axes

from ...errors import ProblemError
from ...records import Surface, Trajectory
from .. import drawing
from ..scales import LossScale
from ..scene import PLANES, Readable, on_plane
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, drawn


def draw(axes: Axes, surface: Surface, trajectory: Trajectory | None, *, narrow: bool = False) -> None:
    scale = LossScale.of(surface.loss)
    drawing.draw_surface(axes, surface, scale)
    drawing.draw_loss_bar(axes.figure, scale, ax=axes, pad=0.02)
    fit(axes, narrow=narrow)
    if trajectory is not None:
        axes.plot(trajectory.u, trajectory.v, color="white", lw=1.6, path_effects=drawing.outlined(), zorder=3)
        axes.scatter(trajectory.u, trajectory.v, c=scale.colours(trajectory.loss), s=14, edgecolors="white",
                     linewidths=0.7, zorder=4)  # fmt: skip
        drawing.draw_ends(axes, trajectory)
    drawing.surface_head(axes, surface, None if narrow else trajectory)  # the caption says the rest


def fit(axes: Axes, *, narrow: bool) -> None:
    """Fewer ticks and shorter lines of words where there is little room."""
    axes.locator_params(nbins=5 if narrow else 7)
    if narrow:
        axes.set(xlabel=axes.get_xlabel().replace(", ", ",\n", 1), ylabel=axes.get_ylabel().replace(", ", ",\n", 1))


def figure(surface: Surface, trajectory: Trajectory | None = None, *, sheet: Sheet | None = None,
           about: str = "") -> Plate:  # fmt: skip
    sheet = sheet or Sheet.of("text")
    caption = f"{about} {about_projection(surface, trajectory)}".strip()
    return drawn(sheet, 0.85 if sheet.narrow else 0.66, caption,
                 lambda page: draw(page.subplots(), surface, trajectory, narrow=sheet.narrow))  # fmt: skip


def read(run: Readable, choice: Choice) -> tuple[Surface, Trajectory | None]:
    """The plane that is asked for, with its path where there is one.

    Raises:
        ProblemError: there is no such surface.
    """
    try:
        return on_plane(run, choice.plane, choice.step)
    except ProblemError:
        wanted = (choice.plane,) if choice.plane else PLANES
        keys = [k for k in run.keys("surface") if run.meta(k)["plane"] in wanted
                and choice.step in (None, run.meta(k)["step"])]  # fmt: skip
        if not keys:
            raise
        return run.read(max(keys, key=lambda k: run.meta(k)["step"])), None


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the plane that is asked for, or the first of PCA, eigenvectors and random that is there."""
    return figure(*read(run, choice), sheet=sheet, about=about_run(run))
