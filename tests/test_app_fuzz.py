"""Damaged and hostile stores, hostile URLs: never a traceback, never a 500, never a byte from outside the store."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import game_run
import numpy as np
import pytest
from browsing import make_store

from landscape.app.reading import Reader
from landscape.app.serving import callbacks, markup
from landscape.app.serving.server import make_app
from landscape.app.view import Place, href

SECRET = "a-secret-outside-of-the-store"
PAGES = (
    "/", "/?group=optimizer", "/run/gd", "/run/gd/spectrum", "/run/gd/surface/pca", "/run/gd/volume",
    "/path/gd/sweep%2Fadam", "/run/bare", "/run/game/gan", "/compare", "/run/gd/events", "/run/gd/structure",
    "/jobs", "/export",
)  # fmt: skip

DAMAGED = tuple(page for page in PAGES if page not in ("/run/bare", "/run/game/gan"))  # those that read the run 'gd'


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_store(tmp_path_factory.mktemp("fuzz"))
    game_run.logged(root / "game")
    return root


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, sound: Path) -> Path:
    """Runs and files that a link could lead to, all marked."""
    root = tmp_path_factory.mktemp("outside")
    shutil.copytree(sound / "gd", root / "run")
    for file in root.rglob("*.json*"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('"pca"', f'"pca {SECRET}"').replace("softmax", SECRET), encoding="utf-8")
    (root / "secret.txt").write_text(SECRET, encoding="utf-8")
    (root / "secret.json").write_text(json.dumps({"state": SECRET, "done": 1, "total": 2}), encoding="utf-8")
    return root


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "store", symlinks=True))


def look(store: Path, pages: tuple[str, ...] = PAGES) -> str:
    """Every page, a slider move and a file of it as the web server answers them, as one text."""
    client = make_app(store).server.test_client()
    texts, asked = [], set()
    for url in pages:
        path, _, search = url.partition("?")
        body = {
            "output": "..page.children...nav.children...badge.children...info.data...jobs.children..",
            "outputs": [{"id": i, "property": p} for i, p in (
                ("page", "children"), ("nav", "children"), ("badge", "children"), ("info", "data"),
                ("jobs", "children"))],
            "inputs": [{"id": "place", "property": "data", "value": {"path": path, "search": f"?{search}"}}],
            "changedPropIds": ["place.data"],
        }  # fmt: skip
        answer = client.post("/_dash-update-component", json=body)
        assert answer.status_code == 200, (url, answer.get_data(as_text=True)[:500])
        texts.append(answer.get_data(as_text=True))
        steps = client.get("/steps", query_string={"page": path, "at": "0"})
        assert steps.status_code in (200, 404), (url, steps.get_data(as_text=True)[:500])
        texts.append(steps.get_data(as_text=True))
        run = path.split("/")[2:3]
        for card in dict.fromkeys(re.findall(r'"data-card": ?"([^"]+)"', texts[-2])):
            if (*run, card) in asked:  # the same card on another page
                continue
            asked.add((*run, card))
            file = client.get(f"/data/{card}.csv", query_string={"page": path})
            assert file.status_code in (200, 404), (url, card)
            texts.append(file.get_data(as_text=True))
    live = client.get("/live")
    assert live.status_code == 200
    return "\n".join([*texts, live.get_data(as_text=True)])


# ------------------------------------------------------------------ ways to damage a record


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def noise(file: Path) -> None:
    file.write_bytes(np.random.default_rng(0).bytes(2000))


def gone(file: Path) -> None:
    file.unlink()


def into_a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def nested(file: Path) -> None:
    file.write_text("[" * 100_000, encoding="utf-8")


def other_json(file: Path) -> None:
    file.write_text('[1, "two", null]', encoding="utf-8")


def wrong_types(file: Path) -> None:
    """Every value replaced by one of another type."""
    if file.suffix == ".json":
        values = json.loads(file.read_text(encoding="utf-8"))
        turned = {
            k: v if k in ("kind", "format") else {"x": [1]} if isinstance(v, (str, int, float)) else 7
            for k, v in values.items()
        }
        file.write_text(json.dumps(turned), encoding="utf-8")


def huge_numbers(file: Path) -> None:
    if file.suffix == ".json":
        values = json.loads(file.read_text(encoding="utf-8"))
        turned = {k: 10**400 if isinstance(v, int) and k != "format" else v for k, v in values.items()}
        file.write_text(json.dumps(turned), encoding="utf-8")


def newer(file: Path) -> None:
    if file.name == "meta.json":
        values = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**values, "format": 99}), encoding="utf-8")


def arrays_of(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Callable[[Path], None]:
    def turn(file: Path) -> None:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as old:
                arrays = {k: change(old[k]) for k in old.files}
            np.savez(file, **arrays)

    return turn


def huge_header(file: Path) -> None:
    """An array that claims a terabyte, and a header of a megabyte."""
    if file.suffix != ".npz":
        return
    with np.load(file, allow_pickle=False) as old:
        names = old.files
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 37,)})
    long = b"\x93NUMPY\x02\x00" + (1 << 20).to_bytes(4, "little") + b" " * (1 << 20)
    with zipfile.ZipFile(file, "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(f"{name}.npy", header.getvalue() if i % 2 else long)


def bomb(file: Path) -> None:
    """Two gigabytes of zeros in two megabytes."""
    if file.suffix == ".npz":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("loss.npy", "w", force_zip64=True) as stream:
                shape = {"descr": "<f8", "fortran_order": False, "shape": (1 << 28,)}
                np.lib.format.write_array_header_1_0(stream, shape)
                stream.write(bytes(1 << 20))
            archive.filelist[0].file_size = 1 << 31  # what the directory says is what is believed


DAMAGES = {
    f.__name__: f
    for f in (halve, empty, noise, gone, into_a_directory, pipe, nested, other_json, wrong_types, huge_numbers, newer,
              huge_header, bomb)
} | {
    "nan": arrays_of(lambda a: np.full_like(a, np.nan) if a.dtype.kind == "f" else a),
    "infinite": arrays_of(lambda a: np.full_like(a, np.inf) if a.dtype.kind == "f" else a),
    "negative": arrays_of(lambda a: -abs(a) - 1 if a.dtype.kind == "f" else a),
    "nothing": arrays_of(lambda a: a[:0] if a.ndim else a),
    "texts": arrays_of(lambda a: np.full(a.shape, "x")),
    "complex": arrays_of(lambda a: a.astype(complex)),
    "more axes": arrays_of(lambda a: a[None]),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_records_cost_their_cards_only(store: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    run = store / "gd"
    for directory in sorted((run / "records").iterdir()):
        for file in (directory / "meta.json", directory / "arrays.npz"):
            DAMAGES[name](file)
    text = look(store, DAMAGED)
    assert "Traceback" not in text
    assert "This page could not be made" not in text
    assert "Not found" not in text, text[text.index("Not found") - 200 : text.index("Not found") + 600]
    assert "training" in text  # the card of the metrics stands
    assert not caplog.records, caplog.text


@pytest.mark.parametrize(
    "name", ["halve", "empty", "noise", "nested", "other_json", "wrong_types", "huge_numbers", "pipe"]
)
def test_damaged_run_files_leave_the_other_runs_standing(
    store: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for file in ("run.json", "metrics.jsonl"):
        DAMAGES[name](store / "gd" / file)
    status = store / "sweep" / "adam" / "status"
    status.mkdir(exist_ok=True)
    for bad in ('{"state": [], "done": "x", "eta_s": {}}', '{"done": 1e400, "total": 3}', "[" * 50_000):
        (status / "spectrum.json").write_text(bad, encoding="utf-8")
        text = look(store, ("/", "/run/sweep%2Fadam", "/run/gd"))
        assert "Traceback" not in text
        assert "This page could not be made" not in text
        assert "sweep/adam" in text
    if name != "pipe":
        assert "cannot be read" in text
    assert not caplog.records, caplog.text


def test_metrics_of_any_kind_are_drawn(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        '{"step": 1, "loss": 1e400}',
        '{"step": NaN}',
        '{"step": Infinity}',
        '{"step": -5, "loss": -1}',
        "[]",
        "7",
        '{"step": 2, "loss": "x", "lr": []}',
        f'{{"step": {10**300}, "loss": 1}}',
        '{"loss": 3}',
        "\x00\x00",
        "{" * 9,
    ]
    (store / "gd" / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")  # fmt: skip
    text = look(store, ("/", "/run/gd"))
    assert "could not be" not in text
    assert not caplog.records, caplog.text


def test_hostile_names_are_shown_as_text_or_left_out(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = (
        "<img src=x onerror=alert(1)>",
        "a b%2F..%2Fc",
        "'\"&?#",
        "\N{SNOWMAN}\u202e",
        "-rf",
        "%00",
        "=cmd()",
        "x" * 200,
    )
    for name in names:
        shutil.copytree(store / "bare", store / name)
        (store / "gd" / "records" / name).mkdir(exist_ok=True)
        (store / "gd" / "checkpoints" / name).mkdir(exist_ok=True)
    for name in ("spectrum-hessian-²", "spectrum-hessian-", "spectrum--00000001", f"surface-pca-{'9' * 200}", "path-x"):
        (store / "gd" / "records" / name).mkdir()
    (store / "gd" / "checkpoints" / ("9" * 200)).mkdir()
    (store / "gd" / "checkpoints" / "²").mkdir()
    text = look(store, (*PAGES, *(href("run", name) for name in names)))
    assert "could not be" not in text
    assert "Not found" not in text
    assert not caplog.records, caplog.text
    if sys.platform == "linux":  # a name that is no UTF-8
        shutil.copytree(os.fsencode(store / "bare"), os.fsencode(store) + b"/\xff\xfe")
        assert "could not be" not in look(store, ("/",))


def test_nothing_outside_of_the_store_is_read(store: Path, outside: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret, run = outside / "secret.txt", store / "gd"
    (store / "linked").symlink_to(outside / "run")
    (store / "sweep" / "linked").symlink_to(outside / "run")
    (store / "folder").symlink_to(outside)
    half = store / "half"
    half.mkdir()
    (half / "run.json").symlink_to(outside / "run" / "run.json")
    for name in ("metrics.jsonl", "records", "checkpoints"):
        shutil.copytree(store / "bare", store / f"with-{name}")
        target = store / f"with-{name}" / name
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
        target.symlink_to(outside / "run" / name)
    for i, directory in enumerate(sorted((run / "records").iterdir())):
        inner = outside / "run" / "records" / directory.name
        if i % 3 == 0:
            shutil.rmtree(directory)
            directory.symlink_to(inner)
        else:
            file = "meta.json" if i % 3 == 1 else "arrays.npz"
            (directory / file).unlink()
            (directory / file).symlink_to(inner / file if i % 2 else secret)
    (run / "status").mkdir(exist_ok=True)
    (run / "status" / "spectrum.json").symlink_to(outside / "secret.json")
    pages = tuple(
        href("run", n) for n in ("linked", "sweep/linked", "folder/run", "half", "with-metrics.jsonl", "with-records")
    )
    text = look(store, (*PAGES, *pages))
    assert SECRET not in text
    assert "could not be" not in text
    assert not caplog.records, caplog.text


# ------------------------------------------------------------------ hostile URLs

VALUES = ("", "nan", "-1", "1e308", "9" * 60, "../../etc/passwd", "%00", "\x00", "<script>", "'; drop", "\N{SNOWMAN}",
          "hessian[", "pca", "log", "[]", "{}", "a" * 3000)  # fmt: skip
NAMES = ("step", "t", "x", "op", "width", "view", "show", "points", "of", "origin", "axis", "slice", "q", "sort",
         "group", "page", "shape", "kind", "theme", "token")  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_hostile_queries_are_pages(sound: Path, page: str, caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader(sound)
    for i in range(0, len(VALUES), 4):
        query = {name: VALUES[(i + k) % len(VALUES)] for k, name in enumerate(NAMES)}
        search = href(**query).partition("?")[2]
        parts = callbacks.show_place(reader, Place.parse(page.partition("?")[0], f"?{search}"))
        assert "could not be made" not in markup.text(parts[0]), search
    assert not caplog.records, caplog.text


def test_hostile_paths_are_answered_with_404_or_the_frame(sound: Path) -> None:
    client = make_app(sound).server.test_client()
    for part in (
        "..",
        "../..",
        "%2e%2e/%2e%2e/etc/passwd",
        "%00",
        "..%2f..%2fetc%2fpasswd",
        "\\..\\x",
        "a" * 9000,
        "//x",
        "%ff",
    ):
        for root in ("/", "/data/", "/assets/", "/_dash-component-suites/dash/", "/run/", "/live/", "/_favicon.ico/"):
            answer = client.get(root + part)
            assert answer.status_code < 500, root + part
            assert "root:" not in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    "value", [None, [], "x", {"path": 3}, {"path": "/run/gd", "search": {}, "theme": []}, {"path": ["/"]}, 1e999]
)
def test_any_place_and_any_slider_is_answered(sound: Path, value: Any) -> None:
    parts = callbacks.show_place(Reader(sound), callbacks.place_of(value))
    assert "could not be made" not in markup.text(parts[0])


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        "null",
        "7",
        '{"output": "page.children"}',
        '{"output": "nothing", "inputs": 3}',
        "\x00",
        "{" * 9999,
    ],
)
def test_garbage_posted_to_a_callback_is_refused_with_a_sentence(sound: Path, body: str) -> None:
    answer = (
        make_app(sound).server.test_client().post("/_dash-update-component", data=body, content_type="application/json")
    )
    assert 400 <= answer.status_code < 500
    assert "Traceback" not in answer.get_data(as_text=True)
