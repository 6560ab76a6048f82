"""Axes, colours, scales and ticks that publication figures and video share: matplotlib without pyplot, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects, rcParams, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis, YAxis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.contour import ContourSet
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..readings import quadrature
from ..records import Eigenpairs, Spectrum, Surface, Trajectory
from .scales import LEVELS, Array, LossScale, decimal_ticks, percent, spaced, tick_text, viridis

MARKER = "#FF6A00"
FLOOR = 1e-4  # lowest density shown: one eigenvalue of a network of a thousand weights is still a visible bump
WIDTH_U = 0.12  # standard deviation of the density's kernel, in units of u = asinh(lambda / lambda0)


@dataclass(frozen=True)
class Ink:
    """The colours of one theme; lines are Okabe-Ito, lightened on dark paper: 3:1 or more against it."""

    paper: str
    text: str
    muted: str
    faint: str
    grid: str
    negative: str  # behind negative curvature
    missing: str  # behind losses that are not finite
    blue: str
    orange: str
    green: str
    purple: str

    @property
    def series(self) -> tuple[str, ...]:
        """Colours of runs that are compared."""
        return self.blue, self.orange, self.green, self.purple


LIGHT = Ink("#FFFFFF", "#1F2328", "#57606A", "#A0A7AF", "#E6E8EB", "#F1F2F4", "#F0F0F0",
            "#0072B2", "#D55E00", "#009E73", "#9C4F7F")  # fmt: skip
DARK = Ink("#14181D", "#E6EAEE", "#A3ADB8", "#6B7580", "#2A3138", "#1D2329", "#22282E",
           "#56B4E9", "#F0853A", "#2BC79A", "#DB93BE")  # fmt: skip
_ink: ContextVar[Ink] = ContextVar("ink", default=LIGHT)


def ink() -> Ink:
    """The colours of the theme that figures are built under now."""
    return _ink.get()


def _settings(ink: Ink, points: float) -> dict[str, Any]:
    """matplotlib's settings of a theme; small words are 0.83 of `points`."""
    line = 0.08 * points  # hairlines of 0.8 beside words of 10 points
    return {
        "font.family": "DejaVu Sans", "font.size": points, "text.usetex": False, "text.color": ink.text,
        "axes.edgecolor": ink.muted, "axes.labelcolor": ink.text, "axes.linewidth": line, "axes.axisbelow": True,
        "axes.facecolor": ink.paper, "axes.titlesize": 1.1 * points, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.titlepad": 0.8 * points, "axes.titlecolor": ink.text,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "axes.unicode_minus": True,
        "grid.color": ink.grid, "grid.linewidth": line, "xtick.color": ink.muted, "ytick.color": ink.muted,
        "xtick.labelcolor": ink.text, "ytick.labelcolor": ink.text, "xtick.major.width": line,
        "ytick.major.width": line, "hatch.color": ink.faint, "hatch.linewidth": line, "legend.labelcolor": ink.text,
        "legend.frameon": False, "legend.fontsize": "small", "figure.facecolor": ink.paper,
        "savefig.facecolor": ink.paper, "svg.fonttype": "none", "pdf.fonttype": 42,
    }  # fmt: skip


@contextmanager
def theme(*, dark: bool = False, points: float = 10.0) -> Iterator[Ink]:
    """Context in which figures are built: the same pictures whatever the user's own matplotlib settings."""
    chosen = DARK if dark else LIGHT
    token = _ink.set(chosen)
    try:
        with style.context(["default", _settings(chosen, points)]):
            yield chosen
    finally:
        _ink.reset(token)


# ------------------------------------------------------------------ scales and ticks


def log_axis(axes: Axes, low: float, high: float, most: int = 5) -> None:
    """Make the y axis logarithmic on [low, high] with plain tick texts of one size."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_yticks(ticks := decimal_ticks(low, high, most), [tick_text(t) for t in ticks])
    axes.set_yticks([], minor=True)


# ------------------------------------------------------------------ axes shared with the video


def axis_label(surface: Surface, axis: int) -> str:
    """'PC 1 (90 % of path variance)', with the unit."""
    label = surface.labels[axis] if axis < len(surface.labels) else ("u", "v")[axis]
    explained = surface.meta.get("explained_variance")
    shares = explained if isinstance(explained, (list, tuple)) else []
    if axis < len(shares) and shares[axis] is not None and "%" not in label:
        label += f" ({percent(float(shares[axis]))} of path variance)"
    return f"{label}, units of weight"


def draw_surface(axes: Axes, surface: Surface, scale: LossScale) -> ContourSet:
    """Filled log-loss contour with thin white lines; hatched where the loss is not finite."""
    u, v = surface.u, surface.v
    axes.set(xlim=(u[0], u[-1]), ylim=(v[0], v[-1]), xlabel=axis_label(surface, 0), ylabel=axis_label(surface, 1))
    loss = np.ma.masked_invalid(surface.loss)
    if loss.mask.any():
        axes.add_patch(Rectangle((u[0], v[0]), u[-1] - u[0], v[-1] - v[0], facecolor=ink().missing, hatch="///", lw=0))
    levels = scale.levels()
    if scale.log:
        loss = np.ma.maximum(loss, scale.low)
    filled = axes.contourf(u, v, loss, levels=levels, norm=scale.norm(), cmap=viridis(), extend="both")
    axes.contour(u, v, loss, levels=levels[1:-1], colors="white", linewidths=0.5, linestyles="solid", alpha=0.35)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    return filled


def draw_loss_bar(figure: Any, scale: LossScale, **place: Any) -> None:
    """Colour bar of a loss scale; `place` is `ax=` to take room from a panel or `cax=` for its own axes."""
    colours = ListedColormap(viridis()(np.linspace(0, 1, LEVELS)))
    bar = figure.colorbar(ScalarMappable(scale.norm(), colours), **place)
    values, texts = scale.ticks()
    bar.set_ticks(values, labels=texts)
    bar.ax.minorticks_off()
    bar.set_label(scale.label)


def step_axis(axes: Axes, steps: ArrayLike, most: int = 8) -> None:
    """Optimizer steps on x: linear, or logarithmic (with zero) where the checkpoints are spaced so."""
    at = np.asarray(steps, dtype=np.float64)
    gaps = np.diff(at)
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if len(gaps) > 3 and np.median(gaps) < 0.4 * gaps.mean():
        first = float(at[at > 0].min())
        axes.set_xscale("symlog", linthresh=first, linscale=0.5)
        powers = [p for p in 10.0 ** np.arange(0, 12) if first <= p <= at[-1]]
        ticks = ([0.0] if at[0] == 0 else []) + powers + ([at[-1]] if powers and at[-1] > 2.5 * powers[-1] else [])
        axes.set_xticks(ticks, [f"{t:,.0f}" for t in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("optimizer step (log scale)")
    axes.set_xlim(at[0], at[-1] if at[-1] > at[0] else at[0] + 1)


def head(axes: Axes, title: str, note: str = "") -> None:
    """Title at the left of a panel, a quiet note at its right."""
    axes.set_title(title)
    axes.annotate(note, (1, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", ha="right", size="small",
                  color=ink().muted)  # fmt: skip


def surface_head(axes: Axes, surface: Surface, trajectory: Trajectory | None) -> None:
    """Which plane this is and, with a path, how much of it the plane holds, beside what a random walk would show."""
    name = {"pca": "PCA", "eigen": "Eigenvector", "random": "Random"}.get(surface.plane, surface.plane)
    note = f"holds {percent(path_share(trajectory))} of the path" if trajectory is not None else ""
    chance = surface.meta.get("random_walk")
    if note and isinstance(chance, (list, tuple)) and chance:
        note += f"; a random walk: {percent(float(sum(chance)))}"  # principal components of noise look good too
    head(axes, f"{name} plane at step {surface.step:,}", note)


def outlined(width: float = 1.6) -> list[patheffects.AbstractPathEffect]:
    """White lines and words stay readable on yellow: a thin dark rim."""
    return [patheffects.Stroke(linewidth=width + 1.4, foreground="#00000070"), patheffects.Normal()]


def draw_ends(axes: Axes, trajectory: Trajectory) -> None:
    """Marks at the first and the last checkpoint, those that lie on the map."""
    points = rcParams["font.size"]
    ends = ((0, "o", 0.7 * points, "start"), (-1, "*", 1.3 * points, "end"))
    for index, shape, size, word in ends[: len(trajectory.steps)]:
        fill, rim = ("white", 0.6) if shape == "*" else ("#00000000", 1.4)
        axes.plot(trajectory.u[index], trajectory.v[index], shape, ms=size, mfc=fill, mec="white", mew=rim,
                  path_effects=outlined(1.4), zorder=4)  # fmt: skip
        shift = 12 * _outwards(axes, trajectory, index)  # beside the path, not on it
        axes.annotate(word, (trajectory.u[index], trajectory.v[index]), tuple(shift), textcoords="offset points",
                      color="white", fontsize="small", ha="left" if shift[0] > 0 else "right", va="center",
                      clip_on=True, annotation_clip=True, path_effects=outlined(0.6), zorder=4)  # fmt: skip


def _outwards(axes: Axes, trajectory: Trajectory, index: int) -> Array:
    """Unit vector on the page from the neighbouring checkpoints to one end of the path."""
    points = np.column_stack([trajectory.u, trajectory.v])[:: 1 if index == 0 else -1]
    span = np.ptp([axes.get_xlim(), axes.get_ylim()], axis=1)
    away = (points[0] - points[1:4].mean(axis=0)) / span if len(points) > 1 else np.array([1.0, 0.0])
    length = np.linalg.norm(away)
    return np.asarray(away / length if np.isfinite(length) and length > 0 else np.array([1.0, 0.0]))


def path_share(trajectory: Trajectory) -> float:
    """Share of the path's squared displacement from the plane's origin that lies in the plane: 1 is an honest map."""
    total = float(np.nansum(trajectory.distance**2))
    return 1.0 - float(np.nansum(trajectory.off_plane**2)) / total if total > 0 else 1.0


def lambda_range(values: Sequence[ArrayLike], lambda0: float = quadrature.LAMBDA0) -> tuple[float, float]:
    """Range in u = asinh(lambda / lambda0) that holds all finite eigenvalues and zero, with a margin."""
    held = np.concatenate([np.ravel(v) for v in values])
    held = held[np.isfinite(held)]
    low, high = quadrature.to_asinh([min(held.min(initial=0.0), 0.0), held.max(initial=lambda0)], lambda0)
    margin = max(0.04 * (high - low), 4 * WIDTH_U)
    return float(low - margin), float(high + margin)


def lambda_axis(axis: Axis, low: float, high: float, operator: str, lambda0: float = quadrature.LAMBDA0, *,
                most: int = 12) -> None:  # fmt: skip
    """Ticks and title of the asinh eigenvalue axis on u in [low, high]; the limits are the caller's."""
    ends = quadrature.from_asinh([low, high], lambda0)
    values, texts = quadrature.asinh_ticks(float(ends[0]), float(ends[1]), lambda0)
    upright = isinstance(axis, YAxis)
    at = quadrature.to_asinh(values, lambda0)
    kept = spaced(at, (high - low) * (0.05 if upright else max(0.085, 0.6 / most)))
    axis.set_ticks(at[kept], [texts[i] for i in kept])
    gap = "\n" if upright or most <= 5 else " "
    axis.set_label_text(f"{operator_name(operator)} eigenvalue λ{gap}(loss / weight², asinh scale)")


def operator_name(operator: str) -> str:
    return operator.replace("_", "-").capitalize()


def density_axes(axes: Axes, u_range: tuple[float, float], top: float, operator: str, most: int = 9) -> None:
    """Axes of a density: asinh eigenvalue, log density from FLOOR, grey where curvature is negative."""
    log_axis(axes, FLOOR, max(top * 1.6, 10 * FLOOR), 7)
    axes.set_xlim(*u_range)
    lambda_axis(axes.xaxis, *u_range, operator, most=most)
    axes.set_ylabel("density per unit asinh(λ/λ₀)")
    axes.axvspan(u_range[0], min(0.0, u_range[1]), color=ink().negative, zorder=0, lw=0)
    axes.grid(True)


def density_of(nodes: Array, weights: Array, widths: Array, grid: Array) -> Array:
    """Density per unit u of a discrete measure with kernels of these widths, on a grid of u."""
    return quadrature.density(quadrature.to_asinh(nodes), weights, grid, widths)


def top_eigenvalue(spectrum: Spectrum | None, pairs: Eigenpairs | None) -> float:
    """Sharpness: the largest eigenvalue where it was computed, else the largest Ritz value; NaN without either."""
    if pairs is not None and len(pairs.values):
        return float(pairs.values[0])
    return float(np.nanmax(spectrum.nodes)) if spectrum is not None else float("nan")
