"""Publication figures of records: spectrum, spectrum over training, surface with path, path between two minima.

Every function takes records and returns a `matplotlib.figure.Figure`; save it with `figure.savefig(...)` as PDF, SVG
or PNG. pyplot's global state is never touched, so that a server may call them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from . import drawing, quadrature, scales, smoothing
from .drawing import BLUE, FAINT, FLOOR, GREEN, MUTED, ORANGE
from .records import Eigenpairs, Path, Spectrum, Surface, Trajectory
from .scales import Array, LossScale
from .smoothing import Width

P = ParamSpec("P")


def themed(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Build a figure under the house theme."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with drawing.theme():
            return draw(*args, **kwargs)

    return inside


def _new(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


@themed
def spectrum_figure(
    spectrum: Spectrum, eigenpairs: Eigenpairs | None = None, *, first: Spectrum | None = None,
    width: Width | None = None,
) -> Figure:  # fmt: skip
    """Eigenvalue density of one checkpoint on the asinh axis, its top eigenvalues, and the first checkpoint in grey.

    `width` of the kernels is by default the automatic one (`smoothing.automatic`), here and below.
    """
    figure = _new(6.4, 3.8)
    axes = figure.subplots()
    shown = [s for s in (spectrum, first) if s is not None]
    u_range = drawing.lambda_range([*(s.nodes for s in shown), drawing.top_eigenvalue(spectrum, eigenpairs)])
    grid = np.linspace(*u_range, 600)
    width = width or smoothing.automatic(shown)
    density = quadrature.asinh_density(spectrum, grid, width_u=width.value, sharp_u=width.sharp)
    drawing.density_axes(axes, u_range, float(density.max()), spectrum.operator)
    if first is not None:
        grey = quadrature.asinh_density(first, grid, width_u=width.value, sharp_u=width.sharp)
        axes.plot(grid, grey, color=FAINT, lw=1.2, label=f"step {first.step:,}")
    axes.plot(grid, density, color=BLUE, lw=1.4, label=f"step {spectrum.step:,}")
    axes.fill_between(grid, FLOOR, np.maximum(density, FLOOR), color=BLUE, alpha=0.18, lw=0)
    if eigenpairs is not None:
        at = quadrature.to_asinh(eigenpairs.values)
        axes.vlines(at, FLOOR, 3 * FLOOR, color=ORANGE, lw=1.4, label=f"{len(at)} largest eigenvalues")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.set_title(f"{drawing.operator_name(spectrum.operator)} spectrum at step {spectrum.step:,}")
    return figure


@themed
def spectrum_over_training_figure(
    spectra: Sequence[Spectrum], eigenpairs: Sequence[Eigenpairs] = (), *, width: Width | None = None
) -> Figure:
    """Eigenvalue density (colour) of every checkpoint over the optimizer step, with the sharpness as a white line."""
    if not spectra:
        raise ValueError("a spectrum over training needs at least one spectrum, got none")
    spectra = sorted(spectra, key=lambda s: s.step)
    pairs = {e.step: e for e in eigenpairs}
    figure = _new(7.2, 4.2)
    axes = figure.subplots()
    steps = np.array([s.step for s in spectra], dtype=np.float64)
    _density_map(axes, steps, spectra, width)
    tops = quadrature.to_asinh([drawing.top_eigenvalue(s, pairs.get(s.step)) for s in spectra])
    axes.plot(steps, tops, color="white", lw=1.4, path_effects=drawing.outlined(1.4))
    drawing.step_axis(axes, steps)
    axes.set_title(f"{drawing.operator_name(spectra[0].operator)} spectrum over training (white: largest eigenvalue)")
    return figure


def edges(centres: ArrayLike) -> Array:
    """Cell borders halfway between ascending centres, one more than there are centres."""
    c = np.asarray(centres, dtype=np.float64)
    if len(c) == 1:
        return np.array([c[0] - 0.5, c[0] + 0.5])
    middle = (c[1:] + c[:-1]) / 2
    return np.concatenate([[c[0]], middle, [c[-1]]])


def _density_map(axes: Axes, at: Array, spectra: Sequence[Spectrum], width: Width | None = None) -> None:
    width = width or smoothing.automatic(spectra)
    u_range = drawing.lambda_range([s.nodes for s in spectra])
    grid = np.linspace(*u_range, 400)
    columns = [quadrature.asinh_density(s, grid, width_u=width.value, sharp_u=width.sharp) for s in spectra]
    density = np.stack(columns, axis=1)
    density = np.maximum(density, FLOOR)
    norm = LogNorm(FLOOR, max(float(density.max()), 10 * FLOOR))
    axes.pcolormesh(edges(at), edges(grid), density, norm=norm, cmap=scales.viridis(), rasterized=True)
    axes.set_ylim(*u_range)
    drawing.lambda_axis(axes.yaxis, *u_range, spectra[0].operator)
    bar = axes.figure.colorbar(ScalarMappable(norm, scales.viridis()), ax=axes, pad=0.02)
    ticks = scales.decimal_ticks(float(norm.vmin or FLOOR), float(norm.vmax or 1), 6)
    bar.set_ticks(ticks, labels=[("≤" if t <= FLOOR * 1.001 else "") + scales.tick_text(t) for t in ticks])
    bar.ax.minorticks_off()
    bar.set_label("density per unit asinh(λ/λ₀)")


@themed
def surface_figure(surface: Surface, trajectory: Trajectory | None = None) -> Figure:
    """Log-loss contour of a plane; with a trajectory also the path, its checkpoints coloured by their true loss."""
    figure = _new(6.0, 4.6)
    axes = figure.subplots()
    scale = LossScale.of(surface.loss)
    drawing.draw_surface(axes, surface, scale)
    drawing.draw_loss_bar(figure, scale, ax=axes, pad=0.02)
    if trajectory is not None:
        axes.plot(trajectory.u, trajectory.v, color="white", lw=1.8, path_effects=drawing.outlined(), zorder=3)
        axes.scatter(trajectory.u, trajectory.v, c=scale.colours(trajectory.loss), s=18, edgecolors="white",
                     linewidths=0.8, zorder=4)  # fmt: skip
        drawing.draw_ends(axes, trajectory)
    drawing.surface_head(axes, surface, trajectory)
    return figure


def _barrier(axes: Axes, path: Path) -> None:
    """Loss along the path, the chord between its ends, and the barrier as the largest height above the chord."""
    axes.plot(path.t, path.loss, color=BLUE, lw=1.8, marker="o", ms=3, label="training loss")
    if path.test_loss is not None:
        axes.plot(path.t, path.test_loss, color=BLUE, lw=1.2, ls="--", label="test loss")
    chord = (1 - path.t) * path.loss[0] + path.t * path.loss[-1]
    axes.plot(path.t, chord, color=FAINT, lw=1.0, ls=":", label="chord")
    rise = path.loss - chord
    if np.isfinite(rise).any():
        top = int(np.nanargmax(rise))
        axes.vlines(path.t[top], chord[top], path.loss[top], color=MUTED, lw=1.2)
    axes.set_title(f"Barrier {scales.number(path.barrier)} between {path.run_a} and {path.run_b}")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize=9)
    axes.grid(True)


def _sharpness(path: Path) -> list[float]:
    """Largest eigenvalue at each point, from the eigenpairs where there are some."""
    pairs: Sequence[Eigenpairs | None] = path.eigenpairs or [None] * len(path.t)
    spectra: Sequence[Spectrum | None] = path.spectra or [None] * len(path.t)
    return [drawing.top_eigenvalue(s, p) for s, p in zip(spectra, pairs, strict=True)]


def _accuracy(axes: Axes, path: Path) -> None:
    for values, style, label in ((path.accuracy, "-", "training"), (path.test_accuracy, "--", "test")):
        if values is not None:
            axes.plot(path.t, values, color=GREEN, lw=1.6, ls=style, label=label)
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=9)
    axes.grid(True)


def _sharpness_panel(axes: Axes, path: Path) -> None:
    axes.plot(path.t, _sharpness(path), color=ORANGE, lw=1.6)
    axes.set_ylabel("λ max\n(loss / weight²)")
    axes.grid(True)


@themed
def path_figure(path: Path) -> Figure:
    """Loss with barrier, accuracy, sharpness and density (those that were computed) along a path between two minima."""
    parts: list[tuple[float, Callable[[Axes, Path], None]]] = [(2.0, _barrier)]
    if path.accuracy is not None or path.test_accuracy is not None:
        parts.append((1.2, _accuracy))
    if path.eigenpairs or path.spectra:
        parts.append((1.2, _sharpness_panel))
    if path.spectra:
        parts.append((2.4, lambda axes, path: _density_map(axes, path.t, path.spectra)))
    heights = [height for height, _ in parts]
    figure = _new(6.4, 0.8 + 1.1 * sum(heights))
    panels = np.atleast_1d(figure.subplots(len(parts), 1, sharex=True, height_ratios=heights))
    for axes, (_, draw) in zip(panels, parts, strict=True):
        draw(axes, path)
    panels[-1].set_xlabel(f"position t on the {path.shape} path: 0 is {path.run_a}, 1 is {path.run_b}")
    panels[-1].set_xlim(path.t[0], path.t[-1])
    return figure
