"""What a page is made of: a place (the URL), a page, its cards and key numbers. Plain data, no Dash callbacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import plotly.graph_objects as go
from dash import Patch
from dash.development.base_component import Component

from landscape.records import Record

Table = Mapping[str, Sequence[Any]]  # CSV columns: a name with its unit -> values


class Missing(Exception):
    """A card has nothing to show yet: `sentence` says why, `command` is what to type."""

    def __init__(self, sentence: str, command: str = "") -> None:
        super().__init__(sentence)
        self.sentence, self.command = sentence, command


@dataclass(frozen=True)
class Place:
    """A parsed URL. Query values are the reader's: every getter falls back instead of failing."""

    path: str
    parts: tuple[str, ...]
    query: Mapping[str, str]
    theme: str = "light"

    @classmethod
    def parse(cls, path: object, search: object = "", theme: object = "light") -> Place:
        path = path if isinstance(path, str) and path.startswith("/") else "/"
        search = search if isinstance(search, str) else ""
        parts = tuple(unquote(p) for p in path.split("/") if p)
        query = {k: v[: 2000 if k == "runs" else 200] for k, v in parse_qsl(search.lstrip("?")[:4000])[:50]}
        return cls(path, parts, query, "dark" if theme == "dark" else "light")

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """The query's value where it is one of the choices."""
        value = self.query.get(name, "")
        return value if value in choices else (default if default is not None else choices[0])

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """The query's value where it is a number, clipped to [low, high]."""
        text = self.query.get(name, "")
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", text, re.IGNORECASE | re.ASCII):
            return default
        return min(max(float(text), low), high)

    def nearest(self, name: str, values: Sequence[float]) -> int:
        """Index of the value nearest to the query's; the last one where the query says nothing."""
        if not values:
            return 0
        wanted = self.number(name, float("nan"), min(values), max(values))
        if wanted != wanted:  # not given, or not a number
            return len(values) - 1
        return min(range(len(values)), key=lambda i: abs(values[i] - wanted))


def href(*parts: str, **query: object) -> str:
    """A URL of this app; slashes inside a part (ids of nested runs) are encoded."""
    path = "/" + "/".join(quote(p, safe="") for p in parts)
    kept = {k: v for k, v in query.items() if v not in (None, "")}
    return path + ("?" + urlencode(kept) if kept else "")


@dataclass(frozen=True)
class Kpi:
    label: str
    value: str
    hint: str = ""
    tone: str = ""  # '', 'good' or 'warn'
    amount: float | None = None  # the value as a number, where two steps can be compared
    change: str = ""  # against the pinned step


@dataclass(frozen=True)
class Card:
    """One plot. `draw(i)` makes the whole figure at the i-th selected value, `move(i)` only what a step changes.

    `title` and `caption` are texts, or functions of i. `table(i)` gives the CSV. Any of them may raise `Missing`.
    """

    name: str
    title: str | Callable[[int], str]
    draw: Callable[[int], go.Figure]
    caption: str | Callable[[int], str]
    table: Callable[[int], Table]
    move: Callable[[int], Patch] | None = None
    span: str = ""  # 'wide' takes both columns, 'tall' two rows
    controls: Sequence[Component] = ()
    about: str = ""  # what the picture shows, for screen readers


@dataclass(frozen=True)
class Slider:
    """The page's one selected value: a step, or a position on a path."""

    name: str  # the query's parameter
    values: Sequence[float]
    texts: Sequence[str]
    label: str
    index: int
    log: bool = False  # x axes show log10(1 + value)
    marked: Sequence[int] = ()  # indices that the keys [ and ] go to: steps with a spectrum
    pin: int | None = None  # index of the pinned value
    pins: bool = False  # whether the page shows a pinned value


@dataclass(frozen=True)
class Page:
    title: str
    runs: Sequence[str] = ()  # ids whose files decide what is shown; empty: the whole store
    run: str | None = None  # id behind the navigation links
    badge: str = ""
    slider: Slider | None = None
    kpis: Callable[[int], Sequence[Kpi]] = field(default=lambda _i: ())
    cards: Sequence[Card] = ()
    tables: Mapping[str, Callable[[], Table]] = field(default_factory=dict)  # CSV files that belong to no plot
    tabs: Sequence[Component] = ()  # links and controls above the cards
    before: Sequence[Component] = ()
    after: Sequence[Component] = ()
    live: Callable[[], Sequence[Component]] | None = None  # above the rest, made again while the page is open
    sources: Sequence[Record] = ()  # read while the page was built; those of cards that read nothing when drawn

    @property
    def index(self) -> int:
        return self.slider.index if self.slider else 0

    @property
    def step(self) -> float | None:
        return self.step_at(self.index)

    def step_at(self, index: int) -> float | None:
        """The optimizer step of a slider's stop; None where the slider moves something else."""
        s = self.slider
        return s.values[index] if s and s.name == "step" and 0 <= index < len(s.values) else None

    def card(self, name: str) -> Card | None:
        return next((c for c in self.cards if c.name == name), None)
