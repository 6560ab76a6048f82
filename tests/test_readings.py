"""The readings of a surface as pictures: what is drawn is what was computed, also where something is missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import softmax_run
from browsing import make_store
from plotly.utils import PlotlyJSONEncoder

from landscape.app.numbers import number
from landscape.app.plots import minima as bars
from landscape.app.plots import quadratic as differences
from landscape.app.plots import surface as flat
from landscape.app.reading import Reader
from landscape.app.serving import callbacks
from landscape.app.serving.server import make_app
from landscape.app.view import Place
from landscape.errors import ProblemError
from landscape.pictures.figures import quadratic as quadratic_figure
from landscape.pictures.figures import topology as topology_figure
from landscape.readings.quadratic import Quadratic, agreement
from landscape.readings.topology import topology
from landscape.records import Surface

themes = pytest.mark.parametrize("theme", ["light", "dark"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("readings-store"))


def ground() -> Surface:
    return softmax_run.plane()[0]


def wells() -> Surface:
    """Many basins, peaks and a corner that diverged."""
    u = np.linspace(-3, 3, 41)
    loss = 2 + 0.1 * (u**2 + u[:, None] ** 2) + np.cos(3 * u) * np.sin(2.5 * u[:, None]) + 0.05 * u
    loss[35:, 35:] = np.nan
    return Surface(5, "random", ["a", "b"], u, u.copy(), loss)


def shown(store: Path, path: str, search: str = "") -> str:
    parts = callbacks.show_place(Reader(store), Place.parse(path, search))
    return json.dumps(parts, cls=PlotlyJSONEncoder, ensure_ascii=False)


def test_the_model_of_the_real_run_is_its_second_order_picture() -> None:
    model = Quadratic.of(ground())
    assert model is not None
    agreed = agreement(ground(), model)
    assert agreed.to_the_edge  # the path ends near the window's
    assert agreed.words.startswith("holds to 5 % of the rise within at least 0.233 units of weight of the origin")
    assert 0.1 < agreed.share < 0.5


@themes
def test_the_difference_is_drawn_with_its_line_and_circle(theme: str) -> None:
    model = Quadratic.of(ground())
    assert model is not None
    agreed = agreement(ground(), model)
    figure = differences.figure(ground(), agreed, theme=theme)
    drawn = 10 ** np.asarray(figure.data[0].z, dtype=np.float64)
    assert np.allclose(drawn, np.clip(agreed.difference, 1e-3, 1), rtol=1e-5)
    assert 10 ** figure.data[1].contours.start == pytest.approx(0.05)
    assert figure.layout.shapes[0].x1 == agreed.radius
    json.loads(figure.to_json())


@themes
def test_a_bar_runs_from_its_minimum_to_its_pass(theme: str) -> None:
    found = topology(wells())
    pairs = bars.shown(found)
    assert len(pairs) == bars.MOST < len(found.basins) + len(found.peaks)
    figure = bars.figure(wells(), found, theme=theme)
    for bar, pair in zip(figure.data, pairs, strict=True):
        end = np.nanmax(wells().loss) if pair.saddle is None else pair.saddle.loss
        assert bar.x == (pair.extremum.loss, end)
    assert figure.layout.yaxis.ticktext[0] == "min 1"
    lost = dataclasses.replace(wells(), loss=np.full((41, 41), np.nan))
    assert "finite" in bars.figure(lost, topology(lost), theme=theme).layout.annotations[0].text


@pytest.mark.parametrize("raised", [False, True])
def test_marks_lie_on_the_minima_and_say_the_barrier(raised: bool) -> None:
    found = topology(wells())
    figure = flat.figure(wells())
    before = len(figure.data)
    bars.add(figure, wells(), found, raised=raised)
    places = {(x, y) for trace in figure.data[before:] for x, y in zip(trace.x, trace.y, strict=True)}
    for pair in bars.shown(found):
        assert (pair.extremum.u, pair.extremum.v) in places
        assert pair.saddle is None or (pair.saddle.u, pair.saddle.v) in places
    texts = [text for trace in figure.data[before:] for text in trace.hovertext]
    second = bars.shown(found)[1]
    assert any(text.startswith("Minimum 2") and number(second.persistence) in text for text in texts)
    json.loads(figure.to_json())


@pytest.mark.parametrize("raised", [False, True])
def test_the_models_iso_lines_are_heights_of_the_model(raised: bool) -> None:
    figure = flat.figure(ground())
    model = Quadratic.of(ground())
    assert model is not None
    sheet = agreement(ground(), model).model
    differences.add(figure, ground(), sheet, raised=raised)
    z = np.asarray(figure.data[-1].z, dtype=np.float64)
    drawn = np.isfinite(z)
    assert drawn.any()
    assert np.allclose(z[drawn], np.log10(sheet[drawn]), rtol=1e-5)
    if not raised:  # every second level of the surface's own
        first, own = figure.data[-1].contours, figure.data[0].contours
        assert (first.start, first.size) == (own.start, 2 * own.size)


def test_the_page_shows_both_readings_and_says_what_is_missing(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = shown(store, "/run/gd/surface/pca", "?over=minima")
    assert "It holds to 5 % of the rise within" in text
    assert "The most persistent minima and maxima" in text
    assert "Rings are minima" in text
    text = shown(store, "/run/gd/surface/random", "?over=model&view=3d")
    assert "This surface carries no quadratic model yet" in text
    assert "landscape surface" in text
    assert "--plane random --points 15" in text
    assert "There is no quadratic model to show" in text
    assert "Overlay" in shown(store, "/run/bare/surface", "?over=nonsense")
    assert caplog.records == []


@pytest.mark.parametrize(("card", "column"), [("quadratic", "difference [share of the rise]"), ("minima", "barrier")])
def test_readings_download_as_csv(store: Path, card: str, column: str) -> None:
    client: Any = make_app(store).server.test_client()
    response = client.get(f"/data/{card}.csv", query_string={"page": "/run/gd/surface/pca"})
    assert response.status_code == 200
    assert column in response.get_data(as_text=True)


def test_figures_of_the_readings_show_what_was_computed() -> None:
    plate = topology_figure.figure(wells())
    left, right, *_ = plate.figure.axes
    assert topology(wells()).words in plate.caption
    assert [t.get_text() for t in left.texts][:2] == ["1", "2"]
    assert right.get_yticklabels()[0].get_text() == "minimum 1"
    plate = quadratic_figure.figure(ground())
    assert any(axes.get_title(loc="left").startswith("Holds to 5 % within") for axes in plate.figure.axes)
    with pytest.raises(ProblemError, match="no quadratic model"):
        quadratic_figure.figure(wells())
