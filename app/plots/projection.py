"""What projecting hides: true loss against loss on the plane, distance from the plane, shares that the plane holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape import records
from landscape.readings import shares

from ..axes import linear_axis, log_axis, log_range, step_axis, step_position
from ..style import colour, cursor
from ..style import figure as empty_figure

LOW = 0.62  # where the losses' panel ends


def figure(
    trajectory: records.Trajectory, *, selected: float = 0.0, log: bool = False, theme: str = "light", height: int = 306
) -> go.Figure:
    fig = empty_figure(
        theme, height, hovermode="x", showlegend=True, margin={"l": 66, "r": 16, "t": 34, "b": 44}, legend={"y": 1.005}
    )
    x = step_position(trajectory.steps, log)
    positive = bool(np.nanmin(np.minimum(trajectory.loss, trajectory.surface_loss)) > 0)
    pairs: tuple[tuple[str, Any, str, str, dict[str, Any]], ...] = (
        ("true loss", trajectory.loss, "blue", "lines", {}),
        ("loss on the plane", trajectory.surface_loss, "orange", "markers", {"symbol": "circle-open"}),
    )
    for name, y, shade, mode, extra in pairs:
        fig.add_scatter(
            x=x,
            y=y,
            customdata=trajectory.steps,
            mode=mode,
            name=name,
            line={"color": colour(theme, shade), "width": 1.7},
            marker={"color": colour(theme, shade), "size": 6, **extra},
            hovertemplate=f"step %{{customdata:,}}: {name} %{{y:.4g}}<extra></extra>",
        )
    for name, y, shade, dash in (
        ("distance from the plane", trajectory.off_plane, "green", "solid"),
        ("distance from its origin", trajectory.distance, "muted", "dot"),
    ):
        fig.add_scatter(
            x=x,
            y=y,
            customdata=trajectory.steps,
            mode="lines",
            name=name,
            yaxis="y2",
            line={"color": colour(theme, shade), "width": 1.7, "dash": dash},
            hovertemplate=f"step %{{customdata:,}}: {name} %{{y:.4g}}<extra></extra>",
        )
    for name, share, shade in (
        ("squared distance in the plane", shares.captured(trajectory), "blue"),
        ("gradient in the plane", shares.gradient_share(trajectory), "pink"),
    ):
        if share is not None:
            known = np.isfinite(share)  # the origin has no distance to share
            fig.add_scatter(
                x=np.asarray(x)[known], y=100 * share[known], customdata=trajectory.steps[known], mode="lines",
                name=name, yaxis="y3",
                line={"color": colour(theme, shade), "width": 1.7, "dash": "dash" if shade == "blue" else "solid"},
                hovertemplate=f"step %{{customdata:,}}: %{{y:.3g}} % of the {name}<extra></extra>",
            )  # fmt: skip
    losses = (trajectory.loss, trajectory.surface_loss)
    fig.update_layout(
        xaxis={**step_axis(trajectory.steps, log), "anchor": "y3"},
        yaxis={
            **(log_axis(*log_range(*losses), 5) if positive else linear_axis(*losses)),
            "domain": [LOW, 1],
            "title": {"text": "train loss"},
        },
        yaxis2={
            **linear_axis(trajectory.off_plane, trajectory.distance, zero=True),
            "domain": [0.31, 0.56],
            "anchor": "x",
            "title": {"text": "distance,<br>units of weight", "font": {"size": 11}},
        },
        yaxis3={"range": [-4, 104], "tickvals": [0, 50, 100], "domain": [0, 0.25], "anchor": "x",
                "title": {"text": "share, %"}},
        shapes=[
            cursor(float(step_position([selected], log)[0]), colour(theme, "cursor")),
            *(
                {
                    "type": "line", "xref": "paper", "yref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y,
                    "line": {"color": colour(theme, "axis"), "width": 1},
                }
                for y in (LOW, 0.31)
            ),
        ],
    )  # fmt: skip
    return fig
