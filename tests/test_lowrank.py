"""Low-rank training: every identity of its steps in float64, against dense gradients and dense matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape.errors import UsageError
from landscape.learning import resuming
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.loading import build_problem
from landscape.networks import factored, lowrank
from landscape.networks.lowrank import Factors
from landscape.optimizers._low_rank_layer import LowRankLayer
from landscape.optimizers.dlrt import DLRT

TINY = {"rtol": 0, "atol": 1e-13}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def made(m: int, n: int, rank: int) -> Factors:
    return lowrank.nearest(random(m, n), rank)


def orthonormality(basis: Tensor) -> float:
    return float((basis.T @ basis - torch.eye(basis.shape[1], dtype=basis.dtype)).abs().max())


# ---------------------------------------------------------------------- bases, truncation, tangent space


def test_augmented_bases_hold_the_old_matrix_and_give_the_projected_step() -> None:
    """What = W - lr Pu G Pv, and |P_T G| <= |Pu G Pv| <= |G|."""
    w, gradient, rate = made(20, 14, 4), random(20, 14, seed=1), 0.3
    k, el = w.left - rate * gradient @ w.v, w.right - rate * gradient.T @ w.u
    u, v = lowrank.orthonormal(k, w.u), lowrank.orthonormal(el, w.v)
    torch.testing.assert_close(u @ w.core(u, v) @ v.T, w.matrix(), **TINY)
    torch.testing.assert_close(u @ (u.T @ w.u), w.u, **TINY)
    projected = u @ (u.T @ gradient @ v) @ v.T
    stepped = u @ (w.core(u, v) - rate * u.T @ gradient @ v) @ v.T
    torch.testing.assert_close(stepped, w.matrix() - rate * projected, **TINY)
    assert lowrank.tangent_part(w, gradient).norm() <= projected.norm() <= gradient.norm()


def test_an_augmented_step_at_full_rank_is_one_of_descent() -> None:
    w, gradient = made(9, 6, 6), random(9, 6, seed=1)
    u, v = lowrank.orthonormal(w.left - gradient @ w.v, w.u), lowrank.orthonormal(w.right - gradient.T @ w.u, w.v)
    after = lowrank.truncated(u, w.core(u, v) - u.T @ gradient @ v, v, 0.0)
    torch.testing.assert_close(after.matrix(), w.matrix() - gradient, **TINY)


@pytest.mark.parametrize("tau", [0.0, 0.05, 0.3, 0.7])
def test_truncation_loses_exactly_the_tail(tau: float) -> None:
    u, v, core = lowrank.orthonormal(random(20, 8)), lowrank.orthonormal(random(15, 8, seed=1)), random(8, 8, seed=2)
    found = lowrank.truncated(u, core, v, tau)
    sigma = torch.linalg.svdvals(core)
    lost = (found.matrix() - u @ core @ v.T).norm()
    torch.testing.assert_close(lost, sigma[found.rank :].norm(), **TINY)
    assert lost <= tau * sigma.norm() + 1e-14
    assert tau == 0 or sigma[found.rank - 1 :].norm() > tau * sigma.norm()  # no smaller rank would do
    assert max(orthonormality(found.u), orthonormality(found.v)) < 1e-14


def test_the_rows_of_qt_are_the_singular_vectors() -> None:
    """Vh Q^T[:, :r], as in the published programs, is no truncation: its error is several times the tail's."""
    u, v, core = lowrank.orthonormal(random(20, 8)), lowrank.orthonormal(random(15, 8, seed=1)), random(8, 8, seed=2)
    p, sigma, qt = torch.linalg.svd(core)
    wrong = u @ p[:, :5] @ torch.diag(sigma[:5]) @ (v @ qt[:, :5]).T
    rank = lowrank.truncated(u, core, v, 0.0, most=5)
    assert (rank.matrix() - u @ core @ v.T).norm() < 1.0001 * sigma[5:].norm()
    assert (wrong - u @ core @ v.T).norm() > 3 * sigma[5:].norm()


def test_vanishing_singular_values_leave_the_bases_orthonormal() -> None:
    w = Factors(lowrank.orthonormal(random(12, 4)), 1e-15 * torch.eye(4, dtype=torch.float64),
                lowrank.orthonormal(random(10, 4, seed=1)))  # fmt: skip
    for gradient in (torch.zeros(12, 10, dtype=torch.float64), random(12, 10, seed=3)):
        u, v = lowrank.orthonormal(w.left - gradient @ w.v, w.u), lowrank.orthonormal(w.right - gradient.T @ w.u, w.v)
        after = lowrank.truncated(u, w.core(u, v) - u.T @ gradient @ v, v, 0.1, least=2)
        assert bool(torch.isfinite(after.matrix()).all())
        assert max(orthonormality(u), orthonormality(v), orthonormality(after.u), orthonormality(after.v)) < 1e-14


def test_ranks_stay_within_their_bounds() -> None:
    sigma = torch.tensor([3.0, 1.0, 0.1, 0.0])
    assert [lowrank.rank_within(sigma, tau) for tau in (0.0, 0.05, 0.5, 0.99)] == [3, 2, 1, 1]
    assert lowrank.rank_within(sigma, 0.0, most=2) == 2
    assert lowrank.rank_within(sigma, 0.99, least=2) == 2
    assert lowrank.rank_within(torch.zeros(4), 0.1, least=2) == 2


def test_the_tangent_space_is_that_of_curves_of_this_rank() -> None:
    """A step U S V^T -> (U + t A)(S + t B)(V + t C)^T starts along a tangent; P_T projects onto them."""
    w, z = made(9, 7, 3), random(9, 7, seed=5)
    a, b, c = random(9, 3, seed=6), random(3, 3, seed=7), random(7, 3, seed=8)
    velocity = a @ w.s @ w.v.T + w.u @ b @ w.v.T + w.u @ w.s @ c.T
    torch.testing.assert_close(lowrank.tangent_part(w, velocity), velocity, **TINY)
    part = lowrank.tangent_part(w, z)
    torch.testing.assert_close(lowrank.tangent_part(w, part), part, **TINY)
    assert abs(float(((z - part) * velocity).sum())) < 1e-12
    units = torch.eye(63, dtype=torch.float64).reshape(63, 9, 7)
    trace = sum(float((lowrank.tangent_part(w, e) * e).sum()) for e in units)
    assert trace == pytest.approx(lowrank.tangent_dimension((9, 7), 3))


def test_the_share_of_a_vector_counts_dense_weights_whole() -> None:
    w, vector = made(6, 5, 2), random(34)
    layers = [(slice(2, 32), w)]
    expected = torch.cat([vector[:2], lowrank.tangent_part(w, vector[2:32].reshape(6, 5)).reshape(-1), vector[32:]])
    assert lowrank.tangent_share(vector, layers) == pytest.approx(float(expected.norm() / vector.norm()))
    found = sum(lowrank.tangent_share(random(34, seed=s), layers) ** 2 for s in range(400)) / 400
    assert found**0.5 == pytest.approx(lowrank.tangent_share_by_chance(34, layers), rel=0.02)


# ---------------------------------------------------------------------- layers

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 6), (5, 7)),
    "linear on sequences, without bias": (lambda: nn.Linear(7, 6, bias=False), (3, 4, 7)),
    "convolution": (lambda: nn.Conv2d(2, 6, 3, padding=1), (4, 2, 5, 6)),
    "strided, dilated": (lambda: nn.Conv2d(2, 6, (3, 2), stride=2, dilation=(1, 2), bias=False), (4, 2, 9, 8)),
    "circular, same": (lambda: nn.Conv2d(2, 6, 3, padding="same", padding_mode="circular"), (4, 2, 5, 5)),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


@every_layer
def test_one_backward_pass_gives_the_gradients_of_k_l_and_the_core(kind: str) -> None:
    torch.manual_seed(0)
    maker, shape = LAYERS[kind]
    module, inputs = maker().double(), random(*shape).requires_grad_()
    layer = LowRankLayer("it", module, 3, 3)  # type: ignore[arg-type]
    (dense := module(inputs).sin().sum()).backward()
    gradient, by_inputs = module.weight.grad.flatten(1), inputs.grad.clone()
    module.forward, inputs.grad = layer.forward_basis, None
    (loss := module(inputs).sin().sum()).backward()
    torch.testing.assert_close(loss, dense, **TINY)
    torch.testing.assert_close(layer.k.grad, gradient @ layer.factors.v, **TINY)
    torch.testing.assert_close(layer.l.grad, gradient.T @ layer.factors.u, **TINY)
    torch.testing.assert_close(inputs.grad, by_inputs, **TINY)
    u, v = (lowrank.orthonormal(random(len(b), 3, seed=9), b) for b in (layer.factors.u, layer.factors.v))
    layer.bases, layer.s.data = (u, v), layer.factors.core(u, v)
    torch.testing.assert_close(layer.core_gradient(), u.T @ gradient @ v, **TINY)
    module.forward = layer.forward_core
    (loss := module(inputs).sin().sum()).backward()
    torch.testing.assert_close(loss, dense, **TINY)
    torch.testing.assert_close(layer.s.grad, u.T @ gradient @ v, **TINY)


@every_layer
def test_a_factored_layer_is_the_dense_one(kind: str) -> None:
    torch.manual_seed(0)
    maker, shape = LAYERS[kind]
    module, inputs = maker().double(), random(*shape)
    matrix = factored.matrix_of(module)  # type: ignore[arg-type]
    matrix.copy_(lowrank.nearest(matrix, 2).matrix())
    made = factored.factored(module, lowrank.nearest(matrix, 2))  # type: ignore[arg-type]
    torch.testing.assert_close(made(inputs), module(inputs), **TINY)
    torch.testing.assert_close(factored.dense(nn.Sequential(made))(inputs), module(inputs), **TINY)


# ---------------------------------------------------------------------- the optimizer


def regression(target: Tensor, rate: float = 1.0, **settings: object) -> tuple[nn.Linear, DLRT, Callable[[], Tensor]]:
    """|W - A|^2 / 2 of one linear layer, whose gradient is W - A."""
    torch.manual_seed(0)
    module = nn.Linear(target.shape[1], target.shape[0], bias=False).double()
    optimizer = make_optimizer("dlrt", module, {"lr": rate, "dense": "none", **settings})
    assert isinstance(optimizer, DLRT)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = 0.5 * (module(torch.eye(target.shape[1], dtype=torch.float64)) - target.T).square().sum()
        torch.autograd.backward(loss)
        return loss.detach()

    return module, optimizer, closure


def test_the_rank_of_a_target_is_found() -> None:
    target = random(40, 5) @ random(5, 30, seed=1)
    module, optimizer, closure = regression(target, tau=1e-3, rank=15)
    optimizer.events.clear()
    for _ in range(20):
        optimizer.step(closure)
    assert optimizer.ranks == {"": 5}
    assert (module.weight - target).norm() < 1e-14 * target.norm()
    assert optimizer.events[0]["before"] == 15
    assert optimizer.events[-1]["after"] == 5
    torch.testing.assert_close(optimizer.state[module.weight]["sigma"], torch.linalg.svdvals(target)[:5])


def test_what_truncation_costs_is_told_to_first_order() -> None:
    target = random(40, 5) @ random(5, 30, seed=1)
    module, optimizer, closure = regression(target, 1e-3, tau=0.4, rank=12)
    before = module.weight.detach().clone()
    optimizer.events.clear()
    optimizer.step(closure)
    (event,) = optimizer.events
    gradient = before - target
    w = lowrank.nearest(before, 12)
    u, v = (lowrank.orthonormal(b) for b in (torch.cat([w.left - 1e-3 * gradient @ w.v, w.u], 1),
                                             torch.cat([w.right - 1e-3 * gradient.T @ w.u, w.v], 1)))  # fmt: skip
    whole = before - 1e-3 * u @ u.T @ gradient @ v @ v.T
    assert event["cut"] == pytest.approx(float((module.weight.detach() - whole).norm() / whole.norm()))
    assert event["predicted"] == pytest.approx(float((gradient * (module.weight.detach() - whole)).sum()))


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}])
def test_at_full_rank_momentum_is_that_of_the_dense_weight(settings: dict[str, object]) -> None:
    """Square bases: the core's steps and its memory are the dense weight's, whatever the bases do."""
    target = random(6, 6)
    module, optimizer, closure = regression(target, 0.1, rank=6, adaptive=False, settings=settings)
    weight = nn.Parameter(module.weight.detach().clone())
    plain = torch.optim.SGD([weight], lr=0.1, **settings)  # type: ignore[arg-type]
    for _ in range(10):
        optimizer.step(closure)
        weight.grad = weight.detach() - target
        plain.step()
    torch.testing.assert_close(module.weight, weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("inner", ["adam", "rmsprop", "adafactor", "rprop", "asgd"])
def test_any_optimizer_moves_the_factors(inner: str) -> None:
    problem = build_problem("digits_mlp", {"seed": 0, "hidden": [16, 16]})
    optimizer = make_optimizer("dlrt", problem.model, {"lr": 0.01, "inner": inner, "rank": 6, "tau": 0.15})
    batches, before = MiniBatches(problem, 256, 0), problem.evaluate(problem.weights())["loss"]
    for step in range(12):
        train_step(problem, optimizer, batches.at(step))
    assert problem.evaluate(problem.weights())["loss"] < before


def test_weights_that_are_handed_in_are_used_as_they_are() -> None:
    """A game hands the other players' weights in, held: no step of theirs, and their gradient goes through."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).double()
    optimizer = make_optimizer("dlrt", model, {"dense": "none"})
    held, inputs = {"1.weight": model[1].weight.detach()}, random(5, 8)
    before = model.state_dict()["1.weight"].clone()

    def closure() -> None:
        optimizer.zero_grad()
        functional_call(model, held, (inputs,)).square().sum().backward()

    model[0].weight.requires_grad_(False)
    optimizer.step(closure)
    first = model[0].weight.clone()
    model[0].weight.requires_grad_(True)
    optimizer.step(closure)
    assert torch.equal(model[1].weight, before)
    assert not torch.equal(model[0].weight, first)
    assert "forward" not in vars(model[0])


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_training_that_diverges_says_so_by_its_loss(adaptive: bool) -> None:
    problem = build_problem("digits_mlp", {"seed": 0, "hidden": [16, 16], "activation": "relu"})
    optimizer = make_optimizer("dlrt", problem.model, {"lr": 1e12, "adaptive": adaptive})
    batches = MiniBatches(problem, 256, 0)
    losses = [train_step(problem, optimizer, batches.at(step)) for step in range(12)]
    assert not math.isfinite(losses[-1])


def test_random_factors_start_orthonormal_and_as_long_as_said() -> None:
    found = lowrank.drawn(made(20, 14, 4))
    assert max(orthonormality(found.u), orthonormality(found.v)) < 1e-14
    assert float(found.matrix().square().sum()) == pytest.approx(20 / 2)


def test_a_weight_used_elsewhere_is_refused() -> None:
    module, optimizer, closure = regression(random(8, 8))

    def outside() -> Tensor:
        loss = closure()
        module.weight.sum().backward()
        return loss

    with pytest.raises(ValueError, match="used outside of the layer's own forward"):
        optimizer.step(outside)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"tau": 1.5}, "tau must lie in"), ({"rank": 0}, "rank must be at least 1"), ({"inner": "lbfgs"}, "inner must be"),
     ({"dense": "head*"}, "no layer's name fits dense='head"), ({"settings": {"momentun": 1}}, "refuses its settings")],
)  # fmt: skip
def test_settings_out_of_range_say_why(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_optimizer("dlrt", nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)), settings)


@pytest.mark.parametrize("more", [{}, {"adaptive": False, "rank": 4}, {"inner": "adam", "lr": 0.01}])
def test_a_training_goes_on_with_the_same_bits(more: dict[str, object], tmp_path: Path) -> None:
    def fresh(seed: int) -> tuple[object, torch.optim.Optimizer]:
        problem = build_problem("lenet", {"data": "digits", "seed": seed, "samples": 60, "test_samples": 0})
        return problem, make_optimizer("dlrt", problem.model, {"tau": 0.2, **more})

    problem, optimizer = fresh(0)
    batches = MiniBatches(problem, 20, 0)  # type: ignore[arg-type]
    for step in range(6):
        if step == 3:
            resuming.save_state(tmp_path, 3, problem.model, optimizer)  # type: ignore[attr-defined]
        train_step(problem, optimizer, batches.at(step))  # type: ignore[arg-type]
    other, again = fresh(1)
    resuming.load_state(tmp_path, 3, other.model, again)  # type: ignore[attr-defined]
    for step in range(3, 6):
        train_step(other, again, batches.at(step))  # type: ignore[arg-type]
    assert torch.equal(problem.weights(), other.weights())  # type: ignore[attr-defined]
    assert optimizer.ranks == again.ranks  # type: ignore[attr-defined]
    for layer in optimizer.layers:  # type: ignore[attr-defined]
        matrix = factored.matrix_of(layer.module)
        torch.testing.assert_close(layer.factors.matrix(), matrix)
        assert torch.linalg.matrix_rank(matrix, rtol=1e-5) <= layer.factors.rank
