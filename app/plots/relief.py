"""The same surface raised: log10 loss as height, white iso-lines, the trajectory on it. One a page."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from dash import Patch

from landscape import records

from ..style import MARKER, colour
from ..style import figure as empty_figure
from .surface import heights, scale


def figure(
    surface: records.Surface,
    trajectory: records.Trajectory | None = None,
    *,
    selected: int = -1,
    theme: str = "light",
    height: int = 620,
) -> go.Figure:
    fig = empty_figure(theme, height, margin={"l": 0, "r": 76, "t": 0, "b": 0})
    z, log = heights(surface.loss)
    s = scale(z, log)
    step = (s["high"] - s["low"]) / 12
    fig.add_surface(
        x=surface.u,
        y=surface.v,
        z=z.astype(np.float32),
        colorscale="Viridis",
        cmin=s["low"],
        cmax=s["high"],
        hoverinfo="skip",
        contours={
            "z": {
                "show": True,
                "start": s["low"],
                "end": s["high"],
                "size": step,
                "color": "rgba(255,255,255,0.75)",
                "width": 1.5,
            }
        },
        lighting={"ambient": 0.75, "diffuse": 0.55, "specular": 0.05, "roughness": 0.9},
        colorbar={
            "tickvals": s["ticks"],
            "ticktext": s["texts"],
            "title": {"text": "train loss", "side": "right", "font": {"size": 11}},
            "thickness": 11,
            "outlinewidth": 0,
            "len": 0.7,
            "x": 1.0,
            "tickfont": {"size": 11},
        },
    )
    lift = 0.012 * (s["high"] - s["low"])  # so that the line is not cut by the facets under it
    if trajectory is not None:
        path, _log = heights(trajectory.surface_loss)
        fig.add_scatter3d(
            x=trajectory.u,
            y=trajectory.v,
            z=path + lift,
            customdata=trajectory.steps,
            mode="lines",
            line={"color": MARKER, "width": 6},
            hovertemplate="step %{customdata:,}<extra></extra>",
        )
    fig.add_scatter3d(
        **marker(trajectory, selected, lift),
        mode="markers",
        hoverinfo="skip",
        marker={"size": 6, "color": "white", "line": {"color": MARKER, "width": 3}},
    )
    axis = {
        "gridcolor": colour(theme, "grid"),
        "linecolor": colour(theme, "axis"),
        "showbackground": False,
        "zeroline": False,
        "tickfont": {"size": 10},
        "showspikes": False,
    }
    three = s["ticks"][:: max(1, -(-len(s["ticks"]) // 3))]
    texts = s["texts"][:: max(1, -(-len(s["ticks"]) // 3))]
    fig.update_layout(
        scene={
            "xaxis": {
                **axis,
                "title": {"text": surface.labels[0] if surface.labels else "u", "font": {"size": 12}},
                "nticks": 5,
            },
            "yaxis": {
                **axis,
                "title": {"text": surface.labels[1] if len(surface.labels) > 1 else "v", "font": {"size": 12}},
                "nticks": 5,
            },
            "zaxis": {**axis, "title": {"text": "loss", "font": {"size": 12}}, "tickvals": three, "ticktext": texts},
            "aspectmode": "manual",
            "aspectratio": {"x": 1.15, "y": 1.15, "z": 0.6},
            "camera": {"eye": {"x": 1.2, "y": -1.35, "z": 0.85}, "center": {"x": 0, "y": 0, "z": -0.12}},
        }
    )
    return fig


def marker(trajectory: records.Trajectory | None, selected: int, lift: float) -> dict[str, list[float]]:
    if trajectory is None or not 0 <= selected < len(trajectory.steps):
        return {"x": [], "y": [], "z": []}
    z, _log = heights(trajectory.surface_loss)
    return {
        "x": [float(trajectory.u[selected])],
        "y": [float(trajectory.v[selected])],
        "z": [float(z[selected]) + lift],
    }


def move(surface: records.Surface, trajectory: records.Trajectory | None, selected: int) -> Patch:
    s = scale(*heights(surface.loss))
    patch = Patch()
    place = 2 if trajectory is not None else 1
    for name, value in marker(trajectory, selected, 0.012 * (s["high"] - s["low"])).items():
        patch["data"][place][name] = value
    return patch
