"""How much of the gradient lies along the eigenvectors that a spectrum found, and the threshold stored beside them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import Command
from small_problems import digits, quadratic, symmetric
from torch import Tensor

from landscape import cli
from landscape.app import facts
from landscape.distributed.parallel import Comm
from landscape.engine.spectrum import eigenpairs_at, spectrum_at
from landscape.loss.checkpoints import of_run
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem
from landscape.operators.preconditioned import scale
from landscape.records import Eigenpairs, eigenpairs_key
from landscape.stores.run_directory import Run


def slope_of(problem: Problem) -> Tensor:
    vector = problem.weights().requires_grad_()
    loss = sum(problem.batch_loss(vector, b) * (problem.count(b) / problem.samples) for b in problem.batches)
    (found,) = torch.autograd.grad(loss, vector)  # type: ignore[arg-type]
    return found.double()


def expected(pairs: Eigenpairs, slope: Tensor) -> list[float]:
    assert pairs.vectors is not None
    return (torch.from_numpy(pairs.vectors).double() @ slope / slope.norm()).tolist()


def test_cosines_are_those_of_the_dense_gradient() -> None:
    problem = digits().to(dtype=torch.float64)
    _, pairs = spectrum_at(problem, problem.weights(), Comm(), probes=1, iterations=20, top=3, bottom=2)
    found = pairs.meta["gradient"]
    assert found["norm"] == pytest.approx(float(slope_of(problem).norm()), rel=1e-12)
    assert found["cosines"] == pytest.approx(expected(pairs, slope_of(problem)), abs=1e-12)


def test_on_a_quadratic_with_all_eigenvectors_the_squares_add_up_to_one() -> None:
    problem = quadratic(symmetric(6), at=torch.arange(1.0, 7.0, dtype=torch.float64))
    pairs = eigenpairs_at(problem, problem.weights(), Comm(), top=6)
    assert sum(c * c for c in pairs.meta["gradient"]["cosines"]) == pytest.approx(1.0, abs=1e-10)


def test_at_a_stationary_point_there_is_no_direction_and_no_nan() -> None:
    problem = quadratic(symmetric(4))
    pairs = eigenpairs_at(problem, problem.weights(), Comm(), top=2)
    assert pairs.meta["gradient"] == {"norm": 0.0, "cosines": [0.0, 0.0]}
    assert facts.gradient_text(pairs) == "0 % of the gradient's square lies along the 2 largest. "


def test_the_page_says_nothing_where_nothing_was_recorded() -> None:
    problem = quadratic(symmetric(4), at=torch.ones(4, dtype=torch.float64))
    pairs = eigenpairs_at(problem, problem.weights(), Comm(), top=2)
    for lost in ({}, {"gradient": None}, {"gradient": {"cosines": ["a"]}}):
        assert facts.gradient_text(dataclasses.replace(pairs, meta=lost)) == ""  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def adam(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("store") / "adam"
    words = ["train", "digits_mlp", "--problem-set", "hidden=4", "--optimizer", "adam", "--set", "lr=0.01", "--steps"]
    assert cli.main([*words, "30", "--checkpoint-every", "30", "--out", str(root)]) == 0
    return Run(root)


@pytest.mark.parametrize("operator", ["preconditioned", "hessian - 0.5*fisher", "hessian[2.*]"])
def test_every_operator_has_the_gradient_in_its_own_coordinates(operator: str, adam: Run) -> None:
    name, _, block = operator.rstrip("]").partition("[")
    words = ["spectrum", str(adam.root), "--operator", name, "--checkpoints", "30", "--probes", "1", "--iterations",
             "8", "--top", "2", "--bottom", "0", "--dtype", "float64"]  # fmt: skip
    assert cli.main([*words, *(["--weights", block] if block else [])]) == 0
    pairs = adam.read(eigenpairs_key(operator, 30), large=True)
    problem = build_problem("digits_mlp", {"hidden": 4}).to(dtype=torch.float64)
    (checkpoint,) = of_run(adam, "30")
    checkpoint.load_into(problem)
    problem = problem.restricted(block) if block else problem
    slope = slope_of(problem)
    slope = slope * scale(problem, checkpoint) if name == "preconditioned" else slope
    assert pairs.meta["gradient"]["cosines"] == pytest.approx(expected(pairs, slope), abs=1e-9)


def test_a_sum_whose_terms_have_coordinates_of_their_own_has_none(adam: Run) -> None:
    problem = build_problem("digits_mlp", {"hidden": 4})
    (checkpoint,) = of_run(adam, "30")
    checkpoint.load_into(problem)
    pairs = eigenpairs_at(
        problem, problem.weights(), Comm(), operator="preconditioned + hessian", top=1, checkpoint=checkpoint
    )
    assert "gradient" not in pairs.meta


def test_the_threshold_of_the_optimizer_is_stored_beside_the_eigenvalues(adam: Run) -> None:
    words = ["spectrum", str(adam.root), "--operator", "preconditioned", "--eigenpairs", "--checkpoints", "30"]
    assert cli.main([*words, "--top", "1", "--overwrite"]) == 0
    limit = adam.read(eigenpairs_key("preconditioned", 30)).meta["threshold"]
    assert limit["value"] == pytest.approx(38 / 0.01)
    assert limit["formula"] == "(2+2β₁)/((1−β₁)η)"


@pytest.mark.usefixtures("needs_mpirun")
def test_ranks_find_the_same_cosines(adam: Run, landscape: Command) -> None:
    words = ["spectrum", str(adam.root), "--checkpoints", "30", "--probes", "1", "--iterations", "8", "--top", "2",
             "--dtype", "float64", "--overwrite"]  # fmt: skip
    assert cli.main(words) == 0
    found = [Run(adam.root).read(eigenpairs_key("hessian", 30)).meta["gradient"]["cosines"]]
    done = landscape(*words, ranks=2)
    assert done.returncode == 0, done.stderr
    found.append(Run(adam.root).read(eigenpairs_key("hessian", 30)).meta["gradient"]["cosines"])
    np.testing.assert_allclose(np.abs(found[0]), np.abs(found[1]), atol=1e-10)
