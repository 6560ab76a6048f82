"""Structure: zeros by layer against the step, group norms, what weights are worth, and curvature against sparsity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from landscape.records import Saliency, Structure

from ..axes import linear_axis, log_axis, log_range, step_axis, step_position
from ..style import MARKER, colour, cursor
from ..style import figure as empty_figure

Array = NDArray[np.float64]
COLOURS = ("blue", "orange", "green", "pink", "brown")
DASHES = ("solid", "dash", "dot", "dashdot")
POINTS = 3000  # of a scatter; more of them are contours


def line(number: int, theme: str) -> dict[str, Any]:
    """Colour and dash of the n-th layer."""
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return {"color": colour(theme, COLOURS[number % len(COLOURS)]), "width": 1.7, "dash": dash}


def sparsity(
    found: Sequence[Structure], *, selected: float, log: bool = False, theme: str = "light", height: int = 320
) -> go.Figure:
    """Share of zeros by layer against the step, all layers together thicker."""
    steps = np.array([s.step for s in found])
    fig = empty_figure(theme, height, hovermode="x", showlegend=True, margin={"l": 62, "r": 16, "t": 34, "b": 44})
    fig.update_layout(xaxis=step_axis(steps, log))
    curves = [("all", np.array([100 * s.share(zeros(s)) for s in found]))]
    curves += [(name, np.array([100 * zeros(s)[n] for s in found])) for n, name in enumerate(found[-1].layers)]
    for number, (name, values) in enumerate(curves):
        style = line(number - 1, theme) if number else {"color": colour(theme, "text"), "width": 2.6}
        fig.add_scatter(
            x=step_position(steps, log), y=values, customdata=steps, mode="lines+markers", name=name, line=style,
            marker={"size": 3.5}, hovertemplate=f"step %{{customdata:,}}: {name} %{{y:.2f}} %<extra></extra>",
        )  # fmt: skip
    fig.update_layout(yaxis={**linear_axis(*(v for _n, v in curves), zero=True), "title": {"text": "zero weights, %"}})
    fig.layout.shapes = (cursor(float(step_position([selected], log)[0]), colour(theme, "cursor")),)
    return fig


def zeros(found: Structure) -> Array:
    """(layer,) weights that are zero, whether by the optimizer's read-out or by their size."""
    return np.maximum(found.small, found.zeros)


def norms(
    found: Structure, among: Sequence[Structure] = (), *, layer: int | None = None, theme: str = "light",
    height: int = 320,
) -> go.Figure:  # fmt: skip
    """Norms of the groups, sorted within their layer; dead ones open, the threshold dashed; axes for all of `among`."""
    among = among or [found]
    fig = empty_figure(theme, height, showlegend=True, margin={"l": 70, "r": 16, "t": 34, "b": 44})
    for name, number, points in _groups(found, among, layer, theme):
        style = {**line(number, theme), "width": 1}
        fig.add_scatter(
            **{k: v for k, v in points.items() if k != "color"}, mode="lines+markers", name=name, line=style,
            marker={"size": 5.5, "color": points["color"], "line": {"width": 0.8, "color": style["color"]}},
            hovertemplate=f"{name}, %{{x}}: norm %{{text}}<extra></extra>",
        )  # fmt: skip
    low, high = log_range(*(np.maximum(s.norms, _floor(among)) for s in among), [found.threshold])
    longest = max((int(np.bincount(s.group_layers).max(initial=1)) for s in among if len(s.group_layers)), default=1)
    fig.update_layout(
        xaxis={"range": [0.5, longest + 0.5], "title": {"text": "group, largest norm first"}, "nticks": 8},
        yaxis={**log_axis(low, high), "title": {"text": "norm of the group"}},
        shapes=[{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": found.threshold, "y1": found.threshold,
                 "line": {"color": colour(theme, "muted"), "width": 1.4, "dash": "dash"}}],
    )  # fmt: skip
    return fig


def move_norms(
    found: Structure, among: Sequence[Structure], *, layer: int | None = None, theme: str = "light"
) -> Patch:
    """What another step changes in `norms`: the points, and the threshold."""
    patch = Patch()
    for place, (_name, _number, points) in enumerate(_groups(found, among, layer, theme)):
        patch["data"][place]["marker"]["color"] = points["color"]
        for key in ("x", "y", "text"):
            patch["data"][place][key] = points[key]
    patch["layout"]["shapes"][0]["y0"] = patch["layout"]["shapes"][0]["y1"] = found.threshold
    return patch


def _groups(
    found: Structure, among: Sequence[Structure], layer: int | None, theme: str
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Name, number and points of every layer that has groups in any of `among`, so that traces keep their places."""
    names = list(dict.fromkeys(s.layers[k] for s in among for k in np.unique(s.group_layers)))
    shown = np.maximum(found.norms, _floor(among))
    wanted = found.layers[layer] if layer is not None and layer < len(found.layers) else None
    for name in names if wanted is None else [wanted]:
        number = found.layers.index(name) if name in found.layers else len(found.layers) + names.index(name)
        mine = np.flatnonzero(found.group_layers == number)
        mine = mine[np.argsort(-found.norms[mine], kind="stable")]
        dead = found.dead[mine] == 1
        shades = np.where(dead, colour(theme, "grid"), line(number, theme)["color"])
        yield name, number, {"x": np.arange(1, len(mine) + 1), "y": shown[mine].astype(np.float32),
                             "text": _words(found.norms[mine], dead), "color": shades.tolist()}  # fmt: skip


def _floor(among: Sequence[Structure]) -> float:
    """Where norms of zero are drawn: half of the smallest other one."""
    return min(float(s.norms[s.norms > 0].min(initial=1.0)) for s in among) / 2


def _words(norms: Array, dead: NDArray[np.bool_]) -> list[str]:
    return [f"{norm:.3g}" + (", dead" if gone else "") for norm, gone in zip(norms, dead, strict=True)]


def worth(found: Saliency, *, theme: str = "light", height: int = 320) -> go.Figure:
    """|w| against w^2 H_ii / 2, both logarithmic; pruned points grey, points of negative curvature open."""
    fig = empty_figure(theme, height, showlegend=True, margin={"l": 76, "r": 16, "t": 34, "b": 44})
    size, value = np.abs(found.values), found.worth
    drawn = (size > 0) & (value != 0)
    pruned = found.pruned == 1
    kinds = (
        ("kept", drawn & ~pruned & (value > 0), "blue", "circle"),
        ("kept, H_ii < 0", drawn & ~pruned & (value < 0), "orange", "circle-open"),
        ("pruned", drawn & pruned, "muted", "circle"),
    )
    if int(drawn.sum()) > POINTS:
        _contours(fig, size[drawn], np.abs(value[drawn]), theme)
    for name, chosen, shade, symbol in kinds:
        places = np.flatnonzero(chosen)
        if not len(places):
            continue
        places = places[:: -(-len(places) // (POINTS // 2))]
        fig.add_scatter(
            x=size[places], y=np.abs(value[places]), mode="markers", name=f"{name}: {int(chosen.sum()):,}",
            text=[f"{i:,} of {found.layers[k]}" for i, k in zip(found.index[places], found.point_layers[places],
                                                               strict=True)],
            marker={"size": 3.5, "color": colour(theme, shade), "symbol": symbol, "opacity": 0.55},
            hovertemplate="weight %{text}: |w| %{x:.3g}, worth %{y:.3g}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(
        xaxis={**log_axis(*log_range(size[drawn])), "title": {"text": "|w|"}},
        yaxis={**log_axis(*log_range(np.abs(value[drawn]))), "title": {"text": "|w² H<sub>ii</sub> / 2|, loss"}},
    )  # fmt: skip
    return fig


def _contours(fig: go.Figure, x: Array, y: Array, theme: str) -> None:
    """Lines of equal density of the points, on the logarithms."""
    counts, across, up = np.histogram2d(np.log10(x), np.log10(y), bins=40)
    blurred = np.apply_along_axis(lambda row: np.convolve(row, [0.25, 0.5, 0.25], "same"), 0, counts)
    blurred = np.apply_along_axis(lambda row: np.convolve(row, [0.25, 0.5, 0.25], "same"), 1, blurred)
    fig.add_contour(
        x=10 ** ((across[1:] + across[:-1]) / 2), y=10 ** ((up[1:] + up[:-1]) / 2), z=np.log10(1 + blurred).T,
        contours={"coloring": "lines"}, line={"width": 1}, ncontours=7, showscale=False, hoverinfo="skip",
        colorscale=[[0, colour(theme, "grid")], [1, colour(theme, "text")]], name="density", showlegend=False,
    )  # fmt: skip


def against(
    share: Array, steps: Sequence[int], sharpness: Array, accuracy: Array, *, selected: int, theme: str = "light",
    height: int = 320,
) -> go.Figure:  # fmt: skip
    """lambda_max and test accuracy against the share of zero weights, %, in two panels; the selected step marked."""
    fig = empty_figure(theme, height, margin={"l": 66, "r": 16, "t": 10, "b": 44})
    panels = (("λ<sub>max</sub>", sharpness, "y", [0.54, 1.0], "orange"),
              ("test accuracy", accuracy, "y2", [0.0, 0.46], "blue"))  # fmt: skip
    marks = _marks(steps, selected, theme)
    for (name, values, axis, domain, shade), marker in zip(panels, marks, strict=True):
        fig.add_scatter(
            x=share, y=values, yaxis=axis, customdata=steps, mode="lines+markers", connectgaps=True, name=name,
            line={"color": colour(theme, shade), "width": 1.4}, marker=marker,
            hovertemplate=f"step %{{customdata:,}}: {name} %{{y:.4g}} at %{{x:.2f}} % zeros<extra></extra>",
        )  # fmt: skip
        fig.update_layout({f"yaxis{axis[1:]}": {**linear_axis(values), "domain": domain, "anchor": "x",
                                                "title": {"text": name}}})  # fmt: skip
    across = linear_axis(share)
    across["range"][0] = max(across["range"][0], -0.02 * across["range"][1])  # there is no share below zero
    fig.update_layout(xaxis={**across, "anchor": "y2", "title": {"text": "zero weights, %"}})
    return fig


def move_against(steps: Sequence[int], selected: int, *, theme: str = "light") -> Patch:
    """What another step changes in `against`: which points are marked."""
    patch = Patch()
    for place, marker in enumerate(_marks(steps, selected, theme)):
        patch["data"][place]["marker"] = marker
    return patch


def _marks(steps: Sequence[int], selected: int, theme: str) -> list[dict[str, Any]]:
    """Markers of the two panels of `against`: the selected step's larger, in the colour of the selection."""
    sizes = [11 if s == selected else 5 for s in steps]
    return [
        {"size": sizes, "color": [MARKER if s == selected else colour(theme, shade) for s in steps]}
        for shade in ("orange", "blue")
    ]
