"""Eigenvalue densities at some steps, one above the other: a ridgeline for papers and for comparing optimizers."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from ..axes import asinh_axis
from ..style import CEILING, FLOOR, MARKER, colour
from ..style import figure as empty_figure

Array = NDArray[np.float64]
MOST = 12
_TALL = 2.2  # rows that a density of CEILING takes


def figure(
    steps: list[int],
    grid: Array,
    densities: list[Array],
    *,
    selected: int | None = None,
    theme: str = "light",
    height: int = 360,
) -> go.Figure:
    """`densities[i]` (len(grid),) of `steps[i]`, first step on top; the one nearest to `selected` in another colour."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 70, "r": 18, "t": 14, "b": 44})
    near = None if selected is None else min(range(len(steps)), key=lambda i: abs(steps[i] - selected), default=None)
    keep = slice(None, None, max(1, len(grid) // 200))
    x = np.round(grid[keep], 3).astype(np.float32)
    rows = len(steps)
    for i, (step, density) in enumerate(zip(steps, densities, strict=True)):
        base = rows - 1 - i
        lifted = np.log10(np.maximum(density[keep], FLOOR) / FLOOR) / math.log10(CEILING / FLOOR) * _TALL
        line = {"color": colour(theme, "axis"), "width": 0.6}
        fig.add_scatter(x=x[[0, -1]], y=[base, base], mode="lines", hoverinfo="skip", line=line)
        shade, fill = _colours(i == near, theme)
        fig.add_scatter(
            x=x,
            y=(base + lifted).astype(np.float32),
            mode="lines",
            fill="tonexty",
            fillcolor=fill,
            line={"color": shade, "width": 1.5},
            customdata=[step] * len(x),
            hovertemplate=f"step {step:,}<extra></extra>",
        )
    fig.update_layout(
        xaxis={**asinh_axis(float(grid[0]), float(grid[-1])), "title": {"text": "eigenvalue λ (asinh axis)"}},
        yaxis={
            "range": [-0.15, rows - 1 + _TALL + 0.1],
            "tickmode": "array",
            "tickvals": list(range(rows))[::-1],
            "ticktext": [f"{s:,}" for s in steps],
            "title": {"text": "optimizer step"},
            "showgrid": False,
        },
    )
    return fig


def chosen(steps: list[int], most: int = MOST) -> list[int]:
    """At most so many steps, first and last among them, spaced evenly in log(1 + step): training begins fast."""
    if len(steps) <= most:
        return steps
    wanted = np.linspace(math.log1p(steps[0]), math.log1p(steps[-1]), most)
    places = np.log1p(np.array(steps, dtype=np.float64))
    free, found = list(range(len(steps))), []
    for w in wanted:
        found.append(min(free, key=lambda i: abs(places[i] - w)))
        free.remove(found[-1])
    return [steps[i] for i in sorted(found)]


def move(steps: list[int], selected: int, theme: str) -> Patch:
    """Another selected step changes the colours alone."""
    patch = Patch()
    near = min(range(len(steps)), key=lambda i: abs(steps[i] - selected), default=None)
    for i in range(len(steps)):
        line, fill = _colours(i == near, theme)
        patch["data"][2 * i + 1]["line"]["color"] = line
        patch["data"][2 * i + 1]["fillcolor"] = fill
    return patch


def _colours(here: bool, theme: str) -> tuple[str, str]:
    return (MARKER, "rgba(255,106,0,0.28)") if here else (colour(theme, "blue"), colour(theme, "fill"))
