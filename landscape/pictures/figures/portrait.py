"""What an optimizer's landscape looks like: the surface with its path, and the density at its end, side by side."""

from __future__ import annotations

from typing import Any

from ...readings import smoothing
from ...records import Eigenpairs, Spectrum, Surface, Trajectory
from .. import drawing
from ..scales import number
from ..scene import Readable
from . import density, surface
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, all_of, at_step, drawn, nearest_step


def figure(
    plane: Surface, trajectory: Trajectory | None, spectrum: Spectrum, pairs: Eigenpairs | None,
    first: Spectrum | None, *, sheet: Sheet | None = None, about: str = "",
) -> Plate:  # fmt: skip
    sheet = sheet or Sheet.of("text")
    width = smoothing.automatic([s for s in (spectrum, first) if s is not None])
    top = drawing.top_eigenvalue(spectrum, pairs)
    end = f" Loss {number(float(trajectory.loss[-1]))}, sharpness {number(top)} at its end." if trajectory else ""

    def draw(page: Any) -> None:
        left, right = page.subplots(2, 1) if sheet.narrow else page.subplots(1, 2, width_ratios=(1.15, 1))
        surface.draw(left, plane, trajectory, narrow=True)
        density.draw(right, spectrum, pairs, first, width, 4)

    caption = f"{about} {about_projection(plane, trajectory)}{end}".strip()
    return drawn(sheet, 1.35 if sheet.narrow else 0.4, caption, draw)


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the plane that is asked for, or the first that is there, and the latest spectrum."""
    plane, trajectory = surface.read(run, choice)
    spectra = all_of(run, "spectrum", choice.operator)
    step = nearest_step(run, "spectrum", Choice(operator=choice.operator))
    first = spectra[0] if spectra[0].step != step else None
    pairs = at_step(all_of(run, "eigenpairs", choice.operator), step)
    return figure(plane, trajectory, at_step(spectra, step), pairs, first, sheet=sheet, about=about_run(run))
