"""Runs: one row a run or a group of runs, sorted, filtered and paged by the URL, and the paths between them."""

from __future__ import annotations

import json
import shlex
from typing import Any

import numpy as np
from dash import dcc, html
from dash.development.base_component import Component
from plotly.utils import PlotlyJSONEncoder

from landscape.errors import LandscapeError
from landscape.stores.run_directory import Run

from .. import facts, filters, shell, summaries
from ..numbers import brief, number
from ..reading import Reader
from ..summaries import Row
from ..view import Page, Place, href
from .compare import MOST, joined
from .path import paths_of

NAME, ORDER = "Runs", 0
ROWS = 40
COLUMNS = (  # name in the URL, title, is a number
    ("run", "Run", False),
    ("problem", "Problem", False),
    ("optimizer", "Optimizer", False),
    ("lr", "η", True),
    ("steps", "Steps", True),
    ("loss", "Train loss", True),
    ("acc", "Accuracy %", True),
    ("lmax", "λmax", True),
    ("lmin", "λmin", True),
    ("trace", "Trace", True),
)
GROUPS = {"optimizer": "optimizer", "problem": "problem", "lr": "η", "folder": "folder"}  # name in the URL: words
PATHS = 200  # rows of the table of paths


def match(parts: tuple[str, ...]) -> bool:
    return parts == () or parts == ("runs",)


def link(_run: str | None, _page: Page | None = None) -> str:
    return "/"


def build(reader: Reader, place: Place) -> Page:
    rows = summaries.rows(reader)
    unreadable = unreadable_card(reader)
    if not rows:
        return Page("Runs", after=[*none_yet(reader), *unreadable])
    query, group = place.query.get("q", ""), place.choice("group", ("", *GROUPS))
    sort = place.query.get("sort", "run")
    if sort.lstrip("-") not in {c[0] for c in COLUMNS}:
        sort = "run"
    matching = [r for r in rows if filters.matches(r, query)]
    shown = filters.order(
        filters.grouped(matching, group, [c[0] for c in COLUMNS if c[2]]) if group else matching, sort
    )
    pages = max(1, -(-len(shown) // ROWS))
    number_ = int(place.number("page", 1, 1, pages))
    part = shown[(number_ - 1) * ROWS : number_ * ROWS]
    bar = toolbar(place, rows, matching, query, number_, pages)
    content = [html.Section([bar, groups(place, group), table(part, place, sort, query, group)], className="card wide")]
    paths = path_links(reader, rows)
    if paths:
        content.append(
            html.Section([html.Div(html.H2("Paths between minima"), className="head"), paths], className="card wide")
        )
    return Page("Runs", after=[*content, *unreadable], tables={"runs": lambda: csv_columns(shown)})


def none_yet(reader: Reader) -> list[Component]:
    where = shlex.quote(str(reader.store))
    return shell.message(
        "No runs yet",
        f"No runs in {reader.store} yet. Make some in a minute with the first line, or train one yourself with the "
        "second; this page updates by itself.",
        f"landscape demo --out {where}\nlandscape train digits_mlp --optimizer SGD --set lr=0.1 --out {where}/my-run",
    )


def unreadable_card(reader: Reader) -> list[Component]:
    """What is wrong with the runs that the table lacks."""
    wrong = reader.unreadable()
    if not wrong:
        return []
    lines = [html.Li([html.Strong(name), ": ", sentence], className="words") for name, sentence in wrong.items()]
    more = [html.Li(f"and {len(lines) - ROWS:,} more")] if len(lines) > ROWS else []
    title = f"{len(wrong):,} run{'s' * (len(wrong) != 1)} cannot be read"
    return [html.Section([html.H2(title), html.Ul([*lines[:ROWS], *more], className="warn")], className="card wide")]


# ------------------------------------------------------------------ table


def toolbar(place: Place, rows: list[Row], shown: list[Row], query: str, page: int, pages: int) -> html.Div:
    optimizers = sorted({str(r["optimizer"]) for r in rows})
    chips = [
        shell.link("all", url(place, q=""), className="chip"),
        *(shell.link(o, url(place, q=f"optimizer={o}"), className="chip") for o in optimizers[:8]),
    ]
    count = (
        f"{len(shown):,} of {len(rows):,} runs"
        if len(shown) != len(rows)
        else f"{len(rows):,} run{'s' * (len(rows) != 1)}"
    )
    parts: list[Component] = [
        html.H2(count, className="count"),
        dcc.Input(
            id={"type": "control", "name": "q", "default": ""},
            value=query,
            type="search",
            debounce=0.35,
            className="filter",
            placeholder="Filter: optimizer=SGD lmax<5 mlp",
            **{"name": "Filter runs"},
        ),
        *(chips if len(optimizers) > 1 else []),
        html.Span(className="grow"),
    ]
    if pages > 1:
        parts += [
            shell.link("← previous", url(place, page=page - 1), className="button") if page > 1 else html.Span(),
            html.Span(f"page {page} of {pages}"),
            shell.link("next →", url(place, page=page + 1), className="button") if page < pages else html.Span(),
        ]
    few = [str(r["id"]) for r in shown[:MOST]]
    if len(few) > 1:
        words = f"Compare these {len(few)}" if len(few) == len(shown) else f"Compare the first {len(few)}"
        parts.append(shell.link(words, href("compare", runs=joined(few)), className="button"))
    parts.append(
        html.A(
            "CSV",
            href=href("data", "runs.csv", page="/", **kept(place)),
            download="runs.csv",
            className="button",
            **{"data-keep": "q sort group", "data-file": "1"},
        )
    )
    return html.Div(parts, className="bar-of-table")


def kept(place: Place) -> dict[str, str]:
    return {k: v for k, v in place.query.items() if k in ("q", "sort", "group")}


def url(place: Place, **changes: Any) -> str:
    return href(**{**kept(place), **changes})


def groups(place: Place, here: str) -> Component:
    entries = [("none", url(place, group=""), not here)]
    entries += [(words, url(place, group=name), name == here) for name, words in GROUPS.items()]
    return shell.tabs("Group by", entries, keep="")


def table(rows: list[Row], place: Place, sort: str, query: str, group: str) -> Component:
    if not rows:
        return shell.empty(f"No run matches '{query}'.")
    columns = [c for c in COLUMNS if not group or c[0] not in ("problem", "optimizer")]
    head = [heading(place, sort, *column) for column in columns]
    head += [html.Th("Runs")] if group else [html.Th("Records"), html.Th("Loss curve")]
    body = [group_line(r, place, group) if group else _drawn(r) for r in rows]
    about = [html.P("Medians of the runs that have a value, with the smallest and the largest.", className="caption")]
    return html.Div(
        [html.Table([html.Thead(html.Tr(head)), html.Tbody(body)], className="runs"), *(about if group else [])],
        className="table-wrap",
        tabIndex="0",
    )


def group_line(r: Row, place: Place, group: str) -> html.Tr:
    """A group of runs as a row that leads to its runs."""
    words = place.query.get("q", "").split()
    word = f"{group}=={r['value']}"  # of one word: a filter is split at spaces
    inside = url(place, group="", q=" ".join([*words, word])) if r["value"] and len(word.split()) == 1 else None
    cells = [html.Td(shell.link(r["run"], inside) if inside else r["run"])]
    for name in [c[0] for c in COLUMNS if c[2]]:
        low, high = r[f"{name} from"], r[f"{name} to"]
        span = f"{number(low)} to {number(high)}" if low is not None and low != high else ""
        cells.append(html.Td([number(r[name]), html.Div(span, className="muted")], className="num"))
    return html.Tr([*cells, html.Td(f"{r['count']:,}", className="num")])


def heading(place: Place, sort: str, name: str, title: str, numeric: bool) -> html.Th:
    direction = {name: "ascending", f"-{name}": "descending"}.get(sort)
    turned = f"-{name}" if sort == name or (numeric and sort != f"-{name}") else name
    mark = {"ascending": " ▲", "descending": " ▼"}.get(direction or "", "")
    return html.Th(
        shell.link(title + mark, url(place, sort=turned)),
        className="num" if numeric else "",
        **({"aria-sort": direction} if direction else {}),
    )


_lines: dict[int, tuple[Row, html.Tr]] = {}


def _drawn(r: Row) -> html.Tr:
    """A run's row, made once: summaries hands out the same dictionary while a run's files do not change."""
    key = id(r)
    if key not in _lines:
        if len(_lines) >= 4096:
            _lines.clear()
        made = line(r)
        plain = json.loads(json.dumps(made, cls=PlotlyJSONEncoder))
        made.__dict__["to_plotly_json"] = lambda: plain  # its JSON too: a third of what a sorted table costs
        _lines[key] = (r, made)  # the row is kept, so that no id is given to another meanwhile
    return _lines[key][1]


def line(r: Row) -> html.Tr:
    c: facts.Curvature | None = r["curvature"]
    sharpness: list[Any] = [number(r["lmax"], 4)]
    if c is not None and not c.converged:
        sharpness.append(
            html.Span("±", className="flag", title=f"not converged: residual {number(c.sharpness_residual, 2)}")
        )
    trace: list[Any] = [number(r["trace"])]
    if c is not None and np.isfinite(c.trace_half):
        trace.append(html.Span(f" ± {number(c.trace_half, 2)}", className="muted"))
    detail: list[Any] = [r["records"]]
    if r["jobs"]:
        detail.append(html.Div(r["jobs"], className="warn"))
    numbers = [brief(r["lr"]), f"{r['steps']:,}", number(r["loss"]), "–" if r["acc"] is None else f"{r['acc']:.1f}"]
    return html.Tr(
        [
            html.Td(shell.link(r["run"], href("run", r["id"]))),
            html.Td(r["problem"]),
            html.Td(r["optimizer"]),
            *(html.Td(n, className="num") for n in numbers),
            html.Td(sharpness, className="num"),
            html.Td(number(r["lmin"]), className="num"),
            html.Td(trace, className="num"),
            html.Td(detail, className="words"),
            html.Td(r["curve"]),
        ]
    )


def path_links(reader: Reader, rows: list[Row]) -> Component | None:
    """Every computed path as a link with its barrier."""
    starts = [r["id"] for r in rows if r["paths"]][:PATHS]
    runs = reader.runs() if starts else []
    lines = [line for run_id in starts for line in path_lines(reader, run_id, runs)][:PATHS]
    if not lines:
        return None
    head = html.Tr(
        [
            html.Th("From A to B"),
            html.Th("Shape"),
            html.Th("Barrier", className="num"),
            html.Th("Distance", className="num"),
            html.Th("Spectra"),
        ]
    )
    return html.Div(
        html.Table([html.Thead(head), html.Tbody(lines)], className="runs narrow"), className="table-wrap", tabIndex="0"
    )


def path_lines(reader: Reader, run_id: str, runs: list[tuple[str, Run]]) -> list[html.Tr]:
    try:
        run = reader.run(run_id)
    except LandscapeError:  # it went while the page was made
        return []
    found = []
    for key, other in paths_of(reader, run, runs):
        try:
            meta = run.meta(key)
        except LandscapeError as error:
            found.append(html.Tr([html.Td(key), html.Td(str(error), className="words warn", colSpan="4")]))
            continue
        cells = [
            html.Td(shell.link(f"{run_id} → {other}", href("path", run_id, other))),
            html.Td(str(meta.get("shape", ""))),
            html.Td(number(facts.figure(meta.get("barrier"))), className="num"),
            html.Td(number(facts.figure(meta.get("length"))), className="num"),
            html.Td("yes" if meta.get("spectra_values") else "no"),
        ]
        found.append(html.Tr(cells))
    return found


def csv_columns(rows: list[Row]) -> dict[str, Any]:
    table = {title: [r.get(name, "") for r in rows] for name, title, _numeric in COLUMNS}
    return table | {"Records": [r.get("records", f"{r.get('count', 1)} runs") for r in rows]}
