"""What must hold for any weights, vectors, batches, ranks and orders: every operator, drawn examples, float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from exact import AdamCheckpoint, matrix_with
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from landscape import plugins
from landscape.distributed.parallel import Comm
from landscape.engine.combination import Operator
from landscape.engine.curvature import operator_at
from landscape.engine.spectrum import spectra, spectrum_at
from landscape.loss.problem import Problem
from landscape.records import Eigenpairs, Spectrum

COMM = Comm()
OPERATORS = [*plugins.names("landscape.operators"), "hessian - 0.5*gauss_newton"]
every_operator = pytest.mark.parametrize("operator", OPERATORS)
few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 10_000)
SAMPLES = 13


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(seed: int, data_seed: int = 0, batch_size: int = 5, order: Tensor | None = None) -> Problem:
    """4 - 3 - 3 with LayerNorm and cross-entropy on 13 samples, in a given order: 33 weights, all drawn."""
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Tanh(), nn.Linear(3, 3)).double()
    with torch.no_grad():
        for number, p in enumerate(model.parameters()):
            p.copy_(normal(100 * seed + number, *p.shape))
    order = torch.arange(SAMPLES) if order is None else order
    labels = torch.randint(3, (SAMPLES,), generator=torch.Generator().manual_seed(data_seed))
    return Problem(model, F.cross_entropy, (normal(data_seed, SAMPLES, 4)[order], labels[order]), batch_size=batch_size)


def made(problem: Problem, operator: str, comm: Comm = COMM) -> Operator:
    """The one place where these tests make a product."""
    return operator_at(problem, problem.weights(), comm, operator, checkpoint=AdamCheckpoint(problem))


def times(problem: Problem, operator: str, block: Tensor) -> Tensor:
    return made(problem, operator).matvec(block)


def close(found: Tensor, exact: Tensor) -> None:
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-13 * max(1.0, float(exact.norm())))


# ------------------------------------------------------------------ products


@every_operator
@few
@given(seed=seeds, a=st.floats(-10, 10), b=st.floats(-10, 10))
def test_linear_and_symmetric_one_column_or_many(operator, seed, a, b):
    problem = network(seed)
    u, v = normal(seed + 1, problem.size), normal(seed + 2, problem.size)
    au, av, both, nothing = times(problem, operator, torch.stack([u, v, a * u + b * v, 0 * u], dim=1)).unbind(dim=1)
    scale = float(au.norm() + av.norm()) * (1 + abs(a) + abs(b))
    assert float((both - a * au - b * av).norm()) <= 1e-13 * scale
    assert abs(float(u @ av - v @ au)) <= 1e-13 * scale * float(u.norm() + v.norm())
    assert not nothing.any()
    close(times(problem, operator, u[:, None])[:, 0], au)


@every_operator
@few
@given(seed=seeds, batch_size=st.integers(1, 20))
def test_batches_of_any_size_are_one_matrix(operator, seed, batch_size):
    block, whole = normal(seed, 33, 2), network(seed, batch_size=99)
    close(times(network(seed, batch_size=batch_size), operator, block), times(whole, operator, block))


@pytest.mark.parametrize("operator", [o for o in OPERATORS if o != "fisher"])  # whose draws are named by place
@few
@given(seed=seeds)
def test_the_order_of_samples_does_not_matter(operator, seed):
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed))
    block = normal(seed, 33, 2)
    close(times(network(seed, order=order), operator, block), times(network(seed), operator, block))


class Rank(Comm):
    """One of several ranks that live in one process: its share of the batches, and no one to talk to."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def part(self, size: int, rank: int | None = None) -> slice:
        return slice(0, size)


@pytest.mark.parametrize("operator", [o for o in OPERATORS if " " not in o])
@few
@given(seed=seeds, ranks=st.integers(1, 6), batch_size=st.integers(1, 7))
def test_the_shares_of_ranks_add_up_to_the_whole(operator, seed, ranks, batch_size):
    """Ranks without a batch give zero; sums are those of one rank."""
    problem, block = network(seed, batch_size=batch_size), normal(seed, 33, 2)
    parts = [made(problem, operator, Rank(rank, ranks)).matvec(block) for rank in range(ranks)]
    close(torch.stack(parts).sum(dim=0), times(problem, operator, block))
    for idle in range(len(problem.batches), ranks):
        assert not parts[idle].any()


@few
@given(seed=seeds, factor=st.floats(0.1, 10))
def test_a_scaled_loss_scales_and_a_scaled_weight_rescales(seed, factor):
    problem, block = network(seed), normal(seed, 33, 2)
    scaled = Problem(problem.model, lambda o, t: factor * F.cross_entropy(o, t), problem.batches)
    for operator in ("hessian", "gauss_newton", "residual"):
        close(times(scaled, operator, block), factor * times(problem, operator, block))
    close(times(scaled, "empirical_fisher", block), factor**2 * times(problem, "empirical_fisher", block))


@pytest.mark.parametrize("operator", ["gauss_newton", "fisher", "empirical_fisher"])
@few
@given(seed=seeds)
def test_second_moments_have_no_negative_eigenvalue(operator, seed):
    problem = network(seed)
    matrix = times(problem, operator, torch.eye(33, dtype=torch.float64))
    assert float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[0]) > -1e-13 * max(1.0, float(matrix.norm()))


# ------------------------------------------------------------------ spectra


class Matrix(Operator):
    """A given symmetric matrix."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = torch.as_tensor(matrix)
        super().__init__("hessian", torch.zeros(len(matrix), dtype=torch.float64), COMM)

    def matvec(self, block: Tensor) -> Tensor:
        return self.matrix @ block


def density(matrix: np.ndarray, **options):  # type: ignore[no-untyped-def]
    operator = Matrix(matrix)
    problem = network(0)  # only its number of samples is read
    return spectrum_at(problem, operator.vector, COMM, operator=operator, check=False, top=0, bottom=0, **options)[0]


@few
@given(seed=seeds, block=st.integers(1, 4), steps=st.integers(1, 6))
def test_block_gauss_rules_have_the_moments_of_their_probes(seed, block, steps):
    """Exact to degree 2m - 1, weights that are not negative and sum to one; the trace of the whole space is exact."""
    eigenvalues = np.random.default_rng(seed).uniform(-1, 1, size=30)
    matrix = matrix_with(eigenvalues, seed)
    spectrum = density(matrix, probes=block, block=block, iterations=steps, seed=seed)
    assert (spectrum.gauss_weights >= 0).all()
    for weights in (spectrum.weights, spectrum.gauss_weights):
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    first = density(np.eye(30), probes=block, block=block, iterations=1, seed=seed)
    assert np.nanmax(np.abs(first.nodes - 1)) < 1e-13
    whole = density(matrix, probes=block, block=block, iterations=40, seed=seed)  # invariant: all moments
    for degree in range(2 * steps):
        found, exact = (
            (s.gauss_weights * np.nan_to_num(s.nodes) ** degree).sum(axis=1) for s in (spectrum, whole)
        )
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-11)
    distinct = np.unique(np.round(whole.nodes[np.isfinite(whole.nodes)], 9))
    np.testing.assert_allclose(distinct, np.unique(np.round(eigenvalues, 9)), atol=2e-9)


@few
@given(seed=seeds, shift=st.floats(-5, 5), factor=st.floats(0.1, 10))
def test_a_density_moves_with_its_matrix(seed, shift, factor):
    eigenvalues = np.random.default_rng(seed).normal(size=25)
    plain = density(matrix_with(eigenvalues, seed), probes=2, block=2, iterations=5)
    moved = density(factor * matrix_with(eigenvalues, seed) + shift * np.eye(25), probes=2, block=2, iterations=5)
    np.testing.assert_allclose(moved.nodes, factor * plain.nodes + shift, atol=1e-10)
    np.testing.assert_allclose(moved.gauss_weights, plain.gauss_weights, atol=1e-10)


class Drawn:
    """A checkpoint whose weights are drawn from its step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def load_into(self, problem: Problem) -> None:
        problem.load({k: normal(self.step, *v.shape) for k, v in problem.state().items()})


OPTIONS = {"iterations": 4, "top": 2, "bottom": 1, "probes": 2, "block": 2}


@functools.cache
def alone(step: int) -> tuple[Spectrum, Eigenpairs]:
    problem = network(0)
    Drawn(step).load_into(problem)
    return spectrum_at(problem, problem.weights(), COMM, step=step, check=False, **OPTIONS)


@pytest.mark.parametrize("steps", [[3, 1, 2], [2, 3, 1]])  # every step at another place in each
def test_the_order_of_checkpoints_does_not_matter(steps):
    found = list(spectra(network(0), map(Drawn, steps), COMM, **OPTIONS))
    assert [s.step for s, _ in found] == steps
    for spectrum, pairs in found:
        np.testing.assert_array_equal(spectrum.nodes, alone(spectrum.step)[0].nodes)
        np.testing.assert_array_equal(spectrum.gauss_weights, alone(spectrum.step)[0].gauss_weights)
        np.testing.assert_array_equal(pairs.values, alone(spectrum.step)[1].values)
