"""Frozen stores and the evidence of cards: what a page says of its numbers, with a server and without one."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.io as pio
import pytest
import softmax_run
from browsing import ARGUMENTS, Watch, chromium, make_store

from landscape.app import how
from landscape.app.reading import Reader
from landscape.app.serving import markup, router
from landscape.app.serving.addresses import canonical, file_name
from landscape.app.serving.freezing import exchanged, freeze
from landscape.app.serving.server import make_app
from landscape.app.style import COLOURS
from landscape.app.view import Place
from landscape.errors import ProblemError, UsageError
from landscape.readings import rules
from landscape.records import Spectrum
from landscape.stores.run_directory import Run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_store(tmp_path_factory.mktemp("freeze-store"))
    run = Run(root / "gd")
    for key in run.keys("spectrum"):
        record = run.read(key)
        checks = {"asymmetry": 1e-16, "nonlinearity": 2e-16, "repeats": True, "difference": 3e-9}
        made = {"command": "landscape spectrum gd --probes 1", "commit": "0123456789abcdef", "samples": 1797,
                "matvecs": 50, "seconds": 0.25, "ranks": 2, "seed": 7, "dtype": "torch.float64",
                "self_check": checks}  # fmt: skip
        run.write(dataclasses.replace(record, meta=made))
    return root


@pytest.fixture(scope="module")
def site(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "out"
    freeze(store, out, only=["gd"])
    return out


def content(site: Path, name: str) -> Any:
    text = (site / "pages" / f"{name}.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.landscape_page = ").rstrip().rstrip(";"))


# ------------------------------------------------------------------ frozen stores


def test_every_link_and_file_of_a_frozen_store_is_in_its_folder(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    assert {"index.html", "run-gd.html", "run-gd-spectrum.html"} <= {p.name for p in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.count("<h1") == 1
        assert '<html lang="en"' in text
        assert ">Jobs<" not in text  # nothing happens in a frozen store
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert link.startswith("data:") or (site / link).is_file(), (page.name, link)
    for script in (site / "pages").glob("*.js"):
        page_ = content(site, script.stem)
        for card in page_["cards"].values():
            assert all((site / page_["pool"][k]).is_file() for k in card["csv"] if page_["pool"][k])


def test_a_stop_of_the_frozen_slider_holds_what_the_app_shows_there(site: Path, store: Path) -> None:
    page = content(site, "run-gd")
    steps = list(softmax_run.trained()[0])
    assert page["values"] == steps
    at = steps.index(40)
    density = page["cards"]["density"]
    assert page["pool"][density["titles"][at]] == "Spectrum at step 40"
    _module, live = router.resolve(Reader(store), Place.parse("/run/gd", "?step=40"))
    lines = (site / page["pool"][density["csv"][at]]).read_text(encoding="utf-8").splitlines()
    rows = list(csv.reader(line for line in lines if line[0] != "#"))
    table = live.card("density").table(live.index)  # type: ignore[union-attr]
    assert [float(r[1]) for r in rows[1:]] == pytest.approx(list(list(table.values())[1]))
    moves = {tuple(location): value for _kind, location, value in page["cards"]["training"]["moves"][at]}
    assert moves["layout", "shapes", 0, "x0"] == 40
    assert "0123456789abcdef" in page["pool"][density["how"][at]]


def test_the_same_store_gives_the_same_bytes_and_replaces_only_its_own_kind(tmp_path: Path) -> None:
    store, site = tmp_path / "store", tmp_path / "site"
    softmax_run.bare_run(store / "bare")

    def digests() -> dict[str, str]:
        freeze(store, site)
        files = (f for f in sorted(site.rglob("*")) if f.is_file())
        return {str(f.relative_to(site)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    assert digests() == digests()
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not a frozen store"):
        freeze(store, other)
    with pytest.raises(UsageError, match="holds the store itself"):
        freeze(store, store)
    with pytest.raises(ProblemError, match="no run 'nobody'"):
        freeze(store, tmp_path / "new", only=["nobody"])
    assert {p.name for p in tmp_path.iterdir()} == {"mine", "site", "store"}
    assert (other / "thesis.tex").read_text() == "years of work"


def test_urls_become_names_that_differ_and_stay_in_the_folder() -> None:
    urls = ["/", "/run/a", "/run/a-b", "/run/a/b", "/run/..%2F..%2Fx", "/run/A%20b", "/run/%C3%A9", "/run/a?op=fisher"]
    names = [file_name(url) for url in urls]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) and "/" not in name for name in names)
    assert canonical("/run/a?step=3&view=2d") == "/run/a"
    assert canonical("/run/a?op=fisher&step=3") == "/run/a?op=fisher"
    for url in ("https://example.org/", "//example.org/x", "/run/a?width=0.1", "/data/x.csv"):
        assert canonical(url) is None


def test_a_dark_figure_is_the_light_one_with_its_colours_exchanged(store: Path) -> None:
    """What lets a frozen page hold one of them."""
    pairs = exchanged()

    def swapped(value: Any) -> Any:
        if isinstance(value, list):
            return [swapped(v) for v in value]
        return {k: swapped(v) for k, v in value.items()} if isinstance(value, dict) else pairs.get(value, value) if (
            isinstance(value, str)) else value  # fmt: skip

    def plain(thing: Any) -> Any:
        return json.loads(pio.json.to_json_plotly(thing, engine="json"))

    assert len(set(pairs)) == len(COLOURS["light"])
    reader, seen = Reader(store), 0
    for url in ("/run/gd", "/run/gd/spectrum?as=ridge", "/run/gd/volume", "/run/gd/surface/pca?view=3d",
                "/path/gd/sweep%2Fadam", "/run/gd/structure", "/run/gd/events"):  # fmt: skip
        path, _, query = url.partition("?")
        light, dark = (router.resolve(reader, Place.parse(path, query, theme))[1] for theme in ("light", "dark"))
        for one, other in zip(light.cards, dark.cards, strict=True):
            assert swapped(plain(one.draw(1))) == plain(other.draw(1)), (url, one.name)
            if one.move is not None and other.move is not None:
                assert swapped(plain(one.move(2))) == plain(other.move(2)), (url, one.name)
            else:  # a picture that depends on the step follows the slider
                assert plain(one.draw(1)) == plain(one.draw(len(light.slider.values) - 1)), (url, one.name)
            seen += 1
    assert seen > 20


@pytest.mark.browser
def test_a_frozen_page_opens_from_a_file_and_its_slider_moves_it(site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 900}, offline=True)
        page.set_default_timeout(120_000)
        watch = Watch(page, "file://")
        page.goto((site / "index.html").as_uri())
        page.get_by_role("link", name="gd", exact=True).click()
        page.locator("html[data-ready='1']").wait_for(state="attached")
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.locator("h1").count() == 1
        slider = page.get_by_role("slider", name="Checkpoint (optimizer step)")
        slider.press("ArrowLeft")
        page.get_by_role("heading", name="Spectrum at step 50").wait_for()
        assert page.url.endswith("#step=50")
        assert page.locator(".kpi .value").first.text_content() == "50"
        state = page.evaluate("""() => ["training", "density"].map(
            name => document.querySelector(`section[data-card="${name}"] .js-plotly-plot`)
        ).map((plot, i) => i ? plot.data[0].y.length : plot.layout.shapes[0].x0)""")
        assert state == [50, 400]
        card = page.locator("section[data-card=density]")
        card.locator("summary").click()
        card.locator(".how-body", has_text="1,797 training samples").wait_for()
        colours = """() => ["density", "training"].map(
            name => document.querySelector(`section[data-card="${name}"] .js-plotly-plot`)
        ).map((plot, i) => i ? plot.layout.shapes[0].x0 : [plot.data[0].line.color, plot._fullLayout.font.color])"""
        assert page.evaluate(colours)[0] == [COLOURS["light"]["blue"], COLOURS["light"]["text"]]
        page.emulate_media(color_scheme="dark")  # the system's, which is followed
        page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
        page.wait_for_function(f"() => ({colours})()[0][0] === '{COLOURS['dark']['blue']}'")
        assert page.evaluate(colours)[0][1] == COLOURS["dark"]["text"]
        assert page.evaluate(colours)[-1] == 50  # the step stays
        page.get_by_role("button", name="Light").click()
        page.wait_for_function(f"() => ({colours})()[0][0] === '{COLOURS['light']['blue']}'")
        with page.expect_download() as got:
            card.get_by_role("button", name="SVG").click()
        assert Path(got.value.path()).read_text(encoding="utf-8").startswith("<svg")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        watch.check()
        browser.close()


# ------------------------------------------------------------------ evidence


def test_fewer_iterations_are_read_off_a_rule_as_lanczos_would_have_given_them() -> None:
    rng = np.random.default_rng(3)
    n, m = 60, 24
    values = np.sort(rng.normal(size=n)) * np.linspace(1, 3, n)
    start = rng.normal(size=n)
    start /= np.linalg.norm(start)

    def lanczos(steps: int) -> tuple[Any, Any, Any]:
        basis, matrix = [start], np.zeros((steps, steps))
        for k in range(steps):
            r = values * basis[k]
            matrix[k, k] = basis[k] @ r
            for _ in range(2):
                for q in basis:
                    r = r - (q @ r) * q
            beta = np.linalg.norm(r)
            if k + 1 < steps:
                matrix[k, k + 1] = matrix[k + 1, k] = beta
            basis.append(r / beta)
        nodes, vectors = np.linalg.eigh(matrix)
        return nodes, vectors[0], beta * np.abs(vectors[-1])

    nodes, first, residuals = (a[None] for a in lanczos(m))
    spectrum = Spectrum(0, "hessian", n, nodes, first**2, first**2, residuals, starts=first)
    for share in (0.25, 0.5, 0.75):
        found = rules.shortened(spectrum, share)
        expected = lanczos(int(m * share))
        assert found is not None
        np.testing.assert_allclose(found.nodes[0], expected[0], atol=1e-10)
        np.testing.assert_allclose(found.residuals[0], expected[2], atol=1e-9)


def test_a_card_says_what_its_numbers_were_drawn_from(store: Path) -> None:
    _module, page = router.resolve(Reader(store), Place.parse("/run/gd", "?step=40"))
    card = page.card("density")
    assert card is not None
    found = how.sources(page, card, page.index)
    assert {r.kind for r in found} >= {"spectrum", "eigenpairs"}
    line = how.line(found, page.step)
    assert line.startswith("1,797 training samples, 1 probe × 50 iterations, seed 7, float64, commit 012345678")
    text = markup.text(how.drawer(found, page.step, page.index))
    for words in ("at step 40 (one of 7 records", "symmetric up to 1.0e-16", "equal bit for bit", "350 products",
                  "landscape spectrum gd --probes 1", "3.0e-09 from difference quotients"):  # fmt: skip
        assert words in text, words
    values = softmax_run.spectrum(40, softmax_run.trained()[1][4])[1].values
    assert f"{values[0]:.5g}"[:5] in text


def test_the_drawer_shows_the_eigenvalue_of_other_samples() -> None:
    steps, path, _losses = softmax_run.trained()
    found = softmax_run.parts(steps[3], path[3])
    text = markup.text(how.drawer([found], steps[3]))
    assert found.quotients is not None
    for quotient in found.quotients[:, 0]:
        assert f"{quotient:.5g}"[:5] in text
    assert "for other samples" in text


def test_the_app_answers_with_the_same_evidence(store: Path) -> None:
    client = make_app(store).server.test_client()
    answer = client.get("/data/density.how?page=/run/gd&step=40")
    assert answer.status_code == 200
    assert "at step 40 (one of 7 records" in answer.text
    assert client.get("/data/nothing.how?page=/run/gd").status_code == 404
    table = client.get("/data/density.csv?page=/run/gd&step=40").text
    assert "commit 012345678" in table
    assert list(csv.reader(io.StringIO(table)))


def test_hostile_words_of_a_record_stay_words(store: Path) -> None:
    record = Run(store / "gd").read("spectrum-hessian-00000040")
    meta = {"command": "<script>alert(1)</script>", "commit": '"><b>', "samples": "NaN"}
    evil = dataclasses.replace(record, meta=meta)
    text = markup.text(how.drawer([evil], 40))
    assert "<script" not in text
    assert "<b>" not in text
