"""Cells on their hardware: test accuracy against what a sample costs, and the best that every cost buys."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape.readings.fronts import stairs
from landscape.records import Front

from ..axes import linear_axis, log_axis, log_range
from ..style import colour
from ..style import figure as empty_figure

Array = NDArray[np.float64]
COLOURS = ("blue", "orange", "green", "pink", "brown")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "x")


def figure(record: Front, costs: Array, what: str, *, theme: str = "light", height: int = 340) -> go.Figure:
    """A colour and a symbol for each way of finding a cell; open rings: the front of all.

    Args:
        costs: (point,) cycles or energy a sample.
        what: title of their axis.
    """
    accuracy = 100 * record.accuracy[record.cells]  # (point,)
    known = np.isfinite(costs) & (costs > 0) & np.isfinite(accuracy)
    families = np.array(record.families, dtype=object)[record.cells]
    fig = empty_figure(theme, height, hovermode="closest", showlegend=True, margin={"l": 62, "r": 16, "t": 40, "b": 44})
    for n, name in enumerate(dict.fromkeys(record.families)):
        mine = known & (families == name)
        if not mine.any():
            continue
        hue = colour(theme, COLOURS[n % 5])
        x, y = stairs(costs[mine], accuracy[mine])
        fig.add_scatter(
            x=x, y=y, mode="lines", legendgroup=name, showlegend=False, hoverinfo="skip",
            line={"color": hue, "width": 1.4, "shape": "hv"},
        )  # fmt: skip
        fig.add_scatter(
            x=costs[mine], y=accuracy[mine], mode="markers", name=name, legendgroup=name,
            text=[point(record, int(k)) for k in np.flatnonzero(mine)],
            hovertemplate="%{text}<extra>" + name + "</extra>",
            marker={"color": hue, "size": 7, "symbol": SYMBOLS[n % 5]},
        )  # fmt: skip
    best = known & (record.best == 1)
    fig.add_scatter(
        x=costs[best], y=accuracy[best], mode="markers", name="front of all", hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 13, "color": colour(theme, "text"), "line": {"width": 1.4}},
    )  # fmt: skip
    fig.update_layout(
        xaxis={**log_axis(*log_range(costs[known], pad=0.08)), "title": {"text": f"{what} (log)"}},
        yaxis={**linear_axis(accuracy[known]), "title": {"text": "test accuracy, %"}},
    )
    return fig


def point(record: Front, k: int) -> str:
    """What one point is, for the pointer that rests on it."""
    cell = int(record.cells[k])
    return (
        f"cell {cell}, {int(record.operations[cell])} operations: {100 * record.accuracy[cell]:.1f} %<br>"
        f"{design(record, k)}: {record.point_cycles[k]:,.0f} cycles, energy {record.point_energy[k]:,.0f}"
    )


def design(record: Front, k: int) -> str:
    """'2 × 8 multipliers, 8 lanes'."""
    lanes = int(record.lanes[k])
    return f"{int(record.rows[k])} × {int(record.columns[k])} multipliers, {lanes} lane{'s' * (lanes != 1)}"
