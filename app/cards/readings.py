"""Two readings of a surface as cards: where its quadratic model holds, and its minima with the passes between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.readings.quadratic import Agreement, Quadratic, agreement
from landscape.readings.topology import Topology, topology
from landscape.records import Surface

from .. import shell
from ..common import Scene
from ..numbers import number
from ..plots import minima as bars
from ..plots import quadratic as differences
from ..view import Card, Missing, Place, href

OVERLAYS = {"": "none", "model": "quadratic model", "minima": "minima and passes"}
Draw = Callable[[], Surface]
T = TypeVar("T")
_known: dict[tuple[int, str], tuple[Surface, Any]] = {}


def _once(surface: Surface, name: str, make: Callable[[Surface], T]) -> T:
    """Computed once a surface: the reader hands out the same arrays while their file does not change."""
    key = (id(surface.loss), name)
    if key not in _known:
        if len(_known) >= 64:
            _known.clear()
        _known[key] = (surface, make(surface))  # the surface is kept, so that no id is given to other losses meanwhile
    found: T = _known[key][1]
    return found


def minima(surface: Surface) -> Topology:
    return _once(surface, "topology", topology)


def model(surface: Surface, command: str = "") -> tuple[Quadratic, Agreement]:
    """The quadratic model and where it holds.

    Raises:
        Missing: the surface carries none.
    """
    found = Quadratic.of(surface)
    if found is None:
        stored = surface.meta.get("quadratic")
        reason = stored.get("reason") if isinstance(stored, dict) else None
        if stored is not None:
            raise Missing(f"No quadratic model: {reason or 'the derivatives at the origin are not finite'}.")
        raise Missing("This surface carries no quadratic model yet. The same command adds it:", command)
    return found, _once(surface, "agreement", lambda s: agreement(s, found))


# ------------------------------------------------------------------ laid over the surface


def switch(place: Place) -> Component:
    """Links to the overlays; everything else of the URL stays."""
    kept = {name: value for name, value in place.query.items() if name not in ("over", "step")}
    chosen = place.choice("over", tuple(OVERLAYS))
    entries = [(text, href(*place.parts, **kept, over=over), over == chosen) for over, text in OVERLAYS.items()]
    return shell.tabs("Overlay", entries, keep="step")


def overlaid(card: Card, place: Place, surface: Draw) -> Card:
    """The card of the surface with what the URL lays over it, above its own traces, whose places its `move` knows."""
    over, raised = place.choice("over", tuple(OVERLAYS)), place.query.get("view") == "3d"
    if not over or place.query.get("show", "loss") != "loss":  # they are readings of the loss, not of an accuracy
        return card

    def draw(i: int) -> Any:
        figure = card.draw(i)
        _add(figure, surface(), over, raised=raised)
        return figure

    return dataclasses.replace(
        card, draw=draw,
        caption=lambda i: words(surface(), over, raised=raised) + shell.text_of(card.caption, i),
    )  # fmt: skip


def _add(fig: Any, surface: Surface, over: str, *, raised: bool) -> None:
    """Draw an overlay onto a figure of the surface; a surface without a model stays as it is."""
    if over == "minima":
        bars.add(fig, surface, minima(surface), raised=raised)
    elif over == "model" and Quadratic.of(surface) is not None:
        differences.add(fig, surface, model(surface)[1].model, raised=raised)


def words(surface: Surface, over: str, *, raised: bool) -> str:
    """What an overlay's marks are, for the head of the caption."""
    if over == "minima":
        return (
            f"{'Dots' if raised else 'Rings'} are minima (squares: at the border), diamonds maxima, crosses the passes "
            "where a basin meets a deeper one. "
        )
    if over == "model" and Quadratic.of(surface) is not None:
        return f"Orange: the quadratic model at the origin{'' if raised else ', at every second level of the loss'}. "
    return "There is no quadratic model to show. " if over == "model" else ""


# ------------------------------------------------------------------ cards


def quadratic_card(scene: Scene, plane: str, surface: Draw, height: int = 420) -> Card:
    def need() -> tuple[Surface, Quadratic, Agreement]:
        found = surface()
        return found, *model(found, scene.command("surface", f"--plane {plane}", f"--points {len(found.u)}"))

    def caption(_i: int) -> str:
        found, quadratic, agreed = need()
        first, second = np.linalg.eigvalsh(quadratic.hessian)[::-1]
        return (
            f"Loss against L₀ + g·p + ½ pᵀHp with gradient and Hessian at the origin, relative to the rise. It "
            f"{agreed.words} (orange circle; white line: {100 * agreed.tolerance:g} %). In the plane the gradient is "
            f"{number(float(np.linalg.norm(quadratic.gradient)))}, the curvatures are {number(float(first))} and "
            f"{number(float(second))}{_eigenvalues(found)}. Far out the two may agree because they cross."
        )

    def table(_i: int) -> dict[str, Any]:
        found, _, agreed = need()
        u, v = np.meshgrid(found.u, found.v)
        return {
            "u [unit of weight]": u.ravel(), "v [unit of weight]": v.ravel(), "train loss": found.loss.ravel(),
            "quadratic model": agreed.model.ravel(), "difference [share of the rise]": agreed.difference.ravel(),
        }  # fmt: skip

    return Card(
        "quadratic", "Where the quadratic model holds",
        lambda _i: differences.figure(*need()[::2], theme=scene.theme, height=height), caption, table,
        about="Difference of the loss and its quadratic model at the origin, relative to the rise, on the plane",
    )  # fmt: skip


def _eigenvalues(surface: Surface) -> str:
    """On an eigenvector plane: what the eigenvalues were found to be."""
    values = surface.meta.get("values")
    if surface.plane != "eigen" or not isinstance(values, list) or len(values) != 2:
        return ""
    return f" (eigenvalues: {number(float(values[0]))} and {number(float(values[1]))})"


def topology_card(scene: Scene, surface: Draw, height: int = 420) -> Card:
    def caption(_i: int) -> str:
        found = minima(surface())
        text = (
            f"{found.words} of the sampled grid. A bar runs from a minimum to the pass where it meets a deeper one; "
            "its length is the barrier, within this plane and as finely as the grid; a way around may be lower. "
        )
        if any(pair.extremum.border for pair in found.basins):
            text += "Hollow: at the border, where the loss may fall on outside. "
        if found.not_finite:
            text += f"{found.not_finite:,} losses are not finite: walls. "
        if found.unresolved:
            text += f"{found.unresolved:,} more are no higher than rounding or interpolation may be off."
        return text.rstrip()

    def table(_i: int) -> dict[str, Any]:
        found = minima(surface())
        pairs = [*found.basins, *found.peaks]
        ends = [p.saddle for p in pairs]
        return {
            "kind": ["minimum"] * len(found.basins) + ["maximum"] * len(found.peaks),
            "u [unit of weight]": [p.extremum.u for p in pairs], "v [unit of weight]": [p.extremum.v for p in pairs],
            "train loss": [p.extremum.loss for p in pairs], "at the border": [p.extremum.border for p in pairs],
            "pass u [unit of weight]": [s.u if s else "" for s in ends],
            "pass v [unit of weight]": [s.v if s else "" for s in ends],
            "pass train loss": [s.loss if s else "" for s in ends],
            "barrier": [p.persistence if p.saddle else "" for p in pairs],
        }  # fmt: skip

    return Card(
        "minima", "Minima and the passes between them",
        lambda _i: bars.figure(surface(), minima(surface()), theme=scene.theme, height=height), caption, table,
        about="One bar a basin of the surface, from its minimum to the pass where it meets a deeper one",
    )  # fmt: skip


def topology_table(surface: Draw) -> list[Component]:
    """The most persistent minima and maxima in numbers; nothing where there is no surface."""
    try:
        found = minima(surface())
    except Missing:
        return []
    names = ("Extremum", "Loss", "Barrier", "Pass at loss", "at u", "at v", "Remark")
    head = html.Tr([html.Th(name, className="num" if 0 < i < 6 else "") for i, name in enumerate(names)])
    rows = []
    for index, pair in enumerate(bars.shown(found), start=1):
        kind, at, over = "minimum" if pair in found.basins else "maximum", pair.extremum, pair.saddle
        cells = [at.loss, *((pair.persistence, over.loss) if over else (None, None)), at.u, at.v]
        remark = "at the border" if at.border else ("the deepest" if over is None and kind == "minimum" else "")
        numbers = [html.Td(number(c and float(f"{c:.9g}")), className="num") for c in cells]
        rows.append(html.Tr([html.Td(f"{kind} {index}"), *numbers, html.Td(remark)]))
    if not rows:
        return []
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="runs narrow")
    left = len(found.basins) + len(found.peaks) - len(rows)
    more = [html.P(f"{left:,} less persistent ones are in the CSV.", className="caption")] if left > 0 else []
    title = html.H2("The most persistent minima and maxima")
    return [html.Section([title, html.Div(table, className="table-wrap", tabIndex="0"), *more], className="card wide")]
