"""The dashboard's questions, answered by what a page says in a real browser, against exact numbers."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import softmax_run
from browsing import ARGUMENTS, Watch, chromium, served

from landscape import records
from landscape.app.numbers import number
from landscape.stores.run_directory import Run

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
HALF = softmax_run.SIZE // 2


def numbered(weights: Any, step: int, pairs: records.Eigenpairs) -> records.Eigenpairs:
    """Eigenpairs with what a job writes beside them: the gradient's cosines and the number of classes."""
    slope = softmax_run.gradient(weights)
    assert pairs.vectors is not None
    norm = float(np.linalg.norm(slope))
    found = {"norm": norm, "cosines": (pairs.vectors @ slope / norm).tolist()}
    return dataclasses.replace(pairs, meta={"gradient": found, "classes": softmax_run.CLASSES,
                                            "loss": "cross_entropy", "samples": 1797})  # fmt: skip


def blocks(step: int, weights: Any) -> list[records.Spectrum]:
    """Exact spectra of the two diagonal blocks of the Hessian, as of two layers."""
    matrix, made = softmax_run.hessian(weights), []
    for layer, part in enumerate((slice(HALF), slice(HALF, None))):
        values = np.linalg.eigvalsh(matrix[part, part])
        weight = np.full((1, HALF), 1 / HALF)
        made.append(records.Spectrum(
            step, f"hessian[{('input', 'output')[layer]}]", HALF, values[None], weight, weight, np.zeros((1, HALF)),
            meta={"layer": layer, "weights_norm": float(np.linalg.norm(weights[part]))},
        ))  # fmt: skip
    return made


def accuracy(weights: Any) -> float:
    x, y = softmax_run.digits()
    return float((softmax_run.probabilities(weights, x).argmax(axis=1) == y.argmax(axis=1)).mean())


def answered(root: Path) -> Run:
    run = softmax_run.full_run(root)
    steps, path, _ = softmax_run.trained()
    with (root / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": steps[-1], "train_accuracy": accuracy(path[-1])}) + "\n")
    for step, weights in zip(steps, path, strict=True):
        run.checkpoint_directory(step).mkdir(parents=True)
        run.write(numbered(weights, step, softmax_run.spectrum(step, weights)[1]))
        for block in blocks(step, weights):
            run.write(block)
    return run


SPIKE = 41


def spiked(root: Path, *, passes: bool) -> Run:
    """Gradient descent with one long step uphill; `passes`: its threshold lies between two checkpoints'
    sharpness, so that the eigenvalues cannot tell when it was crossed."""
    run = Run.create(root, dataclasses.replace(softmax_run.info(root.name), every=20))
    weights, rows, kept = softmax_run.trained()[1][-1], [], {}
    for step in range(81):
        if step % 20 == 0:
            kept[step] = softmax_run.spectrum(step, weights)
            run.checkpoint_directory(step).mkdir(parents=True)
        slope = softmax_run.gradient(weights)
        move = -softmax_run.RATE * (-100 if step == SPIKE else 1) * slope
        rows.append({"step": step + 1, "loss": softmax_run.loss(weights), "update_norm": float(np.linalg.norm(move)),
                     "grad_norm": float(np.linalg.norm(slope))})  # fmt: skip
        weights = weights + move
    (root / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    for spectrum, pairs in kept.values():
        run.write(spectrum)
        run.write(pairs)
    if passes:
        before, after = (float(kept[s][1].values[0]) for s in (40, 60))
        assert after > before
        run.update_info(settings={"lr": 2 / ((before + after) / 2), "momentum": 0})
    return run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("answers")
    answered(root / "gd")
    again = answered(root / "again")
    again.update_info(seed=1)
    other = answered(root / "slow")
    other.update_info(settings={**softmax_run.info().settings, "lr": 0.1}, name="slow")
    spiked(root / "spike", passes=False)
    spiked(root / "sparse", passes=True)
    return root


@pytest.fixture(scope="module")
def open_page(store: Path) -> Iterator[Any]:
    """Open URLs in one page of one browser; at the end nothing may have gone wrong in it."""
    with served(store) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(120_000)
        sync_api.expect.set_options(timeout=120_000)
        watch = Watch(page, address)

        def go(path: str, graphs: int) -> Any:
            page.goto(address + path)
            expect(page.locator(".js-plotly-plot .main-svg:first-child")).to_have_count(graphs)
            return page

        yield go
        page.wait_for_load_state("networkidle")
        watch.check()
        browser.close()


def expect(thing: Any) -> Any:
    return sync_api.expect(thing)


def kpi(page: Any, label: str) -> Any:
    return page.locator(".kpi", has=page.locator(".label", has_text=label))


def caption(page: Any, card: str) -> Any:
    return page.locator(f'section[data-card="{card}"] .caption')


def values(step: int) -> Any:
    """All eigenvalues at a step, largest first."""
    steps, path, _ = softmax_run.trained()
    return np.linalg.eigvalsh(softmax_run.hessian(path[steps.index(step)]))[::-1]


# ------------------------------------------------------------------ 1, 6, 10, 12


def test_1_saddle_or_minimum_is_said_with_its_accuracy(open_page: Any) -> None:
    page = open_page("/run/gd?step=30", 4)
    expect(kpi(page, "Lowest eigenvalue λmin")).to_contain_text("no eigenvalue below −0.001: minimum to this accuracy")


def test_10_the_drawer_says_how_a_number_was_computed(open_page: Any) -> None:
    page = open_page("/run/gd/spectrum?view=outliers&step=30", 2)
    card = page.locator('section[data-card="scree"]')
    expect(card.locator(".caption")).to_contain_text("largest 0")  # residuals: the eigenvalues are exact
    card.locator("summary").first.click()
    drawer = card.locator(".how-body")
    expect(drawer).to_contain_text("at step 30")
    expect(drawer).to_contain_text("1,797 training samples")
    expect(drawer).to_contain_text(number(float(values(30)[0]), 6))


def test_12_loss_data_and_seed_are_on_the_page(open_page: Any) -> None:
    page = open_page("/run/gd", 4)
    facts = page.locator("dl.facts")
    for text in ("softmax_run:build", "cross_entropy, training data", "1,797 training samples", "Seed0", "lr = 0.5"):
        expect(facts).to_contain_text(text)


def test_6_the_ratio_to_the_threshold_and_the_sharpening_are_exact(open_page: Any) -> None:
    page = open_page("/run/gd/events?step=30", 3)
    ratio = values(30)[0] / (2 / softmax_run.RATE)
    expect(kpi(page, "Sharpness / threshold").locator(".value")).to_have_text(f"{ratio:.3g}")
    steps = softmax_run.trained()[0]
    rate = 1000 * np.polyfit(steps, np.log([values(s)[0] for s in steps]), 1)[0]
    expect(kpi(page, "Progressive sharpening").locator(".value")).to_have_text(f"{rate:.3g} / 1,000".replace("-", "−"))
    expect(caption(page, "edge-over")).to_contain_text("below the edge at the end")


# ------------------------------------------------------------------ 2


def test_2_the_flatter_minimum_is_named_with_differences_and_intervals(open_page: Any) -> None:
    page = open_page("/compare?runs=gd,again,slow", 3)
    settings = page.locator("#settings tbody tr")
    expect(settings).to_have_count(2)  # what is the same in all is not shown
    expect(settings.nth(0)).to_have_text(re.compile(r"lr0\.50\.50\.1"))
    expect(settings.nth(1)).to_have_text("seed010")
    rows = page.locator("#results tbody tr")
    top = values(60)
    expect(rows.nth(0)).to_contain_text(f"{top[0]:.4g}")
    expect(rows.nth(0)).to_contain_text("2/η = 4.00")
    expect(rows.nth(2)).to_contain_text("2/η = 20.0")
    expect(rows.nth(2)).to_contain_text(f"{top[0] / 20:.4g}")
    expect(page.locator("#seeds tbody tr")).to_contain_text("gd, again")
    expect(page.locator("#seeds tbody tr")).to_contain_text(f"{top[0]:.4g} ± 0")
    expect(page.locator("#results .caption")).to_contain_text("not invariant")
    page.get_by_role("checkbox", name="again").click()
    expect(page).to_have_url(re.compile(r"runs=gd%2Cslow$"))
    expect(page.locator("#seeds")).to_have_count(0)
    page.get_by_role("checkbox", name="spike").press("Space")
    expect(page).to_have_url(re.compile(r"runs=gd%2Cslow%2Cspike"))
    expect(rows).to_have_count(3)
    for name in ("gd", "slow", "spike"):
        page.get_by_role("checkbox", name=name, exact=True).click()
        expect(page.get_by_role("checkbox", name=name, exact=True)).not_to_be_checked()
    expect(page.get_by_text("Choose at least two runs above")).to_be_visible()
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(0)


# ------------------------------------------------------------------ 3


def test_3_a_dragged_range_tells_what_happened_first(open_page: Any) -> None:
    page = open_page("/run/spike", 3)  # no surface
    area = page.locator('section[data-card="training"] .nsewdrag').first.bounding_box()
    y = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + 0.4 * area["width"], y)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.6 * area["width"], y, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"/events\?.*window=3\d%3A(49|5\d)"))
    expect(caption(page, "window-over")).to_contain_text(
        f"the update norm left its 5σ band at step {SPIKE + 1}, the loss left its 5σ band at step {SPIKE + 2}"
    )


def test_3_no_order_is_claimed_where_checkpoints_are_too_sparse(open_page: Any) -> None:
    page = open_page("/run/sparse/events?window=30:70", 3)
    expect(caption(page, "window-over")).to_contain_text("λmax passed 2/η between steps 40 and 60")
    expect(caption(page, "window-over")).to_contain_text("Checkpoints every 20 steps: order unknown")


# ------------------------------------------------------------------ 7, 8, 11


def test_7_outliers_are_counted_beside_the_number_of_classes(open_page: Any) -> None:
    from landscape.readings.outliers import outliers

    page = open_page("/run/gd/spectrum?view=outliers&step=10", 2)
    found = outliers(values(10))
    assert found is not None
    expect(kpi(page, "Outliers").locator(".value")).to_have_text(found.text)
    expect(kpi(page, "Outliers")).to_contain_text("K = 10 classes")


def test_8_the_gradients_share_and_the_moving_space_are_exact(open_page: Any) -> None:
    page = open_page("/run/gd/spectrum?view=alignment&step=20&k=2", 2)
    steps, path, _ = softmax_run.trained()
    here, last = (np.linalg.eigh(softmax_run.hessian(path[steps.index(s)]))[1][:, ::-1] for s in (20, 60))
    slope = softmax_run.gradient(path[steps.index(20)])
    share = (here[:, 0] @ slope) ** 2 / (slope @ slope)
    shown = caption(page, "alignment-over").inner_text()
    assert float(re.search(r"top 1: (\d\.\d+)", shown)[1]) == pytest.approx(share, rel=6e-3)
    overlap = np.square(here[:, :2].T @ last[:, :2]).sum() / 2
    expect(caption(page, "overlap")).to_contain_text(f"{overlap:.2f} with the last checkpoint")


def test_11_the_sharpest_layer_is_named_and_traces_are_shared_out(open_page: Any) -> None:
    page = open_page("/run/gd/spectrum?view=layers&step=20", 2)
    steps, path, _ = softmax_run.trained()
    matrix = softmax_run.hessian(path[steps.index(20)])
    tops = [np.linalg.eigvalsh(matrix[p, p])[-1] for p in (slice(HALF), slice(HALF, None))]
    best = int(np.argmax(tops))
    name = ("input", "output")[best]
    expect(caption(page, "layers-over")).to_contain_text(f"layer {name} (λmax {tops[best]:.4g}"[:-1])
    trace = np.trace(matrix)
    share = max(np.trace(matrix[:HALF, :HALF]), trace - np.trace(matrix[:HALF, :HALF])) / trace
    expect(caption(page, "layer-shares")).to_contain_text(f"{100 * share:.0f} % of the trace")
    page.keyboard.press("ArrowRight")
    expect(caption(page, "layers-over")).to_contain_text("at step 30")


# ------------------------------------------------------------------ one step, pinned beside another


def test_a_pinned_step_stays_as_a_grey_line_and_key_numbers_show_differences(open_page: Any) -> None:
    page = open_page("/run/gd/spectrum?step=20", 4)
    page.get_by_role("button", name="Pin this step").click()
    expect(page.get_by_role("button", name="Unpin 20")).to_be_visible()
    expect(page).to_have_url(re.compile(r"pin=20"))
    page.keyboard.press("]")
    expect(page).to_have_url(re.compile(r"step=30"))
    difference = values(30)[0] - values(20)[0]
    expect(kpi(page, "Sharpness")).to_contain_text(f"{difference:+.3g} against step 20".replace("-", "−"))
    plot = page.locator('section[data-card="density"] .js-plotly-plot')
    assert plot.evaluate("plot => plot.data.length") == 3
    expect(caption(page, "density")).to_contain_text("Grey: step 20")
    page.get_by_role("button", name="Unpin 20").click()
    expect(kpi(page, "Sharpness")).not_to_contain_text("against")
    page.keyboard.press("[")
    expect(page).to_have_url(re.compile(r"step=20"))


def test_space_plays_to_the_end_and_a_step_costs_few_bytes(open_page: Any) -> None:
    page = open_page("/run/gd/events?step=40", 3)
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    page.keyboard.press(" ")
    expect(page).to_have_url(re.compile(r"step=60"))
    expect(kpi(page, "Step").locator(".value")).to_have_text("60")
    steps = [url for url in asked if "/steps?" in url]
    assert len(steps) == 1  # for all stops
    assert not [url for url in asked if "_dash-update-component" in url]


def test_a_ridgeline_of_the_same_spectra_and_a_slider_for_the_kernels(open_page: Any) -> None:
    page = open_page("/run/gd/spectrum?as=ridge&step=30", 4)
    expect(caption(page, "spectrum-over")).to_contain_text("at 7 steps")
    knob = page.get_by_role("slider", name="Kernel width")
    knob.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"width=0\.13"))
    expect(page.get_by_text("kernels of width 0.13 in")).to_be_visible()
