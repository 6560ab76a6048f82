"""A window of the training in stacked panels with one x axis, and marks where something happened first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape.readings.events import Event

from ..axes import linear_axis, log_axis, log_range, step_position
from ..style import colour, cursor, note, thin
from ..style import figure as empty_figure

Array = NDArray[np.float64]
_LINES = (("blue", "solid"), ("orange", "dash"), ("green", "dot"))


@dataclass(frozen=True)
class Panel:
    """Curves (name -> steps, values) of one y axis, and the first crossing that belongs to it."""

    title: str
    curves: dict[str, tuple[Array, Array]]
    limit: float | None = None
    event: Event | None = None
    log: bool = True
    missing: str = ""  # why there is no curve
    limits: dict[str, tuple[Array, Array]] = field(default_factory=dict)  # upper edges of bands


def figure(
    panels: Sequence[Panel],
    window: tuple[float, float],
    *,
    selected: float = 0.0,
    log: bool = False,
    theme: str = "light",
    height: int = 620,
) -> go.Figure:
    """One panel above the other; a dotted line at each first crossing; values above a limit are shaded."""
    fig = empty_figure(theme, height, hovermode="x", margin={"l": 72, "r": 16, "t": 14, "b": 44})
    low, high = (float(v) for v in step_position(list(window), log))
    span = (high - low) or 1.0
    fig.update_layout(
        xaxis={"range": [low - 0.01 * span, high + 0.01 * span], "title": {"text": "optimizer step" + " (log)" * log},
               "anchor": f"y{len(panels)}" if len(panels) > 1 else "y", "nticks": 9},
        shapes=[cursor(float(step_position([selected], log)[0]), colour(theme, "cursor"))],
    )  # fmt: skip
    if log:
        steps = np.unique(np.round(np.expm1(np.linspace(low, high, 6) * np.log(10))))
        texts = [f"{s:,.0f}" for s in steps]
        fig.update_layout(xaxis={"tickmode": "array", "tickvals": step_position(steps, True), "ticktext": texts})
    gap = 0.045
    share = (1 - gap * (len(panels) - 1)) / len(panels)
    for k, panel in enumerate(panels):
        domain = [max(0.0, 1 - (k + 1) * share - k * gap), 1 - k * (share + gap)]
        _panel(fig, panel, "y" if k == 0 else f"y{k + 1}", domain, window, log, theme)
    return fig


def _panel(
    fig: go.Figure, panel: Panel, axis: str, domain: list[float], window: tuple[float, float], log: bool, theme: str
) -> None:
    curves = {name: _inside(*curve, window) for name, curve in panel.curves.items()}
    values = [y for _x, y in curves.values()]
    for (name, (x, y)), (hue, dash) in zip(curves.items(), _LINES, strict=False):
        fig.add_scatter(
            x=step_position(x, log), y=y, customdata=x, yaxis=axis, name=name,
            mode="lines" if len(x) > 60 else "lines+markers", marker={"size": 4},
            line={"color": colour(theme, hue), "width": 1.6, "dash": dash},
            hovertemplate=f"step %{{customdata:,}}: {name} %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    for curve in panel.limits.values():
        x, y = _inside(*curve, window)
        fig.add_scatter(
            x=step_position(x, log), y=y, yaxis=axis, mode="lines", hoverinfo="skip",
            line={"color": colour(theme, "muted"), "width": 1, "dash": "dot"},
        )  # fmt: skip
        values.append(y)
    near = panel.limit is not None and any(len(v) and np.nanmax(v) > panel.limit / 4 for v in values)
    shown = [*values, np.array([panel.limit])] if near else values
    joined = np.concatenate([np.empty(0), *shown])
    positive = len(joined) > 0 and bool(np.all(joined > 0))
    layout = log_axis(*log_range(joined), 4) if panel.log and positive else linear_axis(joined)
    fig.layout["yaxis" + axis[1:]] = {**layout, "domain": domain, "title": {"text": panel.title}, "anchor": "x"}
    place = {"xref": "x domain", "yref": f"{axis} domain"}
    if len(curves) > 1:
        text = ", ".join(f"{dash}: {name}" for name, (_hue, dash) in zip(curves, _LINES, strict=False))
        fig.add_annotation(note(text, theme, x=0.005, y=1.02, xanchor="left", yanchor="bottom", **place))
    if not len(joined):
        fig.add_annotation(note(panel.missing, theme, x=0.5, y=0.5, **place))
    if near and panel.limit is not None:
        top = 10.0 ** layout["range"][1] if layout.get("type") == "log" else layout["range"][1]
        fig.add_shape(
            type="rect", xref="x domain", x0=0, x1=1, yref=axis, y0=panel.limit, y1=top,
            fillcolor=colour(theme, "shade"), line={"width": 0}, layer="below",
        )  # fmt: skip
    if panel.event is not None:
        at = float(step_position([panel.event.step], log)[0])
        line = {"color": colour(theme, "orange"), "width": 1.4, "dash": "dot"}
        fig.add_shape(type="line", xref="x", x0=at, x1=at, yref=f"{axis} domain", y0=0, y1=1, line=line)
        fig.add_annotation(
            note(f"{panel.event.step:,}", theme, x=at, xref="x", xanchor="left", yanchor="top", y=1, yref=place["yref"])
        )


def _inside(x: Array, y: Array, window: tuple[float, float]) -> tuple[Array, Array]:
    """The finite values inside the window; long curves lose what no screen could show."""
    keep = (x >= window[0]) & (x <= window[1]) & np.isfinite(y)
    return thin(np.asarray(x[keep], dtype=np.float64), np.asarray(y[keep], dtype=np.float64), 1200)
