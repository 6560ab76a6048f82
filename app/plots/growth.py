"""A network that grew: its weights against the step, and what every growth was to change and changed of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from ..axes import linear_axis, log_axis, log_range, step_axis, step_position
from ..style import colour, cursor
from ..style import figure as empty_figure


def figure(
    steps: Sequence[int], sizes: Sequence[int], predicted: ArrayLike, measured: ArrayLike, *, end: int,
    selected: float = 0.0, log: bool = False, theme: str = "light", height: int = 320,
) -> go.Figure:  # fmt: skip
    """Two panels over the training, up to step `end`.

    Args:
        steps: (growth,) the steps at which it grew.
        sizes: (growth + 1,) weights from the start and from each growth on.
        predicted, measured: (growth,) change of the loss; NaN where it is not known.
    """
    fig = empty_figure(theme, height, hovermode="closest", showlegend=True, margin={"l": 76, "r": 16, "t": 34, "b": 44})
    stairs = [0, *(s for step in steps for s in (step, step)), max(end, *steps)]
    levels = [size for size in sizes for _ in range(2)]
    fig.add_scatter(
        x=step_position(stairs, log), y=levels, mode="lines", name="weights", showlegend=False, customdata=stairs,
        line={"color": colour(theme, "text"), "width": 2}, yaxis="y",
        hovertemplate="step %{customdata:,}: %{y:,} weights<extra></extra>",
    )  # fmt: skip
    changes = [np.asarray(values, dtype=np.float64) for values in (predicted, measured)]
    for name, values, symbol, shade in zip(
        ("predicted", "measured"), changes, ("circle-open", "x-thin"), ("blue", "orange"), strict=True
    ):
        known = np.flatnonzero(np.isfinite(values) & (values != 0))
        fig.add_scatter(
            x=step_position(np.asarray(steps)[known], log), y=np.abs(values[known]), yaxis="y2", mode="markers",
            name=name, customdata=np.column_stack([np.asarray(steps)[known], values[known]]),
            marker={"symbol": symbol, "size": 10, "color": colour(theme, shade),
                    "line": {"width": 2, "color": colour(theme, shade)}},
            hovertemplate=f"step %{{customdata[0]:,}}: {name} %{{customdata[1]:.4g}}<extra></extra>",
        )  # fmt: skip
    low, high = log_range(*(np.abs(values[np.isfinite(values) & (values != 0)]) for values in changes))
    fig.update_layout(
        xaxis={**step_axis([0, max(end, *steps)], log), "anchor": "y2"},
        yaxis={**linear_axis(sizes, zero=True), "domain": [0.54, 1.0], "anchor": "x", "title": {"text": "weights"}},
        yaxis2={**log_axis(low, high), "domain": [0.0, 0.44], "anchor": "x",
                "title": {"text": "|change of loss|"}},
    )  # fmt: skip
    fig.layout.shapes = (cursor(float(step_position([selected], log)[0]), colour(theme, "cursor")),)
    return fig
