"""Low-rank training: ranks and the largest eigenvalue over the steps; eigenvectors in the tangent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from landscape.records import Structure

from ..axes import linear_axis, step_axis, step_position
from ..style import colour, cursor, note
from ..style import figure as empty_figure
from .structure import line

Array = NDArray[np.float64]


def ranks(
    found: Sequence[Structure], sharpness: Array, *, selected: float, log: bool = False, theme: str = "light",
    height: int = 320,
) -> go.Figure:  # fmt: skip
    """Rank by layer against the step; in a panel below the largest eigenvalue, where it is known."""
    steps = np.array([s.step for s in found])
    places, both = step_position(steps, log), bool(np.isfinite(sharpness).any())
    fig = empty_figure(theme, height, hovermode="x", showlegend=True, margin={"l": 66, "r": 16, "t": 34, "b": 44})
    fig.update_layout(xaxis=step_axis(steps, log))
    names = list(dict.fromkeys(name for s in found for name in s.ranks))
    curves = {name: np.array([float(s.ranks.get(name, np.nan)) for s in found]) for name in names}
    for name, values in curves.items():
        fig.add_scatter(
            x=places, y=values, customdata=steps, mode="lines+markers", name=name,
            line=line(found[-1].layers.index(name), theme) | {"shape": "hv"}, marker={"size": 3.5},
            hovertemplate=f"step %{{customdata:,}}: rank %{{y:.0f}} of {name}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(yaxis={**linear_axis(*curves.values(), zero=True), "title": {"text": "rank"},
                             "domain": [0.46, 1.0] if both else [0.0, 1.0]})  # fmt: skip
    if both:
        fig.add_scatter(
            x=places, y=sharpness, yaxis="y2", customdata=steps, mode="lines+markers", connectgaps=True,
            showlegend=False, line={"color": colour(theme, "text"), "width": 1.4}, marker={"size": 3.5},
            hovertemplate="step %{customdata:,}: λ<sub>max</sub> %{y:.4g}<extra></extra>", name="λmax",
        )  # fmt: skip
        fig.update_layout(xaxis={"anchor": "y2"}, yaxis2={**linear_axis(sharpness), "domain": [0.0, 0.38],
                                                          "title": {"text": "λ<sub>max</sub>"}})  # fmt: skip
    fig.layout.shapes = (cursor(float(step_position([selected], log)[0]), colour(theme, "cursor")),)
    return fig


def tangent(
    found: Structure | None, most: int, chance: float | None, *, message: str = "", theme: str = "light",
    height: int = 320,
) -> go.Figure:  # fmt: skip
    """|P_T v| of the top eigenvectors, largest eigenvalue first; dashed what a random direction has.

    Args:
        found: None where no eigenvectors were known; `message` says so in the plot.
        most: eigenvectors that the axis has room for.
    """
    fig = empty_figure(theme, height, margin={"l": 66, "r": 16, "t": 10, "b": 44})
    fig.add_scatter(
        **_shares(found), mode="markers+lines", line={"color": colour(theme, "blue"), "width": 1.2},
        marker={"size": 7, "color": colour(theme, "blue")},
        hovertemplate="eigenvalue %{customdata:.4g}: |P<sub>T</sub>v| %{y:.4f}<extra></extra>",
    )  # fmt: skip
    dashed = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": chance or 0.0, "y1": chance or 0.0,
              "visible": found is not None and chance is not None,
              "line": {"color": colour(theme, "muted"), "width": 1.4, "dash": "dash"}}  # fmt: skip
    fig.update_layout(
        xaxis={"title": {"text": "eigenvector, largest eigenvalue first"}, "range": [0.5, most + 0.5], "nticks": 8},
        yaxis={"title": {"text": "|P<sub>T</sub>v|"}, "range": [0, 1.04]}, shapes=[dashed],
        annotations=[note(message, theme, visible=found is None)],
    )  # fmt: skip
    return fig


def tangent_move(found: Structure | None, message: str = "") -> Patch:
    """What another step changes."""
    patch = Patch()
    for name, values in _shares(found).items():
        patch["data"][0][name] = values
    chance = found.tangent_chance if found is not None else None
    for end in ("y0", "y1"):
        patch["layout"]["shapes"][0][end] = chance or 0.0
    patch["layout"]["shapes"][0]["visible"] = chance is not None
    patch["layout"]["annotations"][0]["text"] = message
    patch["layout"]["annotations"][0]["visible"] = found is None
    return patch


def _shares(found: Structure | None) -> dict[str, Any]:
    """Numbers of the eigenvectors, |P_T v| and eigenvalues."""
    shares = np.empty(0) if found is None or found.tangent is None else found.tangent
    values = np.empty(0) if found is None or found.tangent_values is None else found.tangent_values
    return {"x": np.arange(1, len(shares) + 1), "y": shares, "customdata": values}
