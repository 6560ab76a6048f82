"""The page of games: what it answers, against a game whose Jacobian, collapse and lead are known."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import game_run
import numpy as np
import pytest
from browsing import ARGUMENTS, Watch, chromium, served
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.app.plots import complex_plane, samples
from landscape.app.reading import Reader
from landscape.app.serving import router
from landscape.app.view import Place
from landscape.errors import ProblemError
from landscape.pictures import paper
from landscape.readings.history import collapse, history, leading
from landscape.readings.quadrature import from_asinh
from landscape.stores.run_directory import Run

FALL, BACK = (game_run.STEPS[game_run.FALLEN + i] for i in (0, 2))
AHEAD = 10 * game_run.LEAD


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("games")
    game_run.logged(root / "ring")
    game_run.logged(root / "young", standings=False)
    game_run.softmax_run.full_run(root / "gd")
    return root


# ------------------------------------------------------------------ history


@given(st.lists(st.integers(0, 8), min_size=1, max_size=30), st.sampled_from([None, 8]))
@settings(max_examples=60, deadline=None)
def test_a_collapse_is_the_loss_of_half_of_the_modes_before(modes: list[int], total: int | None) -> None:
    found = collapse(10.0 * np.arange(len(modes)), np.array(modes, dtype=float), total)
    least = 2 if total is None else 4
    falls = [k for k in range(len(modes)) if max(modes[: k + 1]) >= least and 2 * modes[k] <= max(modes[: k + 1])]
    assert found is not None
    assert found.fallen == (10 * falls[0] if falls else None)
    if falls:
        best = max(modes[: falls[0]])
        assert (found.most, found.left) == (best, modes[falls[0]])
        again = [k for k in range(falls[0], len(modes)) if 2 * modes[k] > best]
        assert found.back == (10 * again[0] if again else None)


def test_records_overrule_the_log_and_a_log_alone_is_a_game() -> None:
    record = game_run.standing(3)
    log = {"step": np.array([0.0, 30.0]), "loss_generator": np.array([7.0, 8.0]), "modes": np.array([2.0, np.nan])}
    found = history([record], log)
    assert found is not None
    np.testing.assert_array_equal(found.curves["loss_generator"], [[0, 30], [7, record.losses[0]]])
    np.testing.assert_array_equal(found.curves["modes"], [[0, 30], [2, game_run.modes()[3]]])
    assert found.total == 8
    alone = history([], log)
    assert alone is not None
    assert (alone.players, alone.total) == (["generator"], None)
    assert history([], {"step": np.zeros(1), "loss": np.zeros(1), "test_loss": np.zeros(1)}) is None


def test_the_lead_that_was_built_in_is_found_at_shared_steps() -> None:
    steps = np.array(game_run.STEPS, dtype=float)
    found = leading((steps, game_run.sharpness()["generator"]), (np.append(steps, 1e6), np.append(game_run.modes(), 0)))
    assert found is not None
    assert found.peak == AHEAD
    assert found.height < -0.8
    assert found.probability < 0.01


# ------------------------------------------------------------------ plots and the figure on paper


def test_the_complex_plane_shows_the_eigenvalues_of_the_matrix(store: Path) -> None:
    every = [game_run.standing(k) for k in range(len(game_run.STEPS))]
    figure = complex_plane.figure(every[4], every)
    drawn = from_asinh(np.asarray(figure.data[0].x)) + 1j * from_asinh(np.asarray(figure.data[0].y))
    exact = np.linalg.eigvals(game_run.jacobian(4))
    np.testing.assert_allclose(np.sort_complex(drawn), np.sort_complex(exact), rtol=1e-4)
    for record in every:  # no step leaves the axes
        for values, axis in ((record.real, figure.layout.xaxis), (record.imaginary, figure.layout.yaxis)):
            inside = np.arcsinh(values / 1e-3)
            assert axis.range[0] < inside.min()
            assert inside.max() < axis.range[1]


def test_images_stand_in_a_grid_and_numbers_in_the_plane() -> None:
    record = game_run.standing(0)
    images = np.arange(4 * 6.0).reshape(4, 6)
    tiled = dataclasses.replace(record, samples=images, real_samples=images, meta={"sample_shape": [2, 3]})
    page = samples.grid(tiled)
    assert page.shape == (5, 7)
    np.testing.assert_array_equal(page[3:, 4:], images[3].reshape(2, 3))
    assert np.isnan(page[2]).all()
    assert samples.figure(tiled, [tiled]).data[0].type == "heatmap"
    points = samples.figure(record, [record])
    np.testing.assert_allclose(points.data[1].x, record.samples[:, 0], rtol=1e-6)  # type: ignore[index]
    wrong = dataclasses.replace(record, meta={"sample_shape": [9, 9]})
    assert samples.shape_of(wrong) is None


def test_the_figure_on_paper_tells_the_same(store: Path) -> None:
    plate = paper.make(Run(store / "ring"), "game", paper.Choice(step=40), paper.Sheet.of("text"))
    assert f"Collapsed at step {FALL}: 1 mode left of the" in plate.caption
    assert f"lag of +{AHEAD} steps" in plate.caption
    assert len(plate.figure.subfigs) == 2
    assert paper.make(Run(store / "young"), "game", None, paper.Sheet.of("column")).caption.count("Collapsed") == 1
    with pytest.raises(ProblemError, match="is no game"):
        paper.make(Run(store / "gd"), "game")
    with pytest.raises(ProblemError, match="--checkpoints 41"):
        paper.make(Run(store / "ring"), "game", paper.Choice(step=41))


# ------------------------------------------------------------------ the page


def test_the_navigation_has_the_page_for_games_alone(store: Path) -> None:
    reader = Reader(store)
    for run, there in (("ring", True), ("young", True), ("gd", False)):
        module, page = router.resolve(reader, Place.parse(f"/run/{run}"))
        names = [name for name, _url, _here in router.navigation(module, page, reader)]
        assert ("GAN" in names) == there


@pytest.mark.browser
def test_5_collapse_and_what_announced_it_are_said(store: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    for page in opened(store, sync_api):
        page.goto("/run/ring/gan?step=40")
        expect = sync_api.expect
        expect(page.locator(".js-plotly-plot .main-svg:first-child")).to_have_count(8, timeout=120_000)
        words = page.locator('section[data-card="game-over"] .caption')
        expect(words).to_contain_text(f"Collapsed at step {FALL}: 1 mode left of the")
        expect(words).to_contain_text(f"recovered at step {BACK}")
        expect(words).to_contain_text(f"The λmax of the generator leads modes covered by {AHEAD} steps")
        expect(words).to_contain_text("Neither of the λmax of the discriminator and modes covered is seen to lead")
        peak = page.locator('section[data-card="lead-lag"] .caption')
        said = rf"Generator: peak −0\.\d+ at a lag of \+{AHEAD} steps, .*within ±0\."
        expect(peak).to_contain_text(re.compile(said))
        covered = page.locator(".kpi", has=page.locator(".label", has_text="Modes covered")).locator(".value")
        expect(covered).to_have_text(f"{game_run.modes()[4]:.0f} of 8")
        lowest = page.locator(".kpi", has=page.locator(".label", has_text="least real part")).locator(".value")
        exact = np.linalg.eigvals(game_run.jacobian(4)).real.min()
        expect(lowest).to_have_text(f"{exact:.3f}".replace("-", "\N{MINUS SIGN}"))
        page.locator(".slider [role=slider]").press("End")
        expect(page.locator('section[data-card="samples"] h2')).to_have_text("Made samples at step 230")
        expect(page.locator('section[data-card="jacobian"] h2')).to_have_text("Jacobian of the game at step 230")
        made = "() => document.querySelector('[data-card=samples] .js-plotly-plot')._fullData[1].x.length"
        page.wait_for_function(f"() => ({made})() === {5 * int(game_run.modes()[-1])}", timeout=120_000)


def opened(store: Path, sync_api: Any) -> Iterator[Any]:
    with served(store) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_context(base_url=address, viewport={"width": 1500, "height": 1000}).new_page()
        watch = Watch(page, address)
        yield page
        page.wait_for_load_state("networkidle")
        watch.check()
        browser.close()
