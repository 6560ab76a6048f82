"""The gradient's share in the top eigenspace over training, and how much of that space two checkpoints share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape.readings.subspaces import Overlaps

from ..axes import log_axis, log_range, step_axis, step_position
from ..style import colour, cursor
from ..style import figure as empty_figure
from .spectrum_over import edges

Array = NDArray[np.float64]
_LINES = (("blue", "solid"), ("orange", "dash"), ("green", "dot"), ("pink", "dashdot"))


def figure(
    shares: Mapping[int, tuple[NDArray[np.int64], Array]],
    *,
    selected: float = 0.0,
    log: bool = False,
    theme: str = "light",
    height: int = 340,
) -> go.Figure:
    """`shares`: k -> (steps, share of |g|^2 in the top k), one line each on a log axis."""
    fig = empty_figure(theme, height, hovermode="x", showlegend=True, margin={"l": 66, "r": 16, "t": 34, "b": 44})
    every = np.concatenate([steps for steps, _ in shares.values()])
    for (k, (steps, share)), (hue, dash) in zip(shares.items(), _LINES * 9, strict=False):
        known = np.isfinite(share) & (share > 0)
        fig.add_scatter(
            x=step_position(steps[known], log), y=share[known], customdata=steps[known], name=f"top {k}",
            mode="lines+markers", marker={"size": 4}, line={"color": colour(theme, hue), "width": 1.7, "dash": dash},
            hovertemplate=f"step %{{customdata:,}}: top {k} holds %{{y:.3g}}<extra></extra>",
        )  # fmt: skip
    low, high = log_range(*(share for _, share in shares.values()))
    fig.update_layout(
        xaxis=step_axis(every, log),
        yaxis={**log_axis(low, min(max(high, -0.3), 0.08)), "title": {"text": "share of |g|²"}},
        shapes=[cursor(float(step_position([selected], log)[0]), colour(theme, "cursor"))],
    )
    return fig


def matrix(
    found: Overlaps, *, selected: float = 0.0, log: bool = False, theme: str = "light", height: int = 340
) -> go.Figure:
    """Overlaps (step, step) as colours from 0 to 1 on equal axes."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 66, "r": 84, "t": 14, "b": 44})
    x = step_position(found.steps, log)
    fig.add_heatmap(
        x=edges(x), y=edges(x), z=np.round(255 * np.clip(found.matrix, 0, 1)).astype(np.uint8), zmin=0, zmax=255,
        colorscale="Viridis", zsmooth=False,
        text=[[f"steps {a:,} and {b:,}: {v:.3f}" for a, v in zip(found.steps, row, strict=True)]
              for b, row in zip(found.steps, found.matrix, strict=True)],
        hovertemplate="%{text}<extra></extra>",
        colorbar={"title": {"text": "overlap", "side": "right", "font": {"size": 11}}, "thickness": 11, "ticks": "",
                  "tickvals": [0, 127.5, 255], "ticktext": ["0", "0.5", "1"], "outlinewidth": 0, "x": 1.01, "xpad": 4},
    )  # fmt: skip
    ends = edges(x)
    span = {"range": [float(ends[0]), float(ends[-1])], "showgrid": False}
    fig.update_layout(
        xaxis={**step_axis(found.steps, log), **span, "constrain": "domain"},
        yaxis={**step_axis(found.steps, log), **span, "scaleanchor": "x", "constrain": "domain"},
        shapes=[cursor(float(step_position([selected], log)[0]), "rgba(255,255,255,0.95)")],
    )
    return fig
