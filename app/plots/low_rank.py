"""Low-rank training: ranks and the largest eigenvalue over the steps; eigenvectors in the tangent space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape.records import Structure

from ..style import colour, cursor, linear_axis, step_axis, step_position
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


def tangent(found: Structure, *, theme: str = "light", height: int = 320) -> go.Figure:
    """|P_T v| of the top eigenvectors, largest eigenvalue first; dashed what a random direction has."""
    assert found.tangent is not None
    assert found.tangent_values is not None
    fig = empty_figure(theme, height, margin={"l": 66, "r": 16, "t": 10, "b": 44})
    number = np.arange(1, len(found.tangent) + 1)
    fig.add_scatter(
        x=number, y=found.tangent, customdata=found.tangent_values, mode="markers+lines",
        line={"color": colour(theme, "blue"), "width": 1.2}, marker={"size": 7, "color": colour(theme, "blue")},
        hovertemplate="eigenvalue %{customdata:.4g}: |P<sub>T</sub>v| %{y:.4f}<extra></extra>",
    )  # fmt: skip
    shapes = []
    if found.tangent_chance is not None:
        shapes = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": found.tangent_chance,
                   "y1": found.tangent_chance,
                   "line": {"color": colour(theme, "muted"), "width": 1.4, "dash": "dash"}}]  # fmt: skip
    fig.update_layout(
        xaxis={"title": {"text": "eigenvector, largest eigenvalue first"}, "range": [0.5, len(number) + 0.5],
               "nticks": 8},
        yaxis={"title": {"text": "|P<sub>T</sub>v|"}, "range": [0, 1.04]}, shapes=shapes,
    )  # fmt: skip
    return fig
