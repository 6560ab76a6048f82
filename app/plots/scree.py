"""The extreme eigenvalues in order, with bars of residual and sampling error, and the gaps between neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from landscape import records
from landscape.readings import quadrature
from landscape.readings.outliers import Outliers
from landscape.readings.sampling import Sampling

from ..axes import asinh_axis
from ..style import colour, note, packed
from ..style import figure as empty_figure

Array = NDArray[np.float64]


def figure(
    pairs: records.Eigenpairs | None,
    *,
    top: int,
    low: int,
    reach: tuple[float, float],
    message: str = "",
    sampling: Sampling | None = None,
    bulk: Outliers | None = None,
    classes: int | None = None,
    theme: str = "light",
    height: int = 300,
) -> go.Figure:
    """`top` and `low` are the largest counts of the run and `reach` its (smallest, largest) eigenvalue: fixed axes."""
    fig = empty_figure(theme, height, hovermode="closest", margin={"l": 66, "r": 16, "t": 14, "b": 44})
    upper, lower, gaps = _lines(pairs, top, sampling)
    style = {"mode": "markers", "hovertemplate": "%{customdata}<extra></extra>"}
    fig.add_scatter(**upper, **style, marker={"size": 7, "color": colour(theme, "blue")})
    fig.add_scatter(**lower, **style, marker={"size": 7, "color": colour(theme, "orange"), "symbol": "diamond"})
    fig.add_bar(
        **gaps,
        yaxis="y2",
        marker={"color": colour(theme, "muted")},
        width=0.55,
        hovertemplate="%{customdata}<extra></extra>",
    )
    u = quadrature.to_asinh(list(reach))
    places, texts = _index_ticks(top, low)
    fig.update_layout(
        xaxis={
            "range": [0.3, top + low + (1.7 if low else 0.7)],
            "tickmode": "array",
            "tickvals": places,
            "ticktext": texts,
            "title": {"text": "index: 1 is the largest" + (", n the smallest" if low else "")},
            "anchor": "y2",
        },
        yaxis={
            **asinh_axis(float(u[0]) - 0.7, float(u[1]) + 0.7),
            "domain": [0.33, 1],
            "title": {"text": "eigenvalue λ"},
        },
        yaxis2={
            "domain": [0, 0.25],
            "title": {"text": "λ<sub>i</sub> / λ<sub>i+1</sub>"},
            "range": [1, 4.2],
            "nticks": 4,
            "anchor": "x",
        },
        annotations=[note(message, theme, visible=pairs is None)],
        shapes=[{
            "type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", **_edge(bulk),
            "line": {"color": colour(theme, "green"), "width": 1.3, "dash": "dash"},
        }],
        barmode="overlay",
    )  # fmt: skip
    for k, text, side in ((classes and classes - 1, "K − 1", "right"), (classes, "K", "left")):
        if k and 0 < k <= top:
            line = {"color": colour(theme, "muted"), "width": 1, "dash": "dot"}
            fig.add_shape(type="line", xref="x", x0=k, x1=k, yref="y domain", y0=0, y1=1, line=line)
            fig.add_annotation(note(text, theme, x=k, xref="x", y=1, yref="y domain", xanchor=side, yanchor="top"))
    return fig


def move(
    pairs: records.Eigenpairs | None, *, top: int, message: str = "", sampling: Sampling | None = None,
    bulk: Outliers | None = None,
) -> Patch:  # fmt: skip
    patch = Patch()
    for i, line in enumerate(_lines(pairs, top, sampling)):
        for name, value in line.items():
            patch["data"][i][name] = _compact(value)
    for name, value in _edge(bulk).items():
        patch["layout"]["shapes"][0][name] = value
    patch["layout"]["annotations"][0]["text"] = message
    patch["layout"]["annotations"][0]["visible"] = pairs is None
    return patch


def _compact(value: Any) -> Any:
    """Arrays of a patch as plotly.js reads them, which is a third of their digits."""
    if isinstance(value, dict):
        return {k: _compact(v) for k, v in value.items()}
    return packed(value) if isinstance(value, np.ndarray) and value.dtype.kind in "fi" else value


def _edge(bulk: Outliers | None) -> dict[str, Any]:
    """The height of the bulk's edge; hidden where there is none."""
    u = 0.0 if bulk is None else float(quadrature.to_asinh([bulk.edge])[0])
    return {"y0": u, "y1": u, "visible": bulk is not None}


def _index_ticks(top: int, low: int) -> tuple[list[float], list[str]]:
    every = max(1, -(-top // 10))
    shown = [i for i in range(1, top + 1) if i == 1 or i % every == 0]
    places, texts = [float(i) for i in shown], [str(i) for i in shown]
    for k in range(low):
        if k in (0, low - 1):
            places.append(float(top + 1 + low - k))
            texts.append("n" if k == 0 else f"n−{k}")
    return places, texts


def _lines(
    pairs: records.Eigenpairs | None, top: int, sampling: Sampling | None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    nothing: dict[str, Any] = {"x": [], "y": [], "customdata": []}
    if pairs is None:
        return nothing, dict(nothing), dict(nothing)
    index = np.arange(1, len(pairs.values) + 1)
    count = len(pairs.lowest_values)
    behind = top + 1 + count - np.arange(count)
    names = ["n" if k == 0 else f"n−{k}" for k in range(count)]
    errors, lowest = (np.empty(0), np.empty(0)) if sampling is None else (sampling.errors, sampling.lowest_errors)
    return (
        _points(index, [str(i) for i in index], pairs.values, pairs.residuals, padded(errors, len(index))),
        _points(behind, names, pairs.lowest_values, pairs.lowest_residuals, padded(lowest, count)),
        _gaps(index, pairs.values),
    )


def padded(errors: Array, count: int) -> Array:
    """Sampling errors of `count` eigenvalues (count,): NaN where there is none."""
    return np.pad(errors[:count], (0, max(count - len(errors), 0)), constant_values=np.nan)


def _points(x: NDArray[np.int64], names: list[str], values: Array, residuals: Array, errors: Array) -> dict[str, Any]:
    u = quadrature.to_asinh(values)
    bound = np.nan_to_num(np.fmax(residuals, errors))
    sampled = ["" if np.isnan(e) else f", sampling ± {e:.2g}" for e in errors]
    return {
        "x": x,
        "y": u,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": quadrature.to_asinh(values + bound) - u,
            "arrayminus": u - quadrature.to_asinh(values - bound),
            "width": 4,
            "thickness": 1.3,
        },
        "customdata": [
            f"λ[{n}] = {v:.5g} ± {r:.1g}{s}" for n, v, r, s in zip(names, values, residuals, sampled, strict=True)
        ],
    }


def _gaps(index: NDArray[np.int64], values: Array) -> dict[str, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = values[:-1] / values[1:]
    good = (values[1:] > 0) & np.isfinite(ratio)
    return {
        "x": index[:-1][good] + 0.5,
        "y": ratio[good],
        "customdata": [f"λ[{i}] / λ[{i + 1}] = {r:.3g}" for i, r in zip(index[:-1][good], ratio[good], strict=True)],
    }
