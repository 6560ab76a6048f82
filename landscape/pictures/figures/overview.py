"""A run on one page: training, spectrum over training, surface with path, spectrum at a step."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...readings import smoothing
from .. import drawing
from ..scene import Readable
from . import density, spectrum, surface, training
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, all_of, at_step, drawn, nearest_step


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the step and plane that are asked for, or the latest."""
    spectra = all_of(run, "spectrum", choice.operator)
    step = nearest_step(run, "spectrum", choice)
    pairs = [e for e in all_of(run, "eigenpairs", choice.operator) if len(e.values)]
    map_, path = surface.read(run, Choice(plane=choice.plane))
    metrics, width = run.metrics(), smoothing.automatic(spectra)
    first = spectra[0] if spectra[0].step != step else None

    def draw(page: Any) -> None:
        columns = 1 if sheet.narrow else 2
        # nested grids keep a panel's colour bar from pushing its neighbours out of line
        cells = page.add_gridspec(4 // columns, columns)
        places = [page.add_subfigure(cells[k // columns, k % columns]) for k in range(4)]
        rows = places[0].subplots(2 if pairs else 1, 1, sharex=True, squeeze=False)[:, 0]
        if len(metrics.get("loss", np.empty(0))):
            training.losses(rows[0], metrics)
        rows[0].set_title("Training")
        if pairs:
            training.sharpness(rows[1], pairs, run.info)
        steps = metrics["step"] if len(metrics.get("step", np.empty(0))) else [s.step for s in spectra]
        drawing.step_axis(rows[-1], steps, 5)
        spectrum.draw(places[1].subplots(), spectra, pairs, width, 5)
        surface.draw(places[2].subplots(), map_, path, narrow=True)
        density.draw(places[3].subplots(), at_step(spectra, step), at_step(pairs, step), first, width, 5)

    caption = (
        f"{about_run(run)} {about_projection(map_, path)} Densities of {len(spectra)} checkpoints, kernel width "
        f"{width.value:.2g} on the asinh axis."
    )
    return drawn(sheet, 3.0 if sheet.narrow else 0.8, caption, draw)
