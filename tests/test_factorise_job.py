"""From a low-rank training to its ranks, its eigenvectors in the tangent space, and a thin network of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from landscape.cli import main
from landscape.loss.checkpoints import Checkpoint
from landscape.loss.loading import build_problem
from landscape.networks import lowrank
from landscape.stores.run_directory import Run

TRAIN = ["train", "digits_mlp", "--problem-set", "hidden=[16, 12]", "--optimizer", "dlrt", "--set", "tau=0.2", "--set",
         "rank=6", "--steps", "20", "--checkpoint-every", "10"]  # fmt: skip


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store") / "low"
    assert main([*TRAIN, "--out", str(root)]) == 0
    return root


def ranks(run: Run, step: int) -> dict[str, int]:
    """By the weights themselves."""
    state = Checkpoint(run, step).state()
    return {n: lowrank.rank_within(torch.linalg.svdvals(state[f"{n}.weight"]), 1e-5) for n in ("0", "2")}


def test_checkpoints_hold_dense_weights_of_low_rank_and_events_say_when_ranks_changed(low: Path) -> None:
    run = Run(low)
    assert set(Checkpoint(run, 20).state()) == {f"{n}.{kind}" for n in (0, 2, 4) for kind in ("weight", "bias")}
    sigma = Checkpoint(run, 20).optimizer_state()
    told = {n: len(sigma[f"sigma/{n}.weight"]) for n in ("0", "2")}
    assert ranks(run, 20) == told
    assert run.info.settings["tau"] == 0.2
    changes = [e for e in run.events() if e["layer"] == "0"]
    assert (changes[0]["before"], changes[0]["after"]) == (16, 6)
    assert changes[-1]["after"] == told["0"]


def test_the_structure_has_ranks_and_parts_of_eigenvectors(low: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--probes", "1", "--iterations", "16", "--top", "2", "--bottom", "0", "--checkpoints", "last"]
    assert main(["spectrum", str(low), *words]) == 0
    assert main(["structure", str(low), "--saliency", "none"]) == 0
    assert "|P_T v| of 2 top eigenvectors" in capsys.readouterr().out
    run = Run(low)
    first, last = (run.read(f"structure-weights-{step:08d}") for step in (0, 20))
    assert first.ranks == {"0": 6, "2": 6}
    assert last.ranks == ranks(run, 20)
    assert first.tangent is None
    pairs, state = run.read("eigenpairs-hessian-00000020", large=True), Checkpoint(run, 20).state()
    problem, found = build_problem(run.info.problem, run.info.problem_settings), pairs.vectors.astype(float)
    for name, shape, part in problem.named_slices():
        if name in ("0.weight", "2.weight"):
            u, s, vt = np.linalg.svd(state[name].double().numpy(), full_matrices=False)
            r = last.ranks[name[0]]
            left, right = u[:, :r] @ u[:, :r].T, vt[:r].T @ vt[:r]
            for row in found:
                block = row[part].reshape(shape)
                row[part] = (block - (np.eye(shape[0]) - left) @ block @ (np.eye(shape[1]) - right)).reshape(-1)
            np.testing.assert_allclose(last.sigma[last.sigma_layers == int(name[0]) // 2], s[:r], rtol=1e-5)
    np.testing.assert_allclose(last.tangent, np.linalg.norm(found, axis=1), rtol=1e-5)
    assert 0 < last.tangent_chance < 1


def test_the_thin_run_computes_the_same_with_fewer_weights(low: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thin = low.parent / "thin"
    assert main(["factorise", str(low), "--out", str(thin)]) == 0
    told = capsys.readouterr().out
    run, of = Run(thin), Run(low)
    found = run.info.meta["factorised"]["ranks"]
    assert found == ranks(of, 20)
    assert f"ranks: 0 {found['0']}, 2 {found['2']}" in told
    assert run.info.size == of.info.size - sum(m * n - found[k] * (m + n) for k, m, n in (("0", 16, 64), ("2", 12, 16)))
    dense = build_problem(of.info.problem, of.info.problem_settings)
    Checkpoint(of, 20).load_into(dense)
    small = build_problem(run.info.problem, run.info.problem_settings)
    Checkpoint(run, 20).load_into(small)
    inputs = dense.batches[0][0]
    torch.testing.assert_close(small.model(inputs), dense.model(inputs), rtol=0, atol=1e-5)
    settings = [word for k, v in run.info.problem_settings.items() for word in ("--problem-set", f"{k}={v}")]
    assert main(["train", run.info.problem, *settings, "--steps", "2", "--out", str(low.parent / "more")]) == 0


def test_a_truncation_says_its_error_and_writes_nothing(low: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(low.parent.iterdir())
    assert main(["factorise", str(low), "--tau", "0.4", "--checkpoints", "all"]) == 0
    errors = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().out.splitlines() if "error" in line]
    assert len(errors) == 3
    assert all(0.01 < error <= 0.4 for error in errors)
    assert sorted(low.parent.iterdir()) == before
    assert main(["factorise", str(low), "--checkpoints", "all", "--out", "new"]) == 2
