"""Minima of a surface and the passes between them: a bar each, from minimum to pass, and marks on the surface."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape import records
from landscape.readings.topology import Critical, Pair, Topology

from ..axes import linear_axis, log_axis, log_range
from ..numbers import number
from ..style import colour, note
from ..style import figure as empty_figure
from .relief import LIFT
from .surface import heights, scale

MOST = 8  # pairs that are marked and listed


def shown(found: Topology) -> list[Pair]:
    """The most persistent basins and peaks, basins first."""
    kept = sorted([*found.basins, *found.peaks], key=lambda p: -p.persistence)[:MOST]
    return [p for p in found.basins if p in kept] + [p for p in found.peaks if p in kept]


def figure(surface: records.Surface, found: Topology, *, theme: str = "light", height: int = 420) -> go.Figure:
    """One bar a basin, from its minimum up to the pass where it meets a deeper one; below, peaks down to theirs."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 84, "r": 24, "t": 14, "b": 46})
    pairs = shown(found)
    if not pairs:
        fig.add_annotation(note("No loss on this surface is finite.", theme))
        return fig
    finite = surface.loss[np.isfinite(surface.loss)]
    log = float(finite.min()) > 0
    top = float(finite.max())
    for index, pair in enumerate(pairs, start=1):
        peak = pair not in found.basins
        end = top if pair.saddle is None else pair.saddle.loss
        ink = colour(theme, "orange" if peak else "blue")
        fig.add_scatter(
            x=[pair.extremum.loss, end], y=[index, index], mode="lines+markers", showlegend=False,
            line={"color": ink, "width": 5, "dash": "dot" if pair.saddle is None else "solid"},
            marker={"symbol": ["diamond" if peak else "circle", "arrow-right" if pair.saddle is None else "x"],
                    "size": [12, 14 if pair.saddle is None else 10],
                    "color": [colour(theme, "grid") if pair.extremum.border else ink, ink],
                    "line": {"color": ink, "width": 2}},
            hovertext=[hover(pair, index, peak)] * 2, hoverinfo="text",
        )  # fmt: skip
    names = [f"{'max' if p not in found.basins else 'min'} {i}" for i, p in enumerate(pairs, start=1)]
    axis = log_axis(*log_range(finite)) if log else linear_axis(finite)
    fig.update_layout(
        xaxis={**axis, "title": {"text": "train loss"}, "showgrid": True},
        yaxis={"tickvals": list(range(1, len(pairs) + 1)), "ticktext": names, "showgrid": False, "ticks": "",
               "title": {"text": "most persistent first"}, "range": [max(len(pairs), 3) + 0.6, 0.4]},
    )  # fmt: skip
    return fig


def add(fig: go.Figure, surface: records.Surface, found: Topology, *, raised: bool = False) -> None:
    """Minima as numbered rings, maxima as diamonds, passes as crosses; squares where the window's border made them."""
    z, log = heights(surface)
    s = scale(z, log)
    lift = 3 * LIFT * (s["high"] - s["low"])
    groups: dict[str, list[tuple[Critical, str]]] = {}
    for index, pair in enumerate(shown(found), start=1):
        peak, text = pair not in found.basins, hover(pair, index, pair not in found.basins)
        symbol = "diamond-open" if peak else "square-open" if pair.extremum.border else "circle-open"
        groups.setdefault(symbol, []).append((pair.extremum, text))
        if pair.saddle is not None:
            groups.setdefault("x", []).append((pair.saddle, text))
    for label in () if raised else labels(found, surface):
        fig.add_annotation(label)
    for symbol, entries in groups.items():
        place: dict[str, Any] = {"x": [c.u for c, _ in entries], "y": [c.v for c, _ in entries]}
        place |= {"mode": "markers", "hovertext": [text for _, text in entries], "hoverinfo": "text"}
        if raised:
            dark = {"color": "black", "width": 1}
            solid = "cross" if symbol == "x" else symbol.removesuffix("-open")  # in space an x is an emoji
            look = {"symbol": solid, "size": 5, "color": "white", "line": dark}
            fig.add_scatter3d(**place, z=[float(z[c.row, c.column]) + lift for c, _ in entries], marker=look)
            continue
        rim = {"color": "black" if symbol == "x" else "white", "width": 1 if symbol == "x" else 3}
        look = {"symbol": symbol, "size": 10 if symbol == "x" else 16, "color": "white", "line": rim}
        fig.add_scatter(**place, marker=look, cliponaxis=False)


def labels(found: Topology, surface: records.Surface) -> list[dict[str, Any]]:
    """The numbers beside the marks, as layout annotations; at the border on the side where the surface is."""
    u, v = (0.2 * x.min() + 0.8 * x.max() for x in (surface.u, surface.v))
    return [_label(pair.extremum, str(index), left=pair.extremum.u > u, below=pair.extremum.v > v)
            for index, pair in enumerate(shown(found), start=1)]  # fmt: skip


def _label(point: Critical, text: str, *, left: bool, below: bool) -> dict[str, Any]:
    return {
        "x": point.u, "y": point.v, "text": text, "showarrow": False, "borderpad": 1,
        "xshift": -16 if left else 16, "yshift": -14 if below else 14,
        "font": {"size": 11, "color": "black"}, "bgcolor": "rgba(255,255,255,0.9)",
    }  # fmt: skip


def hover(pair: Pair, index: int, peak: bool) -> str:
    name = "Maximum" if peak else "Minimum"
    first = f"{name} {index}: loss {number(pair.extremum.loss)}{at_border(pair.extremum)}"
    if pair.saddle is None:
        return f"{first}<br>no pass to a deeper one on this grid"
    way = "falls" if peak else "rises"
    return f"{first}<br>pass at {number(pair.saddle.loss)}: {way} by {number(pair.persistence)}{at_border(pair.saddle)}"


def at_border(point: Critical) -> str:
    return " (at the window's border)" if point.border else ""
