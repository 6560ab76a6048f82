"""Eigenvalue density at one step on an asinh axis, with the extreme eigenvalues as ticks."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from landscape.readings import quadrature

from ..axes import asinh_axis, log_axis
from ..style import CEILING, FLOOR, colour, half, note, packed
from ..style import figure as empty_figure

Array = NDArray[np.float64]
NOTHING = np.empty(0)


def figure(
    grid: Array,
    density: Array | None,
    *,
    eigenvalues: Array = NOTHING,
    threshold: float | None = None,
    label: str = "",
    message: str = "",
    pinned: Array | None = None,
    theme: str = "light",
    height: int = 300,
) -> go.Figure:
    """`density` (len(grid),) per unit u, or None with a `message`; `eigenvalues` are marked on the axis.

    `pinned` (len(grid),) is the density of another step, a grey line.
    """
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 70, "r": 18, "t": 24, "b": 44})
    fig.add_scatter(
        **_curve(grid, density),
        mode="lines",
        fill="tozeroy",
        fillcolor=colour(theme, "fill"),
        line={"color": colour(theme, "blue"), "width": 1.7},
        hovertemplate="λ = %{text}: density %{y:.3g}<extra></extra>",
    )
    fig.add_scatter(
        **_ticks(eigenvalues),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 11, "color": colour(theme, "orange"), "line": {"width": 1.6}},
        hovertemplate="eigenvalue %{text}<extra></extra>",
    )
    if pinned is not None:
        fig.add_scatter(
            x=np.round(grid, 4).astype(np.float32),
            y=np.maximum(pinned, FLOOR).astype(np.float32),
            mode="lines",
            line={"color": colour(theme, "muted"), "width": 1.4},
            hoverinfo="skip",
        )
    low, high = np.log10(FLOOR), np.log10(CEILING)
    top = float(np.arcsinh(threshold / quadrature.LAMBDA0)) if threshold is not None else None
    right = max(float(grid[-1]), top + 0.4) if top is not None and top < grid[-1] + 2.5 else float(grid[-1])
    fig.update_layout(
        xaxis={**asinh_axis(float(grid[0]), right), "title": {"text": "Hessian eigenvalue λ (asinh axis)"}},
        yaxis={**log_axis(low, high, 6), "title": {"text": "density per unit asinh(λ/λ₀)"}},
        shapes=[
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": float(grid[0]),
                "x1": 0,
                "y0": 0,
                "y1": 1,
                "fillcolor": colour(theme, "shade"),
                "line": {"width": 0},
                "layer": "below",
            }
        ],
        annotations=[note(message, theme, visible=density is None)],
    )
    if top is not None and top < right:
        fig.add_shape(
            type="line",
            xref="x",
            x0=top,
            x1=top,
            yref="paper",
            y0=0,
            y1=1,
            line={"color": colour(theme, "orange"), "width": 1.4, "dash": "dash"},
        )
        fig.add_annotation(
            x=top,
            y=1,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            text=label,
            xanchor="right" if top > 0.9 * right else "center",
            font={"size": 11, "color": colour(theme, "orange")},
        )
    return fig


def move(grid: Array, density: Array | None, *, eigenvalues: Array = NOTHING, message: str = "") -> Patch:
    """What another step changes: the curve's heights, the ticks, and the sentence where there is no curve."""
    patch = Patch()
    patch["data"][0]["y"] = half(_heights(grid, density))
    for name, value in _ticks(eigenvalues).items():
        patch["data"][1][name] = packed(value) if isinstance(value, np.ndarray) else value
    patch["layout"]["annotations"][0]["text"] = message
    patch["layout"]["annotations"][0]["visible"] = density is None
    return patch


def _curve(grid: Array, density: Array | None) -> dict[str, Any]:
    texts = [f"{v:.3g}" for v in quadrature.from_asinh(grid)]
    return {"x": np.round(grid, 4).astype(np.float32), "y": _heights(grid, density), "text": texts}


def _heights(grid: Array, density: Array | None) -> NDArray[np.float32]:
    heights = np.full(len(grid), np.nan) if density is None else np.maximum(density, FLOOR)
    return heights.astype(np.float32)


def _ticks(eigenvalues: Array) -> dict[str, Any]:
    u = quadrature.to_asinh(eigenvalues)
    return {"x": u.astype(np.float32), "y": np.full(len(u), FLOOR * 1.45), "text": [f"{v:.5g}" for v in eigenvalues]}
