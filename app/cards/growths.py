"""Where a run's network grew: its events as numbers, a card and a table of the Structure page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dash import html

from ..axes import step_position
from ..common import Scene
from ..numbers import number
from ..plots import growth as plot
from ..style import move_cursor
from ..view import Card

MOST = 40  # rows of the table; the CSV has all
CURVATURE = "eps² / 2 times the curvature of the split"
SCORES = "the scores of what was chosen, which are integrated gradients"


@dataclass(frozen=True)
class Growth:
    """A growth as its event tells it; NaN where it does not."""

    step: int
    method: str
    layers: dict[str, list[int]]  # layer -> units that were split
    copies: int
    before: float  # weights
    after: float
    predicted: float
    measured: float
    lowest: float  # eigenvalue that it adds to the Hessian, at a stationary point
    exact: bool  # whether that is an eigenvalue, or a bound on the smallest one
    notes: list[str]
    left_out: list[str]  # layers that cannot grow, and why


def growths(scene: Scene) -> list[Growth]:
    """Of the run, in order; what is no growth, or cannot be read as one, is left out."""
    return [_growth(event) for event in scene.run.events() if event["event"] == "grow"]


def _growth(event: dict[str, Any]) -> Growth:
    layers: dict[str, list[int]] = {}
    copies = 0
    for row in _list(event.get("rows")):
        if isinstance(row, dict) and isinstance(row.get("unit"), int):
            layers.setdefault(str(row.get("layer")), []).append(row["unit"])
            new = row.get("what") in ("unit", "layer")  # of firefly: no copies of old ones
            copies += 1 if new else max(len(_list(row.get("weights"))) - 1, 0)
    values = [v for v in map(_number, _list(event.get("eigenvalues"))) if math.isfinite(v)]
    lowest = min(values, default=math.nan)
    names = ("size_before", "size_after", "predicted", "measured")
    before, after, predicted, measured = (_number(event.get(name)) for name in names)
    return Growth(
        event["step"], str(event.get("method", "")), layers, copies, before, after, predicted, measured,
        lowest if values else _number(event.get("bound")), bool(values),
        [str(note) for note in _list(event.get("notes"))], [str(why) for why in _list(event.get("left_out"))],
    )  # fmt: skip


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if usable else math.nan


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _whole(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "–"


def words(growth: Growth) -> str:
    """'0: 3, 5; 2: 1': layers and their units."""
    parts = [f"{name}: {', '.join(map(str, units[:8]))}{', ...' if len(units) > 8 else ''}"
             for name, units in growth.layers.items()]  # fmt: skip
    return "; ".join(parts)


def cards(scene: Scene) -> list[Card]:
    """The card, where the network grew."""
    found = [g for g in growths(scene) if math.isfinite(g.before) and math.isfinite(g.after)]
    if not found:
        return []

    def draw(i: int) -> Any:
        return plot.figure(
            [g.step for g in found], [int(found[0].before), *(int(g.after) for g in found)],
            [g.predicted for g in found], [g.measured for g in found], end=scene.steps[-1] if scene.steps else 0,
            selected=scene.step(i), log=scene.log, theme=scene.theme,
        )  # fmt: skip

    def caption(_i: int) -> str:
        told = list(dict.fromkeys(note for g in found for note in g.notes))
        method, copies = found[0].method, sum(g.copies for g in found)
        left = "; ".join(dict.fromkeys(why for g in found for why in g.left_out))
        return (
            f"{method.replace('_', ' ').capitalize()}: {_many(len(found), 'growth')}, {_many(copies, 'unit')} added. "
            f"Predicted: {SCORES if method == 'firefly' else CURVATURE}, over all samples."
            + (f" {'; '.join(told)}: measured need not follow." if told else "")
            + (f" Layers left out: {left}." if left else "")
        )

    def table(_i: int) -> dict[str, Any]:
        return {
            "step": [g.step for g in found], "method": [g.method for g in found],
            "layer: units": [words(g) for g in found], "units added": [g.copies for g in found],
            "weights before": [g.before for g in found], "weights after": [g.after for g in found],
            "predicted change of the loss": [g.predicted for g in found],
            "measured change of the loss": [g.measured for g in found],
            "smallest eigenvalue added [loss per squared unit of weight]": [g.lowest for g in found],
        }  # fmt: skip

    return [Card(
        "growths", "Growth of the network", draw, caption, table,
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="Number of weights against the step, and the change of the loss at every growth",
    )]  # fmt: skip


def section(scene: Scene) -> list[html.Section]:
    """The table of what changed where, where the network grew."""
    found = growths(scene)
    if not found:
        return []
    names = ("Step", "Layer: units split", "Added", "Weights", "Predicted", "Measured", "New λ min")
    head = html.Tr([html.Th(name, className="num" if i != 1 else "") for i, name in enumerate(names)])
    rows = []
    for g in found[:MOST]:
        lowest = f"{'' if g.exact else '≤ '}{number(g.lowest, 3)}"
        cells = [f"{g.copies:,}", f"{_whole(g.before)} → {_whole(g.after)}", number(g.predicted, 4),
                 number(g.measured, 4), lowest]  # fmt: skip
        rows.append(html.Tr([html.Td(f"{g.step:,}", className="num"), html.Td(words(g)),
                             *(html.Td(cell, className="num") for cell in cells)]))  # fmt: skip
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="runs narrow")
    more = [html.P(f"{len(found) - MOST:,} more are in the CSV.", className="caption")] if len(found) > MOST else []
    about = html.P("New λ min: what the split adds to the Hessian at a stationary point and eps = 0, half of the "
                   "splitting matrix's lowest eigenvalue for two halves.", className="caption")  # fmt: skip
    title = html.H2("What grew where")
    return [html.Section([title, html.Div(table, className="table-wrap", tabIndex="0"), about, *more],
                         className="card wide")]  # fmt: skip
