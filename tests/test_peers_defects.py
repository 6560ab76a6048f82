"""Where other engines are wrong, ours is right: one test for each fault that was found by running them.

Ghosts, scales that depend on the number of batches, short last batches, BatchNorm, kinks, LayerNorm, attention, layers
without a forward derivative, frozen and tied weights, float64: each against a reference made without the engine.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from exact import dense, digits, matrix_with, mlp_eigenvalues, mlp_problem
from small_problems import quadratic
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.distributed.parallel import Comm
from landscape.engine.checks import self_check
from landscape.engine.curvature import operator_at
from landscape.engine.spectrum import spectrum_at
from landscape.loss.problem import Problem
from landscape.operators import _differences
from landscape.readings import quadrature

COMM = Comm()


def images(model: nn.Module, samples: int = 23, batch_size: int = 10, seed: int = 0) -> Problem:
    """Digits as 1 x 8 x 8 images in float64, a ragged last batch, weights away from their zeros."""
    x, y = digits(samples)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    data = (x.double().view(-1, 1, 8, 8), y)
    return Problem(model.double(), F.cross_entropy, data, batch_size=batch_size)


def product(problem: Problem, v: Tensor, operator: str = "hessian") -> Tensor:
    return operator_at(problem, problem.weights(), COMM, operator).matvec(v[:, None])[:, 0]


def direction(problem: Problem, seed: int = 0) -> Tensor:
    v = torch.randn(problem.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return v / v.norm()


def quotient(problem: Problem, v: Tensor, step: float = 1e-5) -> Tensor:
    """The Hessian's product from gradients in float64, weighted by samples."""
    shares = [problem.count(b) / problem.samples for b in problem.batches]
    parts = [_differences.hessian(problem, problem.weights(), b, v, step) for b in problem.batches]
    return sum(s * p for s, p in zip(shares, parts, strict=True))  # type: ignore[return-value]


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


# ------------------------------------------------------------------ the wrong function at the wrong point (HessFormer)


def test_products_are_taken_at_the_weights_handed_in_and_nowhere_else():
    problem = mlp_problem(hidden=4, epochs=1, samples=50)
    theta, v = problem.weights(), direction(problem)
    first = product(problem, v)
    elsewhere = operator_at(problem, 1.5 * theta, COMM).matvec(v[:, None])[:, 0]
    problem.load({name: 1.5 * value for name, value in problem.state().items()})
    torch.testing.assert_close(product(problem, v), elsewhere, rtol=0, atol=0)
    torch.testing.assert_close(operator_at(problem, theta, COMM).matvec(v[:, None])[:, 0], first, rtol=0, atol=0)
    assert relative(elsewhere, first) > 1e-2
    torch.testing.assert_close(product(problem, 3 * v), 3 * product(problem, v))


# ------------------------------------------------------------------ ghosts beyond 50 steps (hessian-eigenthings)


@pytest.mark.parametrize("iterations", [26, 75])
def test_no_ghosts_beyond_fifty_steps(iterations):
    """Workload of the peers: the digits MLP, its top ten exactly once, after 52 and after 150 products."""
    problem = mlp_problem(torch.float32)
    spectrum, pairs = spectrum_at(
        problem, problem.weights(), COMM, probes=2, block=2, iterations=iterations, top=10, bottom=0, check=False
    )
    exact = mlp_eigenvalues()[::-1]
    assert spectrum.nodes.shape[1] >= 2 * iterations - 2
    np.testing.assert_allclose(pairs.values, exact[:10], rtol=0, atol=1e-6 * exact[0])
    edge = (exact[9] + exact[10]) / 2
    assert (spectrum.nodes[0] > edge).sum() <= 10


# ------------------------------------------------------------------ a density is one (landscaper, PyHessian 0.1)


def test_weights_are_real_positive_and_make_the_mass_of_the_spectrum():
    eigenvalues = np.sort(np.concatenate([np.zeros(40), np.linspace(0.1, 1, 20), [5.0, 9.0]]))
    problem = quadratic_with(eigenvalues)
    spectrum, _ = spectrum_at(
        problem, problem.weights(), COMM, probes=8, block=8, iterations=62, top=0, bottom=0, check=False
    )
    for weights in (spectrum.weights, spectrum.gauss_weights):
        assert weights.dtype == np.float64
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert quadrature.wasserstein(spectrum, eigenvalues) < 0.02 * np.ptp(eigenvalues)


def quadratic_with(eigenvalues: np.ndarray) -> Problem:
    return quadratic(torch.tensor(matrix_with(eigenvalues)), torch.ones(len(eigenvalues)).double())


# ------------------------------------------------------------------ scale and ragged batches (GradVis, and others)


@pytest.mark.parametrize("operator", ["hessian", "gauss_newton", "residual", "fisher", "empirical_fisher"])
@pytest.mark.parametrize("batch_size", [300, 100, 128], ids=["one batch", "three equal", "128, 128, 44"])
def test_the_scale_does_not_depend_on_batches(operator, batch_size):
    problem = mlp_problem(hidden=4, epochs=1, samples=300, batch_size=batch_size)
    whole = mlp_problem(hidden=4, epochs=1, samples=300, batch_size=300)
    assert [len(b[1]) for b in problem.batches][-1] == {300: 300, 100: 100, 128: 44}[batch_size]
    v = direction(whole)
    assert relative(product(problem, v, operator), product(whole, v, operator)) < 1e-13


def test_a_shuffled_ragged_loader_gives_one_product():
    x, y = digits(300)
    dataset = torch.utils.data.TensorDataset(x, y)
    model = nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 10))
    torch.manual_seed(0)
    shuffled = Problem(model, F.cross_entropy, torch.utils.data.DataLoader(dataset, batch_size=128, shuffle=True))
    plain = Problem(model, F.cross_entropy, (x, y), batch_size=300)
    v = direction(plain).float()
    assert torch.equal(product(shuffled, v), product(shuffled, v))
    assert relative(product(shuffled, v), product(plain, v)) < 1e-5


# ------------------------------------------------------------------ BatchNorm (all of them)


def batch_norm(track: bool) -> nn.Module:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, track_running_stats=track)
    if track:
        norm.running_mean += 0.3
        norm.running_var *= 0.5
    return nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), norm, nn.Tanh(), nn.Flatten(), nn.Linear(27, 10))


@pytest.mark.parametrize("track", [True, False], ids=["running statistics", "batch statistics"])
def test_both_modes_of_batch_norm_are_exact_and_nothing_moves(track):
    problem = images(batch_norm(track))
    before = {n: b.clone() for n, b in problem.model.named_buffers()}
    modes = [m.training for m in problem.model.modules()]
    v = direction(problem)
    for operator in ("hessian", "gauss_newton", "residual"):
        found = product(problem, v, operator)
        assert relative(found, product(problem, v, operator)) == 0
    assert relative(product(problem, v), quotient(problem, v)) < 1e-7
    assert all(torch.equal(b, before[n]) for n, b in problem.model.named_buffers())
    assert [m.training for m in problem.model.modules()] == modes


def test_running_and_batch_statistics_are_different_matrices():
    v = direction(images(batch_norm(True)))
    assert relative(product(images(batch_norm(True)), v), product(images(batch_norm(False)), v)) > 0.1


# ------------------------------------------------------------------ kinks (finite differences)


def test_kinks_do_not_disturb_a_product():
    """ReLU and max-pooling in float32: differences with the peers' step are far off, products are not."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 16), nn.ReLU(),
        nn.Linear(16, 10),
    )  # fmt: skip
    exact = images(model, samples=200, batch_size=64)
    rough = exact.to(dtype=torch.float32)
    v = direction(exact)
    truth = quotient(exact, v, 1e-8)
    assert relative(product(rough, v.float()), truth) < 1e-5
    assert relative(quotient(rough, v.float(), 5e-3), truth) > 0.05


# ------------------------------------------------------------------ LayerNorm (torch.func.hessian, curvlinops)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, False)], ids=["both", "weight", "none"])
def test_layer_norm_is_exact_and_symmetric(affine, dtype):
    weight, bias = affine
    torch.manual_seed(0)
    norm = nn.LayerNorm(5, elementwise_affine=weight, bias=bias)
    exact = images(nn.Sequential(nn.Flatten(), nn.Linear(64, 5), norm, nn.Tanh(), nn.Linear(5, 10)))
    problem = exact.to(dtype=dtype)
    u, v = (direction(exact, seed) for seed in (1, 2))
    au, av = (product(problem, w.to(dtype)).double() for w in (u, v))
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    assert abs(float(u @ av - v @ au)) < tolerance * float(av.norm() + au.norm())
    assert relative(av, quotient(exact, v)) < (1e-7 if dtype == torch.float64 else 1e-5)


# ------------------------------------------------------------------ attention, and layers without forward derivatives


class Attention(nn.Module):
    """Scaled dot-product attention with whatever kernel torch likes best."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(1, 2)).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, dim=-1)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


LAYERS = {
    "attention": lambda: nn.Sequential(Attention(), nn.Flatten(), nn.Linear(64, 10)),
    "transformer": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.TransformerEncoderLayer(8, 2, 12, dropout=0.3, batch_first=True, activation="gelu"),
        nn.Flatten(), nn.Linear(64, 10),
    ),
    "silu": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.SiLU(), nn.Linear(6, 10)),
    "mish": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Mish(), nn.Linear(6, 10)),
    "group norm": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(36, 10)
    ),
    "instance norm": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.InstanceNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(36, 10)
    ),
    "lstm": lambda: nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 4, batch_first=True), Last(), nn.Linear(4, 10)),
}  # fmt: skip


class Last(nn.Module):
    def forward(self, outputs: tuple[Tensor, object]) -> Tensor:
        return outputs[0][:, -1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_stop_the_peers(name, dtype):
    torch.manual_seed(0)
    exact = images(LAYERS[name]())
    if dtype == torch.float64 and name == "attention":  # the peers' kernel is really what torch would take
        with pytest.raises(RuntimeError, match="derivative for aten::_scaled_dot_product_flash"):
            second_derivative_of_the_bare_model(exact.to(dtype=torch.float32))
    problem, v = exact.to(dtype=dtype), direction(exact)
    tolerance = 1e-6 if dtype == torch.float64 else 2e-5
    assert relative(product(problem, v.to(dtype)), quotient(exact, v)) < tolerance
    assert self_check(operator_at(problem, problem.weights(), COMM)).difference < 1e-5


def second_derivative_of_the_bare_model(problem: Problem) -> None:
    x, y = problem.batches[0]
    parameters = list(problem.model.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(problem.model(x), y), parameters, create_graph=True)
    torch.autograd.grad(sum(g.sum() for g in gradients), parameters)


# ------------------------------------------------------------------ frozen, tied, float64, mixed precision (GradVis)


def test_frozen_weights_are_left_out():
    problem = mlp_problem(hidden=4, epochs=1, samples=50)
    model = copy.deepcopy(problem.model)
    model[0].requires_grad_(False)
    frozen = Problem(model, F.cross_entropy, problem.batches)
    assert frozen.size == problem.size - 64 * 4 - 4
    np.testing.assert_allclose(dense(frozen), dense(problem)[-frozen.size :, -frozen.size :], atol=1e-15)


def test_tied_weights_are_one_weight_that_both_layers_feel():
    class Tied(nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Linear(64, 3), nn.Linear(3, 3), nn.Linear(3, 3)
            self.c.weight = self.b.weight if tied else nn.Parameter(self.b.weight.detach().clone())

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.tanh(self.b(torch.tanh(self.a(x.flatten(1))))))

    x, y = digits(20)
    tied, free = (
        Problem(Tied(t).double(), F.cross_entropy, (x.double(), y % 3), batch_size=8) for t in (True, False)
    )
    where = {name: (s.start, s.stop) for name, _, s in free.named_slices()}
    at = {name: s for name, _, s in tied.named_slices()}
    spread = torch.zeros(free.size, tied.size, dtype=torch.float64)  # free weights as a function of the tied ones
    for name, (start, stop) in where.items():
        columns = at.get(name, at["b.weight"])
        spread[start:stop, columns] = torch.eye(stop - start, dtype=torch.float64)
    exact = spread.T @ torch.tensor(dense(free)) @ spread
    np.testing.assert_allclose(dense(tied), exact.numpy(), atol=1e-15)


def test_a_float64_model_is_computed_in_float64_throughout():
    problem = mlp_problem(torch.float64, hidden=8, epochs=3, samples=300)
    exact = np.linalg.eigvalsh(dense(problem))
    spectrum, pairs = spectrum_at(problem, problem.weights(), COMM, top=5, bottom=1, iterations=25)
    assert spectrum.meta["dtype"] == "float64"
    assert np.abs(pairs.values - exact[::-1][:5]).max() < 1e-12 * exact[-1]


def test_weights_of_two_precisions_are_refused_with_the_fix():
    model = nn.Sequential(nn.Linear(64, 4), nn.Linear(4, 10).double())
    with pytest.raises(Exception, match=r"several dtypes.*float32.*float64.*model\.float\(\)"):
        Problem(model, F.cross_entropy, digits(10))
