"""A job put together on a page: its controls, the command line, the batch script, and the button that starts it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from landscape import batch_script
from landscape.errors import LandscapeError

from . import offers, shell
from .offers import OFFERS, Field, Offer
from .reading import THIS, Reader
from .view import Place, href

MOST = 12  # runs that are offered as links


def values(reader: Reader, place: Place, job: str | None = None) -> dict[str, str]:
    """The settings of the URL, with the store's first run where it names none."""
    found = {k: v for k, v in place.query.items() if k not in ("step", "t")}
    if job is not None:
        found["job"] = job
    if not found.get("run"):
        names = offers.names(reader)
        found["run"] = names[0] if names else ""
    return found


def form(reader: Reader, place: Place, job: str | None = None) -> list[Component]:
    """Controls of a job and what they amount to; with `job` that one, else one of all that are offered."""
    given = values(reader, place, job)
    offer = OFFERS.get(given.get("job", ""), OFFERS["spectrum"])
    names = list(offers.names(reader))
    rows: list[Component] = []
    boxes: list[Component] = []
    if job is None:  # else the page has chosen both
        rows.append(_row(place, given, "Job", "job", list(OFFERS), offer.job))
        few = len(names) <= MOST
        (rows if few else boxes).append(
            _row(place, given, "Run", "run", names, given["run"]) if few else _text("run", "Run", given)
        )
    for field in offer.fields:
        control = _control(reader, place, given, field)
        (boxes if isinstance(control, html.Label) else rows).append(control)
    if offer.ranked:
        boxes.append(_text("ranks", "Ranks", given, "2"))
    parts = [*rows, html.Div(boxes, className="row boxes")]
    return [html.Div(parts, className="form"), *_result(reader, given, offer)]


def _control(reader: Reader, place: Place, given: Mapping[str, str], field: Field) -> Component:
    label = field.label[:1].upper() + field.label[1:]
    value = given.get(field.name) or field.default
    if field.kind == "number":
        return _text(field.name, label, given, field.default)
    others = [n for n in offers.names(reader) if n != given["run"]]
    choices = {"switch": ["yes", "no"], "run": others}.get(field.kind, list(field.choices))
    if len(choices) > MOST:
        return _text(field.name, label, given)
    return _row(place, given, label, field.name, choices, value)


def _row(place: Place, given: Mapping[str, str], label: str, name: str, choices: list[str], value: str) -> Component:
    """Links, one a choice; another job or run forgets nothing that still fits."""

    def url(choice: str) -> str:
        return href(*place.parts, **{**given, name: choice})

    return shell.tabs(label, [("this run" if c == THIS else c, url(c), c == value) for c in choices], keep="")


def _text(name: str, label: str, given: Mapping[str, str], default: str = "") -> Component:
    box = dcc.Input(
        id={"type": "control", "name": name, "default": default}, value=given.get(name) or default, debounce=0.4,
        type="text", className="filter short", **{"name": label},
    )  # fmt: skip
    return html.Label([html.Span(label, className="tabs-label"), box], className="tab-row")


def _result(reader: Reader, given: Mapping[str, str], offer: Offer) -> list[Component]:
    try:
        order = offers.order(reader, given)
    except LandscapeError as error:
        return [shell.empty(f"{str(error)[:1].upper()}{str(error)[1:]}.")]
    words = list(order.words) + (["--out", order.file] if order.file else [])
    typed = ["landscape", *map(_typed, words)]
    line = shlex.join(["mpirun", "-n", str(order.ranks), *typed] if order.ranks > 1 else typed)
    parts = [_copied(f"In a terminal: {offer.about}", line)]
    if offer.ranked:
        script = batch_script.script(words, order.ranks)
        parts.append(_copied("As a batch script: save it, read it, then sbatch FILE", script, tall=True))
    return [*parts, start(reader, given)]


def _typed(word: str) -> str:
    """A path as it would be typed here: relative where it lies below the working directory."""
    path, here = Path(word), Path.cwd()
    if not path.is_absolute() or path == here or not path.is_relative_to(here):
        return word
    short = str(path.relative_to(here))
    return word if short.startswith("-") else short


def _copied(label: str, text: str, *, tall: bool = False) -> html.Div:
    button = html.Button("Copy", type="button", className="button", **{"data-copy": "1"})
    head = html.Div([html.Span(label, className="tabs-label"), button], className="row")
    shown = html.Pre(html.Code(text), tabIndex="0", className="tall" if tall else "")
    return html.Div([head, shown], className="copied")


def start(reader: Reader, given: Mapping[str, str]) -> Component:
    """The button, where this dashboard may start jobs; else the sentence that says how it could."""
    if reader.queue is None:
        return html.P(
            "This dashboard is read-only. Started with `landscape dashboard STORE --allow-submit` it has a button.",
            className="caption",
        )
    data: dict[str, Any] = {"data-start": json.dumps(dict(given), sort_keys=True), "data-token": reader.token}
    button = html.Button("Start on this machine", type="button", className="button strong", **data)
    return html.Div([button, html.Span(className="told", role="status")], className="row")
