"""The engine against closed forms, for every operator they apply to, in both precisions, on 1, 2 and 4 ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact import digits
from references import ACCURACY, Case, Reference, error, references, tanh_network, valley, worst
from torch import Tensor, nn
from torch.nn import functional as F

from landscape import plugins
from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.engine.spectrum import spectrum_at
from landscape.krylov import probes
from landscape.krylov.lanczos import BlockLanczos
from landscape.loss.problem import Problem
from landscape.operators import _differences

COMM = Comm()
both_precisions = pytest.mark.parametrize("dtype", ACCURACY, ids=str)


@both_precisions
def test_every_operator_has_its_closed_forms(dtype):
    rows = worst(dtype, COMM)
    assert {operator.partition("[")[0] for _, operator, _ in rows} >= set(plugins.names("landscape.operators"))
    wrong = [row for row in rows if not row[2] < ACCURACY[dtype]]
    assert not wrong


@pytest.mark.parametrize("a", [0.5, 1.0, 4.0])
def test_the_valley_is_flat_along_itself(a):
    problem = valley(a, 1 / a).problem
    _, pairs = spectrum_at(problem, problem.weights(), COMM, top=2, bottom=0, probes=1, iterations=2)
    np.testing.assert_allclose(pairs.values, [a**2 + a**-2, 0], atol=1e-14 * (a**2 + a**-2))


def test_batch_norm_gradients_are_orthogonal_to_their_weights():
    """What the scale invariance starts from: g.w = 0, here to the last digit of the engine's own gradient."""
    reference = references()["scale invariance"]
    problem = reference.problem
    w, theta = reference.cases[0].v[:, 0], problem.weights()
    g = sum(problem.count(b) / problem.samples * _differences.gradient(problem, theta, b) for b in problem.batches)
    assert abs(float(g @ w)) < 1e-15
    torch.testing.assert_close(g[:20], -reference.cases[0].av[:20, 0], rtol=0, atol=1e-15)


# ------------------------------------------------------------------ trace, norm, symmetry, recurrence


def matrix_of(problem: Problem, operator: str = "hessian") -> Tensor:
    return operator_at(problem, problem.weights(), COMM, operator).matvec(torch.eye(problem.size, dtype=problem.dtype))


def test_the_engines_probes_estimate_trace_and_norm():
    """E v.Hv = tr H, E |Hv|^2 = |H|_F^2 for probes of length size^1/2, within 4.5 standard errors of 20,000."""
    problem = tanh_network().problem
    h = matrix_of(problem)
    v = probes.probes(range(20_000), problem.size, seed=3).double()
    v = v * (problem.size**0.5 / v.norm(dim=0))
    for found, exact in (((v * (h @ v)).sum(dim=0), h.trace()), ((h @ v).square().sum(dim=0), h.square().sum())):
        assert abs(float(found.mean() - exact)) < 4.5 * float(found.std()) / 20_000**0.5


@both_precisions
@pytest.mark.parametrize("operator", [o for o in plugins.names("landscape.operators") if o != "preconditioned"])
def test_every_operator_is_its_own_adjoint(operator, dtype):
    problem = tanh_network().problem.to(dtype=dtype)
    u, v = probes.probes(range(2), problem.size, seed=5).to(dtype).unbind(dim=1)
    product = operator_at(problem, problem.weights(), COMM, operator).matvec(torch.stack([u, v], dim=1)).double()
    difference = abs(float(u.double() @ product[:, 1] - v.double() @ product[:, 0]))
    assert difference < ACCURACY[dtype] * float(product.norm() * u.double().norm())


@pytest.mark.parametrize("block", [1, 3])
def test_the_recurrence_of_the_engines_own_operator(block):
    """A Q - Q T = (waiting rows) (coupling), and after size steps T has the whole spectrum."""
    problem = tanh_network().problem
    size, a = problem.size, operator_at(problem, problem.weights(), COMM)
    space = BlockLanczos(a.matvec, probes.probes(range(block), size, 0).double(), size + block)
    for _ in range(4):
        space.expand()
    m = space.filled
    q, waiting = space.basis[:m].T, space.basis[m : m + space.ahead].T
    rest = a.matvec(q.contiguous()) - q @ torch.as_tensor(space.projected[:m, :m])
    assert (m, space.ahead) == (4 * block, block)
    assert float(rest[:, : m - block].norm()) < 1e-14 * size  # only the last block reaches beyond the space
    torch.testing.assert_close(rest, waiting @ torch.as_tensor(space.coupling), rtol=0, atol=1e-14)
    while space.ahead and space.filled < size:
        space.expand()
    exact = np.linalg.eigvalsh(matrix_of(problem).numpy())
    found = space.ritz().values
    assert max(np.abs(exact - value).min() for value in found) < 1e-13
    assert np.abs(exact[[0, -1]] - found[[0, -1]]).max() < 1e-13


def test_moments_of_the_density_are_those_of_the_operator():
    """Every probe's plain Gauss rule has v^T A^k v for k <= 2m - 1, m the steps of its block."""
    problem, steps, block = tanh_network().problem, 3, 2
    spectrum, _ = spectrum_at(
        problem, problem.weights(), COMM, probes=block, block=block, iterations=steps, top=0, bottom=0, check=False
    )
    v = np.linalg.eigh(matrix_of(problem).numpy())
    start = BlockLanczos(lambda x: x, probes.probes(range(block), problem.size, 0).double(), 2 * block).basis[:block]
    components = np.square(start.numpy() @ v.eigenvectors)  # (block, size)
    for degree in range(2 * steps):
        found = (spectrum.gauss_weights * np.nan_to_num(spectrum.nodes) ** degree).sum(axis=1)
        np.testing.assert_allclose(found, components @ v.eigenvalues**degree, rtol=0, atol=1e-14)


# ------------------------------------------------------------------ wrong engines must fail them


def layer_norm() -> Reference:
    """A LayerNorm network whose Hessian is that of difference quotients: no closed form, and no second derivative."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 10)).double()
    inputs, targets = digits(21)
    problem = Problem(model, F.cross_entropy, (inputs[:, 20:26].double(), targets), batch_size=8)
    eye, theta = torch.eye(problem.size, dtype=torch.float64), problem.weights()
    share = [problem.count(b) / problem.samples for b in problem.batches]
    columns = [
        sum(s * _differences.hessian(problem, theta, b, v, 1e-5) for s, b in zip(share, problem.batches, strict=True))
        for v in eye
    ]
    h = torch.stack(columns, dim=1)  # type: ignore[arg-type]
    return Reference("LayerNorm", problem, [Case("hessian", eye, h, float(h.norm()))])


def mean_loss(problem: Problem, theta: Tensor, plain: bool = False) -> Tensor:
    shares = [1 / len(problem.batches) if plain else problem.count(b) / problem.samples for b in problem.batches]
    return sum(s * problem.batch_loss(theta, b) for s, b in zip(shares, problem.batches, strict=True))  # type: ignore[return-value]


def double_backward(problem: Problem, v: Tensor, at: Tensor | None = None, plain: bool = False) -> Tensor:
    """A plain engine by hand: the right one, or wrong in its weights or in its mean over batches."""
    theta = (problem.weights() if at is None else at).clone().requires_grad_(True)
    (g,) = torch.autograd.grad(mean_loss(problem, theta, plain), theta, create_graph=True)
    return torch.stack([torch.autograd.grad(g, theta, c, retain_graph=True)[0] for c in v.unbind(dim=1)], dim=1)


def reverse_over_forward(problem: Problem, v: Tensor) -> Tensor:
    def along(theta: Tensor, direction: Tensor) -> Tensor:
        return torch.func.jvp(lambda t: mean_loss(problem, t), (theta,), (direction,))[1]

    return torch.stack([torch.func.grad(along)(problem.weights(), c) for c in v.unbind(dim=1)], dim=1)


def at_the_vector(problem: Problem, v: Tensor) -> Tensor:
    return torch.cat([double_backward(problem, c[:, None], at=c) for c in v.unbind(dim=1)], dim=1)


def with_dropout(problem: Problem, v: Tensor) -> Tensor:
    torch.manual_seed(0)
    dropped = [(F.dropout(x, 0.2, training=True), y) for x, y in problem.batches]
    other = Problem(problem.model, problem.loss, dropped)
    return double_backward(other, v)


def shuffling(problem: Problem, v: Tensor) -> Tensor:
    """A subset of a loader that shuffles, drawn anew for every vector."""
    torch.manual_seed(0)
    x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
    columns = []
    for c in v.unbind(dim=1):
        order = torch.randperm(len(y))[:16]
        columns.append(double_backward(Problem(problem.model, problem.loss, (x[order], y[order])), c[:, None]))
    return torch.cat(columns, dim=1)


WRONG = {
    "reverse over forward": reverse_over_forward,
    "shuffled loader": shuffling,
    "dropout": with_dropout,
    "weights that are the vector": at_the_vector,
    "plain mean over ragged batches": lambda problem, v: double_backward(problem, v, plain=True),
    "sum over batches": lambda problem, v: len(problem.batches) * double_backward(problem, v),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_engine_fails_a_reference(name):
    reference = layer_norm() if name == "reverse over forward" else references()["tanh network"]
    case = reference.cases[0]
    accuracy = 1e-8 if name == "reverse over forward" else ACCURACY[torch.float64]
    assert error(reference, case, torch.float64, COMM) < accuracy
    assert error(reference, case, torch.float64, COMM, double_backward) < accuracy
    assert error(reference, case, torch.float64, COMM, WRONG[name]) > 1e-2
