"""Minima, maxima and passes of a surface, numbered, and a bar from each minimum up to its pass."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from ...readings.topology import Pair, Topology, topology
from ...records import Surface, Trajectory
from .. import drawing
from ..scales import LossScale
from ..scene import Readable
from . import surface as contours
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, drawn

_MOST = 8  # pairs that are drawn


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
    axes.set_title("Minima and passes")


def _mark(axes: Axes, pair: Pair, index: int, *, peak: bool) -> None:
    shape = "D" if peak else "s" if pair.extremum.border else "o"
    style: dict[str, Any] = {"mec": "white", "mew": 1.6, "path_effects": drawing.outlined(1.4)}
    at = (pair.extremum.u, pair.extremum.v)
    axes.plot(*at, shape, ms=8, mfc="none", transform=_inside(axes, at, 5.5), **style)
    right, up = ((-1 if ahead > 0.85 else 1) for ahead in _along(axes, at))
    axes.annotate(str(index), at, (12 * right, 10 * up), textcoords="offset points", color="white", fontsize=9,
                  ha="left" if right > 0 else "right", va="bottom" if up > 0 else "top",
                  path_effects=drawing.outlined(0.8))  # fmt: skip
    if pair.saddle is not None:
        pass_ = (pair.saddle.u, pair.saddle.v)
        axes.plot(*pass_, "x", ms=6, transform=_inside(axes, pass_, 4.5), **style)


def _along(axes: Axes, at: tuple[float, float]) -> tuple[float, float]:
    """Shares of the way through the window, from left and from below."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    return (at[0] - left) / (right - left), (at[1] - low) / (high - low)


def _inside(axes: Axes, at: tuple[float, float], points: float) -> Transform:
    """Where a mark is drawn: at its place, or so many points away from a border that would cut it."""
    right, up = ((points if ahead < 0.01 else -points if ahead > 0.99 else 0.0) for ahead in _along(axes, at))
    return axes.transData + ScaledTranslation(right / 72, up / 72, axes.figure.dpi_scale_trans)


def draw_barriers(axes: Axes, surface: Surface, found: Topology) -> None:
    """One bar a basin, from its minimum up to its pass; below, peaks down to theirs."""
    scale, pairs = LossScale.of(surface.loss), _shown(found)
    for index, pair in enumerate(pairs, start=1):
        basin, open_ = pair in found.basins, pair.saddle is None
        colour = drawing.ink().blue if basin else drawing.ink().orange
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
    axes.set_title("Barriers")


def draw(page: Any, surface: Surface, found: Topology, sheet: Sheet) -> None:
    left, right = page.subplots(*((2, 1) if sheet.narrow else (1, 2)))
    draw_minima(left, surface, found)
    contours.fit(left, narrow=True)
    draw_barriers(right, surface, found)


def figure(surface: Surface, trajectory: Trajectory | None = None, *, sheet: Sheet | None = None,
           about: str = "") -> Plate:  # fmt: skip
    sheet, found = sheet or Sheet.of("text"), topology(surface)
    words = f"On this grid there are {found.words}; a bar ends at the pass where a basin meets a deeper one. "
    words += "Ways around a barrier that leave the plane may be lower."
    caption = f"{about} {about_projection(surface, trajectory)} {words}".strip()
    return drawn(sheet, 1.7 if sheet.narrow else 0.42, caption, lambda page: draw(page, surface, found, sheet))


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the plane that is asked for, or the first of PCA, eigenvectors and random that is there."""
    return figure(*contours.read(run, choice), sheet=sheet, about=about_run(run))
