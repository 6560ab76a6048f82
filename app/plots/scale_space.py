"""The inverse scale space path: how the sparse copy of the weights grows, unit by unit and layer by layer."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape.records import ScaleSpace

from ..axes import linear_axis, step_axis, step_position
from ..style import colour, cursor
from ..style import figure as empty_figure

Array = NDArray[np.float64]
COLOURS = ("blue", "orange", "green", "pink", "brown")
DRAWN = 12  # paths a layer


def figure(
    found: ScaleSpace, *, selected: float = 0.0, log: bool = False, theme: str = "light", height: int = 420
) -> go.Figure:
    """Above: norm of Gamma of the units that enter first; below: share of each layer's units in the support, %."""
    fig = empty_figure(theme, height, showlegend=True, margin={"l": 62, "r": 16, "t": 34, "b": 44})
    steps = np.array(found.steps, dtype=float)
    fig.update_layout(xaxis={**step_axis(steps, log), "anchor": "y2"})
    share = 100 * found.selected / np.maximum(found.units, 1)  # (checkpoint, layer)
    for number, name in enumerate(found.layers):
        style = {"color": colour(theme, COLOURS[number % len(COLOURS)])}
        for path in np.flatnonzero(found.path_layers == number)[:DRAWN]:
            x, y = _since(found, int(path))
            fig.add_scatter(
                x=step_position(x, log), y=y, mode="lines", line={**style, "width": 1}, opacity=0.75,
                legendgroup=name, showlegend=False, name=name,
                hovertemplate=f"unit {found.path_units[path]} of {name}, in at step {found.path_entered[path]:,}: "
                              "%{y:.3g}<extra></extra>",
            )  # fmt: skip
        fig.add_scatter(
            x=step_position(steps, log), y=share[:, number], customdata=found.steps, mode="lines+markers", yaxis="y2",
            line={**style, "width": 1.8}, marker={"size": 4}, name=name, legendgroup=name,
            hovertemplate=f"step %{{customdata:,}}: %{{y:.2f}} % of {name}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(
        yaxis={**linear_axis(found.paths, zero=True), "title": {"text": "norm of Γ"}, "domain": [0.5, 1.0]},
        yaxis2={**linear_axis(share, zero=True), "title": {"text": "in the support, %"}, "domain": [0.0, 0.42],
                "anchor": "x"},
        shapes=[cursor(float(step_position([selected], log)[0]), colour(theme, "cursor"))],
    )  # fmt: skip
    return fig


def _since(found: ScaleSpace, path: int) -> tuple[Array, Array]:
    """Steps and norms of a unit from the step at which it entered, where its Gamma is still zero."""
    entered = float(found.path_entered[path])
    later = found.steps >= entered
    x = np.concatenate([[min(entered, float(found.steps[-1]))], found.steps[later]])
    return x, np.concatenate([[0.0], found.paths[later, path]])
