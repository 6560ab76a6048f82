"""Eigenvalues of a game's Jacobian in the complex plane, both axes asinh, coloured by whose weights they turn in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch

from landscape.readings import quadrature
from landscape.records import Game

from ..axes import asinh_axis
from ..style import colour, note, packed
from ..style import figure as empty_figure


def figure(found: Game | None, every: Sequence[Game], *, message: str = "", theme: str = "light",
           height: int = 400) -> go.Figure:  # fmt: skip
    """Those of `found`; the axes hold all of `every`, so that a step never rescales them."""
    fig = empty_figure(theme, height, margin={"l": 70, "r": 84, "t": 24, "b": 44})
    first = every[-1].players[0]
    fig.add_scatter(
        **_points(found), mode="markers",
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    shades = [[0.0, colour(theme, "orange")], [0.5, colour(theme, "muted")], [1.0, colour(theme, "blue")]]
    fig.data[0].marker.update(
        size=9, colorscale=shades, cmin=0, cmax=1, line={"width": 1, "color": colour(theme, "axis")},
        colorbar={"title": {"text": f"share of {first}", "side": "right", "font": {"size": 11}}, "thickness": 11,
                  "outlinewidth": 0, "tickvals": [0, 0.5, 1], "tickfont": {"size": 11}, "x": 1.01, "xpad": 4},
    )  # fmt: skip
    left, right = _ends([r.real for r in every])
    reach = max(abs(e) for e in _ends([r.imaginary for r in every]))
    line = {"type": "line", "line": {"color": colour(theme, "axis"), "width": 1}, "layer": "below"}
    fig.update_layout(
        xaxis={**_axis(left, right), "title": {"text": "real part of λ (asinh axis)"}},
        yaxis={**_axis(-reach, reach), "title": {"text": "imaginary part (asinh axis)"}},
        shapes=[{"type": "rect", "xref": "x", "yref": "paper", "x0": left, "x1": 0, "y0": 0, "y1": 1,
                 "fillcolor": colour(theme, "shade"), "line": {"width": 0}, "layer": "below"},
                {**line, "xref": "x", "x0": left, "x1": right, "yref": "y", "y0": 0, "y1": 0},
                {**line, "xref": "x", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}],
        annotations=[note(message, theme, visible=found is None),
                     note("descent leaves", theme, x=0.01, y=1.01, xanchor="left", yanchor="bottom")],
    )  # fmt: skip
    return fig


def move(found: Game | None, message: str = "") -> Patch:
    """What another step changes."""
    patch = Patch()
    points = _points(found)
    patch["data"][0]["x"], patch["data"][0]["y"] = packed(points["x"]), packed(points["y"])
    patch["data"][0]["text"] = points["text"]
    patch["data"][0]["marker"]["color"] = points["marker"]["color"]
    patch["layout"]["annotations"][0]["text"] = message
    patch["layout"]["annotations"][0]["visible"] = found is None
    return patch


def _points(found: Game | None) -> dict[str, Any]:
    if found is None:
        return {"x": np.empty(0, np.float32), "y": np.empty(0, np.float32), "text": [], "marker": {"color": []}}
    texts = [
        f"λ = {value.real:.4g} {'+' if value.imag >= 0 else chr(0x2212)} {abs(value.imag):.4g} i, "
        f"residual {error:.1e}, "
        + ", ".join(f"{100 * s:.0f} % {p}" for p, s in zip(found.players, shares, strict=True))
        for value, error, shares in zip(found.eigenvalues, found.residuals, found.shares.T, strict=True)
    ]
    return {
        "x": quadrature.to_asinh(found.real).astype(np.float32),
        "y": quadrature.to_asinh(found.imaginary).astype(np.float32),
        "text": texts, "marker": {"color": [round(float(s), 3) for s in found.shares[0]]},
    }  # fmt: skip


def _axis(low: float, high: float) -> dict[str, Any]:
    """An eigenvalue axis with room between its ticks in half a telephone's width."""
    axis = asinh_axis(low, high)
    kept: list[int] = []
    for i in sorted(range(len(axis["tickvals"])), key=lambda i: abs(axis["tickvals"][i])):  # zero outwards
        if all(abs(axis["tickvals"][i] - axis["tickvals"][j]) >= 0.13 * (high - low) for j in kept):
            kept.append(i)
    return {**axis, **{name: [axis[name][i] for i in kept] for name in ("tickvals", "ticktext")}}


def _ends(values: Sequence[Any]) -> tuple[float, float]:
    """Range in u that holds them all and zero, with a margin."""
    held = np.concatenate([np.zeros(1), *values])
    low, high = quadrature.to_asinh([held[np.isfinite(held)].min(), held[np.isfinite(held)].max()])
    margin = max(0.07 * float(high - low), 0.8)
    return float(low) - margin, float(high) + margin
