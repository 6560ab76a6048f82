"""The number of eigenvalues above the bulk against the step, beside the number of classes, and the bulk's edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape.readings.outliers import Outliers

from ..axes import log_axis, log_range, step_axis, step_position
from ..style import colour, cursor, note
from ..style import figure as empty_figure


def figure(
    steps: NDArray[np.int64],
    found: Sequence[Outliers],
    *,
    classes: int | None = None,
    selected: float = 0.0,
    log: bool = False,
    theme: str = "light",
    height: int = 340,
) -> go.Figure:
    """Panels of the count (with its interval) and of the bulk edge at the steps (step,); lines at K - 1 and K.

    Their labels stand in the margin: anywhere inside, an error bar may come to lie under them.
    """
    fig = empty_figure(theme, height, hovermode="x", margin={"l": 66, "r": 58, "t": 14, "b": 44})
    x = step_position(steps, log)
    count = np.array([o.count for o in found], dtype=np.float64)
    fig.add_scatter(
        x=x, y=count, customdata=steps, mode="lines+markers", line={"color": colour(theme, "blue"), "width": 1.7},
        marker={"size": 5}, cliponaxis=False,
        error_y={"type": "data", "symmetric": False, "array": [o.high - o.count for o in found],
                 "arrayminus": [o.count - o.low for o in found], "width": 3, "thickness": 1},
        text=[o.text for o in found], hovertemplate="step %{customdata:,}: %{text} outliers<extra></extra>",
    )  # fmt: skip
    edge = np.array([o.edge for o in found])
    fig.add_scatter(
        x=x, y=edge, customdata=steps, yaxis="y2", mode="lines+markers", marker={"size": 4},
        line={"color": colour(theme, "orange"), "width": 1.7},
        hovertemplate="step %{customdata:,}: bulk edge %{y:.4g}<extra></extra>",
    )  # fmt: skip
    top = max([*(o.high for o in found), (classes or 0) + 1])
    fig.update_layout(
        xaxis={**step_axis(steps, log), "anchor": "y2"},
        yaxis={"domain": [0.47, 1], "range": [0, 1.1 * top], "title": {"text": "outliers"}, "nticks": 5, "anchor": "x"},
        yaxis2={**log_axis(*log_range(edge), 4), "domain": [0, 0.37], "title": {"text": "bulk edge λ"}, "anchor": "x"},
        shapes=[cursor(float(step_position([selected], log)[0]), colour(theme, "cursor"))],
    )
    for k, text, yanchor in ((classes, f"K = {classes}", "bottom"), (classes and classes - 1, "K − 1", "top")):
        if k:
            line = {"color": colour(theme, "muted"), "width": 1, "dash": "dash"}
            fig.add_shape(type="line", xref="x domain", x0=0, x1=1, yref="y", y0=k, y1=k, line=line)
            fig.add_annotation(
                note(text, theme, x=1, xref="x domain", xshift=7, y=k, yref="y", xanchor="left", yanchor=yanchor)
            )
    return fig
