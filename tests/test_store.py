"""Run directories: what is written comes back, whole or not at all, and nothing leaves the store."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landscape import records
from landscape.errors import EnvironmentProblem, ProblemError
from landscape.stores import run_directory
from landscape.stores.run_directory import Run

INFO = records.RunInfo("a", "digits_mlp", {"hidden": 8}, "SGD", {"lr": 0.1}, 10, 20, 0, "2026-01-01T00:00:00Z")


def spectrum(step=3, fill=0.5):
    nodes = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]])
    return records.Spectrum(step, "hessian", 20, nodes, np.full((2, 3), fill), np.full((2, 3), 0.2), nodes * 0)


def every_record():
    pairs = records.Eigenpairs(
        3, "hessian", 20, np.array([2.0, 1.0]), np.zeros(2), np.array([-1.0]), np.zeros(1),
        np.arange(60, dtype=np.float32).reshape(3, 20),
    )
    line, grid = np.linspace(0, 1, 4), np.arange(8.0).reshape(2, 4)
    grid[0, 0] = np.nan
    return [
        spectrum(),
        pairs,
        records.Surface(
            3, "pca", ["PC 1", "PC 2"], line, line[:2], grid, directions=np.eye(2, 20), origin=np.zeros(20)
        ),
        records.Trajectory(3, "pca", np.arange(4), line, line, line, line, line, line),
        records.Path(
            "a", "b", 1, 2, "linear", 3.0, line, line, 0.5, accuracy=line,
            spectra=[spectrum(i) for i in range(4)], eigenpairs=[pairs] * 4,
        ),
        records.Volume(
            3, "eigen", ["1", "2", "3"], line, line[:2], line[:3], np.ones((3, 2, 4)), np.arange(5), np.ones((5, 3)),
            *[np.arange(5.0)] * 4, directions=np.eye(3, 20), origin=np.zeros(20),
        ),
        records.Game(
            3, 20, ["x", "y"], line[:2], line[:2], line, line, line, np.ones((2, 4)), ["x|y", "y|x"], line[:2],
            ["modes"], line[:1], np.ones((5, 2), np.float32), np.ones((6, 2), np.float32), line,
        ),
        records.Curve("a", "b", 1, 2, "bezier", True, line, np.ones((3, 20))),
        records.Structure(
            3, ["0", "2"], 1e-6, 1e-4, np.array([16, 4]), line[:2], line[:2], np.arange(3.0), np.array([0, 0, 1]),
            np.array([1, 0, 0], np.int8), 12, {"0": 1},
        ),
        records.Saliency(
            3, "hessian", 20, 100, ["0"], np.arange(4), line, line, line, np.zeros(4, np.int8), np.zeros(4, np.int64)
        ),
        records.Architecture(
            3, "all", 1e-5, 2, ["normal"] * 4, ["skip", "conv3"] * 2, np.arange(4), np.arange(2, 6), line, np.arange(4),
            np.array([0, 1, 1, 0]),
        ),
    ]


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "store" / "a", INFO)


@pytest.mark.parametrize("record", every_record(), ids=lambda r: r.kind)
def test_a_record_comes_back_as_it_was(run, record):
    key = run.write(record)
    assert run.keys() == [key]
    back = run.read(key, large=True)
    assert back.values_dict().keys() == record.values_dict().keys()
    for name, array in record.arrays().items():
        np.testing.assert_array_equal(getattr(back, name), array)
        assert getattr(back, name).dtype == array.dtype
    small = run.read(key)
    assert all(getattr(small, name) is None for name in record.large)
    if isinstance(record, records.Path):
        assert len(back.spectra) == len(back.eigenpairs) == 4
        np.testing.assert_array_equal(back.spectra[2].nodes, record.spectra[2].nodes)
        assert back.spectra[2].step == 2


def test_a_barrier_that_is_not_finite_stays_a_number(run):
    record = dataclasses.replace(every_record()[4], barrier=float("nan"))
    assert np.isnan(run.read(run.write(record)).barrier)


def test_records_check_their_axes():
    with pytest.raises(ValueError, match="axis 'node' has length 2"):
        dataclasses.replace(spectrum(), weights=np.ones((2, 2)))
    with pytest.raises(ValueError, match="must have axes"):
        dataclasses.replace(spectrum(), nodes=np.ones(3))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=30))
def test_no_key_leaves_the_store(run, key):
    try:
        directory = run.directory(key)
    except ProblemError:
        return
    assert directory.resolve().parent == (run.root / "records").resolve()


@pytest.mark.parametrize("run_id", ["..", "../..", "/etc", "a/../../x"])
def test_no_run_id_leaves_the_store(run, run_id):
    with pytest.raises(ProblemError):
        run_directory.find(run.root.parent, run_id)


def test_runs_of_a_store_and_nested_runs(run, tmp_path):
    Run.create(tmp_path / "store" / "group" / "b", INFO)
    assert [r.name for r in run_directory.runs(tmp_path / "store")] == ["a", "b"]
    assert run_directory.find(tmp_path / "store", "group/b").name == "b"
    assert run_directory.runs(tmp_path / "nothing") == []


def test_what_is_no_run_is_named(tmp_path, run):
    with pytest.raises(ProblemError, match="does not exist"):
        Run(tmp_path / "missing")
    with pytest.raises(ProblemError, match=r"has no run\.json"):
        Run(tmp_path)
    with pytest.raises(ProblemError, match="already holds a run"):
        Run.create(run.root, INFO)
    (run.root / "run.json").write_text("{")
    with pytest.raises(ProblemError, match="cannot be read"):
        Run(run.root)


@pytest.mark.parametrize("damage", ["truncate", "empty", "meta", "future", "foreign"])
def test_a_damaged_record_is_named_and_no_more(run, damage):
    key, other = run.write(spectrum(3)), run.write(spectrum(4))
    arrays, meta = run.directory(key) / "arrays.npz", run.directory(key) / "meta.json"
    match damage:
        case "truncate":
            arrays.write_bytes(arrays.read_bytes()[:100])
        case "empty":
            arrays.write_bytes(b"")
        case "meta":
            meta.write_text('{"kind": "spec')
        case "future":
            meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 99}))
        case "foreign":
            meta.write_text("[1, 2]")
    with pytest.raises(ProblemError):
        run.read(key)
    assert run.read(other).step == 4


def test_a_failing_write_leaves_the_old_record(run, monkeypatch):
    key = run.write(spectrum(fill=0.1))
    monkeypatch.setattr(np, "savez", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Exception, match="no space left"):
        run.write(spectrum(fill=0.9))
    monkeypatch.undo()
    assert run.read(key).weights[0, 0] == 0.1
    assert os.listdir(run.root / "records") == [key]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        Run.create(tmp_path / "file" / "a", INFO)


def test_a_reader_never_sees_half_a_record_while_it_is_replaced(run):
    key = run.write(spectrum(fill=0.0))
    stop = threading.Event()

    def rewrite():
        for i in itertools.count():
            run.write(spectrum(fill=float(i)))
            if stop.is_set():
                return

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen, absent = set(), []
    try:
        while len(seen) < 20:
            try:
                record = run.read(key)
            except ProblemError as error:  # the instant between two renames
                absent.append("no record" in str(error) or "damaged (FileNotFoundError" in str(error))
                continue
            assert len(set(record.weights.ravel())) == 1
            seen.add(record.weights[0, 0])
    finally:
        stop.set()
        writer.join()
    assert all(absent)


def test_a_killed_writer_leaves_only_whole_records(run):
    program = (
        "import numpy as np\n"
        "from landscape import records\n"
        "from landscape.stores.run_directory import Run\n"
        f"run = Run({str(run.root)!r})\n"
        "big = np.zeros((4, 200_000))\n"
        "print('ready', flush=True)\n"
        "for step in range(10_000):\n"
        "    run.write(records.Spectrum(step, 'hessian', 9, big, big, big, big))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while len(run.keys()) < 3:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = run.keys()
    for key in finished:
        assert run.read(key).nodes.shape == (4, 200_000)


def test_parts_survive_and_go_with_the_record(run):
    record = every_record()[2]
    key = record.key
    run.write_part(key, "row-3", loss=np.arange(3.0))
    (run.parts_directory(key) / "row-4.npz").write_bytes(b"torn")
    assert list(run.read_parts(key)) == ["row-3"]
    np.testing.assert_array_equal(run.read_parts(key)["row-3"]["loss"], np.arange(3.0))
    run.write(record)
    assert run.read_parts(key) == {}


def test_metrics_ignore_a_half_written_line_and_keep_the_last_of_a_repeated_step(run):
    rows = ['{"step": 0, "loss": 2.0}', '{"step": 1, "loss": null, "accuracy": 0.5}', '{"step": 0, "loss": 1.5}']
    (run.root / "metrics.jsonl").write_text("\n".join([*rows, '{"st']))
    columns = run.metrics()
    np.testing.assert_array_equal(columns["step"], [0, 1])
    np.testing.assert_array_equal(columns["loss"], [1.5, np.nan])
    np.testing.assert_array_equal(columns["accuracy"], [np.nan, 0.5])


def test_nothing_is_pickled(run):
    key = run.write(spectrum())
    np.savez(run.directory(key) / "arrays.npz", nodes=np.array([[{"a": 1}]], dtype=object))
    with pytest.raises(ProblemError, match="allow_pickle=False"):
        run.read(key)


def test_status_and_info_are_rewritten_whole(run):
    run.write_status("spectrum", {"done": 1, "eta_s": float("nan")})
    assert run.statuses() == {"spectrum": {"done": 1, "eta_s": None}}
    run.update_info(finished="2026-01-02T00:00:00Z")
    assert Run(run.root).info.finished == "2026-01-02T00:00:00Z"
