"""Eigenpairs alone: few products, bounds that hold, multiplicities counted, and going on after a kill."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import PROGRAMS, digits, mlp_eigenvalues, mlp_problem, mpirun
from torch import nn
from torch.nn import functional as F

from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.engine.saving import Keeper
from landscape.engine.spectrum import eigenpairs, eigenpairs_at, spectra, spectrum_at
from landscape.errors import Stopped, UsageError
from landscape.krylov.extremes import extremes
from landscape.krylov.lanczos import BlockLanczos
from landscape.krylov.probes import probe, probes
from landscape.loss.problem import Problem
from landscape.problems import lenet
from landscape.problems._data import FASHION_MNIST
from landscape.readings.completeness import completeness, doubts
from landscape.records import RunInfo
from landscape.stores.run_directory import Run
from landscape.stores.states import States

COMM = Comm()


def ends_of(
    eigenvalues, top, bottom=0, *, block=1, tolerance=1e-9, dtype=torch.float64, seed=0, capacity=None, **options
):
    """Of diag(eigenvalues): Gaussian start vectors look the same in every orthonormal basis."""
    size = len(eigenvalues)
    diagonal = torch.as_tensor(eigenvalues, dtype=dtype)[:, None]
    capacity = capacity or min(4 * (top + bottom) + 16 + 2 * block, size + block + 1)
    start = probes(range(min(block, size)), size, seed).to(dtype)
    space = BlockLanczos(lambda v: diagonal * v, start, max(capacity, 2 * start.shape[1]))
    draw = lambda number: probe(1000 + number, size, seed).to(dtype)[:, None]  # noqa: E731
    return extremes(space, top, bottom, tolerance, 3000, draw, size, **options)


@pytest.mark.parametrize("seed", range(6))
def test_ten_eigenvalues_of_a_network_take_at_most_32_products_and_their_bounds_hold(seed):
    exact = mlp_eigenvalues()
    found = ends_of(exact, 10, tolerance=1e-4, dtype=torch.float32, seed=seed)
    assert found.converged
    assert found.matvecs <= 32
    assert found.missed <= 0.01
    assert (found.residuals <= 1.1e-4 * exact[-1]).all()
    assert (np.abs(found.values - exact[::-1][:10]) <= found.residuals).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_search_ends_at_the_probability_that_is_allowed(seed):
    exact = np.concatenate([np.linspace(-0.5, 0.9, 300), np.geomspace(1, 20, 12), [20.0]])  # the largest twice
    surest, default, rough, unchecked = (
        ends_of(exact, 4, tolerance=1e-6, seed=seed, allowed=allowed) for allowed in (1e-6, None, 0.05, 1.0)
    )
    assert surest.matvecs > default.matvecs >= rough.matvecs > unchecked.matvecs
    assert surest.missed <= 1e-6
    assert rough.missed <= 0.05
    np.testing.assert_allclose(rough.values, exact[::-1][:4], rtol=1e-9)
    assert (unchecked.missed, unchecked.converged) == (None, True)
    np.testing.assert_allclose(unchecked.values, np.unique(exact)[::-1][:4], rtol=1e-9)  # one start vector sees it once


@pytest.mark.parametrize(("top", "bottom"), [(12, 3), (3, 9), (9, 9)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_null_space_is_counted_as_often_as_it_is_asked_for(top, bottom, sign):
    """A check that ends at once, in one eigenspace, has found one copy; there may be more."""
    exact = np.sort(sign * np.concatenate([np.zeros(300), np.geomspace(1, 9, 7)]))
    found = ends_of(exact, top, bottom)
    assert found.converged
    np.testing.assert_allclose(found.values, exact[::-1][:top], atol=1e-9)
    np.testing.assert_allclose(found.lowest_values, exact[:bottom], atol=1e-9)


def test_nothing_is_searched_below_a_semidefinite_operator():
    """The smallest of a thousand eigenvalues that crowd at zero: no polynomial can exclude one just below them."""
    exact = np.geomspace(1e-8, 1, 1000)
    unknown = ends_of(exact, 2, 2, tolerance=1e-4)
    known = ends_of(exact, 2, 2, tolerance=1e-4, lowest=0.0)
    assert known.converged
    assert known.missed <= 0.01 < unknown.missed
    assert known.matvecs < unknown.matvecs
    np.testing.assert_allclose(known.values, exact[::-1][:2], atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_multiple_eigenvalues_of_low_rank_are_found_when_the_space_ends(dtype, seed):
    """The Krylov space ends with its rank, so that the row that waits is rounding: nothing but the missing copies."""
    exact = np.concatenate([np.zeros(300), np.geomspace(1, 20, 12), [20.0, 20.0, 1.0]])
    found = ends_of(exact, 15, tolerance=1e-6, dtype=dtype, seed=seed)
    assert found.converged
    np.testing.assert_allclose(found.values, np.sort(exact)[::-1][:15], rtol=2e-6 if dtype == torch.float32 else 1e-12)


def test_eigenpairs_that_nobody_checked_say_so():
    problem = mlp_problem(torch.float32)
    found = eigenpairs_at(problem, problem.weights(), COMM, check=False, missed=1.0)
    assert found.meta["converged"]
    assert doubts(found) == ""
    assert completeness(found) == "All have converged; whether one beyond them is missing was not checked."
    stopped = dataclasses.replace(found, meta={**found.meta, "converged": False})
    assert "have not converged" in doubts(stopped)


def test_ten_eigenpairs_of_the_network_itself():
    problem, exact = mlp_problem(torch.float32), mlp_eigenvalues()
    found = eigenpairs_at(problem, problem.weights(), COMM, check=False)
    assert found.meta["converged"]
    assert found.meta["matvecs"] <= 32
    assert (np.abs(found.values - exact[::-1][:10]) <= found.residuals).all()
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(10), atol=1e-5)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_twenty_eigenvalues_from_200_products(dtype, accuracy):
    exact = mlp_eigenvalues()
    size = len(exact)
    diagonal = torch.as_tensor(exact, dtype=dtype)[:, None]
    space = BlockLanczos(lambda v: diagonal * v, probes(range(4), size, 0).to(dtype), 204)
    for _ in range(50):
        space.expand()
    assert space.matvecs == 200
    assert np.abs(space.ritz().values[::-1][:20] - exact[::-1][:20]).max() <= accuracy * exact[-1]


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("inside", [False, True])
def test_every_copy_of_an_eigenvalue_is_counted(block, inside):
    wrong = 0
    for copies in (2, 3, 4, 6):
        for seed in range(3):
            rest = np.random.default_rng(seed).uniform(-1, 1, 300)
            exact = np.sort(np.concatenate([[5.0], [4.0] * copies, [3.0], [2.0] * copies, [-3.0] * 2, rest]))
            cut = copies + 4 if inside else copies + 2  # inside an eigenvalue: its other copies look like missing ones
            found = ends_of(exact, cut, 2, block=block, seed=seed)
            assert found.converged or inside
            values = np.concatenate([found.values, found.lowest_values])
            wrong += not np.allclose(values, np.concatenate([exact[::-1][:cut], exact[:2]]), rtol=0, atol=1e-7)
    assert wrong <= 1  # each with a probability of at most 1 %


def test_a_check_misses_a_copy_as_seldom_as_it_says():
    rest = np.random.default_rng(0).uniform(-1, 1, 400)
    exact = np.sort(np.concatenate([[5.0, 4.0, 1.5, 1.5], rest]))
    found = [ends_of(exact, 4, tolerance=1e-3, seed=seed) for seed in range(60)]
    assert all(f.converged and f.missed <= 0.05 for f in found)
    assert sum(f.values[3] < 1.4 for f in found) <= 6


def test_a_search_that_cannot_be_sure_has_not_converged():
    exact = np.linspace(-1, 1, 5000)  # at the end of a continuum a random vector's share tells little
    found = ends_of(exact, 0, 2, tolerance=1e-4)
    assert (found.lowest_residuals <= 1.1e-4).all()
    assert found.missed > 0.05
    assert not found.converged


def test_nothing_asked_is_nothing_missing():
    found = ends_of(np.arange(20.0), 0)
    assert found.converged
    assert found.missed == 0


@pytest.mark.skipif(not Path(FASHION_MNIST).is_dir(), reason="no Fashion-MNIST here")
def test_five_eigenpairs_of_a_lenet_take_at_most_16_products_and_their_residuals_are_true():
    problem = lenet.build(activation="relu", pool="max", samples=500, test_samples=0, seed=0)
    optimizer = torch.optim.Adam(problem.model.requires_grad_(True).parameters(), lr=1e-3)
    inputs, labels = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
    for start in range(100):
        chosen = torch.arange(32 * start, 32 * start + 32) % len(labels)
        optimizer.zero_grad()
        F.cross_entropy(problem.model(inputs[chosen]), labels[chosen]).backward()
        optimizer.step()
    found = eigenpairs_at(problem, problem.weights(), COMM, top=5, tolerance=1e-3, check=False)
    assert found.meta["converged"]
    assert found.meta["matvecs"] <= 16
    exact = problem.to(dtype=torch.float64)
    vectors = torch.as_tensor(found.vectors, dtype=torch.float64).T
    left = operator_at(exact, exact.weights(), COMM).matvec(vectors) - vectors * torch.as_tensor(found.values)
    assert (left.norm(dim=0).numpy() <= found.residuals + 1e-5 * found.values[0]).all()


AWKWARD = {
    "zero": np.zeros(50),
    "one by one": np.array([3.0]),
    "two by two": np.array([-1.0, 2.0]),
    "smaller than a block": np.array([1.0, 2.0, 3.0]),
    "identity": np.ones(60),
    "rank two": np.array([0.0] * 58 + [1.0, 2.0]),
    "one negative": np.array([-1.0] + [0.0] * 58 + [2.0]),
    "clusters": np.sort(np.concatenate([1 + 1e-9 * np.arange(5), 2 + 1e-9 * np.arange(5), np.linspace(-0.5, 0.5, 60)])),
    "range": np.sort(np.concatenate([10.0 ** np.arange(-12, 7), -(10.0 ** np.arange(-12, 4)), np.zeros(20)])),
    "fewer than asked": np.array([-2.0, -1.0, 0.5, 1.0, 7.0]),
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_awkward_operators_have_no_ghosts_and_lose_nothing(name, block, dtype, tolerance):
    exact = AWKWARD[name]
    found = ends_of(exact, 4, 3, block=block, dtype=dtype, tolerance=tolerance)
    top = min(4, len(exact))
    scale = max(np.abs(exact).max(), 1e-30)
    np.testing.assert_allclose(found.values, exact[::-1][:top], atol=30 * tolerance * scale)
    np.testing.assert_allclose(found.lowest_values, exact[: min(3, len(exact) - top)], atol=30 * tolerance * scale)
    assert found.converged


def test_a_restart_keeps_the_memory_of_the_basis():
    size, capacity = 4000, 30
    exact = np.sort(np.random.default_rng(0).normal(size=size))
    diagonal = torch.as_tensor(exact)[:, None]
    space = BlockLanczos(lambda v: diagonal * v, probes(range(2), size, 0), capacity)
    place, total = space.basis.data_ptr(), space.basis.untyped_storage().nbytes()
    extremes(space, 3, 1, 1e-8, 300, lambda i: probe(99 + i, size, 0)[:, None], size)
    assert space.matvecs > 3 * capacity
    assert (space.basis.data_ptr(), space.basis.untyped_storage().nbytes()) == (place, total)
    assert total == capacity * size * 8


def test_a_basis_on_two_ranks_is_half_as_large():
    size, capacity = 1_000_000, 200
    space = BlockLanczos(lambda v: v, torch.ones(size // 2, 1), capacity)
    assert space.basis.untyped_storage().nbytes() == capacity * size // 2 * 4 == 400_000_000


def test_the_summary_says_what_the_eigenpairs_lack():
    problem = small()
    pairs = eigenpairs_at(problem, problem.weights(), COMM, top=3, check=False)
    assert doubts(pairs) == ""
    lacking = {"converged": False, "missed": 0.3}
    unsure = dataclasses.replace(pairs, meta=pairs.meta | lacking)
    assert "may be missing (probability at most 30 %)" in doubts(unsure)
    rough = dataclasses.replace(unsure, residuals=pairs.residuals + 0.1 * pairs.values[0])
    assert "have not converged" in doubts(rough)
    assert completeness(rough) == f"Warning: {doubts(rough)}."
    sure = dataclasses.replace(pairs, meta=pairs.meta | {"converged": True, "missed": 0.008})
    assert completeness(sure).endswith("is missing with a probability of at most 0.8 %.")
    assert completeness(dataclasses.replace(pairs, meta={})) == ""


# ---------------------------------------------------------------------- over checkpoints


class Checkpoint:
    def __init__(self, step: int) -> None:
        self.step = step

    def load_into(self, problem: Problem) -> None:
        torch.manual_seed(0)
        first = {k: torch.randn_like(v) for k, v in problem.state().items()}
        second = {k: torch.randn_like(v) for k, v in problem.state().items()}
        problem.load({k: 0.3 * first[k] + 0.003 * self.step * second[k] for k in first})


def small() -> Problem:
    inputs, labels = digits(200)
    return Problem(nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)), F.cross_entropy, (inputs, labels)).to(
        dtype=torch.float64
    )


def test_a_start_from_the_checkpoint_before_gives_the_same_eigenvalues_from_fewer_products():
    problem = small()
    warm = list(eigenpairs(problem, map(Checkpoint, (0, 1, 2)), COMM, top=4))
    for record in warm[1:]:
        Checkpoint(record.step).load_into(problem)
        cold = eigenpairs_at(problem, problem.weights(), COMM, top=4, check=False)
        np.testing.assert_allclose(record.values, cold.values, atol=2e-4 * cold.values[0])
        assert record.meta["matvecs"] < cold.meta["matvecs"]


def test_the_noise_is_measured_at_every_checkpoint_where_that_is_cheap():
    problem = small().to(dtype=torch.float32)
    both = spectra(problem, map(Checkpoint, (0, 1)), COMM, iterations=20, top=2, bottom=0)
    found = [pairs for _, pairs in both]
    assert found[0].meta["lambda_noise"] != found[1].meta["lambda_noise"]
    assert "lambda_noise_step" not in found[1].meta
    costly = list(eigenpairs(problem, map(Checkpoint, (0, 1)), COMM, top=2))
    assert costly[1].meta["lambda_noise"] == costly[0].meta["lambda_noise"]
    assert costly[1].meta["lambda_noise_step"] == 0


def test_something_must_be_asked():
    problem = small()
    with pytest.raises(UsageError, match="pairs must be at least 1"):
        eigenpairs_at(problem, problem.weights(), COMM, top=0)


# ---------------------------------------------------------------------- going on


class Interrupted(Exception):
    pass


def new_run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", RunInfo("run", "small", {}, "sgd", {}, 1, 0, 0, "2026-01-01"))


def solve(problem, run, alone, stop_after=None, seed=0, settings=None):  # type: ignore[no-untyped-def]
    notes: list[str] = []
    keeper = Keeper(COMM, States(run, "spectrum-hessian-00000000", COMM), every=0.0, note=notes.append)
    keeper.settings = settings or {}

    def on_matvecs(matvecs: int) -> None:
        if stop_after is not None and matvecs > stop_after:
            raise Interrupted

    options = {"keeper": keeper, "on_matvecs": on_matvecs, "check": False, "seed": seed}
    if alone:
        return (eigenpairs_at(problem, problem.weights(), COMM, top=4, **options),), notes
    return spectrum_at(problem, problem.weights(), COMM, probes=6, block=3, iterations=8, top=3, **options), notes


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("share", [0.15, 0.97])
def test_a_search_goes_on_from_its_last_state(tmp_path, alone, share):
    problem = small()
    run = new_run(tmp_path)
    whole, _ = solve(problem, run, alone)
    Run(run.root).clear_parts("spectrum-hessian-00000000")
    total = whole[0].meta["matvecs"]
    with pytest.raises(Interrupted):
        solve(problem, run, alone, stop_after=int(share * total))
    kept = list((run.root / ".parts/spectrum-hessian-00000000").iterdir())
    assert len(kept) == 1
    again, notes = solve(problem, run, alone)
    assert not notes
    for one, other in zip(again, whole, strict=True):
        assert one.meta["matvecs"] == other.meta["matvecs"]
        assert share * total - 6 < one.meta["matvecs_resumed"] <= share * total
        for name, array in other.arrays().items():
            np.testing.assert_allclose(getattr(one, name), array, atol=1e-10)


def test_a_state_of_another_computation_is_left_alone(tmp_path):
    problem = small()
    run = new_run(tmp_path)
    for changed, what in (({"seed": 1}, "seed"), ({"settings": {"problem": "another"}}, "settings")):
        with pytest.raises(Interrupted):
            solve(problem, run, True, stop_after=5)
        found, notes = solve(problem, run, True, **changed)
        assert found[0].meta["matvecs_resumed"] == 0
        assert notes == [f"a saved state is not used: it was made with another {what}"]
        run.clear_parts("spectrum-hessian-00000000")


def test_a_job_that_is_asked_to_stop_saves_and_says_so(tmp_path):
    @contextlib.contextmanager
    def deferring():  # type: ignore[no-untyped-def]
        yield lambda: Stopped("stopped by a test")

    problem = small()
    run = new_run(tmp_path)
    keeper = Keeper(COMM, States(run, "x", COMM), deferring=deferring)
    with pytest.raises(Stopped) as caught:
        eigenpairs_at(problem, problem.weights(), COMM, check=False, keeper=keeper)
    assert caught.value.everywhere
    state = States(run, "x", COMM).load()
    assert state is not None
    assert state.numbers["space"]["matvecs"] == 1
    assert str(caught.value) == "stopped by a test; the state of step 0 after 1 products is saved"


@pytest.mark.mpi
def test_a_state_of_two_ranks_is_read_by_one_and_three(tmp_path):
    run = new_run(tmp_path)
    told = {}
    for ranks, what in ((2, "stop"), (3, "go")):
        done = mpirun(ranks, str(PROGRAMS / "resume_on_ranks.py"), str(run.root), what)
        assert done.returncode == 0, done.stderr
        told[what] = [float(word) for word in done.stdout.split()]
    problem = mlp_problem(torch.float64, hidden=8, epochs=2, samples=400, batch_size=100)
    options = {"top": 4, "tolerance": 1e-8, "check": False}
    whole = eigenpairs_at(problem, problem.weights(), COMM, **options)
    keeper = Keeper(COMM, States(run, "hessian", COMM))
    alone = eigenpairs_at(problem, problem.weights(), COMM, keeper=keeper, **options)
    (kept,) = told["stop"]
    assert kept > 5
    assert alone.meta["matvecs_resumed"] == told["go"][0] == kept
    assert alone.meta["matvecs"] == told["go"][1] == whole.meta["matvecs"]
    for values in (alone.values, told["go"][2:]):
        np.testing.assert_allclose(values, whole.values, atol=1e-9)
