"""What the stops of a page's slider change, as data that the browser replays: patches, titles, captions, key numbers.

The app asks for a block of stops at a time, a frozen page has all of them with files and evidence; both are replayed by
`assets/replay.js`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import plotly.io as pio

from landscape.errors import ProblemError
from landscape.records import Record

from .. import how, shell
from ..view import Card, Page, Place
from . import downloads, markup

T = TypeVar("T")
STOPS = 200  # of a slider on a frozen page
BLOCK_BYTES = 120_000  # of an answer, about


def positions(page: Page) -> list[int]:
    """Positions of the slider that a frozen page has: all, or evenly spread ones with both ends and the present one."""
    count = len(page.slider.values) if page.slider and page.slider.values else 1
    if count <= STOPS:
        return list(range(count))
    spread = np.unique(np.append(np.linspace(0, count - 1, STOPS).round().astype(int), page.index))
    return [int(i) for i in spread]


class Pool:
    """Texts, each kept once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def add(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))


def moving(page: Page, stops: Sequence[int], pool: Pool) -> dict[str, Any]:
    """What differs between stops of the slider; texts, and key numbers as HTML, as places in the pool."""

    def numbers(i: int) -> list[int]:
        return [pool.add(markup.text(part)) for part in shell.kpi_row(page.kpis(i))]

    none: list[int] = []
    return {
        "kpis": [_safely(numbers, i, none) for i in stops],
        "cards": {card.name: _moves(card, stops, pool) for card in page.cards},
    }


def _moves(card: Card, stops: Sequence[int], pool: Pool) -> dict[str, Any]:
    move = card.move
    return {
        "moves": [_safely(lambda i: _operations(move(i)), i, []) for i in stops] if move is not None else [],
        "titles": [pool.add(_safely(lambda i: shell.text_of(card.title, i), i, "")) for i in stops],
        "captions": [pool.add(_safely(lambda i: shell.text_of(card.caption, i), i, "")) for i in stops],
    }


def block(page: Page, index: int, count: int) -> str:
    """JSON of some stops around one, fewer than `count` where they are large; `values` are the slider's."""
    values = page.slider.values if page.slider else ()
    if not values:
        return json.dumps({"values": []})

    def made(stops: Sequence[int]) -> str:
        pool = Pool()
        found = {"values": [_plain(values[i]) for i in stops], **moving(page, stops, pool)}
        return _json({**found, "pool": list(pool.places)})

    alone = made([index])
    count = min(count, BLOCK_BYTES // len(alone))
    if count <= 1:
        return alone
    start = max(0, min(index - count // 2, len(values) - count))
    return made(range(start, min(start + count, len(values))))


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def content(page: Page, place: Place, figures: dict[str, Any], keep: Callable[[str, str], str]) -> str:
    """JavaScript of a frozen page's data: figures at the present stop, and for every stop what is different there."""
    stops, pool = positions(page), Pool()
    found = moving(page, stops, pool)
    cards: dict[str, Any] = {}
    for name, figure in figures.items():
        card = page.card(name)
        if card is not None:
            more = _files(page, card, place, stops, pool, keep, found["cards"][name])
            cards[name] = {"figure": _plain(figure), **found["cards"][name], **more}
    slider = page.slider if page.slider and page.slider.values else None
    content = {
        "at": stops.index(min(stops, key=lambda k: abs(k - page.index))),
        "values": [_plain(slider.values[i]) for i in stops] if slider else [],
        "texts": [slider.texts[i] for i in stops] if slider else [],
        "label": slider.label if slider else "",
        "name": slider.name if slider else "",
        "log": slider.log if slider else False,
        "kpis": found["kpis"],
        "cards": cards,
    }
    content["pool"] = list(pool.places)
    return _json(content).replace("</", "<\\/")


def _files(
    page: Page, card: Card, place: Place, stops: Sequence[int], pool: Pool, keep: Callable[[str, str], str],
    texts: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Of one card: a file and the evidence for every stop."""
    nothing: list[Record] = []
    sources = shell.attempt(lambda: how.sources(page, card, page.index), nothing)
    told: dict[Any, str] = {}

    def evidence(i: int) -> str:
        key = how.chosen(sources, page.step_at(i), i)
        if key not in told:
            told[key] = markup.text(how.drawer(sources, page.step_at(i), i))
        return told[key]

    def file(i: int) -> str:
        return keep(card.name, downloads.csv_of(page, card, i, place, sources))

    def all_of(make: Callable[[int], str]) -> list[int]:
        return [pool.add(_safely(make, i, "")) for i in stops]

    same_text = len(set(texts["titles"])) == len(set(texts["captions"])) == 1
    still = same_text and len({file(stops[k]) for k in (0, len(stops) // 2, -1)}) == 1
    return {"csv": [pool.add(file(stops[0]))] * len(stops) if still else all_of(file), "how": all_of(evidence)}


def _safely(make: Callable[[int], T], index: int, otherwise: T) -> T:
    return shell.attempt(lambda: make(index), otherwise)


def _operations(patch: Any) -> list[Any]:
    """A patch of the app as [path, value] or [path, values to add]."""
    found = []
    for step in _plain(patch)["operations"]:
        if step["operation"] not in ("Assign", "Extend"):
            raise ProblemError(f"a browser cannot replay '{step['operation']}'")
        found.append([step["operation"], step["location"], step["params"]["value"]])
    return found


def _plain(value: Any) -> Any:
    """As JSON: numpy arrays in plotly's typed form, NaN as null."""
    return json.loads(pio.json.to_json_plotly(value, engine="json"))
