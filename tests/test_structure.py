"""What is zero in a network and what its weights are worth: against dense matrices, and as records of a run."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from pathlib import Path

import browsing
import numpy as np
import pytest
import torch
from small_problems import quadratic, symmetric

from landscape import cli, plugins, records
from landscape.distributed.parallel import Comm
from landscape.engine import diagonal
from landscape.engine.curvature import operator_at
from landscape.loss.checkpoints import Checkpoint
from landscape.loss.loading import build_problem
from landscape.networks import structure
from landscape.stores.run_directory import Run

SIZE = 12
HALF = [range(i, i + 4) for i in range(0, SIZE, 4)]


def estimated(matrix: torch.Tensor, probes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    blocks = [range(i, i + 4) for i in range(0, probes, 4)]
    found = list(diagonal.pieces(lambda b: matrix @ b, matrix[0], SIZE, blocks, seed, slice(0, SIZE)))
    return diagonal.estimate(sum(p.total for p in found), sum(p.square for p in found), probes)


def test_unit_vectors_give_the_diagonal_exactly() -> None:
    matrix = symmetric(SIZE)
    rows = sum(diagonal.exact(lambda b: matrix @ b, matrix[0], HALF, slice(0, SIZE)))
    torch.testing.assert_close(rows, matrix.diagonal(), rtol=0, atol=1e-15)


def test_one_random_sign_gives_a_diagonal_matrix_exactly() -> None:
    matrix = torch.diag(torch.linspace(-1, 3, SIZE, dtype=torch.float64))
    mean, error = estimated(matrix, 4)
    torch.testing.assert_close(mean, matrix.diagonal(), rtol=0, atol=1e-15)
    assert error.max() < 1e-7


def test_the_stated_error_is_that_of_the_estimate() -> None:
    """Over 60 seeds: mean of the squared errors in units of the stated one, and the formula of the variance."""
    matrix, probes = symmetric(SIZE), 64
    runs = [estimated(matrix, probes, seed) for seed in range(60)]
    scores = torch.stack([(mean - matrix.diagonal()) / error for mean, error in runs])
    assert 0.8 < float(scores.square().mean()) < 1.25
    off = matrix - torch.diag(matrix.diagonal())
    expected = (off.square().sum(dim=1) / probes).sqrt()
    stated = torch.stack([error for _, error in runs]).square().mean(dim=0).sqrt()
    torch.testing.assert_close(stated, expected, rtol=0.15, atol=0)


def test_the_diagonal_of_a_problem_is_that_of_its_hessian() -> None:
    matrix = symmetric(SIZE)
    problem = quadratic(matrix)
    curvature = operator_at(problem, problem.weights(), Comm())
    rows = sum(diagonal.exact(curvature.matvec, problem.weights(), HALF, curvature.part))
    torch.testing.assert_close(rows, matrix.diagonal(), rtol=0, atol=1e-12)


# ---------------------------------------------------------------------- zeros


def test_the_read_out_is_the_optimizers_own() -> None:
    weights = {"w": torch.tensor([1e-5, 1e-5, 0.5, 0.0]), "b": torch.tensor([1e-5])}
    dead = {"dead/w": torch.tensor([True, False, True, False])}
    found = structure.read_out(weights, dead, 1e-4)
    assert found["w"].tolist() == pytest.approx([0, 1e-5, 0.5, 0])
    assert found["b"].tolist() == pytest.approx([1e-5])
    assert weights["w"][0] == pytest.approx(1e-5)  # theirs stay as they are
    assert structure.share_within(found, ["w", "b"], 0) == pytest.approx(2 / 5)
    assert structure.share_within(weights, ["w", "b"], 1e-4) == pytest.approx(4 / 5)


def test_weights_belong_to_their_modules() -> None:
    assert structure.layers_of(["0.weight", "0.bias", "head"]) == {"0": ["0.weight", "0.bias"], "head": ["head"]}


# ---------------------------------------------------------------------- the job


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small digits network with dead neurons, by the group norm."""
    root = tmp_path_factory.mktemp("store") / "sparse"
    words = (
        "train digits_mlp --problem-set hidden=8 --optimizer prox_sgd --set regularizer=group --set mu=0.025 --set "
        "mean_metric=true --set vectors=false --set lr=0.1 --set lr_decay=0 --set rho=0.1 --set rho_decay=0 "
        "--steps 200 --checkpoint-every 100 --out"
    )
    assert cli.main([*words.split(), str(root)]) == 0
    return root


def test_structures_are_the_weights_own(sparse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["structure", str(sparse), "--saliency", "none", "--threshold", "1e-3"]) == 0
    assert "groups dead" in capsys.readouterr().out
    run = Run(sparse)
    assert run.steps("structure", "weights") == [0, 100, 200]
    found, checkpoint = run.read("structure-weights-00000200"), Checkpoint(run, 200)
    weights, marks = checkpoint.state(), checkpoint.optimizer_state()
    assert "dead/0.weight" in marks
    assert found.layers == ["0", "2"]
    assert found.weights.tolist() == [64 * 8 + 8, 8 * 10 + 10]
    rows = torch.cat([weights["0.weight"], torch.zeros(0, 64)])
    np.testing.assert_allclose(found.norms[found.group_layers == 0], rows.double().norm(dim=1), rtol=1e-12)
    dead = (rows.abs() <= 1e-3).all(dim=1)
    assert 0 < dead.sum() < 8, "the training must kill some neurons and leave some"
    assert found.dead[found.group_layers == 0].tolist() == dead.int().tolist()
    zeros = sum(int((marks[f"dead/0.{n}"].bool() & (weights[f"0.{n}"].abs() <= 1e-3)).sum())
                for n in ("weight", "bias") if f"dead/0.{n}" in marks)  # fmt: skip
    assert found.zeros[0] == pytest.approx(zeros / found.weights[0])
    assert found.removed["0"] == int(dead.sum())
    assert found.left == found.size - int(dead.sum()) * (64 + 1 + 10)


def test_saliency_goes_on_after_a_stop_and_is_the_hessians_diagonal(sparse: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    words = ["structure", str(sparse), "--checkpoints", "last", "--probes", "1000", "--block", "64"]
    words += ["--dtype", "float64", "--threshold", "1e-3"]
    kept, write = [], Run.write_part

    def write_then_stop(self: Run, *args: object, **arrays: object) -> None:
        write(self, *args, **arrays)  # type: ignore[arg-type]
        kept.append(args)
        if len(kept) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_part", write_then_stop)
        assert cli.main(words) == 75
    assert "64 of 610 products are safe" in capsys.readouterr().err
    assert cli.main(words) == 0
    run = Run(sparse)
    found = run.read("saliency-hessian-00000200")
    problem = build_problem(run.info.problem, run.info.problem_settings).to(dtype=torch.float64)
    Checkpoint(run, 200).load_into(problem)
    theta = problem.weights()
    hessian = sum(
        torch.func.hessian(lambda w, b=b: problem.batch_loss(w, b))(theta) * (problem.count(b) / problem.samples)
        for b in problem.batches
    )
    np.testing.assert_allclose(found.diagonal, hessian.diagonal(), atol=1e-12 * float(hessian.abs().max()))
    np.testing.assert_allclose(found.worth, 0.5 * theta.numpy() ** 2 * hessian.diagonal().numpy(), atol=1e-12)
    assert (found.probes, float(found.errors.max())) == (0, 0.0)
    assert found.pruned.sum() > 64
    assert np.bincount(found.point_layers).tolist() == [520, 90]


@pytest.mark.parametrize(("kind", "rows"), [("structure", 7 * (2 + 4)), ("saliency", 10)])
def test_records_without_a_form_of_their_own_are_exported_by_their_axes(
    kind: str, rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    browsing.make_store(tmp_path)
    assert cli.main(["export", str(tmp_path / "gd"), "--record", kind]) == 0
    found = json.loads(capsys.readouterr().out)
    assert cli.main(["export", str(tmp_path / "gd"), "--record", kind, "--format", "csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(table) == rows
    name = {"structure": "norms", "saliency": "diagonal"}[kind]
    assert [float(r[name]) for r in table if r[name]] == [x for item in found for x in item[name]]
    assert cli.main(["export", str(tmp_path / "bare"), "--record", kind]) == 3
    assert f"landscape structure {tmp_path / 'bare'}" in capsys.readouterr().err


def test_every_kind_of_record_says_which_command_makes_it() -> None:
    jobs = plugins.names("landscape.jobs")
    for kind, record in records.KINDS.items():
        assert record.made_by.split()[0] in jobs, kind
