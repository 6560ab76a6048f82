"""Jobs from the browser: who may start one, what may be started, one at a time; the Jobs and Export pages."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import ARGUMENTS, Watch, chromium, make_store, served

from landscape import cli
from landscape.app import offers, progress
from landscape.app.now import digest
from landscape.app.pages import jobs
from landscape.app.reading import Reader
from landscape.app.serving import callbacks, markup, renewal, router, starting
from landscape.app.serving.queueing import Queue
from landscape.app.serving.server import make_app
from landscape.app.view import Place
from landscape.errors import LandscapeError
from landscape.stores.run_directory import Run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("jobs-store"))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    found = Queue(tmp_path)
    yield found
    found.close()


def shown(reader: Reader, path: str, search: str = "") -> str:
    place = Place.parse(path, search)
    return markup.text(callbacks.show_place(reader, place)[0])


def wait_for(condition: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


# ------------------------------------------------------------------ who and what


def test_without_the_flag_there_is_no_endpoint(store: Path) -> None:
    client = make_app(store).server.test_client()
    assert {client.post(url, json={}).status_code for url in ("/jobs/start", "/jobs/stop")} <= {404, 405}
    assert not (store / ".jobs").exists()
    assert "--allow-submit" in shown(Reader(store), "/jobs")


def test_only_this_servers_own_pages_may_start_a_job(store: Path) -> None:
    app = make_app(store, allow_submit="127.0.0.1")
    client = app.server.test_client()
    token = next(c for c in _tokens(client) if c)
    good = {"Host": "127.0.0.1:8050", "Origin": "http://127.0.0.1:8050", starting.HEADER: token}
    bad: list[dict[str, str]] = [
        {k: v for k, v in good.items() if k != starting.HEADER},
        {**good, starting.HEADER: ("y" if token[0] == "x" else "x") + token[1:]},
        {**good, "Origin": "http://evil.example"},
        {**good, "Origin": "null"},
        {**good, "Host": "evil.example:8050", "Origin": "http://evil.example:8050"},
    ]
    for headers in bad:
        assert client.post("/jobs/start", json={"run": "gd"}, headers=headers).status_code == 403
    assert client.post("/jobs/start", data="run=gd", headers=good).status_code == 403
    refused = client.post("/jobs/start", json={"job": "train", "run": "gd"}, headers=good)
    assert refused.status_code == 400
    assert "not offered" in refused.get_json()["error"]
    assert client.post("/jobs/stop", json={"number": "7"}, headers=good).get_json() == {"stopped": False}
    assert client.get("/jobs/file/1").status_code == 404
    assert not (store / ".jobs").exists()


def _tokens(client: Any) -> list[str]:
    """Tokens in the Jobs page as the browser gets it."""
    body = {
        "output": "..page.children...nav.children...badge.children...info.data...jobs.children..",
        "outputs": [{"id": i, "property": p} for i, p in (
            ("page", "children"), ("nav", "children"), ("badge", "children"), ("info", "data"), ("jobs", "children"))],
        "inputs": [{"id": "place", "property": "data", "value": {"path": "/jobs", "search": "?run=gd"}}],
        "changedPropIds": ["place.data"],
    }  # fmt: skip
    answer = client.post("/_dash-update-component", json=body)
    return re.findall(r'"data-token": ?"([^"]+)"', answer.text)


@pytest.mark.parametrize(
    "values",
    [
        {"job": "train"}, {"job": "spectrum; rm -rf /"}, {"run": "../.."}, {"run": "nobody"}, {"run": ""},
        {"probes": "4; id"}, {"probes": "$(id)"}, {"probes": "0"}, {"probes": "1e3"}, {"probes": "999999999999"},
        {"probes": "٣"}, {"operator": "hessian --problem evil:build"}, {"ranks": "65"}, {"ranks": "-1"},
        {"job": "surface", "plane": "../../x"}, {"job": "path", "other": ""}, {"job": "path", "other": "/etc"},
        {"job": "path", "other": "sweep/adam", "spectrum": "maybe"}, {"job": "video", "format": "exe"},
        {"job": "video", "ranks": "2"},
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(store: Path, values: dict[str, str]) -> None:
    with pytest.raises(LandscapeError):
        offers.order(Reader(store), {"run": "gd", **values})


@pytest.mark.parametrize("job", sorted(offers.OFFERS))
def test_every_offer_is_a_command_line_that_its_job_takes(store: Path, job: str) -> None:
    from landscape import plugins

    order = offers.order(Reader(store), {"job": job, "run": "gd", "other": "sweep/adam"}).placed("/somewhere")
    assert order.words[0] == job
    assert order.words[1] == str((store / "gd").resolve())
    parser = cli._parser(job, plugins.load(cli.JOBS, job))
    args = parser.parse_args(list(order.words[1:]))  # exits where an option is not the job's
    assert args is not None
    text = shown(Reader(store), "/jobs", f"?job={job}&run=gd&other=sweep/adam")
    assert shlex.join(["landscape", *order.words[: -2 if order.file else None]]) in text
    assert ("#SBATCH --ntasks=2" in text) == offers.OFFERS[job].ranked


# ------------------------------------------------------------------ one at a time


def test_jobs_run_one_after_another_and_can_be_stopped(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    def command(words: Any, ranks: int = 1) -> list[str]:
        return [sys.executable, "-c", f"import time; print({words[1]!r}, flush=True); time.sleep({words[2]})"]

    monkeypatch.setattr("landscape.launch.landscape_command", command)
    long, waiting, short = (
        queue.add(offers.Order("spectrum", "gd", ("spectrum", *words), 1))
        for words in (("first", "600"), ("second", "600"), ("$(id) ; third", "0"))
    )
    wait_for(lambda: "first" in long.log())
    assert [e.state for e in queue.entries] == ["running", "queued", "queued"]
    assert queue.stop(waiting.number)
    assert queue.stop(long.number)
    wait_for(lambda: short.state == "done")
    assert [e.state for e in queue.entries] == ["stopped", "stopped", "done"]
    assert short.log().strip() == "$(id) ; third"
    assert waiting.log() == ""
    assert not queue.stop(short.number)
    assert short.began >= long.ended > 0


def test_a_failed_job_says_so(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr("landscape.launch.landscape_command", lambda words, ranks=1: [sys.executable, "-c", "1 / 0"])
    entry = queue.add(offers.Order("spectrum", "gd", ("spectrum",), 1))
    wait_for(lambda: entry.state == "failed")
    assert "ZeroDivisionError" in entry.log()
    monkeypatch.setattr("landscape.launch.landscape_command", lambda words, ranks=1: ["/nonexistent/mpirun"])
    entry = queue.add(offers.Order("spectrum", "gd", ("spectrum",), 1))
    wait_for(lambda: entry.state == "failed")
    assert "No such file" in entry.log()


# ------------------------------------------------------------------ pages


def test_the_table_of_jobs_says_state_rate_and_time_left(store: Path) -> None:
    reader, run, now = Reader(store), Run(store / "bare"), time.time()
    base = {"done": 30, "total": 120, "unit": "checkpoints", "rate": 0.25, "eta_s": 360.0, "ranks": 4,
            "memory_bytes": 1.5e9, "command": "mpirun -n 4 landscape spectrum <b>", "log": ["half way"]}  # fmt: skip
    run.write_status("spectrum", {**base, "state": "running", "updated": now})
    run.write_status("path", {**base, "state": "running", "updated": now - 3600})
    run.write_status("train", {**base, "state": "failed", "updated": now - 10})
    states = {job: state for run_id, job, _status, state in jobs.rows(reader) if run_id == "bare"}
    assert states == {"spectrum": "running", "path": "stale", "train": "failed"}
    assert jobs.rows(reader)[0][1] == "spectrum"
    text = shown(reader, "/jobs")
    for words in ("30 of 120 checkpoints", "4.00 s a checkpoint", "6 min", "1.50 GB", "60 min ago", "half way",
                  "mpirun -n 4 landscape spectrum &lt;b&gt;"):  # fmt: skip
        assert words in text, words
    assert progress.state({"state": "done", "updated": 0}) == "done"
    place = Place.parse("/jobs")
    _module, page = router.resolve(reader, place)
    assert page.live is not None
    known = [digest(list(page.live()))]
    assert renewal.renewed(reader, place, known) is None  # nothing is sent while nothing changes
    run.write_status("train", {**base, "state": "done", "updated": now})
    assert renewal.renewed(reader, place, known) is not None
    assert renewal.renewed(reader, Place.parse("/run/gd"), known) is None


def test_figures_of_the_export_page_are_those_of_the_export_job(store: Path) -> None:
    client = make_app(store).server.test_client()
    text = shown(Reader(store), "/export", "?run=gd&size=column")
    urls = [u.replace("&amp;", "&") for u in re.findall(r'href="(/figure/surface[^"]+)"', text)]
    assert len(urls) == 3
    answer = client.get(next(u for u in urls if ".pdf" in u))
    assert answer.status_code == 200
    assert answer.data.startswith(b"%PDF")
    assert "landscape export" in text
    for bad in ("/figure/none.pdf?run=gd", "/figure/surface.exe?run=gd", "/figure/surface.pdf?run=../..",
                "/figure/surface.pdf?run=gd&size=9999x9999in", "/figure/surface.pdf?run=bare"):  # fmt: skip
        refused = client.get(bad)
        assert refused.status_code == 404, bad
        assert "Traceback" not in refused.text
    table = client.get("/data/records.csv?page=/export&run=gd").text
    assert "spectrum-hessian-00000040" in table


@pytest.mark.browser
def test_a_job_started_on_the_page_runs_to_its_end(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = chromium()
    words = ["train", "digits_mlp", "--problem-set", "hidden=4", "--steps", "2", "--checkpoint-every", "2"]
    assert cli.main([*words, "--out", str(tmp_path / "tiny")]) == 0
    with served(tmp_path, allow_submit="127.0.0.1") as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(120_000)
        watch = Watch(page, address)
        page.goto(f"{address}/jobs?run=tiny&probes=1&iterations=5&top=0&ranks=1")
        page.get_by_text("landscape spectrum").first.wait_for()
        page.get_by_role("button", name="Start on this machine").click()
        entry = page.locator("[data-job='1']")
        entry.locator(".state", has_text="done").wait_for()
        page.locator("table.jobs tr", has_text="spectrum").locator("td", has_text="2 of 2 checkpoints").wait_for()
        assert "hessian spectra" in entry.text_content()
        watch.check()
        browser.close()
    assert len(Run(tmp_path / "tiny").steps("spectrum", "hessian")) == 2
    status = json.loads((tmp_path / "tiny" / "status" / "spectrum.json").read_text())
    assert status["command"].startswith("landscape spectrum")
