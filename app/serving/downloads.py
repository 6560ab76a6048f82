"""CSV, HTML and evidence of any card, by plain GET: `/data/<card>.csv?page=<path of the page>&step=...`."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Sequence
from typing import Any

import flask
import numpy as np

from landscape.errors import LandscapeError
from landscape.records import Record

from .. import how, shell
from ..reading import Reader
from ..view import Card, Missing, Page, Place, Table
from . import markup, router


def register(server: flask.Flask, reader: Reader) -> None:
    """Add the route to the web server."""

    @server.get("/data/<name>.<kind>")
    def data(name: str, kind: str) -> flask.Response:
        try:
            return answer(reader, name, kind)
        except (LandscapeError, Missing) as error:
            return refuse(str(error))
        except Exception:
            shell.log.exception("%s.%s could not be made", name, kind)
            return refuse("the file could not be made; the server's log says why")


def answer(reader: Reader, name: str, kind: str) -> flask.Response:
    """The file of a card, or of a table, of the page named in the query.

    Raises:
        LandscapeError: no such page, run, card or file type.
        Missing: the card has nothing to show.
    """
    query = flask.request.query_string.decode("ascii", "replace")
    place = Place.parse(flask.request.args.get("page", "/"), query, flask.request.args.get("theme"))
    _module, page = router.resolve(reader, place)
    card = page.card(name)
    if kind == "csv" and name in page.tables:
        return _file(csv_text(page.tables[name](), [page.title]), "text/csv; charset=utf-8", f"{name}.csv")
    if card is None:
        raise router.NoPage(f"the page has no plot '{name[:40]}'")
    if kind == "csv":
        return _file(csv_of(page, card, page.index, place), "text/csv; charset=utf-8", f"{name}.csv")
    if kind == "how":
        found = how.drawer(how.sources(page, card, page.index), page.step, page.index)
        return flask.Response(markup.text(found), content_type="text/html; charset=utf-8")
    if kind == "html":
        return _file(html_text(page, card), "text/html; charset=utf-8", f"{name}.html")
    raise router.NoPage(f"'{kind[:20]}' is no file type: csv, html or how")


def csv_of(page: Page, card: Card, index: int, place: Place, sources: Sequence[Record] | None = None) -> str:
    """The numbers of a card at a stop of the slider, with what they are and where they come from.

    Raises:
        Missing: the card has nothing to show there.
    """
    found = card.table(index)
    comments = [
        f"{shell.text_of(card.title, index)}: {page.title}",
        shell.text_of(card.caption, index),
        f"page {place.path}",
    ]
    found_in = how.sources(page, card, index) if sources is None else sources
    line = shell.attempt(lambda: how.line(found_in, page.step_at(index)), "")
    return csv_text(found, [*comments, line] if line else comments)


def _file(text: str, kind: str, name: str) -> flask.Response:
    response = flask.Response(text, mimetype=kind.partition(";")[0], content_type=kind)
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def refuse(sentence: str, status: int = 404) -> flask.Response:
    return flask.Response(sentence + "\n", status=status, content_type="text/plain; charset=utf-8")


def csv_text(table: Table, comments: Sequence[str]) -> str:
    """Comment lines with the provenance, a header with units, one row an entry; NaN is an empty field."""
    stream = io.StringIO()
    for comment in comments:
        stream.write(f"# {' '.join(comment.split())}\n")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(list(table))
    columns = [list(_plain(c)) for c in table.values()]
    writer.writerows([c[i] if i < len(c) else "" for c in columns] for i in range(max(map(len, columns), default=0)))
    return stream.getvalue()


def _plain(column: Sequence[Any]) -> Sequence[Any]:
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return ["" if v is None or (isinstance(v, float) and math.isnan(v)) else v for v in values]


def html_text(page: Page, card: Card) -> str:
    """One file that needs no network: the figure with plotly inside, its title and its caption."""
    figure = card.draw(page.index)
    figure.update_layout(
        title={"text": shell.text_of(card.title, page.index), "font": {"size": 15}, "x": 0.02},
        margin={"t": 56},
        paper_bgcolor=None,
    )
    body = figure.to_html(include_plotlyjs=True, full_html=False, config={"displaylogo": False})
    caption = html.escape(shell.text_of(card.caption, page.index))
    found = how.sources(page, card, page.index)
    drawer = markup.text(how.drawer(found, page.step, page.index))
    title = html.escape(page.title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
        f'<body style="font-family:sans-serif;margin:2em">{body}<p>{caption}</p>'
        f'<details><summary>How computed</summary>{drawer}</details></body></html>\n'
    )
