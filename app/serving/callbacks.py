"""The few callbacks that join URL, slider and plots; each is a line or two around a plain function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dash import ALL, Dash, Input, Output, State, html, no_update
from dash import ClientsideFunction as Client
from dash.development.base_component import Component

from landscape.errors import LandscapeError

from .. import now, progress, shell
from ..reading import NotFound, Reader
from ..view import Page, Place
from . import renewal, router, scrubbing

SLIDER = {"type": "slider", "index": ALL}
CONTROL = {"type": "control", "name": ALL, "default": ALL}


def graphs(kind: str) -> dict[str, Any]:
    return {"type": kind, "card": ALL}


Function = TypeVar("Function", bound=Callable[..., Any])


def _callback(app: Dash, *places: Any) -> Callable[[Function], Function]:
    """`app.callback` with a type, which Dash's own decorator lacks; never called on the first layout."""
    decorator: Callable[[Function], Function] = app.callback(*places, prevent_initial_call=True)
    return decorator


def register(app: Dash, reader: Reader) -> None:
    """Connect an app to the store behind `reader`."""
    _register_browser_side(app)

    @_callback(
        app,
        Output("page", "children"),
        Output("nav", "children"),
        Output("badge", "children"),
        Output("info", "data"),
        Output("jobs", "children"),
        Input("place", "data"),
    )
    def show(place: Any) -> tuple[Any, ...]:
        with reader.one_look():
            return show_place(reader, place_of(place))

    @_callback(
        app,
        Output({"type": "live", "index": ALL}, "children"),
        Output({"type": "live-digest", "index": ALL}, "data"),
        Input("tick", "n_intervals"),
        State({"type": "live-digest", "index": ALL}, "data"),
        State("place", "data"),
    )
    def again(_ticks: Any, known: list[Any], place: Any) -> tuple[list[Any], list[Any]]:
        found = renewal.renewed(reader, place_of(place), known)
        same = [no_update] * len(known)
        return (same, same) if found is None else ([found], [now.digest(found)])


def _register_browser_side(app: Dash) -> None:
    def client(name: str, *arguments: Any, **options: Any) -> None:
        app.clientside_callback(Client("landscape", name), *arguments, **options)

    client(
        "locate",
        Output("place", "data"),
        Input("nav", "id"),
        Input(CONTROL, "value"),
        Input("changed", "data"),
        State(CONTROL, "id"),
    )
    client("address", Output("address", "data"), Input("info", "data"), Input(SLIDER, "value"))
    client(
        "click",
        Output(SLIDER, "value"),
        Input(graphs("graph"), "clickData"),
        State("info", "data"),
        State(SLIDER, "value"),
        prevent_initial_call=True,
    )
    client(
        "drag",
        Output("dragged", "data"),
        Input(graphs("graph"), "relayoutData"),
        State("info", "data"),
        prevent_initial_call=True,
    )


# ------------------------------------------------------------------ plain functions


def place_of(data: Any) -> Place:
    data = data if isinstance(data, dict) else {}
    return Place.parse(data.get("path"), data.get("search"), data.get("theme"))


def show_place(reader: Reader, place: Place) -> tuple[Any, ...]:
    """Everything that changes when the reader goes to a URL."""
    try:
        module, page = router.resolve(reader, place)
        content = shell.render(page, place)
    except LandscapeError as error:
        module, page = None, None
        sentence = f"{str(error)[:1].upper()}{str(error)[1:]}".rstrip(".")
        title = "Not found" if isinstance(error, NotFound) else "This cannot be shown"
        content = shell.message(title, f"{sentence}.", heading=html.H1)
        content.append(shell.link("All runs", "/", className="button"))
    except Exception:
        shell.log.exception("page %s could not be made", place.path)
        module, page = None, None
        content = shell.message(
            "This page could not be made", "The server's log says why; other pages go on working.", heading=html.H1
        )
    runs = list(page.runs) if page else []
    badge: list[Component] = [html.Span(page.badge, className="badge")] if page and page.badge else []
    return (
        content,
        shell.navigation(router.navigation(module, page, reader)),
        badge,
        {**info_of(page, place), "signature": shell.attempt(lambda: reader.signature(runs), "")},
        shell.attempt(lambda: progress.banner(reader, runs), []),
    )


def info_of(page: Page | None, place: Place) -> dict[str, Any]:
    """What the scripts in the browser need to know about the page."""
    if page is None:
        return {"title": "Nothing to show", "runs": [], "slider": None}
    s = page.slider
    known = s and {
        "name": s.name,
        "values": list(s.values),
        "texts": list(s.texts),
        "index": s.index,
        "log": s.log,
        "label": s.label,
        "marked": list(s.marked),
        "steps": scrubbing.address(page, place),
    }
    return {"title": page.title, "runs": list(page.runs), "slider": known or None}
