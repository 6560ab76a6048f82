"""What a generator makes: points in the plane over the real ones, or a grid of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch
from numpy.typing import NDArray

from landscape.records import Game

from ..axes import linear_axis
from ..style import colour, note, packed
from ..style import figure as empty_figure

MOST = 64  # images of a grid


def shape_of(found: Game) -> tuple[int, int] | None:
    """Rows and columns of a sample that is an image of one channel."""
    shape = found.meta.get("sample_shape")
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)):
        return None
    rows, columns = shape
    fits = found.samples is not None and found.samples.ndim == 2 and found.samples.shape[1] == rows * columns
    return (rows, columns) if fits else None


def figure(found: Game | None, every: Sequence[Game], *, message: str = "", theme: str = "light",
           height: int = 400) -> go.Figure:  # fmt: skip
    """Those of `found`; axes and grey levels are those of all of `every`."""
    some = found if found is not None else every[-1]
    fig = _images(some, every, theme, height) if shape_of(some) else _points(some, every, theme, height)
    fig.update_layout(annotations=[note(message, theme, visible=found is None)])
    return fig


def move(found: Game | None, message: str = "") -> Patch:
    """What another step changes."""
    patch = Patch()
    patch["layout"]["annotations"][0]["text"] = message
    patch["layout"]["annotations"][0]["visible"] = found is None
    if found is None or found.samples is None:
        return patch
    if shape_of(found):
        patch["data"][0]["z"] = grid(found).tolist()
    else:
        patch["data"][1]["x"], patch["data"][1]["y"] = (packed(c) for c in _pair(found.samples))
    return patch


# ------------------------------------------------------------------ points


def _pair(samples: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first two coordinates; a sample of one number lies on the x axis."""
    return samples[:, 0], samples[:, 1] if samples.shape[1] > 1 else np.zeros(len(samples))


def _points(found: Game, every: Sequence[Game], theme: str, height: int) -> go.Figure:
    fig = empty_figure(theme, height, showlegend=True, margin={"l": 52, "r": 16, "t": 30, "b": 40})
    assert found.samples is not None
    real = found.real_samples if found.real_samples is not None else found.samples[:0]
    looks = (("real", real, "muted", 8, 0.35), ("made", found.samples, "orange", 3.5, 0.9))
    for name, samples, hue, size, opacity in looks:
        x, y = _pair(samples)
        fig.add_scatter(
            x=x.astype(np.float32), y=y.astype(np.float32), mode="markers", name=name,
            marker={"size": size, "color": colour(theme, hue), "opacity": opacity},
            hovertemplate=f"{name}: %{{x:.3f}}, %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    across, up = (linear_axis(ends) for ends in _ends(every))
    fig.update_layout(
        xaxis={**across, "title": {"text": "x₁"}, "constrain": "domain"},
        yaxis={**up, "title": {"text": "x₂"}, "scaleanchor": "x", "constrain": "domain"},
    )
    return fig


def _ends(every: Sequence[Game]) -> Iterator[NDArray[Any]]:
    """(2,) of each axis: a quarter more than the real samples take, or than the made ones where there are no real."""
    real = next((r.real_samples for r in every if r.real_samples is not None), None)
    held = [real] if real is not None else [r.samples for r in every if r.samples is not None]
    for side in zip(*(_pair(s) for s in held), strict=True):
        low, high = (float(end) for end in np.quantile(np.concatenate(side), [0.0, 1.0]))
        yield np.array([low - 0.25 * (high - low), high + 0.25 * (high - low)])


# ------------------------------------------------------------------ images


def grid(found: Game) -> NDArray[np.float32]:
    """The first images side by side in a square, a pixel of nothing between them; rows downwards."""
    shape = shape_of(found)
    assert shape is not None
    assert found.samples is not None
    side = int(np.sqrt(min(len(found.samples), MOST)))
    rows, columns = shape
    tiles = found.samples[: side * side].reshape(side, side, rows, columns)
    page = np.full((side, rows + 1, side, columns + 1), np.nan, dtype=np.float32)
    page[:, :rows, :, :columns] = np.round(tiles.transpose(0, 2, 1, 3), 3)
    return page.reshape(side * (rows + 1), side * (columns + 1))[:-1, :-1]


def _images(found: Game, every: Sequence[Game], theme: str, height: int) -> go.Figure:
    fig = empty_figure(theme, height, margin={"l": 8, "r": 8, "t": 12, "b": 8})
    real = next((r.real_samples for r in every if r.real_samples is not None), np.array([0.0, 1.0]))
    fig.add_heatmap(
        z=grid(found), zmin=float(np.min(real)), zmax=float(np.max(real)), colorscale="Greys", showscale=False,
        hovertemplate="%{z:.2f}<extra></extra>",
    )  # fmt: skip
    bare = {"visible": False, "constrain": "domain"}
    fig.update_layout(xaxis=bare, yaxis={**bare, "autorange": "reversed", "scaleanchor": "x"})
    return fig
