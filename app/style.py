"""Colours, the two plotly templates, cursors and densities as colours: what every plot shares (no files, no ids)."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from dash import Patch
from numpy.typing import NDArray

from .numbers import power

Array = NDArray[np.float64]

FONT = "Inter, system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
MARKER = "#FF6A00"  # the selected step, readable on Viridis and on both backgrounds
FLOOR, CEILING = 1e-4, 10.0  # of a density per unit u

# Okabe-Ito where it reaches 3:1 on white; a second set for dark, all above 6:1 on #1f2226.
COLOURS: dict[str, dict[str, str]] = {
    "light": {
        "text": "#1c2024",
        "muted": "#5a6472",
        "grid": "#e6e8ec",
        "axis": "#2b3036",
        "cursor": "#6b7280",
        "shade": "rgba(90,100,114,0.09)",
        "blue": "#0072B2",
        "orange": "#D55E00",
        "green": "#008060",
        "pink": "#B0568A",
        "brown": "#8C6D00",
        "fill": "rgba(0,114,178,0.17)",
        "band": "rgba(0,114,178,0.20)",
    },
    "dark": {
        "text": "#e8eaed",
        "muted": "#a3abb6",
        "grid": "#363b42",
        "axis": "#9aa2ad",
        "cursor": "#aab2bd",
        "shade": "rgba(200,208,220,0.07)",
        "blue": "#58A6FF",
        "orange": "#FF9F4A",
        "green": "#3FCF9E",
        "pink": "#E39AC4",
        "brown": "#F2C14E",
        "fill": "rgba(88,166,255,0.20)",
        "band": "rgba(88,166,255,0.25)",
    },
}


def colour(theme: str, name: str) -> str:
    """A named colour of a theme; unknown themes are light."""
    return COLOURS.get(theme, COLOURS["light"])[name]


def _template(theme: str) -> go.layout.Template:
    c = COLOURS[theme]
    axis = {
        "gridcolor": c["grid"],
        "linecolor": c["axis"],
        "tickcolor": c["axis"],
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "title": {"font": {"size": 12}, "standoff": 6},
        "tickfont": {"size": 11},
        "automargin": False,
        "minor": {"ticks": ""},
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": c["text"]},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": [c[k] for k in ("blue", "orange", "green", "pink", "brown")],
            "margin": {"l": 62, "r": 16, "t": 14, "b": 44},
            "legend": {
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": 1.0,
                "yanchor": "bottom",
                "font": {"size": 11},
            },
            "hoverlabel": {"font": {"family": FONT, "size": 12}},
            "xaxis": axis,
            "yaxis": axis,
        }
    )


for _theme in COLOURS:
    pio.templates[f"ls_{_theme}"] = _template(_theme)


def figure(theme: str, height: int, **layout: Any) -> go.Figure:
    """An empty figure in our template; `uirevision` keeps the reader's zoom when data change."""
    name = f"ls_{theme if theme in COLOURS else 'light'}"
    return go.Figure(layout={"template": name, "height": height, "uirevision": "keep", "showlegend": False, **layout})


# ------------------------------------------------------------------ the cursor


def cursor(x: float, colour_: str, width: float = 1.6) -> dict[str, Any]:
    """The vertical line of the selected step; always shape 0, so that `move_cursor` finds it."""
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "line": {"color": colour_, "width": width},
    }


def move_cursor(x: float) -> Patch:
    patch = Patch()
    patch["layout"]["shapes"][0]["x0"] = x
    patch["layout"]["shapes"][0]["x1"] = x
    return patch


def redrawn(figure: go.Figure) -> Patch:
    """A patch that draws a plot anew, for one whose traces differ from step to step."""
    patch = Patch()
    patch["data"] = list(figure.data)
    patch["layout"] = figure.layout
    return patch


def packed(values: Array | NDArray[np.float32]) -> dict[str, str]:
    """An array as plotly.js reads it from a patch, a third of its digits: single precision, base64."""
    return {"dtype": "f4", "bdata": base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()}


def half(values: Array | NDArray[np.float32]) -> dict[str, str]:
    """As `packed`, for heights: half precision (3 digits, 6e-5 to 65,504), which `replay.js` unpacks."""
    return {"dtype": "f2", "bdata": base64.b64encode(np.ascontiguousarray(values, dtype="<f2").tobytes()).decode()}


def note(text: str, theme: str, **where: Any) -> dict[str, Any]:
    """A small text in the plot; by default the sentence in its middle that says why it is empty."""
    place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False, "align": "center"}
    return {**place, "text": text, "font": {"size": 12, "color": colour(theme, "muted")}, **where}


def thin(steps: Array, values: Array, most: int = 2000) -> tuple[Array, Array]:
    """At most about `most` points, keeping each bucket's smallest and largest, so that spikes survive."""
    if len(steps) <= most:
        return steps, values
    keep: set[int] = {0, len(steps) - 1}
    for bucket in np.array_split(np.arange(len(steps)), most // 2):
        finite = bucket[np.isfinite(values[bucket])]
        keep.update(
            (int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()]))
            if len(finite)
            else (int(bucket[0]),)
        )
    index = np.array(sorted(keep))
    return steps[index], values[index]


def base_eight(values: Sequence[float] | Array) -> NDArray[np.uint8]:
    """Densities as 256 colours on a log scale from FLOOR to CEILING: an eighth of the bytes, the same picture."""
    low, high = math.log10(FLOOR), math.log10(CEILING)
    scaled = (np.log10(np.maximum(values, FLOOR)) - low) / (high - low)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def density_bar(theme: str, **where: Any) -> dict[str, Any]:
    """The colour bar of `base_eight`."""
    low, high = round(math.log10(FLOOR)), round(math.log10(CEILING))
    exponents = range(low, high + 1)
    return {
        "tickvals": [255 * (k - low) / (high - low) for k in exponents],
        "ticktext": [("≤" if k == low else "") + power(k) for k in exponents],
        "title": {"text": "density per unit asinh(λ/λ₀)", "side": "right", "font": {"size": 11}},
        "thickness": 11,
        "outlinewidth": 0,
        "ticks": "",
        "tickfont": {"size": 11},
        "x": 1.01,
        "xpad": 4,
        **where,
    }
