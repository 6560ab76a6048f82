"""Eigenvalues as curves through training: eigenpairs matched by their vectors, and how well each match holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from landscape.readings import quadrature
from landscape.readings.following import Following

from ..axes import asinh_axis, log_axis, log_range, step_axis, step_position
from ..style import colour, cursor
from ..style import figure as empty_figure

Array = NDArray[np.float64]
MOST = 60  # curves; the shortest of more branches are drawn as points
_HUES = ("blue", "orange", "green", "pink", "brown")
_DASHES = ("solid", "dot", "dash")


def figure(
    found: Following, *, selected: float = 0.0, log: bool = False, theme: str = "light", height: int = 560
) -> go.Figure:
    """Panels of the largest and the smallest eigenvalues, a line for each branch, open markers where eigenvalues are
    not told apart; below, overlaps with the step before."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 66, "r": 16, "t": 14, "b": 44})
    x = step_position(found.steps, log)
    low = found.lowest()
    panels = [p for p in ((~low, "y", "largest λ"), (low, "y3", "smallest λ")) if p[0].any()]
    lengths = (found.rows >= 0).sum(axis=1)
    longest = set(np.argsort(-lengths, kind="stable")[:MOST].tolist()) & set(np.flatnonzero(lengths > 1).tolist())
    for (inside, axis, title), domain in zip(panels, _domains(len(panels)), strict=True):
        place, layout = _scale(found.values[inside])
        branches = np.flatnonzero(inside).tolist()
        for number, branch in enumerate(b for b in branches if b in longest):
            _curve(fig, found, x, branch, _style(number, theme), y=place(found.values[branch]), yaxis=axis)
        _points(fig, found, x, [b for b in branches if b not in longest], theme, place, axis)
        layout |= {"domain": domain, "title": {"text": title}, "anchor": "x"}
        fig.layout[axis.replace("y", "yaxis")] = layout
    _overlaps(fig, found, x, theme)
    fig.update_layout(
        xaxis={**step_axis(found.steps, log), "anchor": "y2"},
        yaxis2={"domain": [0, 0.2], "range": [-0.04, 1.04], "nticks": 3, "title": {"text": "overlap"}, "anchor": "x"},
        shapes=[cursor(float(step_position([selected], log)[0]), colour(theme, "cursor"))],
    )
    return fig


def _domains(panels: int) -> list[list[float]]:
    return [[0.27, 1.0]] if panels == 1 else [[0.51, 1.0], [0.27, 0.44]]


def _scale(values: Array) -> tuple[Callable[[Array], Array], dict[str, Any]]:
    """Where eigenvalues lie on a panel's axis, and that axis: logarithmic where all are positive, else asinh."""
    known = values[np.isfinite(values)]
    if len(known) and known.min() > 0:
        return lambda v: v, log_axis(*log_range(known))
    u = quadrature.to_asinh(known if len(known) else np.zeros(1))
    extra = max(0.4, (6.4 - float(np.ptp(u))) / 2)  # a thin range has no two ticks
    return quadrature.to_asinh, asinh_axis(float(u.min()) - extra, float(u.max()) + extra)


def _style(number: int, theme: str) -> dict[str, Any]:
    dash = _DASHES[number // len(_HUES) % len(_DASHES)]
    return {"color": colour(theme, _HUES[number % len(_HUES)]), "width": 1.6, "dash": dash}


def _curve(
    fig: go.Figure, found: Following, x: Array, branch: int, line: dict[str, Any], *, y: Array, yaxis: str
) -> None:
    here = np.flatnonzero(found.rows[branch] >= 0)
    free = [any(branch in group for group in found.degenerate[t]) for t in here]
    fig.add_scatter(
        x=x[here],
        y=y[here],
        yaxis=yaxis,
        mode="lines+markers",
        line=line,
        marker={"size": 5, "color": line["color"], "symbol": ["circle-open" if f else "circle" for f in free]},
        text=[_words(found, branch, int(t)) for t in here],
        hovertemplate="%{text}<extra></extra>",
    )


def _points(
    fig: go.Figure, found: Following, x: Array, branches: list[int], theme: str, place: Callable[[Array], Array],
    yaxis: str,
) -> None:  # fmt: skip
    """Eigenpairs without a partner before or after: no curve, small grey points."""
    places = [(b, int(t)) for b in branches for t in np.flatnonzero(found.rows[b] >= 0)]
    fig.add_scatter(
        x=[float(x[t]) for _b, t in places],
        y=place(np.array([found.values[b, t] for b, t in places])),
        yaxis=yaxis,
        mode="markers",
        marker={"size": 4, "color": colour(theme, "muted"), "opacity": 0.7},
        text=[_words(found, b, t) for b, t in places],
        hovertemplate="%{text}<extra></extra>",
    )


def _overlaps(fig: go.Figure, found: Following, x: Array, theme: str) -> None:
    known = np.flatnonzero(np.isfinite(found.subspace))
    fig.add_scatter(
        x=x[known],
        y=found.subspace[known],
        yaxis="y2",
        mode="lines+markers",
        line={"color": colour(theme, "text"), "width": 1.6},
        marker={"size": 4},
        text=[f"step {found.steps[t]:,}: {_subspace_words(found, int(t))}" for t in known],
        hovertemplate="%{text}<extra></extra>",
    )
    weakest = weakest_overlaps(found)
    known = np.flatnonzero(np.isfinite(weakest))
    fig.add_scatter(
        x=x[known],
        y=weakest[known],
        yaxis="y2",
        mode="markers",
        marker={"size": 5, "color": colour(theme, "orange"), "symbol": "diamond"},
        text=[f"step {found.steps[t]:,}: weakest branch {weakest[t]:.3f}" for t in known],
        hovertemplate="%{text}<extra></extra>",
    )


def weakest_overlaps(found: Following) -> Array:
    """The smallest overlap of the branches that go on, at each step; NaN where none does."""
    filled = np.where(np.isfinite(found.overlap), found.overlap, np.inf).min(axis=0, initial=np.inf)
    return np.where(np.isfinite(filled), filled, np.nan)


def _subspace_words(found: Following, t: int) -> str:
    return f"the space of the largest shares {100 * found.subspace[t]:.1f} % with step {found.steps[t - 1]:,}"


def _words(found: Following, branch: int, t: int) -> str:
    value, residual, overlap = (float(a[branch, t]) for a in (found.values, found.residuals, found.overlap))
    text = f"branch {branch + 1}, step {found.steps[t]:,}: λ = {value:.5g} ± {residual:.1g}"
    before = f"overlap with step {found.steps[t - 1]:,}: {overlap:.3f}" if np.isfinite(overlap) else "begins here"
    others = [str(b + 1) for group in found.degenerate[t] if branch in group for b in group if b != branch]
    return "<br>".join([text, before, *([f"not told apart from {', '.join(others)}"] if others else [])])
