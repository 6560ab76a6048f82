"""The app without a browser: URLs to pages, files to download, hostile and damaged input, ports."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import game_run
import numpy as np
import pytest
import softmax_run
from browsing import damage, make_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plotly.utils import PlotlyJSONEncoder

from landscape import plugins
from landscape.app import filters, progress, shell
from landscape.app.cards import comparison
from landscape.app.reading import Reader
from landscape.app.serving import callbacks, frames, router
from landscape.app.serving.server import bind, make_app, serve
from landscape.app.view import Card, Place, href
from landscape.errors import EnvironmentProblem, ProblemError
from landscape.stores.run_directory import Run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_store(tmp_path_factory.mktemp("app-store"))
    game_run.logged(root / "game")
    return root


def shown(store: Path, path: str, search: str = "") -> str:
    """The page of a URL as JSON text: what the browser would get."""
    parts = callbacks.show_place(Reader(store), Place.parse(path, search))
    return json.dumps(parts, cls=PlotlyJSONEncoder, ensure_ascii=False)


PAGES = [
    "/", "/run/gd", "/run/gd/spectrum", "/run/gd/surface", "/run/gd/surface/pca", "/run/gd/surface/random",
    "/run/gd/volume", "/run/gd/volume/eigen", "/run/bare/volume",
    "/path/gd", "/path/gd/sweep%2Fadam", "/run/sweep%2Fadam", "/run/bare", "/run/bare/spectrum", "/run/bare/surface",
    "/run/gd/surface/pca.line1", "/run/gd/surface/minima.b.c", "/run/game/gan", "/run/gd/gan", "/run/gd/structure",
]  # fmt: skip


def run_of(name: str, problem: str, sharpness: float) -> Any:
    info = SimpleNamespace(problem=problem)
    return SimpleNamespace(name=name, scene=SimpleNamespace(info=info), numbers={"λmax": sharpness})


def test_the_flattest_run_is_named_among_those_of_one_problem_only() -> None:
    sharp, flat = run_of("sharp", "digits_mlp", 8.0), run_of("flat", "digits_mlp", 2.0)
    assert comparison.flattest([sharp, flat]) == "Flattest by λmax: flat, 4.00 times below sharp. "
    other = comparison.flattest([sharp, flat, run_of("game", "ring_gan", 1.0)])
    assert other.startswith("None is named the flattest: ")
    assert "different problems (digits_mlp, ring_gan)" in other
    assert comparison.flattest([sharp, flat, run_of("unknown", "ring_gan", math.nan)]).startswith("Flattest by λmax: ")
    assert comparison.flattest([sharp]) == ""


@pytest.mark.parametrize(("spans", "shown"), [
    (["", "", ""], ["", "", "wide"]), (["", "wide", "", ""], ["wide", "wide", "", ""]),
    (["wide", ""], ["wide", "wide"]), (["tall", ""], ["tall", ""]), ([], []),
])  # fmt: skip
def test_a_card_that_would_stand_alone_takes_the_row(spans: list[str], shown: list[str]) -> None:
    def nothing(_i: int) -> Any:
        return {}

    cards = [Card(f"card-{n}", "", nothing, "", nothing, span=span) for n, span in enumerate(spans)]
    assert [c.span for c in shell.filled(cards)] == shown


@pytest.mark.parametrize("path", PAGES)
def test_every_page_of_a_full_store_is_made_without_a_fault(
    store: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = shown(store, path)
    assert "Not found" not in text
    assert "could not be" not in text
    assert caplog.records == []


def test_every_file_of_the_pages_folder_is_a_page_in_the_navigation(store: Path) -> None:
    names = [m.NAME for m in router.modules()]
    assert names == ["Runs", "Overview", "Events", "Spectrum", "Surface", "Volume", "Path", "Structure", "GAN",
                     "Compare", "Jobs", "Export"]  # fmt: skip
    assert len(names) == len(plugins.names("landscape.app.pages"))
    names.remove("GAN")  # for runs of games alone
    entries = router.navigation(None, None, Reader(store))
    always = {"Runs": "/", "Compare": "/compare", "Jobs": "/jobs", "Export": "/export"}
    # the others are greyed until a run is chosen
    assert [url for _name, url, _here in entries] == [always.get(name) for name in names]


def test_the_key_numbers_are_those_of_the_records(store: Path) -> None:
    steps, path, losses = softmax_run.trained()
    _, e = softmax_run.spectrum(steps[3], path[3])
    text = shown(store, "/run/gd", f"?step={steps[3]}")
    share = 100 * e.values[0] / 4
    assert f"{share:.0f} % of 2/η = 4.00, stable" in text
    assert f"{losses[steps[3]]:.3g}"[:4] in text
    assert "no eigenvalue below −0.001: minimum to this accuracy" in text
    assert f"checkpoint 4 of {len(steps)}" in text


def test_adam_gets_no_threshold_but_the_reason(store: Path) -> None:
    text = shown(store, "/run/sweep%2Fadam")
    assert "2/η" not in text
    assert "no stability threshold known for Adam" in text


def test_missing_records_show_the_command_that_makes_them(store: Path) -> None:
    place = str(store / "bare")
    assert "no checkpoints yet" in shown(store, "/run/bare")
    (store / "bare" / "checkpoints" / "00000000").mkdir(parents=True, exist_ok=True)
    assert f"mpirun -n 2 landscape spectrum {place}" in shown(store, "/run/bare/spectrum")
    assert f"mpirun -n 2 landscape surface {place} --plane pca" in shown(store, "/run/bare/surface/pca")
    assert f"mpirun -n 2 landscape volume {place} --plane pca" in shown(store, "/run/bare/volume")
    assert f"mpirun -n 2 landscape trajectory {place} --plane pca" in shown(store, "/run/bare/surface/pca")
    assert f"mpirun -n 2 landscape path {place} RUN_B --spectrum" in shown(store, "/path/bare")


def test_an_empty_store_says_what_to_type(tmp_path: Path) -> None:
    assert f"landscape demo --out {tmp_path}" in shown(tmp_path, "/")


def test_a_store_that_is_one_run_is_shown(store: Path) -> None:
    assert Reader(store / "gd").runs()[0][0] == "~"
    assert "digits" not in shown(store / "gd", "/")
    assert "checkpoint 7 of 7" in shown(store / "gd", "/run/~")


@pytest.mark.parametrize(
    "run",
    [
        "nope",
        "..",
        "../..",
        "..%2F..",
        "%2e%2e",
        "gd%2F..%2Fgd",
        "%2Fetc",
        "gd%00",
        ".parts",
        "gd%2Frecords",
        "a" * 5000,
    ],
)
def test_unknown_and_hostile_ids_get_a_sentence(store: Path, run: str) -> None:
    text = shown(store, f"/run/{run}")
    assert "Not found" in text
    assert "Traceback" not in text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    page=st.sampled_from(PAGES),
    query=st.dictionaries(
        st.sampled_from(["step", "t", "x", "op", "width", "view", "origin", "q", "sort", "page", "shape", "of", "zzz"]),
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(["nan", "inf", "-1", "1e999", "0", "²", "٣", "pca", "-loss", "lmax<", "mode_kl"]),
        ),
    ),
)
def test_no_query_breaks_a_page(
    store: Path, page: str, query: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    text = shown(store, page, "?" + href(**query).partition("?")[2])
    assert "could not be" not in text
    assert caplog.records == []


def test_a_damaged_record_costs_one_card_and_says_so(tmp_path: Path) -> None:
    run = softmax_run.full_run(tmp_path / "gd")
    damage(run, "spectrum-hessian-00000030")
    text = shown(tmp_path, "/run/gd", "?step=30")
    assert "Left out, because damaged: 1 of 7 spectra" in text
    assert "spectrum-hessian-00000030" in text
    assert "principal-component plane" in text  # the surface is still there
    damage(run, "surface-pca-00000060")
    text = shown(tmp_path, "/run/gd/surface/pca")
    assert "is damaged" in text
    assert "What the projection hides" in text
    (run.directory("trajectory-pca-00000060") / "meta.json").write_text("{", encoding="utf-8")
    assert "No trajectory on this plane" in shown(tmp_path, "/run/gd/surface/pca")


def test_a_run_that_is_only_begun_is_shown(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "new", softmax_run.info("new"))
    for page in ("/", "/run/new", "/run/new/spectrum", "/run/new/surface"):
        assert "could not be" not in shown(tmp_path, page)
    (run.root / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo', encoding="utf-8")
    assert "No training metrics" not in shown(tmp_path, "/run/new")


def test_a_loss_that_is_lost_is_marked(tmp_path: Path) -> None:
    run = softmax_run.bare_run(tmp_path / "r")
    with open(run.root / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 61, "loss": null}\n')
    assert "loss is not finite at 61" in shown(tmp_path, "/run/r")


# ------------------------------------------------------------------ slider


def steps_of(store: Path, query: str) -> Any:
    answer = make_app(store).server.test_client().get(f"/steps?{query}")
    return json.loads(answer.get_data()) if answer.status_code == 200 else answer.get_data(as_text=True)


def test_a_block_of_the_sliders_stops_holds_what_each_of_them_changes(store: Path) -> None:
    found = steps_of(store, "page=/run/gd&at=20&count=3")
    assert found["values"] == [10, 20, 30]
    moves = found["cards"]["training"]["moves"][1]
    assert {value for _operation, _location, value in moves} == {20.0}
    assert found["pool"][found["cards"]["density"]["titles"][1]] == "Spectrum at step 20"
    assert ">20<" in found["pool"][found["kpis"][1][0]]
    _module, page = router.resolve(Reader(store), Place.parse("/run/gd", "?step=20"))
    height = next(v for _o, location, v in found["cards"]["density"]["moves"][1] if location == ["data", 0, "y"])
    exact = page.card("density").draw(page.index).data[0].y  # type: ignore[union-attr]
    assert np.allclose(np.frombuffer(base64.b64decode(height["bdata"]), "<f2"), exact, rtol=1e-3)


def test_a_stop_costs_less_than_five_kilobytes_and_a_block_keeps_its_limit(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/run/gd", "/run/gd/spectrum"):
        _module, page = router.resolve(Reader(store), Place.parse(path))
        assert page.slider is not None
        whole = frames.block(page, 3, 64)
        assert json.loads(whole)["values"] == list(page.slider.values)
        assert len(whole) < 5_000 * len(page.slider.values), path
    monkeypatch.setattr(frames, "BLOCK_BYTES", 3 * len(frames.block(page, 3, 1)))
    part = json.loads(frames.block(page, 3, 64))
    assert part["values"] == list(page.slider.values)[2:5]


@pytest.mark.parametrize("query", [
    "", "page=/run/nobody", "page=/run/gd&at=x&count=-5", "page=/&at=1", "page=%00&at=nan",
    "page=/run/gd&at=1e999&count=1e9",
])  # fmt: skip
def test_garbage_about_stops_is_answered(store: Path, query: str) -> None:
    found = steps_of(store, query)
    assert isinstance(found, dict) or found.startswith("there is no")


# ------------------------------------------------------------------ the web server


@pytest.fixture(scope="module")
def client(store: Path) -> Any:
    return make_app(store).server.test_client()


def test_health_headers_and_language(client: Any) -> None:
    assert client.get("/healthz").get_data(as_text=True) == "OK\n"
    page = client.get("/run/gd")
    assert '<html lang="en">' in page.get_data(as_text=True)
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe-eval" not in policy
    assert "http" not in policy.replace("'self'", "")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "://" not in page.get_data(as_text=True).replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    "path", ["/assets/../server.py", "/assets/%2e%2e/server.py", "/_dash-component-suites/dash/../../etc/passwd"]
)
def test_no_file_outside_the_assets_is_served(client: Any, path: str) -> None:
    response = client.get(path)
    assert response.status_code in (200, 404)
    assert "def make_app" not in response.get_data(as_text=True)
    assert "root:" not in response.get_data(as_text=True)


@pytest.mark.parametrize(
    ("card", "page"),
    [("training", "/run/gd"), ("spectrum-over", "/run/gd"), ("surface", "/run/gd"), ("density", "/run/gd/spectrum"),
     ("scree", "/run/gd/spectrum"), ("branches-over", "/run/gd/spectrum"),
     ("volume", "/run/gd/volume"), ("slice", "/run/gd/volume/pca"),
     ("projection-over", "/run/gd/surface/pca"), ("along", "/path/gd/sweep%2Fadam"),
     ("density", "/path/gd/sweep%2Fadam"), ("scree", "/path/gd/sweep%2Fadam"), ("runs", "/")],
)  # fmt: skip
def test_each_card_downloads_its_numbers_with_units_and_provenance(client: Any, card: str, page: str) -> None:
    response = client.get(f"/data/{card}.csv", query_string={"page": page, "step": "30"})
    assert response.status_code == 200
    assert "attachment" in response.headers["Content-Disposition"]
    lines = response.get_data(as_text=True).splitlines()
    rows = list(csv.reader(io.StringIO("\n".join(line for line in lines if not line.startswith("#")))))
    assert lines[0].startswith("# ")
    assert len(rows) > 2
    assert {len(r) for r in rows} == {len(rows[0])}


def test_a_downloaded_surface_is_the_stored_one(client: Any) -> None:
    text = client.get("/data/surface.csv", query_string={"page": "/run/gd/surface/pca"}).get_data(as_text=True)
    rows = np.array([[float(x) for x in r] for r in csv.reader(text.splitlines()[5:])])
    ground, _ = softmax_run.plane()
    np.testing.assert_allclose(rows[:, 2].reshape(ground.loss.shape), ground.loss)


def test_a_card_downloads_as_one_html_file_without_network(client: Any) -> None:
    text = client.get("/data/density.html", query_string={"page": "/run/gd", "step": "30"}).get_data(as_text=True)
    assert text.startswith("<!doctype html>")
    assert "<script src=" not in text
    assert "Spectrum at step 30" in text


@pytest.mark.parametrize(
    "url",
    ["/data/nope.csv", "/data/training.exe?page=/run/gd", "/data/training.csv?page=/run/nope",
     "/data/spectrum-over.csv?page=/run/bare", "/data/x.csv?page=%00"],
)  # fmt: skip
def test_downloads_that_do_not_exist_are_404_with_a_sentence(client: Any, url: str) -> None:
    response = client.get(url)
    assert response.status_code == 404
    assert "Traceback" not in response.get_data(as_text=True)


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"output": "nothing"}', "\x00"])
def test_garbage_posted_to_a_callback_tells_nothing(client: Any, body: str) -> None:
    response = client.post("/_dash-update-component", data=body, content_type="application/json")
    assert "Traceback" not in response.get_data(as_text=True)


def test_a_store_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"does not exist; make one with `landscape demo"):
        make_app(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ProblemError, match="is a file"):
        make_app(tmp_path / "file")


def test_a_port_that_is_taken_is_named_and_a_free_one_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentProblem, match=f"port {port} is taken on 127.0.0.1; choose another") as caught:
            bind("127.0.0.1", port)
        assert caught.value.exit_code == 5
    with bind("127.0.0.1", None) as free:
        assert free.getsockname()[1] > 0
    with pytest.raises(EnvironmentProblem, match="between 0 and 65535"):
        bind("127.0.0.1", 70000)
    with pytest.raises(EnvironmentProblem, match=r"cannot listen on 192\.0\.2\.1"):
        bind("192.0.2.1", 0)


def test_serving_prints_the_address_after_binding_and_stops(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(server: Any) -> None:
        threading.Timer(0.1, server.shutdown).start()

    serve(store, port=0, ready=stop)
    lines = capsys.readouterr().out
    assert "(4 runs), read-only: http://127.0.0.1:" in lines
    assert "ssh -N -L " in lines


def test_the_app_needs_neither_torch_nor_mpi() -> None:
    code = (
        "import sys, tempfile; from landscape.app.serving import router, server; server.make_app(tempfile.mkdtemp());"
        "router.modules(); print([m for m in ('torch', 'mpi4py', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------ progress, filters, URLs


def status(**changes: Any) -> dict[str, Any]:
    return {
        "state": "running",
        "done": 37,
        "total": 200,
        "unit": "checkpoints",
        "eta_s": 720,
        "updated": 1000.0,
        **changes,
    }


def test_progress_is_a_sentence() -> None:
    assert progress.sentence("spectrum", status(), 1001) == "spectrum: 37 of 200 checkpoints, about 12 min left"
    assert progress.sentence("spectrum", status(eta_s=None), 1001) == "spectrum: 37 of 200 checkpoints"
    assert "no sign of life for 17 min" in progress.sentence("spectrum", status(), 2000)
    assert "stopped; the same command goes on" in progress.sentence("spectrum", status(state="stopped"), 1001)
    assert progress.sentence("spectrum", status(state="done"), 1001) == ""
    assert progress.sentence("x", {"done": "?", "total": None}, 0) == "x: started"


def test_a_running_job_is_on_the_page_and_new_records_change_the_signature(tmp_path: Path) -> None:
    run = softmax_run.bare_run(tmp_path / "r")
    reader = Reader(tmp_path)
    before = reader.signature(["r"])
    assert reader.signature(["r"]) == before
    run.write_status("spectrum", status(updated=time.time()))
    assert "37 of 200 checkpoints, about 12 min left" in shown(tmp_path, "/run/r")
    assert reader.signature(["r"]) == before  # progress alone redraws no plot
    run.write(softmax_run.spectrum(0, softmax_run.trained()[1][0])[0])
    assert reader.signature(["r"]) != before
    assert "spectrum-over" in shown(tmp_path, "/run/r")


ROW = {"run": "sweep/a", "optimizer": "SGD", "lmax": 4.0, "loss": None, "problem": "digits_mlp"}


@pytest.mark.parametrize(
    ("query", "found"),
    [("", True), ("sweep", True), ("optimizer=sgd", True), ("optimizer=adam", False), ("lmax<5", True),
     ("lmax<4", False), ("lmax>=4 mlp", True), ("loss<1", False), ("nope", False), ("lmax<x", False),
     ("lmax!=4", False), ("=<>", False)],
)  # fmt: skip
def test_the_filter_line(query: str, found: bool) -> None:
    assert filters.matches(ROW, query) is found


def test_sorting_puts_missing_values_last_either_way() -> None:
    rows = [{"x": 2.0}, {"x": None}, {"x": 1.0}, {"x": float("nan")}]
    assert [r["x"] for r in filters.order(rows, "x")[:2]] == [1.0, 2.0]
    assert [r["x"] for r in filters.order(rows, "-x")[:2]] == [2.0, 1.0]


@given(st.lists(st.text(min_size=1, max_size=12).filter(lambda s: s.isprintable()), min_size=1, max_size=3))
def test_urls_and_places_are_inverse(parts: list[str]) -> None:
    if not {".", ".."} & set(parts):
        assert Place.parse(href(*parts)).parts == tuple(parts)


def test_the_table_filters_sorts_and_pages_by_the_url(store: Path) -> None:
    text = shown(store, "/", "?q=optimizer%3DAdam")
    assert "1 of 4 runs" in text
    assert "No run matches" in shown(store, "/", "?q=zzz")
    ascending = shown(store, "/", "?sort=run")
    descending = shown(store, "/", "?sort=-run")
    assert ascending.index('"/run/bare"') < ascending.index('"/run/gd"')
    assert descending.index('"/run/gd"') < descending.index('"/run/bare"')


def test_the_pages_of_the_demo_store_are_made(demo_store: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (
        "/",
        "/run/adam",
        "/run/sgd/spectrum",
        "/run/adam/surface/eigen",
        "/run/adam/surface/random",
        "/path/adam/sgd",
    ):
        text = shown(demo_store, path)
        assert "could not be" not in text
        assert "mpirun" not in text, path  # nothing is missing
    assert caplog.records == []


def test_other_runs_on_a_plane_are_named_and_their_projection_can_be_chosen(store: Path) -> None:
    text = shown(store, "/run/gd/surface/pca")
    assert "Projection of" in text
    assert "adam: " in text  # the caption tells how far it is from the plane
    own, other = (
        json.loads(shown(store, "/run/gd/surface/pca", search)) for search in ("", "?of=adam")
    )
    assert json.dumps(own) != json.dumps(other)
    assert "Gradient in the plane" in text
    assert "of its length lies in the plane" in text
    assert "random" in shown(store, "/run/gd/surface/pca", "?of=nobody")  # an unknown name is no fault
    assert "Projection of" not in shown(store, "/run/gd/surface/random")


def test_variants_of_planes_have_readable_names() -> None:
    from landscape.app.cards import surfaces

    assert surfaces.title("eigen.1.low2") == "eigenvector (1, \N{MINUS SIGN}2)"
    assert surfaces.title("pca.lowland") == "principal-component (lowland)"
    assert surfaces.title("gradient") == "gradient"
