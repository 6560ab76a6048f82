"""Sharpness with the optimizer's own threshold, and their ratio on a log axis with a line at 1."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ..axes import linear_axis, log_axis, log_range, step_axis, step_position
from ..style import colour, cursor, note
from ..style import figure as empty_figure

Array = NDArray[np.float64]


def figure(
    steps: Array,
    sharpness: Array,
    limit: Array,
    *,
    label: str = "",
    selected: float = 0.0,
    log: bool = False,
    theme: str = "light",
    height: int = 360,
) -> go.Figure:
    """`sharpness` and `limit` (step,): values above the limit are shaded."""
    fig = empty_figure(theme, height, hovermode="x", margin={"l": 66, "r": 16, "t": 14, "b": 44})
    x = step_position(steps, log)
    ratio = sharpness / limit
    curve = {"x": x, "customdata": steps, "mode": "lines+markers", "marker": {"size": 4}}
    fig.add_scatter(
        **curve, y=sharpness, line={"color": colour(theme, "orange"), "width": 1.7},
        hovertemplate="step %{customdata:,}: λmax %{y:.4g}<extra></extra>",
    )  # fmt: skip
    fig.add_scatter(
        x=x,
        y=limit,
        mode="lines",
        hoverinfo="skip",
        line={"color": colour(theme, "muted"), "width": 1.4, "dash": "dash"},
    )
    fig.add_scatter(
        **curve, y=ratio, yaxis="y2", line={"color": colour(theme, "blue"), "width": 1.7},
        hovertemplate="step %{customdata:,}: %{y:.3f} of the threshold<extra></extra>",
    )  # fmt: skip
    positive = bool(np.nanmin(sharpness) > 0)
    axis = log_axis(*log_range(sharpness, limit), 4) if positive else linear_axis(sharpness, limit)
    label_y = float(np.log10(limit[-1]) if positive else limit[-1])  # texts on a log axis stand at the logarithm
    low, high = log_range(ratio, [1.0])
    one = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y2", "y0": 1, "y1": 1}
    fig.update_layout(
        xaxis={**step_axis(steps, log), "anchor": "y2"},
        yaxis={**axis, "domain": [0.52, 1], "title": {"text": "λ<sub>max</sub>"}, "anchor": "x"},
        yaxis2={**log_axis(low, high, 4), "domain": [0, 0.42], "title": {"text": "λ<sub>max</sub> / threshold"},
                "anchor": "x"},
        shapes=[
            cursor(float(step_position([selected], log)[0]), colour(theme, "cursor")),
            {**one, "line": {"color": colour(theme, "muted"), "width": 1.4, "dash": "dash"}},
            {"type": "rect", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y2", "y0": 1, "y1": 10.0**high,
             "fillcolor": colour(theme, "shade"), "line": {"width": 0}, "layer": "below"},
        ],
        annotations=[note(label, theme, x=1, xref="x domain", xanchor="right", yref="y", y=label_y,
                          yanchor="bottom" if limit[-1] < np.nanmax(sharpness) else "top")],
    )  # fmt: skip
    return fig
