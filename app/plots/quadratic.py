"""The quadratic model of a surface: its difference relative to the rise, and its iso-lines on the surface."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape import records
from landscape.readings.quadratic import Agreement
from landscape.readings.shares import in_percent

from ..style import colour
from ..style import figure as empty_figure
from .surface import LEVELS, heights, one_scale, scale

Array = NDArray[np.float64]
MODEL = "#FF8A3D"  # iso-lines of the model, readable on Viridis
TICKS = (0.001, 0.01, 0.05, 0.2, 1.0)  # of the difference


def figure(surface: records.Surface, agreed: Agreement, *, theme: str = "light", height: int = 420) -> go.Figure:
    """|L - m| relative to the rise, on a log scale, with its line of tolerance and the circle inside which it holds."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 58, "r": 92, "t": 10, "b": 46})
    low, high = np.log10(TICKS[0]), np.log10(TICKS[-1])
    z = np.log10(np.clip(agreed.difference, TICKS[0], TICKS[-1]))
    z[~np.isfinite(agreed.difference)] = np.nan
    line = float(np.log10(agreed.tolerance))
    fig.add_heatmap(
        x=surface.u, y=surface.v, z=z.astype(np.float32), zmin=low, zmax=high, colorscale="Viridis", zsmooth="best",
        text=[[f"{in_percent(d)} %" for d in row] for row in agreed.difference],
        hovertemplate="u %{x:.3g}, v %{y:.3g}<br>%{text} of the rise<extra></extra>", hoverongaps=False,
        colorbar={
            "tickvals": [float(np.log10(t)) for t in TICKS],
            "ticktext": ["≤ 0.1 %", "1 %", "5 %", "20 %", "≥ 100 %"],
            "title": {"text": "|loss − model| / rise", "side": "right", "font": {"size": 11}},
            "thickness": 11, "outlinewidth": 0, "ticks": "", "x": 1.01, "tickfont": {"size": 11},
        },
    )  # fmt: skip
    fig.add_contour(
        x=surface.u, y=surface.v, z=z.astype(np.float32), showscale=False, hoverinfo="skip",
        line={"color": "white", "width": 2}, contours={"coloring": "none", "start": line, "end": line, "size": 1},
    )  # fmt: skip
    r = agreed.radius
    fig.add_shape(type="circle", x0=-r, x1=r, y0=-r, y1=r, line={"color": MODEL, "width": 2, "dash": "dash"})
    fig.add_scatter(
        x=[0], y=[0], mode="markers", hoverinfo="skip", marker={"symbol": "cross", "size": 10, "color": MODEL}
    )
    axes: dict[str, Any] = {"zeroline": False, "showgrid": False, "constrain": "domain"}
    labels = [*surface.labels, "u", "v"] if len(surface.labels) < 2 else surface.labels
    fig.update_layout(
        xaxis={**axes, "range": [float(surface.u.min()), float(surface.u.max())], "title": {"text": labels[0]}},
        yaxis={**axes, "range": [float(surface.v.min()), float(surface.v.max())], "title": {"text": labels[1]},
               **({"scaleanchor": "x"} if one_scale(surface) else {})},
        plot_bgcolor=colour(theme, "grid"),
    )  # fmt: skip
    return fig


def add(fig: go.Figure, surface: records.Surface, model: Array, *, raised: bool = False) -> None:
    """The model's iso-lines at every second level of the surface's, dashed; raised: the model as a glassy sheet."""
    z, log = heights(surface)
    s = scale(z, log)
    with np.errstate(invalid="ignore", divide="ignore"):
        sheet = np.log10(np.where(model > 0, model, np.nan)) if log else model
    if raised:
        room = 0.05 * (s["high"] - s["low"])
        sheet = np.where((sheet >= s["low"] - room) & (sheet <= s["high"] + room), sheet, np.nan)
        fig.add_surface(
            x=surface.u, y=surface.v, z=sheet.astype(np.float32), showscale=False, opacity=0.55, hoverinfo="skip",
            colorscale=[[0, MODEL], [1, MODEL]], lighting={"ambient": 0.9, "diffuse": 0.2, "specular": 0.02},
        )  # fmt: skip
        return
    fig.add_contour(
        x=surface.u, y=surface.v, z=sheet.astype(np.float32), showscale=False, hoverinfo="skip", connectgaps=False,
        line={"color": MODEL, "width": 1.8, "dash": "dash"},
        contours={"coloring": "none", "start": s["low"], "end": s["high"], "size": 2 * (s["high"] - s["low"]) / LEVELS},
    )  # fmt: skip
