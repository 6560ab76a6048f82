"""Losses along a line through a checkpoint: a surface of one row."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from landscape import records

from ..axes import linear_axis
from ..style import MARKER, colour
from ..style import figure as empty_figure


def figure(surface: records.Surface, *, theme: str = "light", height: int = 620) -> go.Figure:
    fig = empty_figure(theme, height, hovermode="x", showlegend=True, margin={"l": 66, "r": 16, "t": 34, "b": 44})
    curves = [("train loss", surface.loss[0], "blue")]
    if surface.test_loss is not None:
        curves.append(("test loss", surface.test_loss[0], "orange"))
    for name, y, shade in curves:
        fig.add_scatter(
            x=surface.u, y=y, mode="lines", name=name, line={"color": colour(theme, shade), "width": 1.8},
            hovertemplate=f"%{{x:.4g}}: {name} %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    centre = float(np.interp(0.0, surface.u, surface.loss[0]))
    fig.add_scatter(
        x=[0.0], y=[centre], mode="markers", name=f"step {surface.step:,}",
        marker={"size": 11, "color": MARKER, "line": {"color": "white", "width": 2}},
        hovertemplate=f"the checkpoint: {centre:.4g}<extra></extra>",
    )  # fmt: skip
    fig.update_layout(
        xaxis={"range": [float(surface.u.min()), float(surface.u.max())],
               "title": {"text": surface.labels[0] if surface.labels else "u"}},
        yaxis={**linear_axis(*(y for _name, y, _shade in curves)), "title": {"text": "loss"}},
    )  # fmt: skip
    return fig
