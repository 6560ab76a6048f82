"""The engine against dense float64 matrices: eigenpairs, densities, operators, precision, ranks, self-checks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact import AdamCheckpoint, dense, digits, mlp_eigenvalues, mlp_problem
from scipy.stats import chi2
from torch import nn
from torch.nn import functional as F

from landscape import plugins
from landscape.distributed.parallel import Comm
from landscape.engine.checks import self_check
from landscape.engine.curvature import Curvature
from landscape.engine.spectrum import spectrum_at
from landscape.errors import ProblemError, UsageError
from landscape.loss.problem import Problem
from landscape.readings import quadrature
from landscape.readings.rules import reduced_weights

every_operator = pytest.mark.parametrize("operator", plugins.names("landscape.operators"))
COMM = Comm()


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_top_ten_eigenvalues_of_the_digits_mlp(dtype, accuracy):
    problem = mlp_problem(dtype)
    _, pairs = spectrum_at(problem, problem.weights(), COMM)
    exact = mlp_eigenvalues()
    assert (np.abs(pairs.values - exact[::-1][:10]) / exact[::-1][:10]).max() < accuracy
    assert np.abs(pairs.lowest_values - exact[:2]).max() < accuracy * exact[-1]
    assert pairs.meta["converged"]
    assert (np.abs(pairs.values - exact[::-1][:10]) <= pairs.residuals + 40 * torch.finfo(dtype).eps * exact[-1]).all()


def test_density_of_the_digits_mlp_within_100_products():
    problem = mlp_problem(torch.float32)
    spectrum, _ = spectrum_at(problem, problem.weights(), COMM, probes=4, iterations=25, top=0, bottom=0, check=False)
    assert spectrum.meta["matvecs"] <= 100
    exact = mlp_eigenvalues()
    assert quadrature.wasserstein(spectrum, exact) / (exact[-1] - exact[0]) < 2.5e-4


def test_eigenvectors_satisfy_their_equation():
    problem = mlp_problem(hidden=8, epochs=3, samples=300)
    matrix = dense(problem)
    _, pairs = spectrum_at(problem, problem.weights(), COMM, top=5, bottom=2)
    values = np.concatenate([pairs.values, pairs.lowest_values])
    assert np.abs(pairs.vectors @ matrix - values[:, None] * pairs.vectors).max() < 1e-8
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(7), atol=1e-12)


@every_operator
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_operator_products_equal_the_dense_matrix(operator, dtype, accuracy):
    problem = mlp_problem(dtype, hidden=6, epochs=3, samples=250, batch_size=64)
    matrix = dense(problem, operator)
    block = torch.randn(problem.size, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    checkpoint = AdamCheckpoint(problem)
    product = Curvature(problem, problem.weights(), COMM, operator, checkpoint=checkpoint).matvec(block)
    exact = matrix @ block.double().numpy()
    assert np.abs(product.double().numpy() - exact).max() < accuracy * np.abs(exact).max()


def test_linear_regression_has_its_closed_form():
    inputs, labels = (t.double() for t in digits(100))
    problem = Problem(
        nn.Linear(64, 1, bias=False).double(), lambda o, t: 0.5 * (o[:, 0] - t).square().mean(), (inputs, labels)
    )
    exact = np.linalg.eigvalsh((inputs.T @ inputs / 100).numpy())
    _, pairs = spectrum_at(problem, problem.weights(), COMM, top=4, bottom=1)
    np.testing.assert_allclose(pairs.values, exact[::-1][:4], rtol=1e-12)


def test_gauss_newton_of_a_trained_network_has_no_negative_eigenvalue_where_the_hessian_has():
    problem = mlp_problem(hidden=6, epochs=3, samples=250)
    assert np.linalg.eigvalsh(dense(problem, "gauss_newton"))[0] > -1e-12
    assert np.linalg.eigvalsh(dense(problem))[0] < -1e-4


def test_attention_is_twice_differentiable():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model = nn.Sequential(nn.Unflatten(1, (8, 8)), layer, nn.Flatten(), nn.Linear(64, 10))
    problem = Problem(model, F.cross_entropy, digits(40))
    assert self_check(Curvature(problem, problem.weights(), COMM)).asymmetry < 1e-4


@every_operator
def test_probes_beyond_a_block_and_small_operators(operator):
    inputs, labels = digits(30)
    problem = Problem(nn.Linear(3, 2), F.cross_entropy, (inputs[:, 20:23], labels % 2), batch_size=8).to(
        dtype=torch.float64
    )
    exact = np.linalg.eigvalsh(dense(problem, operator))
    spectrum, pairs = spectrum_at(
        problem, problem.weights(), COMM, operator=operator, probes=6, iterations=20, checkpoint=AdamCheckpoint(problem)
    )
    assert spectrum.nodes.shape[0] == 6
    np.testing.assert_allclose(spectrum.weights.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(pairs.values, exact[::-1], atol=1e-12)  # 8 weights: fewer than the ten asked for
    assert all(np.nanmin(np.abs(exact - node)) < 1e-10 for node in spectrum.nodes[np.isfinite(spectrum.nodes)])


def test_a_null_space_keeps_its_mass():
    nodes = np.array([0.0, 1.0, 2.0])
    weights = np.array([[0.9, 0.06, 0.04], [0.92, 0.05, 0.03]])
    reduced = reduced_weights((nodes, weights, np.full(3, 1e-12)), size=50)
    np.testing.assert_allclose(reduced[:, 1:], 1 / 50)
    np.testing.assert_allclose(reduced[:, 0], 48 / 50)


@pytest.mark.parametrize("probes", [1, 4, 8])
def test_a_simple_eigenvalue_is_not_taken_for_a_multiple_one_by_the_luck_of_its_probes(probes):
    """Chi-square noise of one eigenvalue exceeds this at 1 in 10^7, and there are hundreds in a spectrum."""
    lucky = chi2.isf(1e-7, probes) / probes
    heavy = np.full(probes, lucky / 1000)
    weights = np.column_stack([1 - 2 * heavy - 0.001, heavy, np.full(probes, 0.001), heavy])
    nodes = np.array([0.0, 1.0, 2.0, 3.0])
    reduced = reduced_weights((nodes, weights, np.full(4, 1e-12)), size=1000)
    np.testing.assert_allclose(reduced[:, 1:], 1 / 1000)
    many = np.column_stack([1 - np.full(probes, 0.05), np.full(probes, 0.05)])  # fifty eigenvalues at one place
    np.testing.assert_allclose(reduced_weights((nodes[:2], many, np.full(2, 1e-12)), size=1000)[:, 1], 0.05)


def test_trace_interval_holds_the_trace():
    problem = mlp_problem(torch.float32)
    spectrum, _ = spectrum_at(problem, problem.weights(), COMM, iterations=40, top=0, bottom=0, check=False)
    mean, half = quadrature.trace(spectrum)
    exact = mlp_eigenvalues().sum()
    assert abs(mean - exact) < max(2 * half, 0.02 * exact)
    assert half < 0.2 * exact


# ------------------------------------------------------------------ self-checks


class _Dropout(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


class _WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x + x.roll(1, dims=-1) / len(x)  # no gradient of anything: its derivative is a permutation


class _Wrong(nn.Module):
    def forward(self, x):
        return _WrongBackward.apply(x)


@pytest.mark.parametrize(
    ("layer", "sentence"), [(_Dropout(), "random numbers"), (_Wrong(), "not symmetric")], ids=["dropout", "backward"]
)
def test_a_problem_that_lies_is_rejected_with_the_fix(layer, sentence):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 6), layer, nn.Linear(6, 10))
    problem = Problem(model, F.cross_entropy, digits(60))
    with pytest.raises(ProblemError, match=sentence):
        spectrum_at(problem, problem.weights(), COMM, iterations=3)


def test_a_product_that_is_not_finite_is_rejected():
    problem = Problem(nn.Linear(64, 10), lambda o, t: (o * 0).sum(dim=1).sqrt().mean(), digits(30))
    with pytest.raises(ProblemError, match="not finite"):
        spectrum_at(problem, problem.weights(), COMM, iterations=3)


@pytest.mark.parametrize("wrong", [{"probes": 0}, {"iterations": 0}, {"block": 0}, {"top": -1}])
def test_numbers_out_of_range_are_named(wrong):
    problem = mlp_problem(hidden=4, epochs=1, samples=60)
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be at least"):
        spectrum_at(problem, problem.weights(), COMM, **wrong)


def test_unknown_operator_lists_the_choices():
    problem = mlp_problem(hidden=4, epochs=1, samples=60)
    with pytest.raises(UsageError, match="hessian"):
        spectrum_at(problem, problem.weights(), COMM, operator="hesian")


def test_gauss_newton_needs_outputs():
    problem = Problem.from_batch_loss(nn.Linear(64, 10), lambda m, b: F.cross_entropy(m(b[0]), b[1]), digits(30))
    with pytest.raises(ProblemError, match="outputs"):
        spectrum_at(problem, problem.weights(), COMM, operator="gauss_newton", iterations=2)
