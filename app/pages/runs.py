"""Runs: one row a run, sorted and filtered by the URL, and the paths between them."""

from __future__ import annotations

import base64
import shlex
from collections import Counter
from typing import Any

import numpy as np
from dash import dcc, html
from dash.development.base_component import Component

from landscape import records
from landscape.errors import LandscapeError
from landscape.stores.run_directory import Run

from .. import facts, filters, progress, shell
from ..reading import THIS, Reader
from ..style import number
from ..view import Page, Place, href
from .path import paths_of

NAME, ORDER = "Runs", 0
ROWS = 50
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


def match(parts: tuple[str, ...]) -> bool:
    return parts == () or parts == ("runs",)


def link(_run: str | None, _page: Page | None = None) -> str:
    return "/"


def build(reader: Reader, place: Place) -> Page:
    rows = [row(reader, run_id, run) for run_id, run in reader.runs()]
    if not rows:
        where = shlex.quote(str(reader.store))
        content = shell.message(
            "No runs yet",
            f"No runs in {reader.store} yet. Make some in a minute with the first line, or train one yourself with the "
            "second; this page updates by itself.",
            f"landscape demo --out {where}\n"
            f"landscape train digits_mlp --optimizer SGD --set lr=0.1 --out {where}/my-run",
        )
        return Page("Runs", after=content)
    query = place.query.get("q", "")
    sort = place.query.get("sort", "run")
    if sort.lstrip("-") not in {c[0] for c in COLUMNS}:
        sort = "run"
    shown = filters.order([r for r in rows if filters.matches(r, query)], sort)
    pages = max(1, -(-len(shown) // ROWS))
    number_ = int(place.number("page", 1, 1, pages))
    part = shown[(number_ - 1) * ROWS : number_ * ROWS]
    content = [
        html.Section(
            [toolbar(place, rows, shown, query, number_, pages), table(reader, part, place, sort, query)],
            className="card wide",
        )
    ]
    paths = path_links(reader)
    if paths:
        content.append(
            html.Section([html.Div(html.H2("Paths between minima"), className="head"), paths], className="card wide")
        )
    return Page("Runs", after=content, tables={"runs": lambda: csv_columns(shown)})


# ------------------------------------------------------------------ rows


def row(reader: Reader, run_id: str, run: Run) -> dict[str, Any]:
    """What the table shows of a run; unreadable pieces are missing values."""
    info = reader.info(run)
    metrics = reader.metrics(run)
    loss = metrics.get("loss", np.empty(0))
    curvature = last_curvature(reader, run)
    checkpoints = run.checkpoint_steps()
    steps = int(metrics["step"][-1]) if len(metrics["step"]) else (checkpoints[-1] if checkpoints else 0)
    return {
        "id": run_id,
        "run": info.name if run_id == THIS else run_id,
        "problem": info.problem,
        "optimizer": info.optimizer,
        "lr": facts.learning_rate(info),
        "steps": steps,
        "loss": _last(metrics, "train_loss", "loss"),
        "acc": _percent(_last(metrics, "test_accuracy", "train_accuracy", "accuracy")),
        "lmax": curvature.sharpness if curvature else None,
        "lmin": curvature.lowest if curvature else None,
        "trace": curvature.trace if curvature else None,
        "curvature": curvature,
        "records": records_text(run, len(checkpoints)),
        "jobs": "; ".join(progress.sentence(j, s) for j, s in progress.unfinished(run)),
        "curve": loss,
    }


def _last(metrics: dict[str, Any], *names: str) -> float | None:
    """The last finite value of the first of some metrics that has one."""
    for name in names:
        values = metrics.get(name, np.empty(0))
        finite = values[np.isfinite(values)]
        if len(finite):
            return float(finite[-1])
    return None


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def last_curvature(reader: Reader, run: Run) -> facts.Curvature | None:
    """Curvature at the last step that has a record, without reading the others."""
    operators = reader.operators(run)
    if not operators:
        return None
    steps = sorted({*run.steps("spectrum", operators[0]), *run.steps("eigenpairs", operators[0])})
    found: list[Any] = []
    for key in (records.spectrum_key, records.eigenpairs_key):
        try:
            found.append(reader.record(run, key(operators[0], steps[-1])))
        except LandscapeError:
            found.append(None)
    return facts.curvature(steps[-1], *found) if any(f is not None for f in found) else None


def records_text(run: Run, checkpoints: int) -> str:
    counts = Counter(key.split("-", 1)[0] for key in run.keys())  # noqa: SIM118  a method, no mapping
    names = {"spectrum": "spectra", "surface": "surfaces", "path": "paths"}
    parts = [f"{checkpoints} checkpoints"]
    parts += [f"{counts[k]} {names[k] if counts[k] != 1 else k}" for k in names if counts[k]]
    return ", ".join(parts)


# ------------------------------------------------------------------ table


def toolbar(
    place: Place, rows: list[dict[str, Any]], shown: list[dict[str, Any]], query: str, page: int, pages: int
) -> html.Div:
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
    parts.append(
        html.A(
            "CSV",
            href=href("data", "runs.csv", page="/", q=query),
            download="runs.csv",
            className="button",
            **{"data-keep": "q", "data-file": "1"},
        )
    )
    return html.Div(parts, className="bar-of-table")


def url(place: Place, **changes: Any) -> str:
    kept = {k: v for k, v in place.query.items() if k in ("q", "sort")}
    return href(**{**kept, **changes})


def table(reader: Reader, rows: list[dict[str, Any]], place: Place, sort: str, query: str) -> Component:
    if not rows:
        return shell.empty(f"No run matches '{query}'.")
    head = [heading(place, sort, *column) for column in COLUMNS]
    head += [html.Th("Records"), html.Th("Loss curve")]
    return html.Div(
        html.Table([html.Thead(html.Tr(head)), html.Tbody([line(r) for r in rows])], className="runs"),
        className="table-wrap",
        tabIndex="0",
    )


def heading(place: Place, sort: str, name: str, title: str, numeric: bool) -> html.Th:
    direction = {name: "ascending", f"-{name}": "descending"}.get(sort)
    turned = f"-{name}" if sort == name or (numeric and sort != f"-{name}") else name
    mark = {"ascending": " ▲", "descending": " ▼"}.get(direction or "", "")
    return html.Th(
        shell.link(title + mark, url(place, sort=turned)),
        className="num" if numeric else "",
        **({"aria-sort": direction} if direction else {}),
    )


def line(r: dict[str, Any]) -> html.Tr:
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
    numbers = [number(r["lr"]), f"{r['steps']:,}", number(r["loss"]), "–" if r["acc"] is None else f"{r['acc']:.1f}"]
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
            html.Td(sparkline(r["curve"])),
        ]
    )


def sparkline(loss: np.ndarray[Any, Any], width: int = 96, height: int = 24) -> Component:
    """The loss on a log axis as an inline picture."""
    with np.errstate(invalid="ignore", divide="ignore"):
        y = np.log10(loss)
    x = np.arange(len(y))
    good = np.isfinite(y)
    if good.sum() < 2:
        return html.Span("–")
    x, y = x[good], y[good]
    if len(x) > 96:
        keep = np.unique(np.linspace(0, len(x) - 1, 96).astype(int))
        x, y = x[keep], y[keep]
    across = 2 + (width - 4) * (x - x[0]) / max(x[-1] - x[0], 1)
    down = 2 + (height - 4) * (y.max() - y) / max(y.max() - y.min(), 1e-12)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><polyline points="{points}" '
        f'fill="none" stroke="#3B86D8" stroke-width="1.6" stroke-linejoin="round"/></svg>'
    )
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return html.Img(
        src=source,
        alt=f"loss from {number(float(10 ** y[0]))} to {number(float(10 ** y[-1]))}",
        width=width,
        height=height,
    )


def path_links(reader: Reader) -> Component | None:
    """Every computed path as a link with its barrier."""
    rows = []
    for run_id, run in reader.runs():
        for key, other in paths_of(reader, run):
            try:
                meta = run.meta(key)
            except LandscapeError as error:
                rows.append(html.Tr([html.Td(key), html.Td(str(error), className="words warn", colSpan="4")]))
                continue
            rows.append(
                html.Tr(
                    [
                        html.Td(shell.link(f"{run_id} → {other}", href("path", run_id, other))),
                        html.Td(str(meta.get("shape", ""))),
                        html.Td(number(meta.get("barrier")), className="num"),
                        html.Td(number(meta.get("length")), className="num"),
                        html.Td("yes" if meta.get("spectra_values") else "no"),
                    ]
                )
            )
    if not rows:
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
        html.Table([html.Thead(head), html.Tbody(rows)], className="runs narrow"), className="table-wrap", tabIndex="0"
    )


def csv_columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {title: [r[name] for r in rows] for name, title, _numeric in COLUMNS} | {
        "Records": [r["records"] for r in rows]
    }
