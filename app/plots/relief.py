"""The same surface raised: log10 loss as height, white iso-lines, the trajectory on it. One a page."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from landscape import records

from ..style import MARKER, colour
from ..style import figure as empty_figure
from .surface import heights, interpolated, quantity, scale

Array = NDArray[np.float64]
LIFT = 0.02  # of the height: what lies on the surface must not be cut by its facets
PIECES = 16  # of a line between two checkpoints, so that it follows the surface


def figure(
    surface: records.Surface,
    trajectory: records.Trajectory | None = None,
    *,
    selected: int = -1,
    theme: str = "light",
    height: int = 620,
) -> go.Figure:
    """`selected` is the marked checkpoint's place in the trajectory (-1: none)."""
    fig = empty_figure(theme, height, margin={"l": 0, "r": 76, "t": 0, "b": 0})
    z, log = heights(surface)
    s = scale(z, log)
    fig.add_surface(**_skin(surface, z, s))
    if trajectory is not None:
        fig.add_scatter3d(
            **line(surface, z, s, trajectory), mode="lines", line={"color": MARKER, "width": 6}, hoverinfo="skip"
        )
    fig.add_scatter3d(
        **marker(surface, trajectory, selected), mode="markers", hoverinfo="skip",
        marker={"size": 7, "color": "white", "line": {"color": MARKER, "width": 3}},
    )  # fmt: skip
    fig.update_layout(scene=_scene(surface, z, s, theme))
    return fig


def _skin(surface: records.Surface, z: Array, s: dict[str, Any]) -> dict[str, Any]:
    lines = {"show": True, "start": s["low"], "end": s["high"], "size": (s["high"] - s["low"]) / 12}
    bar = {"title": {"text": quantity(surface), "side": "right", "font": {"size": 11}}, "tickfont": {"size": 11}}
    return {
        "x": surface.u, "y": surface.v, "z": z.astype(np.float32), "colorscale": "Viridis", "hoverinfo": "skip",
        "cmin": s["low"], "cmax": s["high"],
        "contours": {"z": {**lines, "color": "rgba(255,255,255,0.7)", "width": 1.5}},
        "lighting": {"ambient": 0.8, "diffuse": 0.45, "specular": 0.03, "roughness": 0.95},
        "colorbar": {**bar, "tickvals": s["ticks"], "ticktext": s["texts"], "thickness": 11, "outlinewidth": 0,
                     "len": 0.7, "x": 1.0},
    }  # fmt: skip


def line(surface: records.Surface, z: Array, s: dict[str, Any], trajectory: records.Trajectory) -> dict[str, Array]:
    """The trajectory's straight pieces, laid on the surface."""
    place = np.arange(len(trajectory.steps), dtype=np.float64)
    fine = np.linspace(0, place[-1], PIECES * (len(place) - 1) + 1) if len(place) > 1 else place
    u, v = np.interp(fine, place, trajectory.u), np.interp(fine, place, trajectory.v)
    return {"x": u, "y": v, "z": interpolated(surface, z, u, v) + LIFT * (s["high"] - s["low"])}


def _scene(surface: records.Surface, z: Array, s: dict[str, Any], theme: str) -> dict[str, Any]:
    axis = {
        "gridcolor": colour(theme, "grid"), "linecolor": colour(theme, "axis"), "showbackground": False,
        "zeroline": False, "tickfont": {"size": 10}, "showspikes": False, "nticks": 5,
    }  # fmt: skip
    every = max(1, -(-len(s["ticks"]) // 3))
    # long labels would be clipped by the card: in space the short half must do
    names = [label.partition(" (")[0].partition(",")[0] for label in [*surface.labels, "u", "v"]]
    return {
        "xaxis": {**axis, "title": {"text": names[0], "font": {"size": 12}}},
        "yaxis": {**axis, "title": {"text": names[1], "font": {"size": 12}}},
        "zaxis": {**axis, "title": {"text": quantity(surface).removeprefix("train "), "font": {"size": 12}},
                  "tickvals": s["ticks"][::every],
                  "ticktext": s["texts"][::every]},
        "aspectmode": "manual", "aspectratio": {"x": 1.1, "y": 1.1, "z": 0.6},
        "camera": _camera(z),
    }  # fmt: skip


def _camera(z: Array) -> dict[str, dict[str, float]]:
    """Look from the side where the surface is low, so that no ridge hides the valley, and a little to its left: there
    stands the title of the height."""
    filled = np.where(np.isfinite(z), z, np.nanmax(z) if np.isfinite(z).any() else 0.0)
    rows, columns = (n // 2 for n in z.shape)
    right = filled[:, -columns:].mean() <= filled[:, :columns].mean() if columns else True
    back = filled[-rows:].mean() < filled[:rows].mean() if rows else False
    x, y = 1.66 if right else -1.66, 1.84 if back else -1.84
    return {"eye": {"x": x, "y": y, "z": 1.42}, "center": {"x": 0.03 * y, "y": -0.03 * x, "z": -0.14}}


def marker(
    surface: records.Surface, trajectory: records.Trajectory | None, selected: int
) -> dict[str, list[float | None]]:
    """The selected checkpoint on the surface; nothing where it lies outside the plane's grid."""
    if trajectory is None or not 0 <= selected < len(trajectory.steps):
        return {"x": [], "y": [], "z": []}
    z, log = heights(surface)
    s = scale(z, log)
    u, v = trajectory.u[selected : selected + 1], trajectory.v[selected : selected + 1]
    height = float(interpolated(surface, z, u, v)[0]) + 3 * LIFT * (s["high"] - s["low"])
    return {"x": [float(u[0])], "y": [float(v[0])], "z": [height if np.isfinite(height) else None]}


def move(surface: records.Surface, trajectory: records.Trajectory | None, selected: int) -> Patch:
    """Another step moves the last trace, the marker."""
    patch = Patch()
    for name, value in marker(surface, trajectory, selected).items():
        patch["data"][2 if trajectory is not None else 1][name] = value
    return patch
