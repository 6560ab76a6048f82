"""Eigenvalue density against the step: a heatmap of 256 colours on an asinh eigenvalue axis."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ..axes import asinh_axis, step_axis, step_position
from ..style import cursor, density_bar
from ..style import figure as empty_figure

Array = NDArray[np.float64]


COLUMNS = 320  # a card is some 700 pixels wide


def stride(count: int) -> int:
    """Checkpoints a column of the picture."""
    return max(1, -(-count // COLUMNS))


def columns(steps: Array, heat: NDArray[np.uint8], sharpness: Array) -> tuple[Array, NDArray[np.uint8], Array]:
    """Steps (column,), heat (grid, column) and sharpness (column,): the largest of a column's checkpoints."""
    if stride(len(steps)) == 1:
        return steps, heat, sharpness
    starts = np.arange(0, len(steps), stride(len(steps)))
    sizes = np.diff([*starts, len(steps)])
    middles = np.add.reduceat(steps, starts) / sizes
    return middles, np.maximum.reduceat(heat, starts, axis=1), np.fmax.reduceat(sharpness, starts)


def figure(
    steps: Array,
    grid: Array,
    heat: NDArray[np.uint8],
    *,
    sharpness: Array | None = None,
    threshold: float | None = None,
    label: str = "",
    selected: float = 0.0,
    log: bool = False,
    theme: str = "light",
    height: int = 300,
) -> go.Figure:
    """`heat` has shape (len(grid), len(steps)); `sharpness` (len(steps),) is drawn in white; `grid` is u."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 66, "r": 92, "t": 14, "b": 44})
    x = step_position(steps, log)
    fig.add_heatmap(
        x=edges(x),
        y=edges(grid),
        z=heat,
        zmin=0,
        zmax=255,
        colorscale="Viridis",
        zsmooth=False,
        colorbar=density_bar(theme),
        customdata=None,
        hovertemplate="step %{x:.0f}<extra></extra>" if not log else None,
        hoverinfo="x" if log else None,
    )
    if sharpness is not None:
        y = np.arcsinh(sharpness / 1e-3)
        fig.add_scatter(
            x=x,
            y=y,
            customdata=steps,
            mode="lines",
            line={"color": "white", "width": 1.4},
            text=[f"{v:.4g}" for v in sharpness],
            hovertemplate="step %{customdata:,.0f}: λmax %{text}<extra></extra>",
        )
    top = float(np.arcsinh(threshold / 1e-3)) if threshold is not None else None
    ends = edges(grid)
    high = max(float(ends[-1]), top + 1.3) if top is not None and top < ends[-1] + 2.5 else float(ends[-1])
    fig.update_layout(
        xaxis={**step_axis(steps, log), "range": _span(x), "showgrid": False},
        yaxis={**asinh_axis(float(ends[0]), high), "title": {"text": "eigenvalue λ"}, "showgrid": False},
        plot_bgcolor="#440154",  # the colour of 'at or below the floor'
        shapes=[cursor(float(step_position([selected], log)[0]), "rgba(255,255,255,0.95)")],
    )
    if top is not None and top < high:
        fig.add_shape(
            type="line",
            x0=0,
            x1=1,
            xref="x domain",
            y0=top,
            y1=top,
            line={"color": "#FFA657", "width": 1.4, "dash": "dash"},
        )
        fig.add_annotation(
            x=1,
            xref="x domain",
            y=top,
            text=label,
            showarrow=False,
            xanchor="right",
            yanchor="bottom",
            font={"color": "#FFB877", "size": 11},
        )
    return fig


def edges(centres: Array) -> Array:
    """Borders of the cells around ascending centres: one more than there are cells."""
    centres = np.asarray(centres, dtype=np.float64)
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    most = 0.03 * (centres[-1] - centres[0])  # on a log axis the first cell would else take a third of the picture
    first = centres[0] - min(middle[0] - centres[0], most)
    return np.concatenate([[first], middle, [centres[-1] + min(centres[-1] - middle[-1], most)]])


def _span(x: Array) -> list[float]:
    ends = edges(x)
    return [float(ends[0]), float(ends[-1])]
