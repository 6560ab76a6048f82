"""Eigenvalue density (colour) of every checkpoint over the optimizer step, with the sharpness as a white line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from numpy.typing import ArrayLike

from ...readings import quadrature, smoothing
from ...readings.smoothing import Width
from ...records import Eigenpairs, Spectrum
from .. import drawing, scales
from ..drawing import FLOOR
from ..scales import Array
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, about_run, all_of, drawn, nearest_step


def edges(centres: ArrayLike) -> Array:
    """Cell borders halfway between ascending centres, one more than there are centres."""
    c = np.asarray(centres, dtype=np.float64)
    if len(c) == 1:
        return np.array([c[0] - 0.5, c[0] + 0.5])
    return np.concatenate([[c[0]], (c[1:] + c[:-1]) / 2, [c[-1]]])


def density_map(axes: Axes, at: Array, spectra: Sequence[Spectrum], width: Width | None = None) -> None:
    """Densities as colours over `at` (one a spectrum), with their colour bar."""
    width = width or smoothing.automatic(spectra)
    u_range = drawing.lambda_range([s.nodes for s in spectra])
    grid = np.linspace(*u_range, 400)
    columns = [quadrature.asinh_density(s, grid, width_u=width.value, sharp_u=width.sharp) for s in spectra]
    density = np.maximum(np.stack(columns, axis=1), FLOOR)  # (grid, spectrum)
    norm = LogNorm(FLOOR, max(float(density.max()), 10 * FLOOR))
    axes.pcolormesh(edges(at), edges(grid), density, norm=norm, cmap=scales.viridis(), rasterized=True)
    axes.set_ylim(*u_range)
    drawing.lambda_axis(axes.yaxis, *u_range, spectra[0].operator)
    page: Any = axes.get_figure(root=False)
    bar = page.colorbar(ScalarMappable(norm, scales.viridis()), ax=axes, pad=0.02)
    ticks = scales.decimal_ticks(float(norm.vmin or FLOOR), float(norm.vmax or 1), 6)
    bar.set_ticks(ticks, labels=[("≤" if t <= FLOOR * 1.001 else "") + scales.tick_text(t) for t in ticks])
    bar.ax.minorticks_off()
    bar.set_label("density per\nunit asinh(λ/λ₀)")


def draw(axes: Axes, spectra: Sequence[Spectrum], pairs: Sequence[Eigenpairs], width: Width | None = None,
         most: int = 8) -> None:  # fmt: skip
    steps = np.array([s.step for s in spectra], dtype=np.float64)
    density_map(axes, steps, spectra, width)
    exact = {e.step: e for e in pairs}
    tops = quadrature.to_asinh([drawing.top_eigenvalue(s, exact.get(s.step)) for s in spectra])
    axes.plot(steps, tops, color="white", lw=1.4, path_effects=drawing.outlined(1.4))
    drawing.step_axis(axes, steps, most)
    axes.set_title(f"{drawing.operator_name(spectra[0].operator)} spectrum over training")


def figure(
    spectra: Sequence[Spectrum], pairs: Sequence[Eigenpairs] = (), *, width: Width | None = None,
    sheet: Sheet | None = None, about: str = "",
) -> Plate:  # fmt: skip
    if not spectra:
        raise ValueError("a spectrum over training needs at least one spectrum, got none")
    ordered = sorted(spectra, key=lambda s: s.step)
    sheet, kernel = sheet or Sheet.of("text"), width or smoothing.automatic(ordered)
    caption = (
        f"{about} Eigenvalue densities of {len(ordered)} checkpoints, kernel width {kernel.value:.2g} on the asinh "
        "axis; white: the largest eigenvalue. Colours between checkpoints are those of the nearest."
    ).strip()
    return drawn(sheet, 0.8 if sheet.narrow else 0.52, caption,
                 lambda page: draw(page.subplots(), ordered, pairs, kernel, sheet.ticks))  # fmt: skip


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """All checkpoints of the operator."""
    nearest_step(run, "spectrum", Choice(operator=choice.operator))
    return figure(all_of(run, "spectrum", choice.operator), all_of(run, "eigenpairs", choice.operator), sheet=sheet,
                  about=about_run(run))  # fmt: skip
