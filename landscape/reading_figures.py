"""Publication figures of what is read off a surface: where its quadratic model holds, its minima and their passes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, NullLocator

from . import drawing, scales
from .drawing import MARKER
from .errors import ProblemError
from .quadratic import Agreement, Quadratic, agreement
from .records import Surface
from .scales import LossScale
from .topology import Pair, Topology, topology

_TICKS = (0.001, 0.01, 0.05, 0.2, 1.0)  # of the difference
_MOST = 8  # pairs that are drawn
_BASIN, _PEAK = "#0072B2", "#D55E00"


def _panels(width: float = 10.4, height: float = 4.4) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    return figure, left, right


def quadratic_figure(surface: Surface) -> Figure:
    """A surface with the iso-lines of its quadratic model (dashed), and their difference relative to the rise.

    Raises:
        ProblemError: the surface carries no quadratic model.
    """
    model = Quadratic.of(surface)
    if model is None:
        raise ProblemError(
            f"the {surface.plane} surface of step {surface.step} carries no quadratic model; `landscape surface RUN "
            f"--plane {surface.plane}` with the options that made it adds one"
        )
    agreed = agreement(surface, model)
    with drawing.theme():
        figure, left, right = _panels()
        draw_model(left, surface, agreed)
        draw_difference(right, surface, agreed)
        figure.draw_without_rendering()  # places everything while the theme holds
    return figure


def topology_figure(surface: Surface) -> Figure:
    """A surface with its most persistent minima and passes, and a bar a basin from its minimum to its pass."""
    found = topology(surface)
    with drawing.theme():
        figure, left, right = _panels()
        draw_minima(left, surface, found)
        draw_barriers(right, surface, found)
        figure.draw_without_rendering()
    return figure


def draw_model(axes: Axes, surface: Surface, agreed: Agreement) -> None:
    """The surface with every second of its levels as the model has them, dashed."""
    scale = LossScale.of(surface.loss)
    drawing.draw_surface(axes, surface, scale)
    drawing.draw_loss_bar(axes.figure, scale, ax=axes, pad=0.02)
    lines = np.where(agreed.model > 0, agreed.model, np.nan) if scale.log else agreed.model
    if np.isfinite(lines).any() and np.nanmax(lines) > scale.low:
        axes.contour(surface.u, surface.v, np.ma.masked_invalid(lines), levels=scale.levels()[1:-1:2], colors=MARKER,
                     linewidths=1.1, linestyles="dashed")  # fmt: skip
    axes.set_title(f"Step {surface.step:,}; dashed: quadratic model")


def draw_difference(axes: Axes, surface: Surface, agreed: Agreement) -> None:
    """|L - m| relative to the rise, the line of the tolerance, and the circle inside which the model holds."""
    shown = np.ma.masked_invalid(np.clip(agreed.difference, _TICKS[0], _TICKS[-1]))
    axes.set_facecolor("#F0F0F0")
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
    axes.set_title(f"It holds to {100 * agreed.tolerance:g} % within {within}")


def _shown(found: Topology) -> list[Pair]:
    kept = sorted([*found.basins, *found.peaks], key=lambda p: -p.persistence)[:_MOST]
    return [p for p in found.basins if p in kept] + [p for p in found.peaks if p in kept]


def draw_minima(axes: Axes, surface: Surface, found: Topology) -> None:
    """The surface with numbered minima (rings; squares at the border), maxima (diamonds) and passes (crosses)."""
    scale = LossScale.of(surface.loss)
    drawing.draw_surface(axes, surface, scale)
    drawing.draw_loss_bar(axes.figure, scale, ax=axes, pad=0.02)
    for index, pair in enumerate(_shown(found), start=1):
        _mark(axes, pair, index, peak=pair not in found.basins)
    axes.set_title(f"Minima and passes at step {surface.step:,}")


def _mark(axes: Axes, pair: Pair, index: int, *, peak: bool) -> None:
    shape = "D" if peak else "s" if pair.extremum.border else "o"
    at = (pair.extremum.u, pair.extremum.v)
    axes.plot(*at, shape, ms=8, mfc="none", mec="white", mew=1.6, path_effects=drawing.outlined(1.4), clip_on=False)
    axes.annotate(str(index), at, (7, 6), textcoords="offset points", color="white", fontsize=9,
                  path_effects=drawing.outlined(0.8))  # fmt: skip
    if pair.saddle is not None:
        axes.plot(pair.saddle.u, pair.saddle.v, "x", ms=6, mec="white", mew=1.6, path_effects=drawing.outlined(1.4))


def draw_barriers(axes: Axes, surface: Surface, found: Topology) -> None:
    """One bar a basin, from its minimum up to its pass; below, peaks down to theirs."""
    scale, pairs = LossScale.of(surface.loss), _shown(found)
    for index, pair in enumerate(pairs, start=1):
        basin, open_ = pair in found.basins, pair.saddle is None
        colour = _BASIN if basin else _PEAK
        end = scale.high if pair.saddle is None else pair.saddle.loss
        axes.plot([pair.extremum.loss, end], [index, index], color=colour, lw=2.5, ls=":" if open_ else "-")
        axes.plot(pair.extremum.loss, index, "o" if basin else "D", color=colour, ms=7,
                  mfc=axes.get_facecolor() if pair.extremum.border else colour)  # fmt: skip
        axes.plot(end, index, ">" if open_ else "x", color=colour, ms=6, mew=1.6)
    names = [f"{'minimum' if p in found.basins else 'maximum'} {i}" for i, p in enumerate(pairs, start=1)]
    axes.set_yticks(range(1, len(pairs) + 1), names)
    axes.set_ylim(max(len(pairs), 3) + 0.6, 0.4)
    if scale.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        ticks, texts = scale.ticks()
        axes.set_xticks(ticks, texts)
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlabel(scale.label)
    axes.grid(True, axis="x")
    axes.set_title(found.words, fontsize="medium", fontweight="normal")
