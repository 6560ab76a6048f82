"""Where the quadratic model at a surface's origin holds: its lines over the surface, and the relative difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Circle

from ...errors import ProblemError
from ...readings.quadratic import Agreement, Quadratic, agreement
from ...records import Surface, Trajectory
from .. import drawing, scales
from ..drawing import MARKER
from ..scales import LossScale
from ..scene import Readable
from . import surface as contours
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, drawn

_TICKS = (0.001, 0.01, 0.05, 0.2, 1.0)  # of the difference


def draw_model(axes: Axes, surface: Surface, agreed: Agreement) -> None:
    """The surface with every second of its levels as the model has them, dashed."""
    scale = LossScale.of(surface.loss)
    drawing.draw_surface(axes, surface, scale)
    drawing.draw_loss_bar(axes.figure, scale, ax=axes, pad=0.02)
    lines = np.where(agreed.model > 0, agreed.model, np.nan) if scale.log else agreed.model
    if np.isfinite(lines).any() and np.nanmax(lines) > scale.low:
        axes.contour(surface.u, surface.v, np.ma.masked_invalid(lines), levels=scale.levels()[1:-1:2], colors=MARKER,
                     linewidths=1.1, linestyles="dashed")  # fmt: skip
    axes.set_title("Loss and quadratic model")


def draw_difference(axes: Axes, surface: Surface, agreed: Agreement) -> None:
    """|L - m| relative to the rise, the line of the tolerance, and the circle inside which the model holds."""
    shown = np.ma.masked_invalid(np.clip(agreed.difference, _TICKS[0], _TICKS[-1]))
    axes.set_facecolor(drawing.ink().missing)
    norm = LogNorm(_TICKS[0], _TICKS[-1])
    cells = axes.pcolormesh(surface.u, surface.v, shown, norm=norm, cmap=scales.viridis(), rasterized=True)
    axes.contour(surface.u, surface.v, shown, levels=[agreed.tolerance], colors="white", linewidths=1.4)
    axes.add_patch(Circle((0, 0), agreed.radius, fill=False, ec=MARKER, lw=1.4, ls="dashed"))
    axes.plot(0, 0, "+", color=MARKER, ms=9, mew=2)
    axes.set(xlim=surface.u[[0, -1]], ylim=surface.v[[0, -1]], xlabel=drawing.axis_label(surface, 0),
             ylabel=drawing.axis_label(surface, 1))  # fmt: skip
    bar = axes.figure.colorbar(cells, ax=axes, pad=0.02)
    bar.set_ticks(_TICKS, labels=["≤ 0.1 %", "1 %", "5 %", "20 %", "≥ 100 %"])
    bar.ax.minorticks_off()
    bar.set_label("|loss − model| / rise")
    within = f"{'at least ' if agreed.to_the_edge else ''}{scales.number(agreed.radius)}"
    axes.set_title(f"Holds to {100 * agreed.tolerance:g} % within {within}")


def draw(page: Any, surface: Surface, agreed: Agreement, sheet: Sheet) -> None:
    left, right = page.subplots(*((2, 1) if sheet.narrow else (1, 2)))
    draw_model(left, surface, agreed)
    draw_difference(right, surface, agreed)
    for axes in (left, right):
        contours.fit(axes, narrow=True)
        axes.locator_params(axis="x", nbins=4)


def figure(surface: Surface, trajectory: Trajectory | None = None, *, sheet: Sheet | None = None,
           about: str = "") -> Plate:  # fmt: skip
    """Raises:
    ProblemError: the surface carries no quadratic model.
    """
    model = Quadratic.of(surface)
    if model is None:
        raise ProblemError(
            f"the {surface.plane} surface of step {surface.step} carries no quadratic model; `landscape surface RUN "
            f"--plane {surface.plane}` with the options that made it adds one"
        )
    sheet = sheet or Sheet.of("text")
    agreed = agreement(surface, model)
    words = f"The quadratic model at the origin {agreed.words}; dashed over the loss: its lines at every second level. "
    words += f"White: where it misses {100 * agreed.tolerance:g} %; dashed around +: that distance."
    caption = f"{about} {about_projection(surface, trajectory)} {words}".strip()
    return drawn(sheet, 1.7 if sheet.narrow else 0.42, caption, lambda page: draw(page, surface, agreed, sheet))


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the plane that is asked for, or the first of PCA, eigenvectors and random that is there."""
    return figure(*contours.read(run, choice), sheet=sheet, about=about_run(run))
