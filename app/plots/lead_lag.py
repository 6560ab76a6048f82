"""Cross-correlation of two rates of change against the lag, with the band of unrelated curves and the peak marked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from landscape.readings.leading import LeadLag

from ..style import colour, note
from ..style import figure as empty_figure
from .game import COLOURS, DASHES


def figure(
    found: Mapping[str, LeadLag], second: str, *, theme: str = "light", height: int = 320
) -> go.Figure:  # fmt: skip
    """`found` by player: his sharpness with the curve that `second` names; lag > 0: the sharpness moves first."""
    fig = empty_figure(theme, height, showlegend=True, margin={"l": 62, "r": 16, "t": 34, "b": 44})
    for number, (name, lead) in enumerate(found.items()):
        hue = colour(theme, COLOURS[number % len(COLOURS)])
        fig.add_scatter(
            x=lead.lags, y=lead.correlation, mode="lines+markers", name=name, legendgroup=name, marker={"size": 4},
            line={"color": hue, "width": 1.7, "dash": DASHES[number % len(DASHES)]},
            hovertemplate=f"{name}: %{{y:.3f}} at a lag of %{{x:,.0f}} steps<extra></extra>",
        )  # fmt: skip
        for sign in (1, -1):
            fig.add_scatter(
                x=lead.lags, y=sign * lead.band, mode="lines", hoverinfo="skip", showlegend=sign > 0,
                legendgroup=name, name=f"95 % band, {name}", line={"color": hue, "width": 0.9, "dash": "dot"},
            )  # fmt: skip
        fig.add_scatter(
            x=[lead.peak], y=[lead.height], mode="markers", hoverinfo="skip", showlegend=False, legendgroup=name,
            marker={"size": 13, "symbol": "circle-open", "color": hue, "line": {"width": 2}},
        )  # fmt: skip
    far = max(float(np.abs(lead.lags).max()) for lead in found.values())
    tall = max(float(np.max(np.abs([*lead.correlation, *lead.band]))) for lead in found.values())
    line = {"type": "line", "line": {"color": colour(theme, "axis"), "width": 1}, "layer": "below"}
    fig.update_layout(
        xaxis={"range": [-1.04 * far, 1.04 * far], "title": {"text": "lag, optimizer steps"}, "nticks": 9},
        yaxis={"range": [-1.25 * tall, 1.25 * tall], "title": {"text": "correlation of rates of change"}, "nticks": 6},
        shapes=[{**line, "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0},
                {**line, "yref": "paper", "y0": 0, "y1": 1, "x0": 0, "x1": 0}],
        annotations=[note(f"← {second} first", theme, x=0.01, y=0.02, xanchor="left", yanchor="bottom"),
                     note("sharpness first →", theme, x=0.99, y=0.02, xanchor="right", yanchor="bottom")],
    )  # fmt: skip
    return fig
