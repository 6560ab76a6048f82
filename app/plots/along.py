"""Along a path between two minima: loss, accuracy, sharpness, eigenspaces and density, one shared t axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape import records
from landscape.readings import overlaps
from landscape.readings.smoothing import Width

from ..axes import asinh_axis, linear_axis, log_axis, log_range
from ..facts import Curvature
from ..series import Series
from ..style import MARKER, colour, cursor
from ..style import figure as empty_figure
from .spectrum_over import edges

Array = NDArray[np.float64]
GAP = 0.045


def figure(
    path: records.Path,
    curvature: Sequence[Curvature] = (),
    series: Series | None = None,
    *,
    width: Width | None = None,
    selected: float = 0.5,
    names: tuple[str, str] = ("A", "B"),
    theme: str = "light",
    height: int | None = None,
) -> go.Figure:
    """Panels that have data: loss, accuracy, sharpness, overlaps, density (`series` is indexed by point)."""
    panels: list[Any] = [
        _loss,
        *([_accuracy] if path.accuracy is not None else []),
        *([_sharpness] if curvature else []),
        *([_overlaps] if overlaps.along(path) else []),
        *([_density] if series is not None else []),
    ]
    heights: dict[Any, float] = {_loss: 1.15, _accuracy: 0.75, _sharpness: 0.85, _overlaps: 0.85, _density: 1.75}
    shares = [heights[p] for p in panels]
    legend = 50 if path.straight_loss is not None else 0
    fig = empty_figure(
        theme,
        height or max(int(70 + 120 * sum(shares)), 690 if path.eigenpairs else 0) + legend,
        hovermode="x",
        showlegend=True,
        margin={"l": 66, "r": 16, "t": 34, "b": 46},
        legend={"y": 1.004},
    )
    free = 1 - GAP * (len(panels) - 1)
    top = 1.0
    last = len(panels)
    fig.layout.xaxis = {
        "range": _reach(path.t),
        "title": {"text": _position(path)},
        "anchor": "y" if last == 1 else f"y{last}",
        "nticks": 11,
    }
    for k, (panel, share) in enumerate(zip(panels, shares, strict=True), start=1):
        bottom = max(top - free * share / sum(shares), 0.0)
        suffix = "" if k == 1 else str(k)
        axis = panel(fig, path, curvature, series, width, f"y{suffix}", theme)
        fig.update_layout({f"yaxis{suffix}": {**axis, "domain": [bottom, top], "anchor": "x"}})
        if k < last:
            fig.add_shape(
                type="line",
                xref="paper",
                yref="paper",
                x0=0,
                x1=1,
                y0=bottom,
                y1=bottom,
                line={"color": colour(theme, "axis"), "width": 1},
            )
        top = bottom - GAP
    fig.layout.shapes = (cursor(selected, MARKER, 2), *_ends(theme), *fig.layout.shapes)
    return fig


def _position(path: records.Path) -> str:
    if path.shape == "linear":
        return "position t on the path: θ(t) = (1 − t) θ<sub>A</sub> + t θ<sub>B</sub>"
    return f"position t: share of the length of the {path.shape.replace('_', ' ')} path from A to B"


def _reach(t: Array) -> list[float]:
    low, high = float(t.min()), float(t.max())
    extra = 0.012 * (high - low)
    return [low - extra, high + extra]


def _ends(theme: str) -> list[dict[str, Any]]:
    return [
        {**cursor(x, colour(theme, "muted"), 1), "line": {"color": colour(theme, "muted"), "width": 1, "dash": "dot"}}
        for x in (0.0, 1.0)
    ]


def _line(
    fig: go.Figure, path: records.Path, y: Array, name: str, shade: str, axis: str, theme: str, dash: str = "solid",
    legend: bool = True,
) -> None:  # fmt: skip
    fig.add_scatter(
        x=path.t,
        y=y,
        customdata=path.t,
        name=name,
        mode="lines+markers",
        yaxis=axis,
        line={"color": colour(theme, shade), "width": 1.7, "dash": dash},
        marker={"size": 4.5},
        showlegend=legend,
        hovertemplate=f"t = %{{x:.3g}}: {name} %{{y:.4g}}<extra></extra>",
    )


def _loss(fig: go.Figure, path: records.Path, _c: Any, _s: Any, _w: Any, axis: str, theme: str) -> dict[str, Any]:
    _line(fig, path, path.loss, "train loss", "blue", axis, theme)
    losses = [path.loss]
    if path.test_loss is not None:
        _line(fig, path, path.test_loss, "test loss", "pink", axis, theme, "dash")
        losses.append(path.test_loss)
    for y, name, shade, dash in (
        (path.straight_loss, "straight line", "orange", "dashdot"),
        (path.unaligned_loss, "straight, not aligned", "brown", "longdashdot"),
    ):
        if y is not None:
            _line(fig, path, y, name, shade, axis, theme, dash)
            losses.append(y)
    chord = (1 - path.t) * path.loss[0] + path.t * path.loss[-1]
    fig.add_scatter(
        x=path.t,
        y=chord,
        mode="lines",
        yaxis=axis,
        name="chord",
        hoverinfo="skip",
        showlegend=False,
        line={"color": colour(theme, "muted"), "width": 1, "dash": "dot"},
    )
    worst = int(np.argmax(np.nan_to_num(path.loss - chord, nan=-np.inf)))
    at, low, high = float(path.t[worst]), float(chord[worst]), float(path.loss[worst])
    mark = {"xref": "x", "yref": axis, "line": {"color": colour(theme, "muted"), "width": 1}}
    fig.add_shape(type="line", x0=at, x1=at, y0=low, y1=high, **mark)
    if not path.barrier > 0.02 * float(np.nanmax(np.concatenate(losses))):
        return {**linear_axis(*losses, zero=True), "title": {"text": "loss"}}  # no height that could carry its name
    fig.add_annotation(
        x=at, y=low + 0.35 * (high - low), yref=axis, text=f"barrier {path.barrier:.3g}", showarrow=False,
        xanchor="left" if at < 0.7 else "right", xshift=4 if at < 0.7 else -4,
        font={"size": 11, "color": colour(theme, "text")},
    )  # fmt: skip
    return {**linear_axis(*losses, zero=True), "title": {"text": "loss"}}


def _accuracy(fig: go.Figure, path: records.Path, _c: Any, _s: Any, _w: Any, axis: str, theme: str) -> dict[str, Any]:
    shown = [(100 * path.accuracy, "train accuracy", "green", "solid")] if path.accuracy is not None else []
    if path.test_accuracy is not None:
        shown.append((100 * path.test_accuracy, "test accuracy", "brown", "dash"))
    for y, name, shade, dash in shown:
        _line(fig, path, y, name, shade, axis, theme, dash)
    return {**linear_axis(*(y for y, *_ in shown)), "title": {"text": "accuracy, %"}}


def _sharpness(
    fig: go.Figure, path: records.Path, curvature: Sequence[Curvature], _s: Any, _w: Any, axis: str, theme: str
) -> dict[str, Any]:
    t = np.array([path.t[c.step] for c in curvature])
    y = np.array([c.sharpness for c in curvature])
    fig.add_scatter(
        x=t,
        y=y,
        customdata=t,
        name="sharpness λmax",
        showlegend=path.overlap_a is None,  # the axis says it, and the legend is long by then
        mode="lines+markers",
        yaxis=axis,
        line={"color": colour(theme, "orange"), "width": 1.7},
        marker={"size": 4.5},
        hovertemplate="t = %{x:.3g}: λmax %{y:.4g}<extra></extra>",
    )
    wide = np.nanmin(y) > 0 and np.nanmax(y) / np.nanmin(y) > 8
    scale = log_axis(*log_range(y), 4) if wide else linear_axis(y)
    return {**scale, "title": {"text": "λ<sub>max</sub>"}}


def _overlaps(
    fig: go.Figure, path: records.Path, _c: Any, _s: Any, _w: float, axis: str, theme: str
) -> dict[str, Any]:
    """Overlap of the top eigenspace with A's and with B's: the largest separated one solid, the least dotted."""
    found = overlaps.along(path)
    for k in sorted({min(found), max(found)}):
        largest = k == max(found)
        for y, end, shade in zip(found[k], "AB", ("blue", "pink"), strict=True):
            name = f"top {k} eigenvectors in {end}'s" if largest else f"top {k} in {end}'s"
            _line(fig, path, y, name, shade, axis, theme, "solid" if largest else "dot", legend=largest)
    return {"range": [-0.04, 1.06], "nticks": 4, "title": {"text": "overlap"}}


def _density(
    fig: go.Figure, path: records.Path, _c: Any, series: Series | None, width: Width | None, axis: str, theme: str
) -> dict[str, Any]:
    if series is None:
        return {}
    ends = edges(series.grid)
    fig.add_heatmap(
        x=edges(path.t[series.steps]),
        y=ends,
        z=series.heat(width or series.automatic),
        zmin=0,
        zmax=255,
        colorscale="Viridis",
        yaxis=axis,
        showscale=False,
        hoverinfo="skip",
    )
    return {**asinh_axis(float(ends[0]), float(ends[-1])), "title": {"text": "eigenvalue λ"}, "showgrid": False}
