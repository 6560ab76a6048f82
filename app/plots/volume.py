"""Loss in three directions: isosurfaces of log10 loss with the path of training, and one slice as contours."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from landscape import records

from ..axes import linear_axis
from ..style import MARKER, colour
from ..style import figure as empty_figure
from .surface import heights, quantity, scale

Array = NDArray[np.float64]
AXES = ("u", "v", "w")
MOST = 32_000  # points of the grid that are sent for isosurfaces: at most 0.7 MB of them
SURFACES = 5


def figure(
    volume: records.Volume, *, axis: int = 2, index: int = 0, theme: str = "light", height: int = 620
) -> go.Figure:
    """Isosurfaces of the low part of the loss, the checkpoints' projections, and the frame of a slice."""
    fig = empty_figure(theme, height, margin={"l": 0, "r": 76, "t": 0, "b": 0})
    z, log = heights(volume)
    s = scale(z, log)
    grids, values = _thinned(volume, z)
    w, v, u = (g.ravel().astype(np.float32) for g in np.meshgrid(grids[2], grids[1], grids[0], indexing="ij"))
    low, high = levels(z, upper=quantity(volume).endswith("accuracy"))
    fig.add_isosurface(
        x=u, y=v, z=w, value=np.where(np.isfinite(values), values, s["high"] + 1).ravel().astype(np.float32),
        isomin=low, isomax=high, surface={"count": SURFACES}, opacity=0.35, colorscale="Viridis",
        cmin=s["low"], cmax=s["high"], caps={a: {"show": False} for a in ("x", "y", "z")}, hoverinfo="skip",
        lighting={"ambient": 0.8, "diffuse": 0.45, "specular": 0.03, "roughness": 0.95},
        colorbar=_bar(volume, s, x=1.01, len=0.7),
    )  # fmt: skip
    fig.add_scatter3d(
        x=volume.path[:, 0], y=volume.path[:, 1], z=volume.path[:, 2], mode="lines+markers",
        line={"color": MARKER, "width": 6}, marker={"size": 2.5, "color": MARKER}, hoverinfo="text",
        text=[_words(volume, i) for i in range(len(volume.steps))],
    )  # fmt: skip
    fig.add_scatter3d(
        **frame(volume, axis, index), mode="lines", line={"color": colour(theme, "text"), "width": 4}, hoverinfo="skip"
    )
    style = {
        "gridcolor": colour(theme, "grid"), "linecolor": colour(theme, "axis"), "showbackground": False,
        "zeroline": False, "tickfont": {"size": 10}, "showspikes": False, "nticks": 5,
    }  # fmt: skip
    fig.update_layout(
        scene={
            **{f"{name}axis": {**style, "range": [float(g[0]), float(g[-1])],
                               "title": {"text": short(label), "font": {"size": 12}}}
               for name, g, label in zip("xyz", (volume.u, volume.v, volume.w), volume.labels, strict=True)},
            "domain": {"x": [0, 0.93], "y": [0, 1]},  # apart from the colour bar
            "aspectmode": "cube",
            "camera": {"eye": {"x": 1.95, "y": 1.95, "z": 1.15}, "center": {"x": 0, "y": 0, "z": -0.1}},
        }
    )  # fmt: skip
    return fig


def short(label: str) -> str:
    """An axis' name without its numbers: long labels are clipped in space."""
    return label.partition(" (")[0].partition(",")[0].replace("principal component", "PC")


def levels(z: Array, *, upper: bool = False) -> tuple[float, float]:
    """The least and the largest level that is drawn: the better half, where training goes on."""
    finite = z[np.isfinite(z)]
    if not len(finite):
        return 0.0, 1.0
    first, last = (float(q) for q in np.quantile(finite, (0.5, 0.97) if upper else (0.03, 0.5)))
    return (first, last) if last > first else (first, first + 1.0)


def _thinned(volume: records.Volume, z: Array) -> tuple[list[Array], Array]:
    """Axes (u, v, w) and values (slab, row, column) of at most `MOST` points: every axis keeps its ends."""
    most = int(MOST ** (1 / 3))
    keep = [
        np.unique(np.round(np.linspace(0, len(g) - 1, min(len(g), most))).astype(int))
        for g in (volume.u, volume.v, volume.w)
    ]
    return [g[k] for g, k in zip((volume.u, volume.v, volume.w), keep, strict=True)], z[np.ix_(*keep[::-1])]


def _bar(volume: records.Volume, s: dict[str, Any], **where: Any) -> dict[str, Any]:
    title = {"text": quantity(volume), "side": "right", "font": {"size": 11}}
    return {
        "title": title, "tickfont": {"size": 11}, "tickvals": s["ticks"], "ticktext": s["texts"], "thickness": 11,
        "outlinewidth": 0, "ticks": "", **where,
    }  # fmt: skip


def _words(volume: records.Volume, i: int) -> str:
    return (
        f"step {volume.steps[i]:,}: loss {volume.path_loss[i]:.4g}, in the volume {volume.volume_loss[i]:.4g}<br>"
        f"{volume.off_volume[i]:.3g} outside of it"
    )


def frame(volume: records.Volume, axis: int, index: int) -> dict[str, list[float]]:
    """The border of a slice, a closed line in space."""
    grids = [volume.u, volume.v, volume.w]
    first, second = (a for a in range(3) if a != axis)
    corners = [(0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0)]
    found: dict[int, list[float]] = {axis: [float(grids[axis][index])] * 5}
    found[first] = [float(grids[first][a]) for a, _b in corners]
    found[second] = [float(grids[second][b]) for _a, b in corners]
    return {name: found[i] for i, name in enumerate("xyz")}


def move(volume: records.Volume, axis: int, index: int) -> Patch:
    """Another slice moves the last trace, the frame."""
    patch = Patch()
    for name, value in frame(volume, axis, index).items():
        patch["data"][2][name] = value
    return patch


# ------------------------------------------------------------------ one slice


def slice_figure(
    volume: records.Volume, *, axis: int = 2, index: int = 0, theme: str = "light", height: int = 620
) -> go.Figure:
    """Contours of the slice's log10 loss, in the colours of the whole volume, and the checkpoints near it."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 66, "r": 76, "t": 14, "b": 46})
    z, log = heights(volume)
    s = scale(z, log)
    across, down = (a for a in range(3) if a != axis)
    grids = (volume.u, volume.v, volume.w)
    size = (s["high"] - s["low"]) / 24
    fig.add_contour(
        x=grids[across], y=grids[down], z=_slice(z, axis, index), colorscale="Viridis", zmin=s["low"], zmax=s["high"],
        contours={"start": s["low"], "end": s["high"], "size": size},
        line={"width": 0.6, "color": "rgba(255,255,255,0.45)"}, connectgaps=False,
        text=_losses(volume, axis, index), hovertemplate="%{x:.3g}, %{y:.3g}: %{text}<extra></extra>",
        colorbar=_bar(volume, s, x=1.01, xpad=4),
    )  # fmt: skip
    fig.add_scatter(
        x=volume.path[:, across], y=volume.path[:, down], mode="lines+markers", line={"color": MARKER, "width": 1.2},
        marker=_markers(volume, axis, index), hovertemplate="%{text}<extra></extra>",
        text=[_words(volume, i) for i in range(len(volume.steps))],
    )  # fmt: skip
    for name, a in (("xaxis", across), ("yaxis", down)):
        fig.layout[name] = {
            **linear_axis(grids[a]), "range": [float(grids[a][0]), float(grids[a][-1])],
            "title": {"text": volume.labels[a].replace("principal component", "PC")}, "showgrid": False,
        }  # fmt: skip
    return fig


def _slice(values: Array, axis: int, index: int) -> NDArray[np.float32]:
    """Values of slice `index` of an axis (0: u, 1: v, 2: w), rows downwards, columns across."""
    found: NDArray[np.float32] = np.take(values, index, axis=2 - axis).astype(np.float32)
    return found


def _losses(volume: records.Volume, axis: int, index: int) -> list[list[str]]:
    return [[f"{x:.4g}" for x in row] for row in _slice(volume.loss, axis, index)]


def _markers(volume: records.Volume, axis: int, index: int) -> dict[str, Any]:
    """Filled where a checkpoint lies within half a spacing of the slice, else small."""
    grid = (volume.u, volume.v, volume.w)[axis]
    half = 0.5 * float(grid[1] - grid[0]) if len(grid) > 1 else 0.0
    near = np.abs(volume.path[:, axis] - grid[index]) <= half
    return {
        "size": [9 if n else 4 for n in near], "color": ["white" if n else MARKER for n in near],
        "line": {"color": MARKER, "width": [2.5 if n else 0 for n in near]},
    }  # fmt: skip


def slice_move(volume: records.Volume, axis: int, index: int) -> Patch:
    """Another slice exchanges losses and markers."""
    patch = Patch()
    z, _log = heights(volume)
    patch["data"][0]["z"] = _slice(z, axis, index)
    patch["data"][0]["text"] = _losses(volume, axis, index)
    patch["data"][1]["marker"] = _markers(volume, axis, index)
    return patch
