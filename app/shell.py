"""From a page to components: header, navigation, key numbers, slider, cards and their empty states."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from landscape.errors import LandscapeError
from landscape.records import Record

from . import how, now
from .notes import noting
from .view import Card, Kpi, Missing, Page, Place, Slider

T = TypeVar("T")
log = logging.getLogger("landscape.app")
MODEBAR = {"displayModeBar": False, "responsive": True, "showTips": False}


def link(text: Any, url: str, *, keep: str = "", **attributes: Any) -> html.A:
    """A link inside the app; `keep` names query parameters of the present URL that travel along."""
    return html.A(text, href=url, **{"data-keep": keep}, **attributes)


def frame() -> html.Div:
    """The part of the page that never changes."""
    return html.Div(
        [
            html.A("Skip to content", href="#main", className="skip"),
            html.Header(
                [
                    link("Landscape", "/", className="brand"),
                    html.Div(id="badge", className="badge-place"),
                    html.Div(
                        [
                            html.Button("Copy link", id="copy-link", className="button", type="button"),
                            html.Button("Dark", id="theme-button", className="button", type="button"),
                        ],
                        className="actions",
                    ),
                ],
                className="top",
            ),
            html.Nav(id="nav", className="side", **{"aria-label": "Pages"}),
            html.Main(
                [
                    html.Div(id="lost", className="job warn", role="status"),
                    html.Div(id="jobs", **{"aria-live": "polite"}),
                    html.Div(id="page"),
                ],
                id="main",
            ),
            dcc.Store(id="place"),
            dcc.Store(id="info"),
            dcc.Store(id="address"),
            dcc.Store(id="changed"),
            dcc.Store(id="dragged"),
        ],
        className="frame",
    )


def navigation(entries: Sequence[tuple[str, str | None, bool]]) -> list[Component]:
    """Links (name, url, is the present page); those without a url are greyed and say why."""
    found: list[Component] = []
    for name, url, here in entries:
        if url is None:
            found.append(html.Span(name, className="off", title=f"Choose a run first, then {name}"))
        else:
            here_attribute = {"aria-current": "page"} if here else {}
            found.append(link(name, url, keep="step pin", className="here" if here else "", **here_attribute))
    return found


def render(page: Page, place: Place) -> list[Component]:
    """The main part of a page."""
    index = page.index
    parts: list[Component] = [html.H1(page.title, className="hidden")]
    if page.live is not None:
        parts += now.section(page.live)
    parts += page.before
    kpis: Sequence[Kpi] = attempt(lambda: page.kpis(index), [])
    if kpis:
        parts.append(html.Div(kpi_row(kpis), className="kpis", id={"type": "kpis", "index": "main"}))
    if page.slider and len(page.slider.values) > 1:
        parts.append(slider(page.slider))
    if page.tabs:
        parts.append(html.Div(list(page.tabs), className="tabs"))
    if page.cards:
        parts.append(html.Div([card(c, page, place) for c in filled(page.cards)], className="cards"))
    parts += page.after
    return parts


def attempt(make: Callable[[], T], otherwise: T) -> T:
    """Run a piece of a page; a fault in it costs that piece, never the page, and goes to the log."""
    try:
        return make()
    except (LandscapeError, Missing):
        return otherwise
    except Exception:
        log.exception("a part of the page could not be made")
        return otherwise


# ------------------------------------------------------------------ key numbers and slider


def kpi_row(kpis: Sequence[Kpi]) -> list[Component]:
    return [
        html.Div(
            [
                html.Div(k.label, className="label"),
                html.Div(k.value, className="value"),
                html.Div(k.hint, className=f"hint {k.tone}"),
                *([html.Div(k.change, className="hint pinned")] if k.change else []),
            ],
            className="kpi",
        )
        for k in kpis
    ]


def slider(model: Slider) -> html.Div:
    """One stop a value; labels only where there is room."""
    last = len(model.values) - 1
    stride = max(1, -(-last // 9))
    labelled = [i for i in range(0, last + 1, stride) if i == last or last - i >= stride * 0.7] + [last]
    marks: dict[int, Any] = {i: model.texts[i] for i in labelled}
    bar = html.Div(
        dcc.Slider(
            id={"type": "slider", "index": "main"},
            min=0,
            max=last,
            step=1,
            value=model.index,
            marks=marks,
            updatemode="drag",
            allow_direct_input=False,
            included=True,
            className="steps",
        ),
        className="grow",
        title=f"{model.label}: drag, or use the arrow keys; [ and ] go to the next spectrum, space plays",
        **{"data-label": model.label},
    )
    return html.Div([bar, *([pin_button(model)] if model.pins else [])], className="slider")


def pin_button(model: Slider) -> html.Button:
    """Keeps the selected step in the plots while others are looked at; the scripts act on `data-pin`."""
    text = "Pin this step" if model.pin is None else f"Unpin {model.texts[model.pin]}"
    title = "Compare with this step; shift-click on a time axis pins as well"
    return html.Button(text, type="button", className="button", title=title, **{"data-pin": "1"})


# ------------------------------------------------------------------ cards


def filled(cards: Sequence[Card]) -> list[Card]:
    """The cards in two columns: one that would stand alone in its row takes the whole row."""
    spans = [c.span for c in cards]
    if "tall" in spans:  # such a page arranges its cards itself
        return list(cards)
    alone: int | None = None  # the card at the left of a row that is not full yet
    for n, span in enumerate([*spans, "wide"]):
        if span != "wide":
            alone = n if alone is None else None
        elif alone is not None:
            spans[alone], alone = "wide", None
    return [dataclasses.replace(c, span=span) for c, span in zip(cards, spans, strict=True)]


def text_of(text: str | Callable[[int], str], index: int) -> str:
    return text if isinstance(text, str) else text(index)


def card(model: Card, page: Page, place: Place) -> html.Section:
    """Title, downloads, plot, caption, provenance and drawer; or the sentence that says why there is no plot."""
    index = page.index
    try:
        with noting() as found:
            figure = model.draw(index)
        title, caption = text_of(model.title, index), text_of(model.caption, index)
    except Missing as empty:
        return _empty(model, index, empty.sentence, empty.command)
    except LandscapeError as error:
        return _empty(model, index, str(error), "")
    except Exception:
        log.exception("card %s could not be drawn", model.name)
        return _empty(model, index, "This plot could not be drawn; the server's log says why.", "")
    return html.Section(
        [
            html.Div(
                [
                    html.H2(title, id={"type": "title", "card": model.name}),
                    html.Div([*model.controls], className="controls"),
                    html.Div(downloads(model, place), className="downloads"),
                ],
                className="head",
            ),
            html.Div(
                dcc.Graph(
                    id={"type": "graph", "card": model.name},
                    figure=figure,
                    config=MODEBAR,
                    style={"height": f"{height_of(figure)}px"},
                ),
                role="img",
                className="plot",
                style={"minHeight": f"{height_of(figure)}px"},  # nothing below moves when the plot arrives
                **{"aria-label": model.about or caption, "data-card": model.name},
            ),
            html.P(caption, className="caption", id={"type": "caption", "card": model.name}),
            evidence(model, page, found.records() or list(page.sources)),
        ],
        className=f"card {model.span}".rstrip(),
        **{"data-card": model.name},
    )


def evidence(model: Card, page: Page, sources: Sequence[Record]) -> html.Details:
    """A line of provenance that opens into the drawer 'How computed', which the browser asks for when it is opened."""
    line = attempt(lambda: how.line(sources, page.step), "")
    return html.Details(
        [
            html.Summary([
                html.Span("How computed", className="how-word"), html.Span(whole(line), className="how-line"),
            ]),
            html.Div(className="how-body", **{"aria-live": "polite"}),
        ],
        className="how",
        **{"data-how": model.name},
    )


def whole(line: str) -> list[Any]:
    """The parts of a line, none of them broken: a date may not end in '2026-'."""
    parts = line.split(", ")
    ends = [f"{part}," for part in parts[:-1]] + parts[-1:]
    return [piece for part in ends if part for piece in (html.Span(part, className="whole"), " ")]


def height_of(figure: go.Figure) -> int:
    return int(figure.layout.height or 320)


def downloads(model: Card, place: Place) -> list[Component]:
    """CSV and HTML come from the server, SVG and PNG from the picture in the page."""
    from .view import href

    def url(kind: str) -> str:
        return href("data", f"{model.name}.{kind}", **{**place.query, "page": place.path, "theme": place.theme})

    name = str(model.name)
    return [
        html.A("CSV", href=url("csv"), download=f"{name}.csv", **{"data-keep": "step t slice", "data-file": "1"}),
        html.Button("SVG", type="button", **{"data-save": "svg", "data-name": name}),
        html.Button("PNG", type="button", **{"data-save": "png", "data-name": name}),
        html.A("HTML", href=url("html"), download=f"{name}.html", **{"data-keep": "step t slice", "data-file": "1"}),
    ]


def _empty(model: Card, index: int, sentence: str, command: str) -> html.Section:
    title = model.title if isinstance(model.title, str) else attempt(lambda: text_of(model.title, index), model.name)
    return html.Section(
        [
            html.Div(html.H2(title), className="head"),
            html.Div(empty(sentence, command), className="plot"),
        ],
        className=f"card {model.span}".rstrip(),
        **{"data-card": model.name},
    )


def empty(sentence: str, command: str = "") -> html.Div:
    """An empty state: one sentence and, where there is one, the exact command to type."""
    children: list[Component] = [html.P(sentence)]
    if command:
        children.append(html.Pre(html.Code(command), tabIndex="0"))
    return html.Div(children, className="empty")


def message(title: str, sentence: str, command: str = "", *, heading: type[Component] = html.H2) -> list[Component]:
    """A card that is only a sentence."""
    return [html.Section([heading(title), empty(sentence, command)], className="card wide message")]


def tabs(label: str, entries: Sequence[tuple[str, str, bool]], keep: str = "step t over pin") -> html.Div:
    """A row of links of which one is the present choice; they keep those of the URL's settings that are named."""
    return html.Div(
        [
            html.Span(label, className="tabs-label"),
            *(
                link(
                    text,
                    url,
                    keep=keep,
                    className="choice-tab here" if here else "choice-tab",
                    **({"aria-current": "true"} if here else {}),
                )
                for text, url, here in entries
            ),
        ],
        className="tab-row",
    )
