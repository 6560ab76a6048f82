"""Loss, sharpness with its stability threshold, and negative curvature against the step: stacked, one x axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ..axes import linear_axis, log_axis, log_range, step_axis, step_position
from ..facts import Curvature
from ..numbers import number
from ..style import colour, cursor, note, thin
from ..style import (
    figure as empty_figure,
)

Array = NDArray[np.float64]


def figure(
    steps: Array,
    loss: Array,
    curvature: Sequence[Curvature],
    *,
    measured: Mapping[str, tuple[Array, Array]] | None = None,
    threshold: Array | None = None,
    label: str = "",
    selected: float = 0.0,
    log: bool = False,
    theme: str = "light",
    height: int = 300,
) -> go.Figure:
    """Panels of loss (steps,), sharpness and negative share; `threshold` has one value an entry of `curvature`.

    `measured` holds (steps, losses) over all data, by name; then `loss` is of mini-batches and drawn faintly.
    """
    panels = 3 if len(curvature) else 1
    gap = 0.075
    share = (1 - gap * (panels - 1)) / panels
    domains = [(1 - (k + 1) * share - k * gap, 1 - k * (share + gap)) for k in range(panels)]
    all_steps = np.concatenate([steps, [c.step for c in curvature], *(pair[0] for pair in (measured or {}).values())])
    fig = empty_figure(theme, height, hovermode="x", margin={"l": 66, "r": 16, "t": 10, "b": 44})
    axis = step_axis(all_steps, log)
    fig.update_layout(xaxis={**axis, "anchor": f"y{panels if panels > 1 else ''}"})
    _loss_panel(fig, steps, loss, measured or {}, domains[0], log, theme)
    if panels == 3:
        _sharpness_panel(fig, curvature, threshold, label, domains[1], log, theme)
        _negative_panel(fig, curvature, domains[2], log, theme)
        for domain in domains[:2]:  # each panel closes with its own axis line
            fig.add_shape(
                type="line",
                xref="paper",
                yref="paper",
                x0=0,
                x1=1,
                y0=domain[0],
                y1=domain[0],
                line={"color": colour(theme, "axis"), "width": 1},
            )
    line = cursor(float(step_position([selected], log)[0]), colour(theme, "cursor"))
    fig.layout.shapes = (line, *fig.layout.shapes)
    return fig


def _panel(title: str, domain: tuple[float, float], **axis: Any) -> dict[str, Any]:
    return {"domain": list(domain), "title": {"text": title}, "anchor": "x", **axis}


def _loss_panel(
    fig: go.Figure, steps: Array, loss: Array, measured: Mapping[str, tuple[Array, Array]],
    domain: tuple[float, float], log: bool, theme: str,
) -> None:  # fmt: skip
    x, y = thin(steps, loss)
    everything = [y, *(pair[1] for pair in measured.values())]
    positive = all(bool(np.all(v[np.isfinite(v)] > 0)) for v in everything)
    axis = log_axis(*log_range(*everything), 5) if positive else linear_axis(*everything)
    fig.add_scatter(
        x=step_position(x, log), y=y, customdata=x, mode="lines", name="loss", opacity=0.4 if measured else 1,
        line={"color": colour(theme, "blue"), "width": 1 if measured else 1.7},
        hovertemplate="step %{customdata:,}: loss %{y:.4g}<extra></extra>",
    )  # fmt: skip
    for name, (at, values) in measured.items():
        test = name.startswith("test")
        fig.add_scatter(
            x=step_position(at, log), y=values, customdata=at, mode="lines+markers", name=name, marker={"size": 3.5},
            line={"color": colour(theme, "pink" if test else "blue"), "width": 1.7, "dash": ("solid", "dash")[test]},
            hovertemplate=f"step %{{customdata:,}}: {name} %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(yaxis=_panel("loss", domain, **axis))
    lost = steps[~np.isfinite(loss)]
    if len(lost):
        fig.add_annotation(
            x=step_position(lost[:1], log)[0],
            y=1,
            yref="y domain",
            text=f"loss is not finite at {lost[0]:,.0f}",
            showarrow=False,
            yanchor="top",
            xanchor="left",
            font={"color": colour(theme, "orange"), "size": 11},
        )


def _sharpness_panel(
    fig: go.Figure,
    curvature: Sequence[Curvature],
    threshold: Array | None,
    label: str,
    domain: tuple[float, float],
    log: bool,
    theme: str,
) -> None:
    x = np.array([c.step for c in curvature])
    y = np.array([c.sharpness for c in curvature])
    error = np.nan_to_num(np.array([c.sharpness_error for c in curvature]))
    shown = threshold if threshold is not None and _near(threshold, y) else None
    axis = linear_axis(y - error, y + error, *(() if shown is None else (shown,)))
    fig.add_scatter(
        x=step_position(x, log),
        y=y,
        customdata=x,
        yaxis="y2",
        mode="lines+markers",
        name="sharpness",
        line={"color": colour(theme, "orange"), "width": 1.7},
        marker={"size": 3.5},
        error_y={"array": error, "visible": bool(np.any(error > 0.01 * np.abs(y))), "width": 2, "thickness": 1},
        text=[f" ± {e:.2g}" if e > 1e-3 * abs(v) else "" for v, e in zip(y, error, strict=True)],
        hovertemplate="step %{customdata:,}: λmax %{y:.4g}%{text}<extra></extra>",
    )
    fig.update_layout(yaxis2=_panel("λ<sub>max</sub>", domain, **axis))
    if shown is not None:
        fig.add_scatter(
            x=step_position(x, log),
            y=shown,
            yaxis="y2",
            mode="lines",
            hoverinfo="skip",
            line={"color": colour(theme, "muted"), "width": 1.4, "dash": "dash"},
        )
    if label:
        above = shown is not None and shown[-1] > np.nanmedian(y)
        text = label if shown is not None or threshold is None else f"{label}: above this panel"
        place = (
            {"y": shown[-1], "yref": "y2", "yanchor": "top" if above else "bottom"}
            if shown is not None
            else {"y": 1, "yref": "y2 domain", "yanchor": "top"}
        )
        fig.add_annotation(
            note(text, theme, x=1, xanchor="right", **place) | {"font": {"size": 11, "color": colour(theme, "text")}}
        )


def _near(threshold: Array, sharpness: Array) -> bool:
    """A threshold far above every value would only flatten the curve: then it is named, not drawn."""
    finite = sharpness[np.isfinite(sharpness)]
    return bool(len(finite)) and bool(np.min(threshold) < 3 * np.max(finite))


def _negative_panel(
    fig: go.Figure, curvature: Sequence[Curvature], domain: tuple[float, float], log: bool, theme: str
) -> None:
    x = np.array([c.step for c in curvature])
    y = 100 * np.array([c.negative for c in curvature])
    positive = y[np.isfinite(y) & (y > 0)]
    use_log = len(positive) > 0 and positive.max() / positive.min() > 30
    low, high = log_range(positive)
    shown = np.where(np.isfinite(y), np.maximum(y, 10.0**low), np.nan) if use_log else y  # zero lies on the axis
    axis = log_axis(low, high, 4) if use_log else linear_axis(y, zero=True)
    tau = max((c.tau for c in curvature), default=1e-3)
    fig.add_scatter(
        x=step_position(x, log),
        y=shown,
        customdata=x,
        text=[f"{v:.2g} % ({c.negative_percent})" for v, c in zip(y, curvature, strict=True)],
        yaxis="y3",
        mode="lines+markers",
        name="negative",
        line={"color": colour(theme, "green"), "width": 1.7},
        marker={"size": 3.5},
        hovertemplate="step %{customdata:,}: %{text} below −" + number(tau, 1) + "<extra></extra>",
    )
    fig.update_layout(yaxis3=_panel("negative, %", domain, **axis))
