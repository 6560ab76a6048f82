"""Jobs: what runs now, how far and how fast; a new one as a command line, a batch script, or a button."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

from dash import html
from dash.development.base_component import Component

from .. import forms, progress, shell
from ..numbers import number
from ..reading import THIS, Reader
from ..serving.queueing import Entry
from ..view import Page, Place, href

NAME, ORDER = "Jobs", 8
LIVE = True  # nothing to freeze
ROWS = 100
HEAD = ("Run", "Job", "State", "Progress", "Rate", "Left", "Memory a rank", "Ranks", "Last sign of life (UTC)")


def match(parts: tuple[str, ...]) -> bool:
    return parts == ("jobs",)


def link(run: str | None, _page: Page | None = None) -> str:
    return href("jobs", run=run)


def build(reader: Reader, place: Place) -> Page:
    new = html.Section(
        [html.Div(html.H2("A new job"), className="head"), *forms.form(reader, place)], className="card wide"
    )
    return Page("Jobs", live=lambda: now(reader), after=[new])


def now(reader: Reader) -> list[Component]:
    """The queue of this dashboard, and every job that has left a status in the store."""
    parts: list[Component] = []
    if reader.queue is not None and reader.queue.entries:
        entries = sorted(reader.queue.entries, key=lambda e: -e.number)
        parts.append(_card("Started here", [entry(e, reader.token) for e in entries[:ROWS]]))
    found = rows(reader)
    if not found:
        return [
            *parts,
            *shell.message("Jobs of this store", "No job has run in this store yet; the form below makes one."),
        ]
    shown = found[:ROWS]
    head = html.Thead(html.Tr([html.Th(h, className="num" if k > 3 else "") for k, h in enumerate(HEAD)]))
    table = html.Table([head, html.Tbody([line for r in shown for line in row(*r)])], className="runs jobs")
    more = f"The {ROWS} latest of {len(found):,} jobs." if len(found) > ROWS else ""
    return [*parts, _card("Jobs of this store", [html.Div(table, className="table-wrap", tabIndex="0"),
                                                 html.P(more, className="caption")])]  # fmt: skip


def _card(title: str, content: list[Component]) -> html.Section:
    return html.Section([html.Div(html.H2(title), className="head"), *content], className="card wide")


# ------------------------------------------------------------------ from status files


def rows(reader: Reader) -> list[tuple[str, str, dict[str, Any], str]]:
    """(run, job, status, state) of every status file, those at work first, then the latest."""
    found = [(run_id, job, status, progress.state(status))
             for run_id, run in reader.runs() for job, status in run.statuses().items()]  # fmt: skip
    return sorted(found, key=lambda r: (r[3] != "running", -_number(r[2].get("updated")), r[0], r[1]))


def row(run_id: str, job: str, status: dict[str, Any], state: str) -> list[html.Tr]:
    """A line of the table, and one below it with the command and the end of the log."""
    numbers = [
        _rate(status), _left(status, state), _memory(status), str(status.get("ranks", "–")), _when(status, state),
    ]  # fmt: skip
    tone = {"running": "good", "stale": "warn", "failed": "warn", "stopped": "warn"}.get(state, "")
    done, total = _number(status.get("done")), _number(status.get("total"))
    far = f"{done:,.0f} of {total:,.0f} {status.get('unit') or ''}".strip() if total else "–"
    bar = html.Span(html.Span(style={"width": f"{100 * progress.share(status):.1f}%"}), className="bar")
    lines = [
        html.Tr([
            html.Td(shell.link("this run" if run_id == THIS else run_id, href("run", run_id))), html.Td(job),
            html.Td(state, className=tone), html.Td(html.Span([bar, f" {far}"], className="row")),
            *(html.Td(n, className="num") for n in numbers),
        ])
    ]  # fmt: skip
    command, log = status.get("command"), status.get("log")
    if isinstance(command, str) and command:
        tail = "\n".join(str(x) for x in log[-30:]) if isinstance(log, list) else ""
        lines.append(html.Tr(html.Td(_more(command, tail), colSpan=str(len(HEAD))), className="more"))
    return lines


def _more(command: str, log: str) -> html.Details:
    parts: list[Component] = [html.Summary("Command and log"), html.Pre(html.Code(command[:4000]), tabIndex="0")]
    if log:
        parts.append(html.Pre(log[-6000:], className="tall", tabIndex="0"))
    return html.Details(parts)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _rate(status: dict[str, Any]) -> str:
    rate, unit = _number(status.get("rate")), str(status.get("unit") or "units")
    if rate <= 0:
        return "–"
    return f"{number(rate)} {unit}/s" if rate >= 0.5 else f"{number(1 / rate)} s a {unit.removesuffix('s')}"


def _left(status: dict[str, Any], state: str) -> str:
    left = status.get("eta_s")
    return progress.duration(left) if state == "running" and isinstance(left, (int, float)) else "–"


def _memory(status: dict[str, Any]) -> str:
    size = _number(status.get("memory_bytes"))
    return f"{size / 1e9:.2f} GB" if size else "–"


def _when(status: dict[str, Any], state: str) -> str:
    updated = _number(status.get("updated"))
    if not 0 < updated < 4e9:
        return "–"
    if state == "stale":
        return f"{progress.duration(time.time() - updated)} ago"
    return datetime.fromtimestamp(updated, UTC).strftime("%Y-%m-%d %H:%M:%S")


# ------------------------------------------------------------------ from the queue


def entry(found: Entry, token: str) -> html.Div:
    """One job of this dashboard: its state, command, log, file, and the button that stops it."""
    tone = {"running": "good", "failed": "warn", "stopped": "warn"}.get(found.state, "")
    parts: list[Component] = [
        html.Strong(f"{found.number}: {found.order.job} of {found.order.run_id}"),
        html.Span(found.state, className=f"state {tone}"),
    ]
    if found.file is not None:
        size = f"{found.file.stat().st_size / 1e6:.2f} MB"
        parts.append(html.A(f"{found.file.name}, {size}", href=f"/jobs/file/{found.number}", className="button",
                            download=found.file.name, **{"data-file": "1"}))  # fmt: skip
    if found.state in ("queued", "running"):
        stop = {"data-stop": str(found.number), "data-token": token}
        parts += [
            html.Button("Stop", type="button", className="button", **stop),
            html.Span(className="told", role="status"),
        ]
    log = found.log().replace("\r\x1b[K", "\n").strip()
    shown: list[Component] = [html.Pre(html.Code(found.command), tabIndex="0")]
    if log:
        shown.append(html.Pre(log, className="tall", tabIndex="0"))
    return html.Div([html.Div(parts, className="row"), *shown], className="entry", **{"data-job": str(found.number)})
