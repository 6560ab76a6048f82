"""`landscape compare`: a matrix of runs dealt over ranks, resumable, with means over seeds and their intervals."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from landscape import cli
from landscape.errors import UsageError
from landscape.jobs import _comparison
from landscape.readings import comparison
from landscape.stores.run_directory import Run, runs

MATRIX = [
    "compare", "digits_mlp", "--problem-set", "hidden=4", "--optimizers", "sgd:lr=0.5,momentum=0.5",
    "adam:lr=0.02,sgd:lr=1e38", "--seeds", "2", "--steps", "20", "--checkpoint-every", "10", "--top", "1",
    "--probes", "1", "--iterations", "6", "--dtype", "float64", "--strategy", "kept",
]  # fmt: skip


def table(store: Path) -> list[dict[str, Any]]:
    content = json.loads((store / "comparisons" / "matrix.json").read_text())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in content["rows"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The matrix on one rank, without a stop."""
    store = tmp_path_factory.mktemp("whole")
    assert cli.main([*MATRIX, "--out", str(store), "--name", "matrix"]) == 0
    return store


def test_a_stopped_matrix_is_finished_by_two_ranks_with_the_same_table(
    whole: Path, tmp_path: Path, landscape, needs_mpirun, monkeypatch, capsys
) -> None:  # type: ignore[no-untyped-def]
    seen = []
    checkpoint = _comparison.Member.root.fget  # type: ignore[attr-defined]

    def stop_at_the_third(self: _comparison.Member) -> Path:
        if self.name not in seen:
            seen.append(self.name)
            if len(seen) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
        return checkpoint(self)  # type: ignore[no-any-return]

    words = [*MATRIX, "--out", str(tmp_path), "--name", "matrix"]
    with monkeypatch.context() as patch:
        patch.setattr(_comparison.Member, "root", property(stop_at_the_third))
        assert cli.main(words) == 75
    assert "2 of 6 runs are safe; the same command goes on" in capsys.readouterr().err
    made = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/records/*/arrays.npz")}
    assert made
    done = landscape(*words, ranks=2)
    assert done.returncode == 0, done.stderr
    for mine, theirs in zip(table(tmp_path), table(whole), strict=True):
        numbers = [k for k, v in theirs.items() if isinstance(v, float)]
        assert {k: mine[k] for k in numbers} == pytest.approx({k: theirs[k] for k in numbers}, rel=1e-6)
        assert {k: v for k, v in mine.items() if k not in numbers} == {
            k: v for k, v in theirs.items() if k not in numbers
        }
    assert {p: p.stat().st_mtime_ns for p in made} == made  # nothing was computed twice


def test_the_rows_are_what_the_runs_hold(whole: Path) -> None:
    rows = {row["run"]: row for row in table(whole)}
    assert len(rows) == len(runs(whole)) == 6
    run = Run(whole / "adam-lr0.02-s1")
    assert run.info.meta["comparison"] == "matrix"
    row = rows["adam-lr0.02-s1"]
    assert row["sharpness"] == run.read("eigenpairs-hessian-00000020").values[0]
    own = run.read("eigenpairs-preconditioned-00000020").values[0]
    assert row["share_of_threshold"] == pytest.approx(own / (38 / 0.02))
    assert row["test_accuracy"] == run.metrics()["test_accuracy"][-1]
    sgd = rows["sgd-lr0.5-momentum0.5-s0"]
    assert sgd["share_of_threshold"] == pytest.approx(sgd["sharpness"] / 6)


def test_a_diverged_run_is_a_row_and_has_no_part_in_the_means(whole: Path) -> None:
    content = json.loads((whole / "comparisons" / "matrix.json").read_text())
    lost = [row for row in content["rows"] if row["state"] == "diverged"]
    assert [row["optimizer"] for row in lost] == ["sgd-lr1e+38"] * 2
    summary = {s["optimizer"]: s for s in content["summary"]}
    assert (summary["sgd-lr1e+38"]["diverged"], summary["adam-lr0.02"]["diverged"]) == (2, 0)
    assert "2 (2 diverged)" in (whole / "comparisons" / "matrix.md").read_text()
    header, *lines = (whole / "comparisons" / "matrix.csv").read_text().splitlines()
    assert len(lines) == 6
    assert len(header.split(",")) == len(lines[0].split(","))


def test_usage_is_refused_before_anything_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "digits_mlp", "--out", str(tmp_path / "store"), "--optimizers"]
    assert cli.main([*words, "sgd", "adan"]) == 2
    assert "unknown optimizer 'adan'" in capsys.readouterr().err
    assert cli.main([*words, "sgd:rate=1"]) == 2
    assert cli.main([*words, "sgd,sgd"]) == 2
    assert "names sgd twice" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


# ---------------------------------------------------------------------- what is typed


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sgd,adam"], [("sgd", {}), ("adam", {})]),
        (["sgd:lr=0.1,momentum=0.9,adam:lr=3e-3"], [("sgd", {"lr": 0.1, "momentum": 0.9}), ("adam", {"lr": 0.003})]),
        (["adam:betas=[0.9,0.99],lr=1"], [("adam", {"betas": [0.9, 0.99], "lr": 1})]),
        (["prox_sgd:regularizer=l1, mu=5e-4", "sgd"], [("prox_sgd", {"regularizer": "l1", "mu": 5e-4}), ("sgd", {})]),
    ],
)
def test_optimizers_are_typed_with_their_settings(words: list[str], found: list[tuple[str, dict[str, Any]]]) -> None:
    assert [(o.name, o.settings) for o in _comparison.optimizers(words)] == found


@pytest.mark.parametrize("word", ["lr=0.1", "sgd:lr", "", "sgd:lr=0.1,,adam", ":lr=1"])
def test_what_cannot_be_read_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="must look like"):
        _comparison.optimizers([word])


def test_labels_name_directories_and_differ() -> None:
    labels = [o.label for o in _comparison.optimizers(["sgd:lr=0.1", "sgd:lr=0.2", f"sgd:lr=0.1,x={'a' * 80}"])]
    assert labels[:2] == ["sgd-lr0.1", "sgd-lr0.2"]
    assert len(labels[2]) <= 60


# ---------------------------------------------------------------------- means


def test_the_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=5)
    found = comparison.mean([*values, None, math.nan])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert (found.value - found.half, found.value + found.half) == pytest.approx((low, high), rel=2e-3)
    assert found.count == 5


def test_a_single_run_has_no_interval_and_none_no_mean() -> None:
    assert comparison.mean([2.0]).value == 2
    assert math.isnan(comparison.mean([2.0]).half)
    assert math.isnan(comparison.mean([None]).value)
