"""Compare: runs side by side, what differs in their settings, and which one found the flatter minimum."""

from __future__ import annotations

from urllib.parse import quote, unquote

from dash import dcc, html
from dash.development.base_component import Component

from landscape.errors import LandscapeError
from landscape.stores.run_directory import Run

from .. import filters, shell
from ..cards import comparison
from ..common import Scene
from ..reading import THIS, Reader
from ..view import Page, Place, href

NAME, ORDER = "Compare", 7
MOST = 12  # runs at once: more colours and dashes cannot be told apart
DEFAULT = 6
SHOWN = 60  # names to choose from


def match(parts: tuple[str, ...]) -> bool:
    return parts == ("compare",)


def link(_run: str | None, _page: Page | None = None) -> str:
    return "/compare"


def build(reader: Reader, place: Place) -> Page:
    every = dict(reader.runs())
    names = {run_id: reader.info(run).name if run_id == THIS else run_id for run_id, run in every.items()}
    query = place.query.get("q", "")
    offered = [i for i in every if filters.matches(_words(reader, i, every[i]), query)]
    chosen = _chosen(place, every, offered)
    scenes = []
    for run_id in chosen:
        try:
            scenes.append(Scene.open(reader, place, run_id))
        except LandscapeError:
            continue
    runs = [comparison.Run(scene, names[scene.run_id]) for scene in scenes]
    top = chooser(offered, chosen, names, query)
    if len(runs) < 2:
        return Page("Compare", runs=chosen, after=[top, *_too_few(every, query)])
    log = place.choice("x", ("linear", "log")) == "log"

    def url(x: str) -> str:
        return href("compare", runs=place.query.get("runs", ""), q=query, x=x)

    return Page(
        f"Compare {len(runs)} runs",
        runs=[r.scene.run_id for r in runs],
        tabs=[shell.tabs("Steps", [("linear", url(""), not log), ("log", url("log"), log)])],
        before=[top, comparison.results(runs), *comparison.seeds(runs), comparison.settings(runs)],
        cards=comparison.cards(runs, log, place.theme),
        tables={"compare": lambda: comparison.csv_columns(runs)},
    )


def _words(reader: Reader, run_id: str, run: Run) -> dict[str, object]:
    """What the filter line looks at."""
    info = reader.info(run)
    return {"run": run_id, "name": info.name, "problem": info.problem, "optimizer": info.optimizer,
            "lr": info.settings.get("lr"), "seed": info.seed}  # fmt: skip


def _chosen(place: Place, every: dict[str, Run], offered: list[str]) -> list[str]:
    """The runs of the URL ('.' names none: all are unticked); without it the first that match and have a spectrum."""
    named = [unquote(part) for part in place.query.get("runs", "").split(",") if part]
    known = [run_id for run_id in dict.fromkeys(named) if run_id in every]
    if known or named:
        return known[:MOST]
    found = []
    for run_id in offered:
        if any(k.startswith(("spectrum-", "eigenpairs-")) for k in every[run_id].keys()):  # noqa: SIM118  a method
            found.append(run_id)
        if len(found) == DEFAULT:
            break
    return found


def joined(runs: list[str]) -> str:
    """Run ids as one value of a URL."""
    return ",".join(quote(run, safe="") for run in runs)


def chooser(offered: list[str], chosen: list[str], names: dict[str, str], query: str) -> html.Section:
    """The filter line, and a box to tick for each run; the ticked ones are the URL's `runs`."""
    entries = [*chosen, *(r for r in offered if r not in chosen)][:SHOWN]
    full = len(chosen) >= MOST

    def tick(run: str) -> Component:
        here = run in chosen
        if full and not here:
            aria = {"aria-checked": "false", "aria-disabled": "true"}
            return html.Span(names[run], className="tick", role="checkbox", tabIndex="0", **aria)
        after = [r for r in chosen if r != run] if here else [*chosen, run]
        return shell.link(names[run], href("compare", runs=joined(after) or ".", q=query), keep="x", className="tick",
                          role="checkbox", **{"aria-checked": str(here).lower()})  # fmt: skip

    ticks = html.Div([tick(run) for run in entries], className="ticks")
    left = len({*chosen, *offered}) - len(entries)
    field = dcc.Input(
        id={"type": "control", "name": "q", "default": ""}, value=query, type="search", debounce=0.35,
        className="filter", placeholder="Filter: optimizer=SGD lr<0.1 mlp", **{"name": "Filter runs to compare"},
    )  # fmt: skip
    words = [f"{MOST} at most: untick one to tick another"] if full else []
    words += [f"{left:,} more: narrow the filter"] if left > 0 else []
    legend = html.Legend("Tick the runs to compare", className="hidden")
    return html.Section(
        [
            html.Div([html.H2("Runs to compare"), field], className="bar-of-table"),
            html.Fieldset([legend, ticks, html.Span("; ".join(words), className="muted")], className="tick-box"),
        ],
        className="card wide",
    )


def _too_few(every: dict[str, Run], query: str) -> list[Component]:
    if not every:
        sentence = "No runs in this store yet; the first page says how to make some."
    elif query:
        sentence = f"Fewer than two runs with spectra match '{query}'. Choose them above, or change the filter."
    else:
        sentence = "Choose at least two runs above. Sharpness is compared where they have spectra."
    return shell.message("Compare runs", sentence)
