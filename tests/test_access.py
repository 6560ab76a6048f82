"""Every page, light and dark, from a telephone to 4K: axe-core finds nothing, nothing overflows, no host is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import game_run
import pytest
import softmax_run
from browsing import ARGUMENTS, Watch, chromium, damage, make_store, served

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.base")
pytestmark = pytest.mark.browser
DESKTOP = {"width": 1440, "height": 1000}
WIDTHS = (390, 3840)
GRAPHS = {
    "/": 0, "/run/gd": 4, "/run/gd/spectrum": 4, "/run/gd/surface/pca": 4, "/run/gd/volume": 2,
    "/path/gd/sweep%2Fadam": 3, "/run/game/gan": 8, "/run/hurt": 3, "/run/nobody": 0, "/compare": 2,
    "/run/gd/events": 3, "/run/gd/structure": 8, "/jobs": 0, "/export": 0,
}  # fmt: skip
WIDE = "() => document.documentElement.scrollWidth"
# Inside a plot, which is one image to a screen reader, there is nothing to find in thousands of nodes.
LOOK = """rules => axe.run({exclude: [[".js-plotly-plot"]]}, {
        resultTypes: ["violations"], iframes: false, preload: false, ...(rules && {runOnly: rules})
    }).then(r => r.violations.map(v => v.id + ": " + v.nodes.map(
        n => n.html.slice(0, 200) + " " + n.failureSummary.slice(0, 200)).join(" | ")))"""
# The second theme changes colours and nothing else.
THEMES: dict[str, list[str] | None] = {"light": None, "dark": ["color-contrast", "link-in-text-block"]}
GO = """path => {
    document.documentElement.dataset.theme = "light";
    document.title = "";  // set again when the page is there
    history.pushState(null, "", path);
    window.dispatchEvent(new PopStateEvent("popstate"));
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = make_store(tmp_path_factory.mktemp("access"))
    game_run.logged(store / "game")
    hurt = softmax_run.full_run(store / "hurt")
    damage(hurt, "surface-pca-00000060")
    (store / "lost").mkdir()
    (store / "lost" / "run.json").write_text("{", encoding="utf-8")
    with served(store) as url:
        yield url


def test_every_page_is_accessible_and_fits_in_both_themes(address: str) -> None:
    source = Path(axe.AXE_FILE_PATH).read_text(encoding="utf-8")
    found: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_context(bypass_csp=True, reduced_motion="reduce", viewport=DESKTOP).new_page()
        page.set_default_timeout(120_000)
        watch = Watch(page, address)
        for number, (path, graphs) in enumerate(GRAPHS.items()):
            if number:  # within the app: scripts are parsed once
                page.evaluate(GO, path)
                page.set_viewport_size(DESKTOP)
                page.wait_for_function("() => document.title !== ''")
            else:
                page.goto(address + path)
            ready(page, graphs)
            if not number:
                page.evaluate(source)
            for theme, rules in THEMES.items():  # of the sheet: what axe sees of a plot is its frame
                page.evaluate("name => { document.documentElement.dataset.theme = name; }", theme)
                found += [f"{path} {theme}: {violation}" for violation in page.evaluate(LOOK, rules)]
            found += overflows(page, path)
        browser.close()
    assert not found, "\n".join(found)
    watch.check()


def ready(page: Any, graphs: int) -> None:
    sync_api.expect(page.locator("#page > *").first).to_be_attached(timeout=120_000)
    sync_api.expect(page.locator(".js-plotly-plot .main-svg:first-child")).to_have_count(graphs, timeout=120_000)


def overflows(page: Any, path: str) -> list[str]:
    """Where the page is wider than the window, and on paper what remains of the controls."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        until = time.monotonic() + 120  # plots take the new width in their own time
        while (wide := page.evaluate(WIDE)) > width and time.monotonic() < until:
            time.sleep(0.1)
        if wide > width:
            found.append(f"{path} is {wide} pixels wide in a window of {width}")
    page.emulate_media(media="print")
    controls = (".top .actions", ".side", ".downloads", "#lost")
    found += [f"{path} prints {name}" for name in controls if page.locator(name).first.is_visible()]
    page.emulate_media(media="screen")
    return found
