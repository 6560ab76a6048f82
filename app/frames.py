"""What the stops of a page's slider change, as data for a frozen page: patches, titles, captions, files, evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import plotly.io as pio

from landscape.errors import ProblemError
from landscape.records import Record

from . import downloads, how, markup, shell
from .view import Card, Page, Place

T = TypeVar("T")
STOPS = 200  # of a slider


def positions(page: Page) -> list[int]:
    """Positions of the slider that a frozen page has: all, or evenly spread ones with both ends and the present one."""
    count = len(page.slider.values) if page.slider and page.slider.values else 1
    if count <= STOPS:
        return list(range(count))
    spread = np.unique(np.append(np.linspace(0, count - 1, STOPS).round().astype(int), page.index))
    return [int(i) for i in spread]


class _Pool:
    """Texts, each kept once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def add(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))


def content(page: Page, place: Place, figures: dict[str, Any], keep: Callable[[str, str], str]) -> str:
    """JavaScript of a page's data: figures at the present stop, and for every stop what is different there."""
    stops, pool = positions(page), _Pool()
    cards: dict[str, Any] = {}
    for name, figure in figures.items():
        card = page.card(name)
        if card is not None:
            cards[name] = {"figure": _plain(figure), **_frames(page, card, place, stops, pool, keep)}
    slider = page.slider if page.slider and page.slider.values else None
    content = {
        "at": stops.index(min(stops, key=lambda k: abs(k - page.index))),
        "values": [slider.values[i] for i in stops] if slider else [],
        "texts": [slider.texts[i] for i in stops] if slider else [],
        "label": slider.label if slider else "",
        "name": slider.name if slider else "",
        "log": slider.log if slider else False,
        "kpis": [pool.add(_safely(lambda i: markup.text(shell.kpi_row(page.kpis(i))), i, "")) for i in stops],
        "cards": cards,
    }
    content["pool"] = list(pool.places)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def _frames(
    page: Page, card: Card, place: Place, stops: Sequence[int], pool: _Pool, keep: Callable[[str, str], str]
) -> dict[str, Any]:
    """Of one card: patches, titles, captions, files and evidence for every stop; texts as places in the pool."""
    nothing: list[Record] = []
    sources = shell.attempt(lambda: how.sources(page, card, page.index), nothing)

    def texts(make: Callable[[int], str]) -> list[int]:
        return [pool.add(_safely(make, i, "")) for i in stops]

    told: dict[Any, str] = {}

    def evidence(i: int) -> str:
        key = how.chosen(sources, page.step_at(i), i)
        if key not in told:
            told[key] = markup.text(how.drawer(sources, page.step_at(i), i))
        return told[key]

    def file(i: int) -> str:
        return keep(card.name, downloads.csv_of(page, card, i, place, sources))

    move = card.move
    titles = texts(lambda i: shell.text_of(card.title, i))
    captions = texts(lambda i: shell.text_of(card.caption, i))
    still = len(set(titles)) == len(set(captions)) == 1 and len({file(stops[k]) for k in (0, len(stops) // 2, -1)}) == 1
    return {
        "moves": [_safely(lambda i: _operations(move(i)), i, []) for i in stops] if move is not None else [],
        "titles": titles,
        "captions": captions,
        "csv": [pool.add(file(stops[0]))] * len(stops) if still else texts(file),
        "how": texts(evidence),
    }


def _safely(make: Callable[[int], T], index: int, otherwise: T) -> T:
    return shell.attempt(lambda: make(index), otherwise)


def _operations(patch: Any) -> list[Any]:
    """A patch of the app as [path, value] or [path, values to add]."""
    found = []
    for step in _plain(patch)["operations"]:
        if step["operation"] not in ("Assign", "Extend"):
            raise ProblemError(f"a frozen page cannot repeat '{step['operation']}'")
        found.append([step["operation"], step["location"], step["params"]["value"]])
    return found


def _plain(value: Any) -> Any:
    """As JSON: numpy arrays in plotly's typed form, NaN as null."""
    return json.loads(pio.json.to_json_plotly(value, engine="json"))
