"""A game over training: losses, metrics of the samples and each player's sharpness, stacked on one x axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from landscape.readings.history import Curve

from ..axes import linear_axis, log_axis, log_range, step_axis, step_position
from ..style import colour, cursor, note
from ..style import figure as empty_figure

COLOURS = ("blue", "orange", "green", "pink", "brown")  # of the players, in their order
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Panel:
    """Curves by name on one y axis; those of players take the players' colours."""

    title: str
    curves: Mapping[str, Curve]
    log: bool = False
    whole: int | None = None  # a number that cannot be passed, such as that of the modes
    missing: str = ""  # why there is no curve


def height(panels: int) -> int:
    """Pixels that so many panels need."""
    return 74 + 96 * panels


def figure(
    panels: Sequence[Panel], players: Sequence[str], *, selected: float = 0.0, mark: float | None = None,
    log: bool = False, theme: str = "light",
) -> go.Figure:  # fmt: skip
    """One panel above the other; `mark` is a step with a dotted line, that of a collapse."""
    fig = empty_figure(theme, height(len(panels)), hovermode="x", margin={"l": 66, "r": 16, "t": 30, "b": 44})
    steps = np.concatenate([np.empty(0), *(x for p in panels for x, _y in p.curves.values())])
    last = f"y{len(panels)}" if len(panels) > 1 else "y"
    fig.update_layout(xaxis={**step_axis(steps, log), "anchor": last})
    gap = 0.035
    share = (1 - gap * (len(panels) - 1)) / max(len(panels), 1)
    shown: set[str] = set()
    for k, panel in enumerate(panels):
        top = 1 - k * (share + gap)
        _panel(fig, panel, "y" if k == 0 else f"y{k + 1}", [max(0.0, top - share), top], players, shown, log, theme)
    lines = [cursor(float(step_position([selected], log)[0]), colour(theme, "cursor"))]
    if mark is not None:
        at = float(step_position([mark], log)[0])
        dotted = {"color": colour(theme, "text"), "width": 1.4, "dash": "dot"}
        lines.append({**cursor(at, ""), "line": dotted})
        where = {"yref": "y2 domain" if len(panels) > 1 else "paper", "xanchor": "left", "yanchor": "top"}
        fig.add_annotation(note("collapse", theme, x=at, xref="x", y=1, **where))
    fig.layout.shapes = tuple(lines)
    fig.update_layout(showlegend=len(players) > 1)
    return fig


def _panel(
    fig: go.Figure, panel: Panel, axis: str, domain: list[float], players: Sequence[str], shown: set[str], log: bool,
    theme: str,
) -> None:  # fmt: skip
    values = []
    for number, (name, (x, y)) in enumerate(panel.curves.items()):
        finite = np.where(np.isfinite(y), y, np.nan)
        player = list(players).index(name) if name in players else None
        hue = colour(theme, COLOURS[player % len(COLOURS)] if player is not None else "text")
        dash = DASHES[player % len(DASHES)] if player is not None else DASHES[number % len(DASHES)]
        fig.add_scatter(
            x=step_position(x, log), y=finite, customdata=x, yaxis=axis, mode="lines+markers", name=name,
            legendgroup=name, showlegend=player is not None and name not in shown, marker={"size": 3.5},
            line={"color": hue, "width": 1.7, "dash": dash}, connectgaps=False,
            hovertemplate=f"step %{{customdata:,}}: {panel.title}, {name} %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
        shown.add(name)
        values.append(finite)
    whole = [np.array([0.0, float(panel.whole)])] if panel.whole else []
    positive = any(np.isfinite(v).any() for v in values) and all(bool(np.all(v[np.isfinite(v)] > 0)) for v in values)
    scale = log_axis(*log_range(*values), 3) if panel.log and positive else linear_axis(*values, *whole)
    fig.layout["yaxis" + axis[1:]] = {**scale, "domain": domain, "title": {"text": panel.title}, "anchor": "x"}
    if not panel.log:
        fig.layout["yaxis" + axis[1:]].nticks = 4
    if not panel.curves:
        fig.add_annotation(note(panel.missing, theme, xref="x domain", yref=f"{axis} domain"))
