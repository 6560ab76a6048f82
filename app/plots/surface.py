"""Loss on a plane as filled contours of log10 loss, with the projected trajectory and the selected step."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from landscape import records

from ..axes import log_ticks, nice_ticks
from ..style import MARKER, colour
from ..style import figure as empty_figure

Array = NDArray[np.float64]
LEVELS = 24


def quantity(surface: records.Surface | records.Volume) -> str:
    """What the heights are: 'train loss', or what `surfaces.showing` put in its place."""
    return str(surface.meta.get("shown", "train loss"))


def heights(surface: records.Surface | records.Volume) -> tuple[Array, bool]:
    """log10 of a positive loss, else the loss or the fraction itself, and which of the two it is."""
    loss = surface.loss
    finite = loss[np.isfinite(loss)]
    log = bool(len(finite)) and bool(finite.min() > 0) and not quantity(surface).endswith("accuracy")
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.log10(loss) if log else loss), log


def scale(z: Array, log: bool) -> dict[str, Any]:
    """Colour range and ticks (in loss) shared by the flat and the raised picture."""
    finite = z[np.isfinite(z)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    values, texts = log_ticks(low, high, 6) if log else ([float(v) for v in nice_ticks(low, high)], None)
    places = [float(np.log10(v)) for v in values] if log else values
    return {"low": low, "high": high, "ticks": places, "texts": texts or [f"{v:g}" for v in values]}


def figure(
    surface: records.Surface,
    trajectory: records.Trajectory | None = None,
    *,
    selected: int = -1,
    tip: tuple[float, float] | None = None,
    square: bool = False,
    points: bool = False,
    theme: str = "light",
    height: int = 300,
) -> go.Figure:
    """`selected` is the marked checkpoint's place in the trajectory (-1: none), `tip` where an arrow from it ends.

    `points` shows what was measured.
    """
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 58, "r": 92, "t": 10, "b": 46})
    z, log = heights(surface)
    s = scale(z, log)
    fig.add_contour(
        x=surface.u,
        y=surface.v,
        z=z.astype(np.float32),
        colorscale="Viridis",
        zmin=s["low"],
        zmax=s["high"],
        contours={"start": s["low"], "end": s["high"], "size": (s["high"] - s["low"]) / LEVELS},
        line={"color": "rgba(255,255,255,0.45)", "width": 0.6},
        hoverinfo="skip",
        connectgaps=False,
        colorbar={
            "tickvals": s["ticks"],
            "ticktext": s["texts"],
            "title": {"text": quantity(surface), "side": "right", "font": {"size": 11}},
            "thickness": 11,
            "outlinewidth": 0,
            "ticks": "",
            "x": 1.01,
            "tickfont": {"size": 11},
        },
    )
    if trajectory is not None:
        _add_path(fig, trajectory)
    fig.add_scatter(
        **marker(trajectory, selected, tip),
        mode="lines+markers",
        hoverinfo="skip",
        line={"color": "white", "width": 2.2},
        marker={
            "symbol": ["circle", "circle", "arrow"],
            "angleref": "previous",
            "opacity": 1,  # sizes of their own would make it faint
            "size": [13, 13, 12],
            "color": [MARKER, MARKER, "white"],
            "line": {"color": "white", "width": [2.2, 2.2, 0]},
        },
    )
    if points:
        _add_points(fig, surface)
    axes: dict[str, Any] = {"zeroline": False, "showgrid": False, "constrain": "domain"}
    fig.update_layout(
        xaxis={**axes, "range": _ends(surface.u), "title": {"text": surface.labels[0] if surface.labels else "u"}},
        yaxis={
            **axes,
            "range": _ends(surface.v),
            "title": {"text": surface.labels[1] if len(surface.labels) > 1 else "v"},
            **({"scaleanchor": "x"} if square and one_scale(surface) else {}),
        },
        plot_bgcolor=colour(theme, "grid"),
    )
    return fig


def _add_path(fig: go.Figure, trajectory: records.Trajectory) -> None:
    few = len(trajectory.steps) <= 250
    texts = [
        f"step {step:,}<br>loss {true:.4g}, on the plane {flat:.4g}<br>{off:.3g} off the plane"
        for step, true, flat, off in zip(
            trajectory.steps, trajectory.loss, trajectory.surface_loss, trajectory.off_plane, strict=True
        )
    ]
    fig.add_scatter(
        x=trajectory.u, y=trajectory.v, mode="lines", line={"color": "rgba(0,0,0,0.35)", "width": 4.6}, hoverinfo="skip"
    )
    fig.add_scatter(
        x=trajectory.u,
        y=trajectory.v,
        customdata=trajectory.steps,
        text=texts,
        mode="lines+markers",
        line={"color": "white", "width": 2.4},
        marker={"color": "white", "size": 5.5 if few else 3},
        hovertemplate="%{text}<extra></extra>",
    )


def _add_points(fig: go.Figure, surface: records.Surface) -> None:
    """The points that were measured; between them the surface is interpolated."""
    rows, columns = np.nonzero(np.ones_like(surface.loss) if surface.measured is None else surface.measured)
    fig.add_scatter(
        x=surface.u[columns], y=surface.v[rows], mode="markers", hoverinfo="skip",
        marker={"size": 2.5, "color": "rgba(255,255,255,0.75)"},
    )  # fmt: skip


def marker(
    trajectory: records.Trajectory | None, selected: int, tip: tuple[float, float] | None = None
) -> dict[str, list[float]]:
    """The selected checkpoint, twice (plotly omits the first where markers have directions), and the arrow's end."""
    if trajectory is None or not 0 <= selected < len(trajectory.steps):
        return {"x": [], "y": []}
    here = float(trajectory.u[selected]), float(trajectory.v[selected])
    points = [here, here, *([tip] if tip else [])]
    return {"x": [u for u, _v in points], "y": [v for _u, v in points]}


def move(trajectory: records.Trajectory | None, selected: int, tip: tuple[float, float] | None = None) -> Patch:
    """Another step moves the last trace, the marker with its arrow, and nothing else."""
    patch = Patch()
    place = 3 if trajectory is not None else 1
    for name, value in marker(trajectory, selected, tip).items():
        patch["data"][place][name] = value
    return patch


def one_scale(surface: records.Surface) -> bool:
    """Whether both axes can have one scale without leaving most of the card empty."""
    wide, tall = float(np.ptp(surface.u)), float(np.ptp(surface.v))
    return min(wide, tall) > 0.45 * max(wide, tall)


def interpolated(surface: records.Surface, z: Array, u: Array, v: Array) -> Array:
    """Heights at points of the plane, bilinear between the grid's; NaN outside it."""
    x = np.interp(u, surface.u, np.arange(len(surface.u)), left=np.nan, right=np.nan)
    y = np.interp(v, surface.v, np.arange(len(surface.v)), left=np.nan, right=np.nan)
    inside = np.isfinite(x) & np.isfinite(y)
    j = np.clip(np.nan_to_num(x).astype(int), 0, len(surface.u) - 2)
    i = np.clip(np.nan_to_num(y).astype(int), 0, len(surface.v) - 2)
    a, b = np.nan_to_num(x) - j, np.nan_to_num(y) - i
    low = z[i, j] * (1 - a) + z[i, j + 1] * a
    high = z[i + 1, j] * (1 - a) + z[i + 1, j + 1] * a
    return np.where(inside, low * (1 - b) + high * b, np.nan)


def _ends(values: Array) -> list[float]:
    return [float(values.min()), float(values.max())]
