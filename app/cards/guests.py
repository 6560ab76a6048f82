"""What joins a surface that is drawn already: other runs' trajectories, the minima it goes through, the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from landscape import records
from landscape.readings import shares

from ..plots import relief
from ..plots.surface import heights, scale
from ..style import colour

COLOURS = ("#FF9BD2", "#111418", "#FF4B3E", "#FFD23F")  # beside the run's own white, on every shade of Viridis
DASHES = ("solid", "dash", "dot", "dashdot")


def add(fig: go.Figure, surface: records.Surface, guests: Sequence[records.Guest], own: str, theme: str) -> None:
    """Names in a legend, one line a run; the figure's own traces keep their places and stay on top."""
    if guests:
        for trace in fig.data[1:]:
            trace.update(zorder=5, showlegend=False)
        fig.data[-1].zorder = 9  # the marker
        fig.data[-2].update(name=own, showlegend=True)
        fig.update_layout(
            showlegend=True, margin={"t": 34},
            legend={"bgcolor": "rgba(110,118,129,0.55)", "font": {"color": "white"}, "y": 1.01, "x": 0},
        )  # fmt: skip
    for i, guest in enumerate(guests):
        line = {"color": COLOURS[i % len(COLOURS)], "dash": DASHES[i // len(COLOURS) % len(DASHES)], "width": 2.4}
        texts = [
            f"{guest.run}, step {step:,}<br>loss {true:.4g}, on the plane {flat:.4g}<br>{off:.3g} off the plane"
            for step, true, flat, off in zip(
                guest.steps, guest.loss, guest.surface_loss, guest.off_plane, strict=True
            )
        ]  # fmt: skip
        fig.add_scatter(
            x=guest.u, y=guest.v, text=texts, name=guest.run, mode="lines+markers", line=line,
            marker={"size": 5 if len(guest.steps) <= 250 else 3}, hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    _add_corners(fig, surface, theme)


def _add_corners(fig: go.Figure, surface: records.Surface, theme: str) -> None:
    corners = surface.meta.get("corners")
    if not isinstance(corners, list):
        return
    names, u, v = zip(*corners, strict=True)
    fig.add_scatter(
        x=list(u), y=list(v), text=list(names), mode="markers+text", textposition="top center", hoverinfo="skip",
        showlegend=False, textfont={"color": "white", "size": 12},
        marker={"symbol": "x", "size": 10, "color": "white", "line": {"color": colour(theme, "axis"), "width": 1}},
        zorder=8,
    )  # fmt: skip


def add_raised(fig: go.Figure, surface: records.Surface, guests: Sequence[records.Guest], own: str) -> None:
    """The same in space, laid on the surface."""
    z, log = heights(surface)
    s = scale(z, log)
    if guests:
        for trace in fig.data:
            trace.showlegend = False
        fig.data[1].update(name=own, showlegend=True)
        fig.update_layout(showlegend=True, legend={"x": 0.01, "y": 0.99, "yanchor": "top"})
    for i, guest in enumerate(guests):
        shade = COLOURS[i % len(COLOURS)]
        fig.add_scatter3d(
            **relief.line(surface, z, s, guest), mode="lines", name=guest.run, hoverinfo="skip",
            line={"color": shade, "width": 5},
        )  # fmt: skip


def downhill(
    surface: records.Surface, trajectory: records.Trajectory | None, selected: int
) -> tuple[float, float] | None:
    """Where an arrow from the selected checkpoint along the negative gradient ends; None without gradients.

    The direction is that of the projected gradient; the length is its share in the plane, of a seventh of the picture.
    """
    if trajectory is None or trajectory.gradient_u is None or trajectory.gradient_v is None:
        return None
    found = shares.gradient_share(trajectory)
    if found is None or not 0 <= selected < len(found) or not np.isfinite(found[selected]):
        return None
    down = -np.array([trajectory.gradient_u[selected], trajectory.gradient_v[selected]])
    widest = float(np.max(np.abs(down) / [np.ptp(surface.u), np.ptp(surface.v)]))
    if not widest > 0:
        return None
    tail = np.array([trajectory.u[selected], trajectory.v[selected]])
    tip = tail + down * (float(found[selected]) / 7 / widest)
    return float(tip[0]), float(tip[1])
