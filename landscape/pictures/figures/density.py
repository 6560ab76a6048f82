"""Eigenvalue density of one checkpoint on the asinh axis, its largest eigenvalues, the first checkpoint in grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ...readings import quadrature, smoothing
from ...readings.smoothing import Width
from ...records import Eigenpairs, Spectrum
from .. import drawing
from ..drawing import FLOOR
from ..scales import number
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, about_run, all_of, at_step, drawn, nearest_step


def draw(axes: Axes, spectrum: Spectrum, pairs: Eigenpairs | None, first: Spectrum | None, width: Width,
         most: int = 9, labels: Sequence[str] = ()) -> None:  # fmt: skip
    """Draw on axes; kernels as wide as `width` says. `labels` name the two densities, by default by their steps."""
    ink = drawing.ink()
    labels = labels or [f"step {s.step:,}" for s in (spectrum, first) if s is not None]
    shown = [s for s in (spectrum, first) if s is not None]
    u_range = drawing.lambda_range([*(s.nodes for s in shown), drawing.top_eigenvalue(spectrum, pairs)])
    grid = np.linspace(*u_range, 600)
    curves = [quadrature.asinh_density(s, grid, width_u=width.value, sharp_u=width.sharp) for s in shown]
    density = curves[0]
    drawing.density_axes(axes, u_range, max(float(c.max()) for c in curves), spectrum.operator, most)
    if first is not None:
        axes.plot(grid, curves[1], color=ink.faint, lw=1.0, label=labels[1])
    axes.plot(grid, density, color=ink.blue, lw=1.3, label=labels[0])
    axes.fill_between(grid, FLOOR, np.maximum(density, FLOOR), color=ink.blue, alpha=0.18, lw=0)
    if pairs is not None and len(pairs.values):
        at = quadrature.to_asinh(pairs.values)
        axes.vlines(at, FLOOR, 3 * FLOOR, color=ink.orange, lw=1.3, label=f"{len(at)} largest")
    axes.legend(loc="best", handlelength=1.2, borderpad=0.2)
    axes.set_title(f"{drawing.operator_name(spectrum.operator)} spectrum at step {spectrum.step:,}")


def figure(
    spectrum: Spectrum, pairs: Eigenpairs | None = None, *, first: Spectrum | None = None, width: Width | None = None,
    sheet: Sheet | None = None, about: str = "",
) -> Plate:  # fmt: skip
    """`width` of the kernels is by default the automatic one (`smoothing.automatic`), here and in other figures."""
    sheet = sheet or Sheet.of("text")
    width = width or smoothing.automatic([s for s in (spectrum, first) if s is not None])
    probes, nodes = spectrum.nodes.shape
    words = [about, f"Density of {spectrum.size:,} eigenvalues from {probes} x {nodes} quadrature nodes (probes x "
                    f"nodes), kernel width {width.value:.2g} on the asinh axis; grey background: negative curvature."]
    if pairs is not None and len(pairs.residuals):
        words.append(f"Residuals of the marked eigenvalues: at most {number(float(np.nanmax(pairs.residuals)))}.")
    kernel = width
    return drawn(sheet, 0.72 if sheet.narrow else 0.5, " ".join(filter(None, words)),
                 lambda page: draw(page.subplots(), spectrum, pairs, first, kernel, sheet.ticks))  # fmt: skip


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the step that is asked for, or the latest."""
    step = nearest_step(run, "spectrum", choice)
    spectra = all_of(run, "spectrum", choice.operator)
    first = spectra[0] if spectra[0].step != step else None
    pairs = at_step(all_of(run, "eigenpairs", choice.operator), step)
    return figure(at_step(spectra, step), pairs, first=first, sheet=sheet, about=about_run(run))
