"""The loss on a plane as a relief, with the path at its true loss and lines down to the surface."""

from __future__ import annotations

from matplotlib.axes import Axes

from ...records import Surface, Trajectory
from .. import drawing
from ..relief import Relief
from ..scales import LossScale
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, drawn
from .surface import read


def draw(axes: Axes, surface: Surface, trajectory: Trajectory | None, *, narrow: bool = False) -> None:
    scale = LossScale.of(surface.loss)
    relief = Relief(axes, surface, trajectory, scale)
    relief.turn(relief.camera.azimuth - 12)  # a diagonal view would hide which axis is which
    if trajectory is not None:
        relief.walk(trajectory.u, trajectory.v, trajectory.loss, corners=len(trajectory.steps))
    drawing.draw_loss_bar(axes.figure, scale, ax=axes, pad=0.02, shrink=0.8)
    drawing.surface_head(axes, surface, None if narrow else trajectory)


def figure(surface: Surface, trajectory: Trajectory | None = None, *, sheet: Sheet | None = None,
           about: str = "") -> Plate:  # fmt: skip
    sheet = sheet or Sheet.of("text")
    path = " Path at its true loss (faint where the surface hides it); lines run down to the surface."
    caption = f"{about} {about_projection(surface, trajectory)}{path if trajectory is not None else ''}"
    caption = f"{caption} Axes of the plane in units of weight.".strip()
    return drawn(sheet, 0.8 if sheet.narrow else 0.62, caption,
                 lambda page: draw(page.subplots(), surface, trajectory, narrow=sheet.narrow))  # fmt: skip


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the plane that is asked for, or the first of PCA, eigenvectors and random that is there."""
    return figure(*read(run, choice), sheet=sheet, about=about_run(run))
