"""Axes, colours, scales and ticks that publication figures and video share: matplotlib without pyplot, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis, YAxis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.contour import ContourSet
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from . import quadrature
from .records import Eigenpairs, Spectrum, Surface, Trajectory
from .scales import LEVELS, Array, LossScale, decimal_ticks, percent, spaced, tick_text, viridis

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe-Ito: 3:1 or more on white
MARKER = "#FF6A00"
TEXT, MUTED, FAINT, GRID = "#1F2328", "#57606A", "#A0A7AF", "#E6E8EB"
FLOOR = 1e-4  # lowest density shown: one eigenvalue of a network of a thousand weights is still a visible bump
WIDTH_U = 0.12  # standard deviation of the density's kernel, in units of u = asinh(lambda / lambda0)

THEME: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 10, "text.usetex": False, "text.color": TEXT,
    "axes.edgecolor": MUTED, "axes.labelcolor": TEXT, "axes.linewidth": 0.8, "axes.axisbelow": True,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "axes.unicode_minus": True,
    "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": TEXT, "ytick.labelcolor": TEXT, "hatch.color": "#B0B0B0", "hatch.linewidth": 0.8,
    "figure.facecolor": "white", "savefig.facecolor": "white", "svg.fonttype": "none", "pdf.fonttype": 42,
}  # fmt: skip


def theme() -> Any:
    """Context in which figures are built: the same pictures whatever the user's own matplotlib settings."""
    return style.context(["default", THEME])


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
        axes.add_patch(Rectangle((u[0], v[0]), u[-1] - u[0], v[-1] - v[0], facecolor="#F0F0F0", hatch="///", lw=0))
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


def step_axis(axes: Axes, steps: ArrayLike) -> None:
    """Optimizer steps on x: linear, or logarithmic (with zero) where the checkpoints are spaced so."""
    at = np.asarray(steps, dtype=np.float64)
    gaps = np.diff(at)
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
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
    axes.annotate(note, (1, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", ha="right", size=9,
                  color=MUTED)  # fmt: skip


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
    ends = ((0, "o", 7.0, "start"), (-1, "*", 13.0, "end"))
    for index, shape, size, word in ends[: len(trajectory.steps)]:
        fill, rim = ("white", 0.6) if shape == "*" else ("#00000000", 1.4)
        axes.plot(trajectory.u[index], trajectory.v[index], shape, ms=size, mfc=fill, mec="white", mew=rim,
                  path_effects=outlined(1.4), zorder=4)  # fmt: skip
        shift = 12 * _outwards(axes, trajectory, index)  # beside the path, not on it
        axes.annotate(word, (trajectory.u[index], trajectory.v[index]), tuple(shift), textcoords="offset points",
                      color="white", fontsize=9, ha="left" if shift[0] > 0 else "right", va="center", clip_on=True,
                      annotation_clip=True, path_effects=outlined(0.6), zorder=4)  # fmt: skip


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


def lambda_axis(axis: Axis, low: float, high: float, operator: str, lambda0: float = quadrature.LAMBDA0) -> None:
    """Ticks and title of the asinh eigenvalue axis on u in [low, high]; the limits are the caller's."""
    ends = quadrature.from_asinh([low, high], lambda0)
    values, texts = quadrature.asinh_ticks(float(ends[0]), float(ends[1]), lambda0)
    upright = isinstance(axis, YAxis)
    at = quadrature.to_asinh(values, lambda0)
    kept = spaced(at, (high - low) * (0.05 if upright else 0.085))
    axis.set_ticks(at[kept], [texts[i] for i in kept])
    gap = "\n" if upright else " "
    axis.set_label_text(f"{operator_name(operator)} eigenvalue λ{gap}(loss / weight², asinh scale)")


def operator_name(operator: str) -> str:
    return operator.replace("_", "-").capitalize()


def density_axes(axes: Axes, u_range: tuple[float, float], top: float, operator: str) -> None:
    """Axes of a density: asinh eigenvalue, log density from FLOOR, grey where curvature is negative."""
    log_axis(axes, FLOOR, max(top * 1.6, 10 * FLOOR), 7)
    axes.set_xlim(*u_range)
    lambda_axis(axes.xaxis, *u_range, operator)
    axes.set_ylabel("density per unit asinh(λ/λ₀)")
    axes.axvspan(u_range[0], min(0.0, u_range[1]), color="#F1F2F4", zorder=0, lw=0)
    axes.grid(True)


def density_of(nodes: Array, weights: Array, widths: Array, grid: Array) -> Array:
    """Density per unit u of a discrete measure with kernels of these widths, on a grid of u."""
    return quadrature.density(quadrature.to_asinh(nodes), weights, grid, widths)


def top_eigenvalue(spectrum: Spectrum | None, pairs: Eigenpairs | None) -> float:
    """Sharpness: the largest eigenvalue where it was computed, else the largest Ritz value; NaN without either."""
    if pairs is not None and len(pairs.values):
        return float(pairs.values[0])
    return float(np.nanmax(spectrum.nodes)) if spectrum is not None else float("nan")
