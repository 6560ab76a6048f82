"""Several runs in one plot: sharpness against each one's own threshold, final spectra, accuracy against sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ..axes import asinh_axis, linear_axis, log_axis, log_range, step_axis, step_position
from ..style import CEILING, FLOOR, colour
from ..style import figure as empty_figure

Array = NDArray[np.float64]
HUES = ("blue", "orange", "green", "pink", "brown")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")


@dataclass(frozen=True)
class Line:
    """One run: its sharpness (step,), the threshold of this sharpness, and its ratio to its own threshold.

    The ratio has steps of its own, since the threshold may be that of another operator's sharpness.
    """

    name: str
    steps: Array
    sharpness: Array
    limit: float | None = None
    ratio_steps: Array | None = None
    ratio: Array | None = None


def style(number: int, theme: str) -> dict[str, Any]:
    """Colour and dash of the n-th run: neighbours differ in both."""
    dash = DASHES[(number + number // len(HUES)) % len(DASHES)]
    return {"color": colour(theme, HUES[number % len(HUES)]), "dash": dash, "width": 1.8}


def figure(lines: Sequence[Line], *, log: bool = False, theme: str = "light", height: int = 380) -> go.Figure:
    """Sharpness on a log axis, one line a run, its threshold thin in the same colour; below, their ratio."""
    fig = empty_figure(theme, height, hovermode="closest", showlegend=True, margin={"l": 66, "r": 16, "t": 40, "b": 44})
    ratios = []
    for number, run in enumerate(lines):
        look = style(number, theme)
        x = step_position(run.steps, log)
        keep = np.isfinite(run.sharpness) & (run.sharpness > 0)
        common = {
            "x": x[keep],
            "customdata": run.steps[keep],
            "mode": "lines",
            "legendgroup": str(number),
            "line": look,
        }
        fig.add_scatter(
            **common, y=run.sharpness[keep], name=run.name,
            hovertemplate="step %{customdata:,}: λmax %{y:.4g}<extra>" + run.name + "</extra>",
        )  # fmt: skip
        if run.limit is not None:
            fig.add_scatter(
                x=x[[0, -1]], y=[run.limit] * 2, mode="lines", legendgroup=str(number), showlegend=False,
                hoverinfo="skip", line={"color": look["color"], "width": 0.9, "dash": look["dash"]}, opacity=0.7,
            )  # fmt: skip
        if run.ratio is None or run.ratio_steps is None:
            continue
        ratios.append(run.ratio)
        fig.add_scatter(
            x=step_position(run.ratio_steps, log), y=run.ratio, customdata=run.ratio_steps, mode="lines", line=look,
            legendgroup=str(number), yaxis="y2", showlegend=False,
            hovertemplate="step %{customdata:,}: %{y:.3g} of its threshold<extra>" + run.name + "</extra>",
        )  # fmt: skip
    every = np.concatenate([run.steps for run in lines])
    values = [run.sharpness for run in lines] + [np.array([run.limit]) for run in lines if run.limit is not None]
    fig.update_layout(
        xaxis={**step_axis(every, log), "anchor": "y2" if ratios else "y"},
        yaxis={**log_axis(*log_range(*values)), "domain": [0.45 if ratios else 0, 1], "anchor": "x",
               "title": {"text": "λ<sub>max</sub>"}},
    )  # fmt: skip
    if ratios:
        one = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y2", "y0": 1, "y1": 1}
        fig.update_layout(
            yaxis2={**log_axis(*log_range(*ratios, [1.0]), 4), "domain": [0, 0.36], "anchor": "x",
                    "title": {"text": "λ<sub>max</sub> / threshold"}},
            shapes=[{**one, "line": {"color": colour(theme, "muted"), "width": 1.2, "dash": "dash"}}],
        )  # fmt: skip
    return fig


def spectra(
    names: Sequence[str], grid: Array, densities: Sequence[Array | None], *, theme: str = "light", height: int = 340
) -> go.Figure:
    """Densities (len(grid),) of several runs on one grid; None has no line."""
    fig = empty_figure(theme, height, hovermode="closest", showlegend=True, margin={"l": 70, "r": 18, "t": 40, "b": 44})
    for number, (name, density) in enumerate(zip(names, densities, strict=True)):
        if density is not None:
            fig.add_scatter(
                x=np.round(grid, 4).astype(np.float32), y=np.maximum(density, FLOOR).astype(np.float32), mode="lines",
                name=name, line=style(number, theme), hovertemplate="density %{y:.3g}<extra>" + name + "</extra>",
            )  # fmt: skip
    fig.update_layout(
        xaxis={**asinh_axis(float(grid[0]), float(grid[-1])), "title": {"text": "eigenvalue λ (asinh axis)"}},
        yaxis={**log_axis(np.log10(FLOOR), np.log10(CEILING)), "title": {"text": "density per unit asinh(λ/λ₀)"}},
    )
    return fig


def scatter(
    names: Sequence[str], sharpness: Array, accuracy: Array, *, what: str, theme: str = "light", height: int = 340
) -> go.Figure:
    """`accuracy` (run,) in per cent against `sharpness` (run,) on a log axis; a symbol and a name for each run."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 66, "r": 18, "t": 24, "b": 44})
    for number, name in enumerate(names):
        if np.isfinite(sharpness[number]) and sharpness[number] > 0 and np.isfinite(accuracy[number]):
            fig.add_scatter(
                x=[sharpness[number]], y=[accuracy[number]], mode="markers+text", text=[name], name=name,
                textposition="top center", textfont={"size": 11},
                marker={"size": 11, "symbol": SYMBOLS[number % 5], "color": style(number, theme)["color"]},
                hovertemplate="λmax %{x:.4g}, %{y:.2f} %<extra>" + name + "</extra>",
            )  # fmt: skip
    low, high = log_range(sharpness, pad=0.18)
    known = accuracy[np.isfinite(accuracy)]
    room = np.array([known.max() + 0.12 * max(float(np.ptp(known)), 0.1)]) if len(known) else known  # for the names
    fig.update_layout(
        xaxis={**log_axis(low, high), "title": {"text": "sharpness λ<sub>max</sub> at the end"}},
        yaxis={**linear_axis(accuracy, room), "title": {"text": what}},
    )
    return fig
