"""Cells of a searched network as graphs: kept operations in colour and as wide as their norm, pruned ones grey."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch

from landscape.readings import cells
from landscape.records import Architecture

from ..style import colour, note
from ..style import figure as empty_figure

COLOURS = ("blue", "orange", "green", "pink", "brown")
DASHES = ("solid", "dash", "dot")
Look = tuple[str, str]  # colour, dash


def looks(record: Architecture, theme: str) -> dict[str, Look]:
    """Colour and dash of every operation; 'none' is muted."""
    names = [n for n in dict.fromkeys(record.operations) if n != "none"]
    found = {n: (colour(theme, COLOURS[i % 5]), DASHES[i // 5 % 3]) for i, n in enumerate(names)}
    return {"none": (colour(theme, "muted"), "solid"), **found} if "none" in record.operations else found


def figure(record: Architecture, *, top: float = 0.0, theme: str = "light", height: int = 0) -> go.Figure:
    """One kind of cell a panel; `top` is the norm of the widest line, by default the largest of the record."""
    kinds = list(dict.fromkeys(record.kinds))
    plans = [cells.drawing(record, kind) for kind in kinds]
    margin = {"l": 8, "r": 8, "t": 44, "b": 8}
    fig = empty_figure(theme, height or 60 + 250 * len(kinds), showlegend=True, margin=margin)
    share = 1 / len(kinds)
    for k, plan in enumerate(plans):
        axis = "" if k == 0 else str(k + 1)
        for strand in plan.strands:
            fig.add_scatter(
                x=np.round(strand.points[:, 0], 3), y=np.round(strand.points[:, 1], 3), mode="lines",
                showlegend=False, xaxis=f"x{axis}", yaxis=f"y{axis}", **_strand(record, strand.group, top, theme),
            )  # fmt: skip
        fig.add_scatter(
            x=[p.x for p in plan.places], y=[p.y for p in plan.places], text=[p.label for p in plan.places],
            mode="markers+text", xaxis=f"x{axis}", yaxis=f"y{axis}", hoverinfo="skip", showlegend=False,
            textfont={"color": colour(theme, "text"), "size": 11},
            marker={"size": 26, "color": colour(theme, "grid"), "line": {"width": 1, "color": colour(theme, "axis")}},
        )  # fmt: skip
        left, right, low, high = plan.box
        upper = 1 - k * share
        fig.layout[f"xaxis{axis}"] = {"visible": False, "range": [left - 0.5, right + 0.5], "anchor": f"y{axis}"}
        fig.layout[f"yaxis{axis}"] = {"visible": False, "range": [low - 0.5, high + 0.5], "anchor": f"x{axis}",
                                      "domain": [upper - 0.96 * share, upper]}  # fmt: skip
        fig.add_annotation(note(f"{plan.kind} cell", theme, x=0, y=upper, xanchor="left", yanchor="top"))
    for name, (hue, dash) in looks(record, theme).items():
        fig.add_scatter(x=[None], y=[None], mode="lines", name=name, line={"color": hue, "dash": dash, "width": 2.5})
    faint = {"color": colour(theme, "muted"), "width": 0.8}
    fig.add_scatter(x=[None], y=[None], mode="lines", name="pruned", line=faint)
    return fig


def move(record: Architecture, *, top: float = 0.0, theme: str = "light") -> Patch:
    """Another step changes widths and colours; the cells are the same."""
    patch, trace = Patch(), 0
    for kind in dict.fromkeys(record.kinds):
        for strand in cells.drawing(record, kind).strands:
            for name, value in _strand(record, strand.group, top, theme).items():
                patch["data"][trace][name] = value
            trace += 1
        trace += 1  # the places
    return patch


def _strand(record: Architecture, group: int, top: float, theme: str) -> dict[str, Any]:
    kept, norm = bool(record.kept[group]), float(record.norms[group])
    hue, dash = looks(record, theme)[record.operations[group]]
    widest = top or float(record.norms.max()) or 1.0
    edge = f"{int(record.source[group])} to {int(record.target[group])}"
    words = f"{record.operations[group]}, place {edge}: norm {norm:.3g} of {int(record.sizes[group]):,} weights"
    return {
        "line": {"color": hue if kept else colour(theme, "muted"), "dash": dash if kept else "solid",
                 "width": round(1.4 + 4.6 * min(norm / widest, 1.0), 2) if kept else 0.8},
        "opacity": 1.0 if kept else 0.45,
        "hovertemplate": f"{words}{'' if kept else ', pruned'}<extra></extra>",
    }  # fmt: skip
