"""Who is answered by the dashboard's server, with which headers, and how little an unchanged store costs."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import softmax_run

from landscape.app.reading import Reader
from landscape.app.serving import guard, live, server
from landscape.stores.run_directory import Run

TOKEN = "a secret/that+needs%quoting"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving")
    softmax_run.bare_run(root / "gd")
    return root


@pytest.fixture(scope="module")
def guarded(store: Path) -> Any:
    return server.make_app(store, token=TOKEN).server


@pytest.fixture(scope="module")
def local(store: Path) -> Any:
    return server.make_app(store, local=True).server


# ------------------------------------------------------------------ the token


@pytest.mark.parametrize("path", ["/", "/run/gd", "/data/runs.csv", "/live", "/_dash-layout", "/assets/app.js"])
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], "\N{SNOWMAN}"])
def test_strangers_get_a_sentence_and_no_data(guarded: Any, path: str, token: str) -> None:
    answer = guarded.test_client().get(path, query_string={"token": token} if token else None)
    assert answer.status_code == 401
    assert "asks for a token" in answer.get_data(as_text=True)
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_token_becomes_a_cookie_that_no_script_reads_and_leaves_the_address(guarded: Any) -> None:
    client = guarded.test_client()
    answer = client.get("/run/gd", query_string={"step": "20", "token": TOKEN})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/run/gd?step=20"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(guard.cookie_name(TOKEN))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert client.get("/run/gd").status_code == 200
    assert client.get("/live?runs=gd").status_code == 200
    assert guarded.test_client().get("/run/gd").status_code == 401  # another browser


def test_the_way_back_after_the_token_stays_on_this_host(guarded: Any) -> None:
    answer = guarded.test_client().get("//elsewhere.example/x", query_string={"token": TOKEN})
    assert answer.status_code in (303, 308, 404)
    assert not answer.headers.get("Location", "/").startswith("//")


def test_health_needs_no_token_and_tells_nothing(guarded: Any) -> None:
    answer = guarded.test_client().get("/healthz")
    assert (answer.status_code, answer.get_data()) == (200, b"OK\n")


@pytest.mark.parametrize(
    ("host", "environment", "asked"),
    [("127.0.0.1", {}, False), ("localhost", {}, False), ("::1", {}, False), ("0.0.0.0", {}, True),
     ("10.1.2.3", {}, True), ("127.0.0.1", {"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, True),
     ("127.0.0.1", {"SLURM_JOB_ID": "17"}, True), ("127.0.0.1", {"SSH_CONNECTION": ""}, False)],
)  # fmt: skip
def test_a_token_is_asked_for_where_others_reach_the_port(host: str, environment: dict[str, str], asked: bool) -> None:
    assert server.reachable(host, environment) is asked


def test_tokens_are_random_unless_the_environment_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LANDSCAPE_TOKEN", raising=False)
    first, second = server.secret_token(), server.secret_token()
    assert first != second
    assert len(first) >= 20
    monkeypatch.setenv("LANDSCAPE_TOKEN", TOKEN)
    assert server.secret_token() == TOKEN


# ------------------------------------------------------------------ names, headers, methods


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8050", 200), ("localhost:8050", 200), ("[::1]:8050", 200), ("127.9.9.9", 200),
     ("attacker.example", 403), ("127.0.0.1.attacker.example:80", 403), ("localhost.attacker.example", 403)],
)  # fmt: skip
def test_without_a_token_only_names_of_this_machine_are_answered(local: Any, host: str, status: int) -> None:
    assert local.test_client().get("/", headers={"Host": host}).status_code == status


def test_every_answer_has_the_headers_and_no_page_may_frame_or_script_it(local: Any) -> None:
    client = local.test_client()
    for path in ("/", "/nowhere", "/live", "/healthz", "/assets/app.js", "/data/no.csv"):
        headers = client.get(path).headers
        assert headers["X-Frame-Options"] == "DENY", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        policy = dict(part.partition(" ")[::2] for part in headers["Content-Security-Policy"].split("; "))
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in policy["script-src"]
        assert "http" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
def test_nothing_can_be_written(local: Any, method: str) -> None:
    for path in ("/run/gd", "/data/runs.csv", "/live", "/assets/app.js"):
        assert local.test_client().open(path, method=method).status_code == 405, path


def test_a_giant_request_is_refused(local: Any) -> None:
    body = b"[" * (guard.LARGEST_BODY + 1)
    answer = local.test_client().post("/_dash-update-component", data=body, content_type="application/json")
    assert answer.status_code in (400, 413)


# ------------------------------------------------------------------ live


def test_an_unchanged_store_costs_an_empty_answer(tmp_path: Path) -> None:
    run = softmax_run.bare_run(tmp_path / "gd")
    client = server.make_app(tmp_path).server.test_client()
    first = client.get("/live?runs=gd").get_json()
    assert first["jobs"] == []
    again = client.get("/live", query_string={"runs": "gd", "seen": first["cursor"]})
    assert (again.status_code, again.get_data()) == (204, b"")
    run.write_status("spectrum", {"state": "running", "done": 3, "total": 9, "updated": 1e18})
    busy = client.get("/live", query_string={"runs": "gd", "seen": first["cursor"]}).get_json()
    assert "3 of 9" in str(busy["jobs"])
    assert busy["signature"] == first["signature"]  # progress alone draws no plot anew
    Run(run.root).write(softmax_run.spectrum(0, softmax_run.trained()[1][0])[0])
    grown = client.get("/live", query_string={"runs": "gd", "seen": busy["cursor"]}).get_json()
    assert grown["signature"] != busy["signature"]


def test_a_new_run_changes_the_whole_stores_signature_and_asking_reads_no_file_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    softmax_run.bare_run(tmp_path / "a")
    reader = Reader(tmp_path)
    before = reader.signature([])
    monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: pytest.fail("a file was read"))
    assert reader.signature([]) == before
    monkeypatch.undo()
    softmax_run.bare_run(tmp_path / "b")
    assert reader.signature([]) != before


def test_hostile_ids_are_no_fault_of_the_live_route(store: Path) -> None:
    client = server.make_app(store).server.test_client()
    for name in ("..", "../../etc", "\0", "a" * 3000, "nope", "%2e%2e", "gd/records"):
        assert client.get("/live", query_string={"runs": name}).status_code == 200
    many = client.get("/live", query_string=[("runs", str(i)) for i in range(live.MOST_RUNS * 4)])
    assert many.status_code == 200


# ------------------------------------------------------------------ the production server


def test_the_production_server_serves_with_a_token_and_stops(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("waitress")
    monkeypatch.setenv("LANDSCAPE_TOKEN", "abc")
    found: list[Any] = []

    def ask(running: Any) -> None:
        address = capsys.readouterr().out.split("read-only: ")[1].split()[0]

        def requests() -> None:
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            try:
                with opener.open(address, timeout=120) as answer:
                    found.extend([address, answer.status, answer.headers["X-Frame-Options"], answer.read()])
                urllib.request.urlopen(address.partition("?")[0], timeout=120)
            except urllib.error.HTTPError as error:
                found.append(error.code)
            finally:
                running.shutdown()

        threading.Thread(target=requests).start()

    server.serve(store, port=0, token=True, production=True, ready=ask)
    address, status, framing, body, refused = found
    assert address.endswith("/?token=abc")
    assert (status, framing, refused) == (200, "DENY", 401)
    assert b"<html lang" in body
