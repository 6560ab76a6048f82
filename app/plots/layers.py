"""Which layer is sharp: the top eigenvalue of every layer's block against the step, and each layer's share of trace."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from ..axes import log_range, log_ticks, step_axis, step_position
from ..numbers import number
from ..style import colour, cursor
from ..style import figure as empty_figure
from .spectrum_over import edges

Array = NDArray[np.float64]


def figure(
    names: list[str],
    steps: NDArray[np.int64],
    sharpness: Array,
    *,
    selected: float = 0.0,
    log: bool = False,
    theme: str = "light",
    height: int = 340,
) -> go.Figure:
    """`sharpness` (layer, step) as colours on a log scale, input layer on top; where it is unknown there is none."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 12, "r": 96, "t": 14, "b": 44})
    low, high = log_range(sharpness)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.log10(np.where(sharpness > 0, sharpness, np.nan))
    values, texts = log_ticks(low, high)
    x = step_position(steps, log)
    fig.add_heatmap(
        x=edges(x), y=np.arange(len(names) + 1) - 0.5, z=np.where(np.isfinite(z), z, low), zmin=low, zmax=high,
        colorscale="Viridis", zsmooth=False, ygap=1,
        text=[[f"{name}, step {s:,}: λmax {number(float(v), 4)}" for s, v in zip(steps, row, strict=True)]
              for name, row in zip(names, sharpness, strict=True)],
        hovertemplate="%{text}<extra></extra>",
        colorbar={"title": {"text": "λ<sub>max</sub> of the block", "side": "right", "font": {"size": 11}},
                  "tickvals": [math.log10(v) for v in values], "ticktext": texts, "thickness": 11, "ticks": "",
                  "outlinewidth": 0, "x": 1.01, "xpad": 4},
    )  # fmt: skip
    ends = edges(x)
    fig.update_layout(
        xaxis={**step_axis(steps, log), "range": [float(ends[0]), float(ends[-1])], "showgrid": False},
        yaxis=_layer_axis(names),
        shapes=[cursor(float(step_position([selected], log)[0]), "rgba(255,255,255,0.95)")],
    )
    return fig


def shares(names: list[str], trace: Array, *, theme: str = "light", height: int = 340) -> go.Figure:
    """Bars of each layer's share of the trace (layer,); unknown ones have no bar."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 12, "r": 24, "t": 14, "b": 44})
    fig.add_bar(
        **_bars(names, trace), orientation="h", marker={"color": colour(theme, "blue")}, textposition="auto",
        textangle=0,
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    fig.update_layout(
        xaxis={"range": [0, 105], "title": {"text": "share of the trace, %"}, "nticks": 6},
        yaxis=_layer_axis(names),
    )
    return fig


def move(names: list[str], trace: Array) -> Patch:
    patch = Patch()
    for name, value in _bars(names, trace).items():
        patch["data"][0][name] = value
    return patch


def _bars(names: list[str], trace: Array) -> dict[str, list[object]]:
    total = float(np.nansum(trace))
    known = np.isfinite(trace) & np.full(len(trace), total > 0)
    percent = np.where(known, 100 * trace / (total or 1.0), 0.0)
    return {
        "x": percent.tolist(),
        "y": list(range(len(names))),
        "text": [f"{p:.3g} %" if k else "" for p, k in zip(percent, known, strict=True)],
        "customdata": [f"{n}: trace {number(float(t))}" for n, t in zip(names, trace, strict=True)],
    }


def _layer_axis(names: list[str]) -> dict[str, object]:
    stride = max(1, -(-len(names) // 24))
    shown = range(0, len(names), stride)
    return {
        "range": [len(names) - 0.5, -0.5],
        "title": {"text": "layer, input first"},
        "automargin": True,
        "showgrid": False,
        "tickmode": "array",
        "tickvals": list(shown),
        "ticktext": [names[i] if len(names[i]) <= 22 else "…" + names[i][-21:] for i in shown],
    }
