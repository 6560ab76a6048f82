"""`landscape prune`: from a group-sparse run to a smaller run that the other jobs take."""

from __future__ import annotations

from pathlib import Path

import pytest

from landscape.cli import main
from landscape.stores.run_directory import Run

SPARSE = [
    "train", "digits_mlp", "--optimizer", "prox_sgd", "--set", "regularizer=group", "--set", "mu=0.01", "--set",
    "mean_metric=true", "--set", "vectors=false", "--set", "lr=0.05", "--set", "lr_decay=0", "--set", "rho=0.1",
    "--set", "rho_decay=0", "--steps", "600", "--checkpoint-every", "300",
]  # fmt: skip


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store") / "sparse"
    assert main([*SPARSE, "--out", str(root)]) == 0
    return root


def test_the_smaller_run_has_the_same_loss_and_a_spectrum(sparse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = sparse.parent / "small"
    assert main(["prune", str(sparse), "--out", str(small)]) == 0
    told = capsys.readouterr().out
    assert "units removed: " in told
    run, of = Run(small), Run(sparse)
    assert run.info.size < of.info.size
    assert run.info.meta["pruned"]["before"] == of.info.size
    assert run.checkpoint_steps() == [600]
    assert main(["spectrum", str(small), "--probes", "1", "--iterations", "10", "--top", "1", "--bottom", "0"]) == 0
    spectrum = run.read(run.keys()[0])
    assert spectrum.size == run.info.size


def test_the_smaller_network_trains_further(sparse: Path) -> None:
    again = sparse.parent / "again"
    settings = ["--problem-set", f"run={sparse}", "--problem-set", "threshold=1e-4"]
    more = ["--set", "lr=0.05", "--steps", "50", "--out", str(again)]
    assert main(["train", "landscape.jobs.prune:build", *settings, *more]) == 0
    losses = Run(again).metrics()["train_loss"]
    assert losses[-1] < losses[0]


def test_without_a_place_it_only_says_what_would_go(sparse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(sparse.parent.iterdir())
    assert main(["prune", str(sparse), "--checkpoints", "all", "--threshold", "0"]) == 0
    assert capsys.readouterr().out.count("step ") == 3
    assert sorted(sparse.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--threshold", "-1"], "must be a number of at least 0"), (["--threshold", "tiny"], "'tiny' is no number"),
     (["--out", "new", "--checkpoints", "all"], "--out takes one checkpoint"), (["--out", "."], "holds a run already")],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_sentence(
    sparse: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(sparse)
    assert main(["prune", str(sparse), *arguments]) == 2
    assert message in capsys.readouterr().err
