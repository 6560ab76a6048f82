"""The jobs on a real store: what they write, what they export, what a second start costs, and a user's own model."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_in_turn

from landscape import cli
from landscape.stores.run_directory import Run, runs


def exported(capsys: pytest.CaptureFixture[str], run: Path, record: str, kind: str = "json") -> str:
    capsys.readouterr()
    assert cli.main(["export", str(run), "--record", record, "--format", kind]) == 0
    return capsys.readouterr().out


def test_the_store_holds_every_kind_of_record(demo_store: Path) -> None:
    assert [run.name for run in runs(demo_store)] == ["adam", "sgd"]
    for run in runs(demo_store):
        steps = run.checkpoint_steps()
        assert steps == list(range(0, 121, 20))
        assert run.steps("spectrum", "hessian") == run.steps("eigenpairs", "hessian") == steps
        for plane in ("pca", "eigen", "random"):
            assert run.steps("surface", plane) == run.steps("trajectory", plane) == [120]
    assert Run(demo_store / "adam").keys("path") == ["path-linear-sgd"]


def test_a_record_carries_its_evidence(demo_store: Path) -> None:
    run = Run(demo_store / "adam")
    wanted = {"command", "created", "versions", "commit", "ranks", "settings", "seconds", "samples", "dtype"}
    for kind in ("spectrum", "eigenpairs", "surface", "trajectory", "path"):
        (*_, key) = run.keys(kind)
        meta = run.meta(key)["meta"]
        assert wanted <= set(meta), key
        assert meta["settings"]["problem"] == "digits_mlp"
        assert meta["settings"]["problem_settings"] == {"hidden": 8}
        assert "torch" in meta["versions"]
    assert run.meta("spectrum-hessian-00000120")["meta"]["matvecs"] > 0


def test_the_spectrum_is_the_runs_hessian(demo_store: Path) -> None:
    """The largest eigenvalue against the Rayleigh quotient of its stored vector, by a product of its own."""
    import torch

    from landscape.loss.checkpoints import Checkpoint
    from landscape.loss.loading import build_problem

    run = Run(demo_store / "adam")
    pairs = run.read("eigenpairs-hessian-00000120", large=True)
    problem = build_problem(run.info.problem, run.info.problem_settings)
    Checkpoint(run, 120).load_into(problem)
    vector = torch.from_numpy(pairs.vectors[0])
    weights = problem.weights().requires_grad_()
    loss = sum(problem.count(b) / problem.samples * problem.batch_loss(weights, b) for b in problem.batches)
    (gradient,) = torch.autograd.grad(loss, weights, create_graph=True)
    (product,) = torch.autograd.grad(gradient @ vector, weights)
    assert float(vector @ product) == pytest.approx(float(pairs.values[0]), rel=1e-5)


# ---------------------------------------------------------------------- export


def test_json_of_eigenpairs_and_spectrum(demo_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = json.loads(exported(capsys, demo_store / "adam", "eigenpairs"))
    assert [item["step"] for item in pairs] == list(range(0, 121, 20))
    for item in pairs:
        assert {"step", "values", "residuals", "lowest_values", "lowest_residuals"} <= set(item)
        assert len(item["values"]) == len(item["residuals"]) == 4
        assert item["values"] == sorted(item["values"], reverse=True)
    for item in json.loads(exported(capsys, demo_store / "adam", "spectrum")):
        assert {"step", "size", "nodes", "weights", "residuals"} <= set(item)
        assert item["size"] == 8 * 64 + 8 + 80 + 10
        assert len(item["nodes"]) == len(item["weights"]) == len(item["residuals"]) == 2
        for nodes, weights in zip(item["nodes"], item["weights"], strict=True):
            assert len(nodes) == len(weights)
            assert None not in nodes
            assert sum(weights) == pytest.approx(1)


def test_json_of_surface_trajectory_and_path(demo_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    surfaces = json.loads(exported(capsys, demo_store / "sgd", "surface"))
    assert {item["plane"] for item in surfaces} == {"pca", "eigen", "random"}
    for item in surfaces:
        assert {"step", "plane", "u", "v", "loss"} <= set(item)
        assert np.shape(item["loss"]) == (len(item["v"]), len(item["u"])) == (15, 15)
    trajectories = json.loads(exported(capsys, demo_store / "sgd", "trajectory"))
    assert len(trajectories) == 3
    for item in trajectories:
        assert {len(item[name]) for name in ("step", "u", "v", "off_plane", "loss", "surface_loss")} == {7}
    (path,) = json.loads(exported(capsys, demo_store / "adam", "path"))
    assert len(path["t"]) == len(path["loss"]) == len(path["spectra"]) == 7
    chord = (1 - np.array(path["t"])) * path["loss"][0] + np.array(path["t"]) * path["loss"][-1]
    assert path["barrier"] == pytest.approx(max(np.array(path["loss"]) - chord))
    assert {"nodes", "weights", "residuals"} <= set(path["spectra"][3])


@pytest.mark.parametrize(
    ("record", "columns", "rows"),
    [("eigenpairs", {"step", "index", "value", "residual"}, 7 * 6),
     ("spectrum", {"step", "probe", "node", "weight"}, None),
     ("surface", {"step", "plane", "u", "v", "loss"}, 3 * 225), ("trajectory", {"plane", "step", "off_plane"}, 3 * 7),
     ("path", {"t", "loss", "sharpness"}, 7)],
)  # fmt: skip
def test_csv_has_named_columns(demo_store: Path, capsys, record: str, columns: set[str], rows: int | None) -> None:  # type: ignore[no-untyped-def]
    table = list(csv.DictReader(io.StringIO(exported(capsys, demo_store / "adam", record, "csv"))))
    assert columns <= set(table[0])
    assert rows is None or len(table) == rows


def test_a_value_that_is_not_finite_is_null_and_padding_is_left_out(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    from landscape.records import RunInfo, Spectrum, Surface

    run = Run.create(tmp_path / "r", RunInfo("r", "p", {}, "SGD", {}, 1, 3, None, "now"))
    nan = float("nan")
    nodes, weights = np.array([[1.0, 2.0], [1.5, nan]]), np.array([[0.5, 0.5], [1.0, 0.0]])
    run.write(Spectrum(0, "hessian", 3, nodes, weights, weights, np.zeros((2, 2))))
    run.write(Surface(0, "pca", ["a", "b"], np.zeros(2), np.zeros(1), np.array([[nan, 1.0]])))
    (spectrum,) = json.loads(exported(capsys, tmp_path / "r", "spectrum"))
    assert spectrum["nodes"] == [[1.0, 2.0], [1.5]]
    assert spectrum["weights"] == [[0.5, 0.5], [1.0]]
    (surface,) = json.loads(exported(capsys, tmp_path / "r", "surface"))
    assert surface["loss"] == [[None, 1.0]]


def test_export_writes_a_file_whole(demo_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(demo_store / "adam"), "--record", "eigenpairs", "--out", str(tmp_path / "e.json")]
    assert cli.main(words) == 0
    assert (tmp_path / "e.json").read_text() == exported(capsys, demo_store / "adam", "eigenpairs")
    assert [p.name for p in tmp_path.iterdir()] == ["e.json"]


# ---------------------------------------------------------------------- runs and check


def test_runs_is_a_table_or_json(demo_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", str(demo_store)]) == 0
    head, adam, sgd = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["run", "problem", "optimizer"]
    assert adam.split()[0] == "adam"
    assert sgd.split()[0] == "sgd"
    assert cli.main(["runs", str(demo_store), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["optimizer"] for row in rows] == ["Adam", "SGD"]
    assert all(row["sharpness"] > 0 and row["step"] == 120 and row["test_accuracy"] > 0.8 for row in rows)


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert "landscape train digits_mlp --out" in capsys.readouterr().out


def test_check_tells_loss_symmetry_speed_and_plan(demo_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = demo_store / "adam/checkpoints/00000120"
    words = ["check", "digits_mlp", str(checkpoint), "--problem-set", "hidden=8", "--dtype", "float64"]
    assert cli.main(words) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == [
        "model", "data", "loss", "same", "finite", "repeats", "buffers", "twice", "linear", "symmetry", "quotient",
        "speed", "plan",
    ]  # fmt: skip
    assert "610 weights, float64" in lines["model"]
    loss = Run(demo_store / "adam").metrics()["train_loss"][-1]
    assert float(lines["loss"].split()[1].rstrip(",")) == pytest.approx(loss, rel=1e-5)


# ---------------------------------------------------------------------- a second start


def modified(run: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in (run / "records").glob("*/meta.json")}


def test_finished_records_are_skipped_and_made_again_only_when_asked(demo_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(demo_store, store)
    run, before = str(store / "adam"), modified(store / "adam")
    spectrum = ["spectrum", run, "--probes", "2", "--iterations", "20", "--top", "4"]
    for words in (
        spectrum, ["surface", run, "--plane", "pca", "--points", "15"], ["trajectory", run],
        ["path", run, str(store / "sgd"), "--points", "7", "--spectrum",
         "--probes", "2", "--iterations", "15", "--top", "4"],
    ):  # fmt: skip
        assert cli.main(words) == 0
    assert modified(store / "adam") == before
    assert cli.main([*spectrum, "--checkpoints", "last", "--overwrite"]) == 0
    changed = {name for name, time in modified(store / "adam").items() if time != before[name]}
    assert changed == {"spectrum-hessian-00000120", "eigenpairs-hessian-00000120"}


# ---------------------------------------------------------------------- bring your own model

OWN_PROBLEM = """
import torch
import landscape

def network():
    return torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))

def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 2, generator=generator)
    return inputs, inputs[:, :1] * inputs[:, 1:]

def build():
    return landscape.Problem(network(), torch.nn.functional.mse_loss, data(), batch_size=20)
"""
OWN_LOOP = """
import torch
import landscape
from saddle import data, network

torch.manual_seed(0)
model = network()
inputs, targets = data()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
recorder = landscape.Recorder("runs/mine", problem="saddle:build", model=model, optimizer=optimizer, every=10)
for step in range(30):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    recorder.step(loss=loss)
recorder.close()
"""


@pytest.mark.mpi
def test_three_lines_in_a_users_own_loop_lead_to_spectra_and_surfaces(tmp_path, needs_mpirun, monkeypatch, capsys):  # type: ignore[no-untyped-def]
    (tmp_path / "saddle.py").write_text(OWN_PROBLEM)
    (tmp_path / "train_it.py").write_text(OWN_LOOP)
    subprocess.run([sys.executable, "train_it.py"], cwd=tmp_path, check=True, timeout=800)
    run = Run(tmp_path / "runs/mine")
    assert run.checkpoint_steps() == [0, 10, 20, 30]
    assert run.info.meta["command"] == "python train_it.py"
    done = run_in_turn(("spectrum", "runs/mine", "--probes", 2, "--iterations", 8, "--top", 2),
                       ("surface", "runs/mine", "--plane", "eigen", "--points", 5), ranks=2, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run.steps("spectrum", "hessian") == [0, 10, 20, 30]
    assert run.steps("surface", "eigen") == [30]
    monkeypatch.chdir(tmp_path / "runs")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["spectrum", str(tmp_path / "runs/mine")]) == 3
    assert "no module named 'saddle'" in capsys.readouterr().err
