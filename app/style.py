"""Colours, the two plotly templates and the axes that every plot shares (no files, no ids)."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from dash import Patch
from numpy.typing import ArrayLike, NDArray

from landscape.readings import quadrature

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


# ------------------------------------------------------------------ numbers as text


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: `9.545`, `4.5e-7`, `1,500`, a true minus sign, or an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–" if value is None or math.isnan(value) else ("∞" if value > 0 else "\N{MINUS SIGN}∞")
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        mantissa, exponent = f"{value:.{max(digits - 2, 1)}e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{max(digits - 1 - math.floor(math.log10(size)), 0)}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def brief(value: float | None) -> str:
    """As `number`, without zeros at its end: a setting as it was typed, a count without decimals."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def moment(text: str) -> str:
    """A time of day as it is stored, for people: `2026-11-22 14:28:39 UTC`."""
    return text.replace("T", " ").replace("+00:00", " UTC")


_SUPER = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(exponent: int) -> str:
    """10 to an exponent in the ordinary font, so that no tick is larger than its neighbours."""
    return {0: "1", 1: "10"}.get(exponent, "10" + str(exponent).translate(_SUPER))


def _plain(value: float) -> str:
    return f"{value:,.10g}" if 1e-4 < value < 1e5 else _scientific(value)


def _scientific(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = value / 10.0**exponent
    if abs(mantissa - 1) < 1e-6:
        return power(exponent)
    return f"{mantissa:.10g}" if exponent == 0 else f"{mantissa:.10g}·{power(exponent)}"


# ------------------------------------------------------------------ axes


def log_range(*arrays: ArrayLike, pad: float = 0.06, least: float = 0.3) -> tuple[float, float]:
    """log10 range of the positive finite values, padded; never narrower than `least` decades."""
    values = np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return -1.0, 1.0
    low, high = math.log10(values.min()), math.log10(values.max())
    extra = max((least - (high - low)) / 2, pad * (high - low))
    return low - extra, high + extra


def log_ticks(low: float, high: float, most: int = 6) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic axis between 10^low and 10^high: 1-2-5 when short, whole decades when long."""
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for m in mantissas]
        found = [v for v in found if low - 1e-9 <= math.log10(v) <= high + 1e-9]
        if len(found) <= most:
            break
    else:
        found = found[:: math.ceil(len(found) / most)]
    if len(found) < 3 and high - low < 1:  # within one decade: linear ticks say more
        found = [float(v) for v in nice_ticks(10.0**low, 10.0**high, 4)]
    if min(found) < 0.9e-3:  # one notation an axis
        return found, [_scientific(v) for v in found]
    return found, [_plain(v) for v in found]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers in [low, high]."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return [low]
    raw = (high - low) / max(count, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_axis(low: float, high: float, most: int = 6) -> dict[str, Any]:
    values, texts = log_ticks(low, high, most)
    return {"type": "log", "range": [low, high], "tickmode": "array", "tickvals": values, "ticktext": texts}


def linear_axis(*arrays: ArrayLike, zero: bool = False) -> dict[str, Any]:
    """A fixed range around the finite values, so that moving a cursor never rescales the axis."""
    values = np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays] + [np.zeros(1)][: int(zero)])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    extra = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return {"range": [0 if zero and low >= 0 else low - extra, high + extra], "nticks": 5}


def asinh_axis(low: float, high: float) -> dict[str, Any]:
    """An eigenvalue axis between two u = asinh(lambda / lambda0): ticks in eigenvalues, drawn at their u."""
    values, texts = quadrature.asinh_ticks(float(quadrature.from_asinh(low)), float(quadrature.from_asinh(high)))
    return {
        "range": [low, high],
        "tickmode": "array",
        "ticktext": texts,
        "tickvals": [float(u) for u in quadrature.to_asinh(values)],
    }


def step_position(steps: ArrayLike, log: bool) -> Array:
    """Where steps lie on the x axis: themselves, or log10(1 + step), which keeps step 0 in the picture."""
    steps = np.asarray(steps, dtype=np.float64)
    return np.log10(1 + np.maximum(steps, 0)) if log else steps


def step_axis(steps: ArrayLike, log: bool, title: str = "optimizer step") -> dict[str, Any]:
    """The x axis of everything over training."""
    steps = np.asarray(steps, dtype=np.float64)
    low, high = (float(steps.min()), float(steps.max())) if len(steps) else (0.0, 1.0)
    if high <= low:
        low, high = low - 1, high + 1
    if not log:
        return {"range": [low, high], "title": {"text": title}, "nticks": 9}
    ticks = [t for t in [0.0, *(10.0**k for k in range(9))] if low <= t <= high]
    return {
        "range": [math.log10(1 + max(low, 0)), math.log10(1 + high)],
        "tickmode": "array",
        "tickvals": [math.log10(1 + t) for t in ticks],
        "ticktext": [f"{t:,.0f}" for t in ticks],
        "title": {"text": f"{title} (log)"},
    }


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
