"""The pages in a real browser: one selected step behind every panel, the URL is the state, no other host is asked."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import softmax_run
from browsing import ARGUMENTS, Watch, chromium, damage, make_store, path_record, served

from landscape.app.numbers import number
from landscape.readings.following import cosines, follow
from landscape.readings.quadrature import to_asinh
from landscape.readings.sampling import standard_error
from landscape.stores.run_directory import Run

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
Open = Callable[..., Any]
Host = Callable[[Path], str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium()
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(make_store(tmp_path_factory.mktemp("browser-store"))) as url:
        yield url


@pytest.fixture(scope="module")
def desktop(browser: Any) -> Any:
    """One profile for most tests, so that scripts are parsed once."""
    return browser.new_context(viewport={"width": 1600, "height": 1000})


@pytest.fixture
def host() -> Iterator[Host]:
    """Serve a store for one test, longer than any page of it is open."""
    with contextlib.ExitStack() as stack:
        yield lambda store: stack.enter_context(served(store))


@pytest.fixture
def visit(browser: Any, desktop: Any, host: Any) -> Iterator[Open]:
    """Open a URL in a fresh page; at the end nothing may have been asked of another host or complained about."""
    pages: list[tuple[Any, Watch]] = []

    def go(address: str, path: str = "/", graphs: int = 0, **options: Any) -> Any:
        context = desktop if not options else browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(120_000)
        pages.append((page, Watch(page, address)))
        page.goto(address + path)
        ready(page, graphs)
        return page

    yield go
    for page, watch in pages:
        page.close()
        watch.check()


def ready(page: Any, graphs: int) -> None:
    """Wait until the page stands and so many plots are drawn."""
    expect(page.locator("#page > *").first).to_be_attached()
    expect(page.locator(".js-plotly-plot .main-svg:first-child")).to_have_count(graphs)


def expect(thing: Any) -> Any:
    sync_api.expect.set_options(timeout=120_000)
    return sync_api.expect(thing)


def kpi(page: Any, label: str) -> Any:
    return page.locator(".kpi", has=page.locator(".label", has_text=label)).locator(".value")


def search(page: Any, pattern: str) -> None:
    expect(page).to_have_url(re.compile(pattern))


# ------------------------------------------------------------------ one step drives every panel


def test_the_slider_moves_density_key_numbers_cursors_marker_and_url(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd", graphs=4)
    expect(page.get_by_role("heading", name="Spectrum at step 60")).to_be_visible()
    assert "step=" not in page.url  # the last step is what a URL without one means
    slider = page.get_by_role("slider", name="Checkpoint (optimizer step)")
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    search(page, r"\?step=40$")
    expect(page.get_by_role("heading", name="Spectrum at step 40")).to_be_visible()
    expect(kpi(page, "Step")).to_have_text("40")
    expect(slider).to_have_attribute("aria-valuetext", "40")
    state = page.evaluate("""() => {
        const plot = name => document.querySelector(`section[data-card="${name}"] .js-plotly-plot`);
        const marker = plot("surface").data[3];  // other runs come after it
        return [plot("training").layout.shapes[0].x0, plot("spectrum-over").layout.shapes[0].x0, marker.x[0]];
    }""")
    steps, trajectory = softmax_run.trained()[0], softmax_run.plane()[1]
    assert state == [40, 40, pytest.approx(trajectory.u[steps.index(40)])]


def test_keys_select_outside_of_fields(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/spectrum?step=30", graphs=4)
    expect(kpi(page, "Step")).to_have_text("30")
    page.keyboard.press("ArrowRight")
    search(page, r"step=40$")
    page.keyboard.press("Home")
    search(page, r"step=0$")
    expect(page.get_by_role("heading", name="Extreme eigenvalues at step 0")).to_be_visible()


@pytest.mark.parametrize(("card", "share", "found"), [("training", 0.5, 30), ("spectrum-over", 0.21, 10)])
def test_a_click_on_a_time_axis_selects_the_nearest_checkpoint(
    visit: Open, address: str, card: str, share: float, found: int
) -> None:
    page = visit(address, "/run/gd", graphs=4)
    area = page.locator(f'section[data-card="{card}"] .nsewdrag').first.bounding_box()
    x, y = area["x"] + share * area["width"], area["y"] + area["height"] / 2
    page.mouse.move(x - 2, y)
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    search(page, rf"step={found}$")
    expect(kpi(page, "Step")).to_have_text(str(found))


# ------------------------------------------------------------------ the URL is the state


def test_deep_link_navigation_and_back_keep_the_step(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd?step=20", graphs=4)
    expect(kpi(page, "Step")).to_have_text("20")
    page.keyboard.press("ArrowRight")
    search(page, r"/run/gd\?step=30$")
    page.get_by_role("link", name="Spectrum", exact=True).click()
    search(page, r"/run/gd/spectrum\?step=30$")
    expect(page.get_by_role("heading", name="Extreme eigenvalues at step 30")).to_be_visible()
    expect(page.locator("nav [aria-current=page]")).to_have_text("Spectrum")
    page.go_back()
    search(page, r"/run/gd\?step=30$")
    expect(kpi(page, "Step")).to_have_text("30")
    page.wait_for_load_state("networkidle")  # a request cut off by the reload would count as a complaint
    page.reload()
    ready(page, 4)
    expect(kpi(page, "Step")).to_have_text("30")
    assert page.title() == "softmax_run:build / gd: overview · Landscape"


def test_the_plane_changes_by_a_link_and_back_returns(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/surface/pca?step=20", graphs=4)
    title = page.locator('section[data-card="surface"] .xtitle')
    expect(title).to_contain_text("PC 1")
    page.get_by_role("link", name="random").click()
    search(page, r"/surface/random\?step=20$")
    expect(title).to_have_text("random 1")
    page.get_by_role("link", name="eigenvector").click()
    expect(page.get_by_text("landscape surface").first).to_be_visible()
    expect(page.get_by_text("--plane eigen").first).to_be_visible()
    page.go_back()
    expect(title).to_have_text("random 1")


def test_two_runs_share_a_surface_with_a_legend_and_a_line_is_a_curve(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/surface/pca?step=20", graphs=4)
    names = page.locator('section[data-card="surface"] .legendtext')
    expect(names).to_have_text(["gd", "adam"])
    page.get_by_role("link", name="adam").click()
    search(page, r"of=adam")
    page.get_by_role("link", name="principal-component (line1)").click()
    search(page, r"/surface/pca\.line1")
    expect(names).to_have_text(["train loss", "test loss", "step 60"])


def eventually(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for what a page shows in its own time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def adaptive_store(root: Path) -> Path:
    """A run whose PCA surface was interpolated in places, with another quantity."""
    store = make_store(root)
    surface, _trajectory = softmax_run.plane()
    measured = (np.indices(surface.loss.shape).sum(axis=0) % 3 == 0).astype(float)
    found = {"points_measured": int(measured.sum()), "held_out": 40, "held_out_error": 0.004, "batch_norm": "none"}
    Run(store / "gd").write(
        dataclasses.replace(
            surface, test_loss=2 * surface.loss, measured=measured, error=1e-3 * (1 - measured),
            metrics=(surface.loss / surface.loss.max())[None], metric_names=["margin"], meta={**surface.meta, **found},
        )
    )  # fmt: skip
    return store


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_surface_shows_what_was_measured_and_any_quantity(
    visit: Open, host: Host, tmp_path: Path, theme: str
) -> None:
    address = host(adaptive_store(tmp_path))
    surface = softmax_run.plane()[0]
    count = int((np.indices(surface.loss.shape).sum(axis=0) % 3 == 0).sum())
    page = visit(address, "/run/gd/surface/pca", graphs=4, color_scheme=theme)
    card = page.locator('section[data-card="surface"]')
    expect(card).to_contain_text(f"{count:,} points are measured")
    expect(card).to_contain_text("at 40 points held out the loss is wrong by at most 0.4 % of its range")
    title = "() => document.querySelector('section[data-card=surface] .js-plotly-plot').data[0].colorbar.title.text"
    assert page.evaluate(title) == "train loss"
    page.get_by_role("link", name="train margin").click()
    search(page, "show=margin")
    eventually(lambda: page.evaluate(title) == "train margin")
    expect(card).to_contain_text("Training margin on the principal-component plane")
    page.get_by_role("link", name="shown", exact=True).click()
    search(page, "points=shown")
    drawn = "document.querySelector('section[data-card=surface] .js-plotly-plot')._fullData.map(t => t.x.length)"
    eventually(lambda: count in page.evaluate(drawn))
    page.get_by_role("link", name="3-D").click()
    search(page, "show=margin.*view=3d|view=3d.*show=margin")


def test_the_surface_is_raised_where_there_is_webgl(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/surface/pca?view=3d", graphs=4)
    assert page.evaluate("() => !!document.createElement('canvas').getContext('webgl')")
    expect(page.locator(".gl-container canvas").first).to_be_visible()


def test_the_readings_of_a_surface_are_laid_over_it_by_a_link_and_keep_step_and_view(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/surface/pca?step=20", graphs=4)
    drawn = "() => document.querySelector('section[data-card=\"surface\"] .js-plotly-plot').data.map(t => t.type)"
    assert page.evaluate(drawn).count("contour") == 1
    page.get_by_role("link", name="quadratic model").click()
    search(page, r"/surface/pca\?over=model&step=20$")
    expect(page.locator('section[data-card="surface"] .caption')).to_contain_text("Orange: the quadratic model")
    assert page.evaluate(drawn).count("contour") == 2
    page.get_by_role("link", name="minima and passes").click()
    expect(page.locator('section[data-card="surface"] .caption')).to_contain_text("Rings are minima")
    numbers = page.locator('section[data-card="surface"] .annotation', has_text="1")
    expect(numbers.first).to_be_visible()
    page.get_by_role("slider", name="Checkpoint (optimizer step)").press("ArrowRight")  # the marker moves below them
    search(page, r"step=30")
    expect(numbers.first).to_be_visible()
    page.get_by_role("link", name="3-D").click()
    search(page, r"view=3d&step=30&over=minima$")
    expect(page.get_by_role("table")).to_contain_text("minimum 1")
    expect(page.get_by_text("It holds to 5 % of the rise within")).to_be_visible()


def test_the_slider_moves_the_slice_of_a_volume(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/volume", graphs=2)
    stored = softmax_run.volume()
    centre = int(np.abs(stored.w).argmin())
    expect(page.locator(".gl-container canvas").first).to_be_visible()
    expect(page.locator('section[data-card="volume"]')).to_contain_text("three principal-component directions")
    page.get_by_role("slider", name="Slice across axis 3").press("ArrowRight")
    search(page, r"\?slice=")
    frame = """() => document.querySelector('section[data-card="volume"] .js-plotly-plot').data[2].z[0]"""
    poll(lambda: page.evaluate(frame), pytest.approx(stored.w[centre + 1]))
    card = page.locator('section[data-card="slice"]')
    with page.expect_download() as csv:
        card.get_by_role("link", name="CSV").click()
    lines = Path(csv.value.path()).read_text(encoding="utf-8").splitlines()
    rows = np.array([[float(x) for x in line.split(",")] for line in lines if line[:1] in "-0123456789"])
    np.testing.assert_allclose(rows[:, 2].reshape(7, 7), stored.loss[centre + 1])
    page.get_by_role("link", name="1", exact=True).click()
    search(page, r"axis=1$")
    expect(page.get_by_role("heading", name="Slice at u =")).to_be_visible()
    page.get_by_role("link", name="eigenvector").click()
    expect(page.get_by_text("landscape volume").first).to_be_visible()


def test_the_kernel_width_is_in_the_url_and_redraws(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/spectrum?step=30&width=0.5&x=log", graphs=4)
    expect(page.get_by_text("kernels of width 0.5 in")).to_be_visible()
    page.get_by_role("slider", name="Kernel width").press("ArrowLeft")
    search(page, r"width=0\.49")
    expect(page.get_by_text("kernels of width 0.49")).to_be_visible()
    page.get_by_role("link", name="automatic: 0.12").click()  # these records hold all eigenvalues
    poll(lambda: "width=" in page.url, False)
    expect(page.get_by_text("kernels of width 0.12")).to_be_visible()
    expect(page.locator('section[data-card="spectrum-over"] .xtitle')).to_have_text("optimizer step (log)")


def test_followed_eigenvalues_are_curves_and_a_click_on_them_selects_a_checkpoint(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/spectrum?step=30", graphs=4)
    card = page.locator('section[data-card="branches-over"]')
    expect(card).to_contain_text("matched by their vectors")
    curves = page.evaluate("""() => document.querySelector('section[data-card="branches-over"] .js-plotly-plot')
        .data.filter(t => t.mode === "lines+markers" && t.yaxis !== "y2").map(t => t.text.length)""")
    steps, weights, _ = softmax_run.trained()
    pairs = [softmax_run.spectrum(s, w)[1] for s, w in zip(steps, weights, strict=True)]
    found = follow(pairs, [cosines(a, b) for a, b in itertools.pairwise(pairs)])
    lengths = (found.rows >= 0).sum(axis=1)
    assert sorted(curves) == sorted(lengths[lengths > 1].tolist())
    card.scroll_into_view_if_needed()
    area = card.locator(".nsewdrag").first.bounding_box()
    x, y = area["x"] + 2, area["y"] + area["height"] / 2
    page.mouse.move(x + 3, y)
    page.mouse.move(x, y)
    expect(card.locator(".hoverlayer")).to_be_attached()
    page.keyboard.press("Home")
    search(page, r"step=0$")
    line = """() => document.querySelector('section[data-card="branches-over"] .js-plotly-plot').layout.shapes[0].x0"""
    poll(lambda: page.evaluate(line), 0)


def test_4_the_path_page_says_whether_the_minima_are_connected_and_follows_t(visit: Open, address: str) -> None:
    page = visit(address, "/path/gd/sweep%2Fadam", graphs=3)
    path = path_record()
    barrier = page.locator(".kpi", has=page.locator(".label", has_text="Barrier"))
    expect(barrier.locator(".value")).to_have_text(number(path.barrier))
    connected = path.barrier <= 0.1 * max(path.loss[0], path.loss[-1])
    expect(barrier).to_contain_text("linearly connected" if connected else "not linearly connected")
    expect(kpi(page, "Position t")).to_have_text("0.50")
    page.get_by_role("slider", name="Position t on the path").press("ArrowRight")
    search(page, r"\?t=0\.75$")
    expect(page.get_by_role("heading", name="Spectrum at t = 0.75")).to_be_visible()


# ------------------------------------------------------------------ the table of runs


def test_the_runs_table_filters_sorts_and_leads_to_a_run(visit: Open, address: str) -> None:
    page = visit(address)
    rows = page.locator("table.runs").first.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(page.locator("nav .off")).to_have_count(7)
    page.get_by_placeholder("Filter").fill("optimizer=Adam")
    search(page, r"\?q=optimizer")
    expect(rows).to_have_count(1)
    page.get_by_placeholder("Filter").fill("")
    expect(rows).to_have_count(3)
    page.get_by_role("link", name="λmax").click()
    search(page, r"sort=-lmax")
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("λmax")
    page.get_by_role("link", name="sweep/adam", exact=True).click()
    search(page, r"/run/sweep%2Fadam$")
    expect(page.locator(".badge")).to_contain_text("sweep/adam")
    page.go_back()
    search(page, r"sort=-lmax")
    expect(rows).to_have_count(3)


# ------------------------------------------------------------------ empty, damaged, unfinished


def test_an_empty_store_fills_by_itself(visit: Open, host: Host, tmp_path: Path) -> None:
    address = host(tmp_path)
    page = visit(address)
    expect(page.get_by_text("landscape demo --out")).to_be_visible()
    softmax_run.bare_run(tmp_path / "first")
    expect(page.get_by_role("link", name="first", exact=True)).to_be_visible()


def test_a_damaged_record_breaks_one_card_and_a_job_shows_its_progress(visit: Open, host: Host, tmp_path: Path) -> None:
    run = softmax_run.full_run(tmp_path / "gd")
    damage(run, "surface-pca-00000060")
    progress = {"state": "running", "done": 37, "total": 200, "unit": "checkpoints", "eta_s": 720}
    address = host(tmp_path)
    page = visit(address, "/run/gd", graphs=3)
    expect(page.locator('section[data-card="surface"]')).to_contain_text("is damaged")
    run.write_status("spectrum", {**progress, "updated": time.time()})
    expect(page.get_by_text("spectrum: 37 of 200 checkpoints, about 12 min left")).to_be_visible()


def test_new_records_appear_without_a_reload(visit: Open, host: Host, tmp_path: Path) -> None:
    run = softmax_run.bare_run(tmp_path / "gd")
    address = host(tmp_path)
    page = visit(address, "/run/gd", graphs=1)
    for record in softmax_run.spectrum(0, softmax_run.trained()[1][0]):
        Run(run.root).write(record)
    ready(page, 3)


def test_error_bars_of_sampling_and_doubts_about_eigenpairs_stand_beside_the_eigenvalues(
    visit: Open, host: Host, tmp_path: Path
) -> None:
    run, weights = softmax_run.full_run(tmp_path / "gd"), softmax_run.trained()[1][-1]
    parts = softmax_run.parts(softmax_run.LAST, weights)
    run.write(parts)
    for step, found in ((softmax_run.LAST, {"converged": True, "missed": 0.004}), (50, {"converged": False})):
        pairs = run.read(f"eigenpairs-hessian-{step:08d}", large=True)
        run.write(dataclasses.replace(pairs, meta={"missed": 0.3, "tolerance": 1e-5, **found}))
    page = visit(host(tmp_path), "/run/gd/spectrum", graphs=4)
    card = page.locator('section[data-card="scree"]')
    expect(card).to_contain_text("is missing with a probability of at most 0.4 %")
    expect(card).to_contain_text("Error bars also show sampling")
    drawn = card.locator(".js-plotly-plot").evaluate("plot => Array.from(plot._fullData[0].error_y.array)")
    values = softmax_run.spectrum(softmax_run.LAST, weights)[1].values
    ends = values + standard_error(parts.quotients, parts.part_samples)  # the record's residuals are zero
    assert drawn == pytest.approx(list(to_asinh(ends) - to_asinh(values)), rel=1e-4)
    assert min(drawn) > 0
    with page.expect_download() as csv:
        card.get_by_role("link", name="CSV").click()
    assert "sampling error (one sigma)" in Path(csv.value.path()).read_text(encoding="utf-8")
    page.keyboard.press("ArrowLeft")
    expect(card).to_contain_text("Warning: an eigenpair beyond those found may be missing (probability at most 30 %).")
    expect(card).not_to_contain_text("Error bars also show sampling")


@pytest.mark.parametrize("path", ["/run/nope", "/run/..%2F..%2Fetc", "/nowhere/at/all", "/path/gd/nope"])
def test_what_does_not_exist_is_a_sentence_with_a_way_back(visit: Open, address: str, path: str) -> None:
    page = visit(address, path)
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    page.get_by_role("link", name="All runs").click()
    expect(page.locator("table.runs").first).to_be_visible()


# ------------------------------------------------------------------ looks


def test_dark_follows_the_system_the_toggle_wins_and_is_remembered(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd", graphs=4, color_scheme="dark")
    html = page.locator("html")
    expect(html).to_have_attribute("data-theme", "dark")
    ink = "() => document.querySelector('section[data-card=training] .js-plotly-plot')._fullLayout.font.color"
    assert page.evaluate(ink) == "#e8eaed"
    page.get_by_role("button", name="Light").click()
    expect(html).to_have_attribute("data-theme", "light")
    expect(page.get_by_role("button", name="Dark")).to_be_visible()
    poll(lambda: page.evaluate(ink), "#1c2024")
    page.wait_for_load_state("networkidle")  # a request cut off by the reload would count as a complaint
    page.reload()
    expect(html).to_have_attribute("data-theme", "light")


def poll(value: Callable[[], Any], wanted: Any) -> None:
    """The page's policy forbids evaluating strings, which playwright's own waiting needs."""
    until = time.monotonic() + 120
    while value() != wanted and time.monotonic() < until:
        time.sleep(0.05)
    assert value() == wanted


def test_a_telephone_needs_no_sideways_scrolling(visit: Open, address: str) -> None:
    page = visit(address, viewport={"width": 390, "height": 844})
    graphs = {"/": 0, "/run/gd": 4, "/run/gd/spectrum": 4, "/run/gd/surface/pca": 4, "/run/gd/volume": 2}
    graphs["/path/gd/sweep%2Fadam"] = 3
    for path, count in graphs.items():
        page.goto(address + path)
        ready(page, count)
        eventually(lambda: page.evaluate("() => document.documentElement.scrollWidth") <= 390)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)


def test_a_card_downloads_as_csv_of_the_selected_step_and_as_svg_with_a_title(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd", graphs=4)
    page.keyboard.press("Home")
    search(page, r"step=0$")
    card = page.locator('section[data-card="density"]')
    with page.expect_download() as csv:
        card.get_by_role("link", name="CSV").click()
    assert Path(csv.value.path()).read_text(encoding="utf-8").startswith("# Spectrum at step 0")
    with page.expect_download() as svg:
        card.get_by_role("button", name="SVG").click()
    text = Path(svg.value.path()).read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert "Spectrum at step 0" in text


def test_the_pages_of_the_demo_store_stand(visit: Open, host: Host, demo_store: Path) -> None:
    address = host(demo_store)
    page = visit(address, "/run/adam", graphs=4)
    page.keyboard.press("ArrowLeft")
    search(page, r"step=100$")
    expect(page.get_by_role("heading", name="Spectrum at step 100")).to_be_visible()
    page.get_by_role("link", name="Surface", exact=True).click()
    page.get_by_role("link", name="eigenvector").click()
    search(page, r"/surface/eigen\?step=100$")
    expect(page.locator('section[data-card="surface"] .xtitle')).to_contain_text("eigenvector 1")
    page.get_by_role("link", name="Path", exact=True).click()
    expect(kpi(page, "Barrier")).to_be_visible()
    page.go_back()
    expect(page.locator('section[data-card="surface"] .xtitle')).to_contain_text("eigenvector 1")


# ------------------------------------------------------------------ structure


def test_the_structure_page_follows_the_step_and_says_what_is_zero(visit: Open, address: str) -> None:
    page = visit(address, "/run/gd/structure", graphs=8)
    caption = page.locator('section[data-card="growths"] .caption')
    expect(caption).to_contain_text("1 growth, 2 units added")
    expect(caption).to_contain_text("Layers left out: '1': its units feed a sum.")
    expect(page.get_by_role("row", name=re.compile("0: 3, 1.*6 → 10.*−0.250"))).to_be_visible()
    path = page.locator('section[data-card="scale-space"] .caption')
    expect(path).to_contain_text("The first unit enters at step 3. At step 60, 30.00 % of all units are in the support")
    expect(kpi(page, "Zero weights")).to_have_text("40.0 %")
    expect(kpi(page, "Dead groups")).to_have_text("2")
    expect(kpi(page, "Left after pruning")).to_have_text("6")
    worth = page.locator('section[data-card="worth"] .caption')
    expect(worth).to_contain_text("A pruned weight is worth less than a kept one in 100 % of pairs")
    expect(worth).to_contain_text("100 random signs")
    assert page.evaluate("""() => {
        const plot = name => document.querySelector(`section[data-card="${name}"] .js-plotly-plot`);
        return [plot("worth").data.map(t => t.name), plot("group-norms").layout.shapes[0].y0];
    }""") == [["kept: 5", "kept, H_ii < 0: 1", "pruned: 4"], 1e-4]
    page.keyboard.press("Home")
    expect(kpi(page, "Zero weights")).to_have_text("0.0 %")
    expect(page.get_by_role("heading", name="Group norms at step 0")).to_be_visible()
    drawn = """() => {
        const plot = name => document.querySelector(`section[data-card="${name}"] .js-plotly-plot`);
        return [Array.from(plot("group-norms").data[0].y), plot("against").data[0].marker.size.indexOf(11)];
    }"""
    poll(lambda: page.evaluate(drawn), [[3, 2, 1, 0.5], 0])  # the pictures follow as well as their titles
    search(page, r"/structure\?step=0$")


def test_the_structure_page_of_a_low_rank_training_shows_ranks_and_eigenvectors(visit: Open, address: str) -> None:
    page = visit(address, "/run/sweep%2Fadam/structure", graphs=5)
    ranks, tangent = (page.locator(f'section[data-card="{name}"]') for name in ("ranks-over", "tangent"))
    expect(ranks.locator(".caption")).to_contain_text("3 of layer 0, 2 of layer 2. 0 changes in all")
    expect(tangent.locator(".caption")).to_contain_text("of a random direction, 0.500")
    names = "document.querySelector('section[data-card=ranks-over] .js-plotly-plot').data.map(t => t.name)"
    assert page.evaluate(names)[:2] == ["0", "2"]
    page.keyboard.press("Home")
    lack = "No eigenvectors were known to the structure at step 0"
    expect(tangent.locator(".caption")).to_contain_text(f"{lack}; there are some at step 60. Compute them")
    expect(tangent.locator(".annotation-text")).to_have_text(lack)
    expect(tangent.locator(".js-plotly-plot .point")).to_have_count(0)
    page.keyboard.press("End")
    expect(tangent.locator(".js-plotly-plot .point")).to_have_count(2)
