"""The dashboard's budgets: bytes and CPU an interaction, first load, memory; beside TensorBoard where it is installed.

  landscape bench app
  landscape bench app --runs 100 --checkpoints 100
  landscape bench app --store runs --run my/long-run

The store is made here: small networks, really trained, with exact spectra, and one run of many checkpoints; or it is
yours. The server is a process of its own that is asked over HTTP; CPU is its own, all threads. Figures of the browser
need Playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .. import _common

if TYPE_CHECKING:
    from ._app_asking import Served
    from ._tables import Row, Table

LIMITS = {"what": "", "budget": "", "measured": "", "holds": ""}
BLOCK = 48  # steps of the slider that a browser asks for at once
SHARED_MEMORY = Path("/dev/shm")  # where waiting for the disk costs nothing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=_common.positive, default=1000, help="small runs (default: 1000)")
    parser.add_argument("--checkpoints", type=_common.positive, default=1000, help="of the long run (default: 1000)")
    parser.add_argument("--store", type=Path, help="measure on this store instead of making one")
    parser.add_argument("--run", default="long", help="the long run's id (default: long)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._app_asking import dashboard
    from ._app_rivals import tensorboard
    from ._tables import Table

    if args.quick:
        args.runs, args.checkpoints = min(args.runs, 60), min(args.checkpoints, 60)
    with _store(args) as store:
        long = quote(args.run, safe="")
        size = f"{args.runs:,} runs, {args.checkpoints:,} checkpoints" if args.store is None else str(args.store)
        with dashboard(store) as served:
            yield Table(f"The server, on {size}", LIMITS, _server(served, long, args.repeats))
            yield Table("The browser", LIMITS, _browser(served, f"/run/{long}"))
        columns = {"what": "", "TensorBoard": ",.1f", "here": ",.1f", "unit": ""}
        yield Table("The same data in TensorBoard", columns, tensorboard(store, args.run, args.repeats))


@contextlib.contextmanager
def _store(args: argparse.Namespace) -> Iterator[Path]:
    from . import _app_store

    if args.store is not None:
        yield args.store
        return
    place = Path(tempfile.mkdtemp(prefix="landscape-app-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    try:
        _app_store.make(place, args.runs, args.checkpoints)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def limit(what: str, budget: float, measured: float, unit: str) -> Row:
    return what, f"<= {budget:g} {unit}", f"{measured:,.1f} {unit}", measured <= budget


# ---------------------------------------------------------------------- the server


def _server(served: Served, long: str, repeats: int) -> Iterator[Row]:
    from ._app_asking import unpacked

    yield limit("start, until it answers", 2.0, served.cpu(), "CPU s")
    before = served.cpu()
    served.page("/")
    yield "table of runs, the first time: reads every run", "", f"{served.cpu() - before:,.1f} CPU s", None
    again = max(repeats, 5) * 2
    sorts = {"sorted": "?sort=-lmax", "filtered": "?q=optimizer%3Dadam%20lmax%3C5", "grouped": "?group=optimizer"}
    for name, search in sorts.items():
        body, milliseconds = served.cost(functools.partial(served.page, "/", search), again)
        yield limit(f"table of runs, {name}: payload", 100, len(unpacked(body)) / 1000, "KB")
        yield limit(f"table of runs, {name}: server", 50, milliseconds, "CPU ms")
    for name, query in (("store", "/live?seen="), ("run", f"/live?runs={long}&seen=")):
        cursor = json.loads(unpacked(served.get(query)))["cursor"]
        body, milliseconds = served.cost(functools.partial(served.get, query + cursor), again)
        yield limit(f"asking whether the {name} changed: payload", 0, len(body), "B")
        yield limit(f"asking whether the {name} changed: server", 50, milliseconds, "CPU ms")
    for name, path in (("overview", f"/run/{long}"), ("spectrum", f"/run/{long}/spectrum")):
        before = served.cpu()
        body = unpacked(served.page(path))
        yield (
            f"{name} of the long run, the first time: reads every record",
            "",
            f"{served.cpu() - before:,.1f} CPU s",
            None,
        )
        yield limit(f"{name}: payload", 350, len(body) / 1000, "KB")
        yield from _moves(served, name, json.loads(body), again)
    yield "memory of the server after all that", "", f"{served.memory():,.0f} MB", None


def _moves(served: Served, name: str, page: Any, repeats: int) -> Iterator[Row]:
    from ._app_asking import unpacked

    values = page["response"]["info"]["data"]["slider"]["values"]
    at = iter(range(repeats + 1))
    body, milliseconds = served.cost(lambda: served.steps(page, values[next(at) * 37 % len(values)], BLOCK), repeats)
    text = unpacked(body)
    count = len(json.loads(text)["values"])
    yield limit(f"{name}, {count} steps of the slider in one answer: payload", 150, len(text) / 1000, "KB")
    yield limit(f"{name}, a step of the slider, its share: payload", 5, len(text) / 1000 / count, "KB")
    yield limit(f"{name}, a step of the slider, its share: server", 20, milliseconds / count, "CPU ms")


# ---------------------------------------------------------------------- the browser


def _browser(served: Served, path: str) -> Iterator[Row]:
    chromium = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        yield "Playwright and a Chromium", "", "not installed", None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        sizes: dict[str, tuple[int, int]] = {}
        elsewhere: list[str] = []
        page.on(
            "request",
            lambda r: elsewhere.append(r.url) if not r.url.startswith((served.address, "data:", "blob:")) else None,
        )
        page.on("requestfinished", lambda r: sizes.update({r.url: _sizes(r)}))
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(served.address + path)
        plots = page.locator(".js-plotly-plot .main-svg:first-child")
        plots.nth(2).wait_for(state="attached", timeout=120_000)
        page.wait_for_load_state("networkidle")
        loaded = _metrics(session)
        yield limit("first load, unpacked", 6.6, sum(s[0] for s in sizes.values()) / 1e6, "MB")
        yield limit("first load, over the wire", 2.0, sum(s[1] for s in sizes.values()) / 1e6, "MB")
        yield limit("first page: main thread", 3.5, loaded["TaskDuration"], "CPU s")
        slider = page.get_by_role("slider").first
        slider.focus()
        _press(page, slider, 5)
        session.send("HeapProfiler.collectGarbage")
        before = _metrics(session)
        _press(page, slider, 100)
        after = _metrics(session)
        yield limit(
            "a step of the slider: main thread", 100, 10 * (after["TaskDuration"] - before["TaskDuration"]), "CPU ms"
        )
        session.send("HeapProfiler.collectGarbage")
        grown = (_metrics(session)["JSHeapUsedSize"] - before["JSHeapUsedSize"]) / 1e6
        yield limit("heap after 100 steps: growth", 10, max(grown, 0.0), "MB")
        yield limit("requests to other hosts", 0, len(elsewhere), "requests")
        browser.close()


def _press(page: Any, slider: Any, times: int) -> None:
    """Step by step, each until every plot shows it, those out of sight as well."""
    shown = "() => document.querySelector('.kpis .value').textContent"
    for _ in range(times):
        before = page.evaluate(shown)
        slider.press("ArrowLeft")
        page.wait_for_function(f"before => ({shown})() !== before", arg=before, polling=20, timeout=60_000)
        page.wait_for_timeout(250)


def _sizes(request: Any) -> tuple[int, int]:
    """Bytes of an answer unpacked, and over the wire."""
    try:
        return len(request.response().body()), int(request.sizes()["responseBodySize"])
    except Exception:  # a redirect or an empty answer has no body
        return 0, 0


def _metrics(session: Any) -> dict[str, float]:
    return {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
