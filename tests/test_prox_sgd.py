"""ProxSGD: its special cases against torch.optim, its closed forms against brute force, its sparse results."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from landscape import plugins
from landscape.cli import main
from landscape.errors import UsageError
from landscape.learning.recorder import Recorder
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.checkpoints import Checkpoint
from landscape.operators.preconditioned import scale
from landscape.optimizers.prox_sgd import ProxSGD, broken_conditions, rates
from landscape.stores.run_directory import Run
from tests.small_problems import digits

DOUBLE = torch.float64
CONSTANT: dict[str, Any] = {"lr_decay": 0.0, "rho_decay": 0.0}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def largest_difference(
    mine: Callable[[list[Tensor]], torch.optim.Optimizer], theirs: Callable[[list[Tensor]], torch.optim.Optimizer]
) -> float:
    """Of the weights of two optimizers over 200 steps on the same stochastic gradients of a least-squares problem."""
    matrix, target = random(60, 12, seed=1), random(60, seed=2)
    starts = [torch.nn.Parameter(random(3, 4, seed=3)) for _ in range(2)]
    optimizers = [mine([starts[0]]), theirs([starts[1]])]
    worst = 0.0
    for step in range(200):
        rows = torch.randint(60, (6,), generator=torch.Generator().manual_seed(step))
        for weight, optimizer in zip(starts, optimizers, strict=True):
            optimizer.zero_grad()
            (0.5 * (matrix[rows] @ weight.reshape(-1) - target[rows]).square().mean()).backward()
            optimizer.step()
        worst = max(worst, float((starts[0] - starts[1]).detach().abs().max()))
    return worst


# ---------------------------------------------------------------------- what it unifies


SPECIAL_CASES: dict[str, tuple[dict[str, Any], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "SGD": ({"lr": 0.05, "rho": 1.0, "metric": "identity"}, lambda p: torch.optim.SGD(p, lr=0.05)),
    "heavy ball": (
        {"lr": 0.5, "rho": 0.1, "metric": "identity"}, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)
    ),
    "Adam": ({"lr": 0.01, "rho": 0.1, "correct_rate": True}, lambda p: torch.optim.Adam(p, lr=0.01)),
    "AMSGrad": (
        {"lr": 0.01, "rho": 0.1, "correct_rate": True, "metric": "amsgrad"},
        lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    ),
    "RMSprop": (
        {"lr": 0.01, "rho": 1.0, "metric": "rmsprop", "beta": 0.99}, lambda p: torch.optim.RMSprop(p, lr=0.01)
    ),
    "Adagrad": (
        {"lr": 0.1, "rho": 1.0, "metric": "adagrad", "delta": 1e-10}, lambda p: torch.optim.Adagrad(p, lr=0.1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL_CASES)
def test_without_a_regularizer_it_is_the_optimizer_it_unifies(name: str) -> None:
    own, theirs = SPECIAL_CASES[name]
    assert largest_difference(lambda p: ProxSGD(p, **CONSTANT | own), theirs) <= 1e-12


def test_sgd_is_matched_bit_for_bit() -> None:
    own, theirs = SPECIAL_CASES["SGD"]
    assert largest_difference(lambda p: ProxSGD(p, **CONSTANT | own), theirs) == 0.0


def test_without_the_corrected_rate_it_is_not_adam() -> None:
    """The first steps of an uncorrected momentum are shorter: the two must not be confused."""
    difference = largest_difference(lambda p: ProxSGD(p, 0.01, rho=0.1, **CONSTANT), SPECIAL_CASES["Adam"][1])
    assert difference > 1e-3


def test_with_unit_rates_it_is_the_proximal_gradient_method() -> None:
    """ISTA on a lasso: x = soft(x - g / L, mu / L), written with the step in the loss's scale."""
    matrix, target, mu = random(30, 8, seed=1), random(30, seed=2), 0.1
    bound = float(torch.linalg.matrix_norm(matrix, 2) ** 2)
    weight = torch.nn.Parameter(torch.zeros(8, dtype=DOUBLE))
    optimizer = ProxSGD([weight], lr=1.0, rho=1.0, metric="identity", regularizer="l1", mu=mu / bound, **CONSTANT)
    plain = torch.zeros(8, dtype=DOUBLE)
    for _ in range(50):
        optimizer.zero_grad()
        (0.5 * (matrix @ weight - target).square().sum() / bound).backward()
        optimizer.step()
        moved = plain - matrix.T @ (matrix @ plain - target) / bound
        plain = moved.sign() * (moved.abs() - mu / bound).clamp(min=0)
    torch.testing.assert_close(weight.detach(), plain, rtol=0, atol=1e-14)


# ---------------------------------------------------------------------- the closed forms


def regularizer(name: str, mu: float = 0.0, **more: Any) -> Any:
    return plugins.load("landscape.regularizers", name).make(mu=mu, **more)


numbers = st.floats(-3, 3, allow_nan=False)
positive = st.floats(0.05, 4)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["none", "l1", "l2", "l0"]), numbers, positive, st.floats(0, 3), st.floats(-2, 1), st.floats(0, 3)
)  # fmt: skip
def test_a_proximal_point_is_the_least_of_all_points(
    name: str, b: float, tau: float, mu: float, low: float, width: float
) -> None:
    mu = 0.0 if name == "none" else mu
    found = regularizer(name, mu, low=low, high=low + width)
    (x,) = found.prox([torch.tensor([b], dtype=DOUBLE)], [torch.tensor([tau], dtype=DOUBLE)])
    grid = torch.linspace(low, low + width, 20001, dtype=DOUBLE)
    grid = torch.cat([grid, torch.zeros(int(low <= 0 <= low + width), dtype=DOUBLE)])

    def objective(points: Tensor) -> Tensor:
        r = {"none": 0 * points, "l1": mu * points.abs(), "l2": mu / 2 * points**2, "l0": mu * (points != 0)}[name]
        return r + tau / 2 * (points - b) ** 2

    assert low <= float(x) <= low + width
    assert float(objective(x)[0]) <= float(objective(grid).min()) + 1e-12


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 9), st.floats(0.01, 5), st.sampled_from(["none", "mul", "div"]), st.booleans()
)  # fmt: skip
def test_the_group_proximal_point_meets_its_optimality_conditions(
    seed: int, size: int, mu: float, weighting: str, diagonal: bool
) -> None:
    """0 = mu w x / norm(x) + tau (x - b) where a group lives; norm(tau b) <= mu w where it does not."""
    found = regularizer("group", mu, weighting=weighting)
    b = random(5, size, seed=seed) * 3
    tau = random(5, size, seed=seed + 1).exp() if diagonal else torch.tensor(1.7, dtype=DOUBLE)
    (x,) = found.prox([b], [tau])
    strength = mu * size ** {"none": 0.0, "mul": 0.5, "div": -0.5}[weighting]
    for row in range(5):
        t = tau[row] if diagonal else tau
        norm = torch.linalg.vector_norm(x[row])
        assert bool(norm == 0) == bool(torch.linalg.vector_norm(t * b[row]) <= strength)
        if norm > 0:
            assert float((strength * x[row] / norm + t * (x[row] - b[row])).abs().max()) <= 1e-10 * (1 + strength)


def test_tensors_of_one_group_are_one_long_vector() -> None:
    pieces = [random(3, 2, seed=1), random(4, seed=2)]
    tau = [x.square() + 0.5 for x in (random(3, 2, seed=3), random(4, seed=4))]
    together = regularizer("group", 0.7, groups="all").prox(pieces, tau)
    flat = [torch.cat([x.reshape(-1) for x in xs])[None] for xs in (pieces, tau)]
    (alone,) = regularizer("group", 0.7).prox([flat[0]], [flat[1]])
    torch.testing.assert_close(torch.cat([x.reshape(-1) for x in together]), alone[0], rtol=0, atol=1e-14)
    value = regularizer("group", 0.7, groups="all").value(pieces)
    assert float(value) == pytest.approx(0.7 * float(torch.linalg.vector_norm(flat[0])))


def test_the_order_and_the_shape_of_a_group_do_not_matter() -> None:
    b, tau, order = random(4, 6, seed=1), random(4, 6, seed=2).exp(), torch.randperm(6)
    (x,) = regularizer("group", 0.7).prox([b], [tau])
    (permuted,) = regularizer("group", 0.7).prox([b[:, order]], [tau[:, order]])
    (reshaped,) = regularizer("group", 0.7).prox([b.view(4, 2, 3)], [tau.view(4, 2, 3)])
    torch.testing.assert_close(permuted, x[:, order], rtol=0, atol=1e-14)
    torch.testing.assert_close(reshaped.view(4, 6), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, "diagonal"])
def test_the_minimiser_of_the_lasso_is_a_fixed_point_whatever_the_metric(scale: float | str) -> None:
    """The threshold is mu / tau; with mu alone the fixed points would depend on tau."""
    matrix, target, mu = random(30, 6, seed=1), random(30, seed=2), 5.0
    gram, moment = matrix.T @ matrix, matrix.T @ target
    best, bound = torch.zeros(6, dtype=DOUBLE), torch.linalg.eigvalsh(gram)[-1]
    for _ in range(3000):
        moved = best - (gram @ best - moment) / bound
        best = moved.sign() * (moved.abs() - mu / bound).clamp(min=0)
    assert 0 < int(best.count_nonzero()) < 6
    tau = random(6, seed=3).exp() if isinstance(scale, str) else torch.full((6,), scale, dtype=DOUBLE)
    (x,) = regularizer("l1", mu).prox([best - (gram @ best - moment) / tau], [tau])
    torch.testing.assert_close(x, best, rtol=0, atol=1e-11)


def test_groups_of_one_weight_are_the_l1_norm() -> None:
    b = random(7, seed=5)
    tau = random(7, seed=6).exp()
    (group,), (l1,) = (regularizer(name, 0.4).prox([b], [tau]) for name in ("group", "l1"))
    torch.testing.assert_close(group, l1, rtol=0, atol=1e-14)
    assert float(regularizer("group", 0.4).value([b])) == pytest.approx(float(regularizer("l1", 0.4).value([b])))


def test_one_metric_a_group_keeps_the_direction() -> None:
    b, tau = random(6, 5, seed=7), random(6, 5, seed=8).exp()
    (x,) = regularizer("group", 0.3, mean_metric=True).prox([b], [tau])
    alive = x.norm(dim=1) > 0
    assert alive.any()
    cosine = torch.nn.functional.cosine_similarity(x[alive], b[alive])
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


@pytest.mark.parametrize("metric", ["scalar", "diagonal"])
def test_a_group_that_is_zero_stays_zero_without_a_nan(metric: str) -> None:
    b = torch.zeros(2, 3)
    tau = torch.tensor(1.0) if metric == "scalar" else torch.rand(2, 3) + 0.1
    for mu in (0.0, 0.5):
        assert torch.equal(regularizer("group", mu).prox([b], [tau])[0], b)


# ---------------------------------------------------------------------- steps


def descend(optimizer: ProxSGD, weight: Tensor, steps: int, seed: int = 0) -> None:
    for step in range(steps):
        weight.grad = random(*weight.shape, seed=seed * 1000 + step)
        optimizer.step()


def test_the_weights_never_leave_the_box() -> None:
    weight = torch.nn.Parameter(random(50, seed=1).clamp(-0.3, 0.2))
    optimizer = ProxSGD([weight], lr=0.5, regularizer="l1", mu=0.01, low=-0.3, high=0.2, lr_decay=0.0)
    for step in range(300):
        descend(optimizer, weight, 1, seed=step)
        assert float(weight.detach().min()) >= -0.3
        assert float(weight.detach().max()) <= 0.2


def test_a_dead_weight_shrinks_by_the_product_of_the_rates_and_is_zero_in_the_snapshot_then() -> None:
    """Iterates are never exactly zero for eps < 1; the solution of the subproblem is."""
    weight = torch.nn.Parameter(torch.tensor([0.8], dtype=DOUBLE))
    optimizer = ProxSGD([weight], regularizer="l1", mu=1e6, metric="identity")
    for _ in range(2000):
        weight.grad = torch.zeros(1, dtype=DOUBLE)
        optimizer.step()
    left = 0.8 * math.prod(1 - 0.06 / (t + 4) ** 0.5 for t in range(1, 2001))
    assert float(weight.detach()) == pytest.approx(left, rel=1e-10)
    with optimizer.snapshot():
        assert float(weight.detach()) == pytest.approx(left, rel=1e-10)  # not small enough yet
    with optimizer.snapshot(tolerance=0.01):
        assert float(weight.detach()) == 0.0
    assert float(weight.detach()) == pytest.approx(left, rel=1e-10)
    optimizer.finalize_(tolerance=0.01)
    assert float(weight.detach()) == 0.0


def test_a_small_weight_that_is_alive_stays() -> None:
    weight = torch.nn.Parameter(torch.tensor([1e-6, 1e-6], dtype=DOUBLE))
    optimizer = ProxSGD([weight], lr=0.1, lr_decay=0.0, regularizer="l1", mu=0.5, metric="identity")
    weight.grad = torch.tensor([0.0, -1e3], dtype=DOUBLE)  # the second one is on its way
    optimizer.step()
    weight.data.fill_(1e-6)
    optimizer.finalize_()
    assert weight.detach().tolist() == [0.0, 1e-6]


def test_a_snapshot_gives_the_weights_back_after_an_error() -> None:
    weight = torch.nn.Parameter(random(5))
    optimizer = ProxSGD([weight], regularizer="l1", mu=100.0)
    descend(optimizer, weight, 3)
    before = weight.detach().clone()

    def fail() -> None:
        with optimizer.snapshot(tolerance=10.0):
            assert not torch.equal(weight, before)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert torch.equal(weight, before)


@pytest.mark.parametrize("metric", ["adam", "amsgrad", "rmsprop", "adagrad", "identity"])
def test_a_saved_state_goes_on_bit_for_bit(metric: str) -> None:
    weights = [torch.nn.Parameter(random(4, 3).float()) for _ in range(2)]
    options: dict[str, Any] = {"metric": metric, "regularizer": "group", "mu": 0.02, "lr": 0.05}
    first, second = (ProxSGD([w], **options) for w in weights)
    for step in range(5):
        weights[0].grad = random(4, 3, seed=step).float()
        first.step()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    weights[1].data.copy_(weights[0].data)
    for step in range(5, 10):
        for weight, optimizer in zip(weights, (first, second), strict=True):
            weight.grad = random(4, 3, seed=step).float()
            optimizer.step()
    first.finalize_(tolerance=0.1)
    second.finalize_(tolerance=0.1)
    assert torch.equal(*weights)


def test_each_parameter_group_has_its_own_regularizer() -> None:
    one, two, three = (torch.nn.Parameter(random(6, 2, seed=s)) for s in range(3))
    alone = [copy.deepcopy(w) for w in (one, two, three)]
    options: tuple[dict[str, Any], ...] = (
        {"regularizer": "l1", "mu": 0.3}, {"regularizer": "group", "mu": 0.5, "prox": {"weighting": "div"}}, {}
    )  # fmt: skip
    together = ProxSGD([{"params": [w], **o} for w, o in zip((one, two, three), options, strict=True)])
    separate = [ProxSGD([w], **o) for w, o in zip(alone, options, strict=True)]
    for step in range(20):
        for weight, other, optimizer in zip((one, two, three), alone, separate, strict=True):
            weight.grad = random(6, 2, seed=step)
            other.grad = random(6, 2, seed=step)
            optimizer.step()
        together.step()
    for weight, other in zip((one, two, three), alone, strict=True):
        assert torch.equal(weight, other)
    assert together.regularization() == pytest.approx(sum(o.regularization() for o in separate))


def test_weights_without_a_gradient_wait() -> None:
    used, idle = torch.nn.Parameter(random(3)), torch.nn.Parameter(random(3))
    before = idle.detach().clone()
    optimizer = ProxSGD([used, idle], regularizer="l1", mu=0.1)
    descend(optimizer, used, 3)
    assert torch.equal(idle, before)
    idle.grad = torch.ones(3, dtype=DOUBLE)
    optimizer.step()
    assert (int(optimizer.state[used]["step"]), int(optimizer.state[idle]["step"])) == (4, 1)


# ---------------------------------------------------------------------- the convergence theorem


def lasso(optimizer_settings: dict[str, Any], steps: int) -> tuple[float, float, Tensor]:
    """Stochastic lasso: (norm(v - grad f), F - F*, xhat) after so many steps of batches of 4 out of 200 rows."""
    matrix, mu = random(200, 20, seed=1), 0.1
    truth = torch.where(torch.arange(20) < 4, 1.0, 0.0).double()
    target = matrix @ truth + 0.5 * random(200, seed=2)
    gram, moment = matrix.T @ matrix / 200, matrix.T @ target / 200
    best = torch.zeros(20, dtype=DOUBLE)
    size = 1 / float(torch.linalg.eigvalsh(gram)[-1])
    for _ in range(3000):  # ISTA to rounding
        moved = best - size * (gram @ best - moment)
        best = moved.sign() * (moved.abs() - size * mu).clamp(min=0)

    def objective(x: Tensor) -> float:
        return float(0.5 * x @ gram @ x - moment @ x + mu * x.abs().sum())

    weight = torch.nn.Parameter(torch.zeros(20, dtype=DOUBLE))
    optimizer = ProxSGD([weight], metric="identity", regularizer="l1", mu=mu, offset=0, **optimizer_settings)
    rows = torch.randint(200, (steps, 4), generator=torch.Generator().manual_seed(0))
    for chosen in rows:
        part = matrix[chosen]
        weight.grad = part.T @ (part @ weight.detach() - target[chosen]) / 4
        optimizer.step()
    x = weight.detach()
    momentum = optimizer.state[weight]["exp_avg"]
    with optimizer.snapshot():
        solution = weight.detach().clone()
    return float((momentum - (gram @ x - moment)).norm()), objective(x) - objective(best), solution


def test_the_momentum_tends_to_the_gradient_under_the_theorems_schedules_only() -> None:
    """Theorem 1: with sum eps^2, sum rho^2 < infinity and eps / rho -> 0, norm(v - grad f) -> 0."""
    assert broken_conditions(0.9, 0.6) == []
    error, excess, solution = lasso({"lr": 1.0, "lr_decay": 0.9, "rho": 0.9, "rho_decay": 0.6}, 6000)
    constant, floor, _ = lasso({"lr": 0.05, "lr_decay": 0.0, "rho": 0.9, "rho_decay": 0.0}, 6000)
    assert error < 0.2
    assert excess < 1e-3
    assert constant > 3 * error
    assert floor > 3 * excess
    assert int((solution != 0).sum()) < 20


def test_the_default_schedules_break_the_theorems_conditions() -> None:
    assert len(broken_conditions(0.5, 0.5)) == 3  # both squares, and their ratio
    slow = broken_conditions(1.1, 1.2)
    assert slow[:2] == ["sum eps = infinity needs lr_decay <= 1", "sum rho = infinity needs rho_decay <= 1"]


def test_rates_follow_their_schedules() -> None:
    group = ProxSGD([torch.nn.Parameter(torch.zeros(1))], lr=0.06, offset=4).param_groups[0]
    assert rates(group, 5) == pytest.approx((0.02, 0.3))


# ---------------------------------------------------------------------- from the command line's side


def test_training_with_l1_makes_the_digits_network_sparse_at_little_loss() -> None:
    problem = digits()
    settings = {"lr": 0.03, "rho": 0.1, "regularizer": "l1", "mu": 1e-3, "vectors": False} | CONSTANT
    optimizer = make_optimizer("prox_sgd", problem.model, settings)
    assert isinstance(optimizer, ProxSGD)
    batches = MiniBatches(problem, 64, 0)
    for step in range(600):
        train_step(problem, optimizer, batches.at(step))
    with optimizer.snapshot():
        matrices = [p for p in problem.model.parameters() if p.ndim > 1]
        zeros = sum(int((p == 0).sum()) for p in matrices) / sum(p.numel() for p in matrices)
        sparse = problem.evaluate(problem.weights())
    dense = problem.evaluate(problem.weights())
    assert zeros > 0.5
    assert sparse["accuracy"] > 0.9
    assert abs(sparse["accuracy"] - dense["accuracy"]) < 0.02


@pytest.mark.parametrize("metric", ["adam", "amsgrad", "rmsprop", "adagrad"])
def test_the_preconditioned_hessian_takes_its_metric(metric: str, tmp_path: Any) -> None:
    problem, root = digits(), tmp_path / "run"
    optimizer = make_optimizer("prox_sgd", problem.model, {"metric": metric, "lr": 0.01})
    with Recorder(root, problem="digits_mlp", model=problem.model, optimizer=optimizer, every=5) as recorder:
        for step in range(5):
            recorder.step(loss=train_step(problem, optimizer, MiniBatches(problem, 64, 0).at(step)))
    found = scale(problem, Checkpoint(Run(root), 5))
    expected = []
    for p in problem.model.parameters():
        state = optimizer.state[p]
        square = {"adam": "exp_avg_sq", "amsgrad": "max_exp_avg_sq", "rmsprop": "square_avg", "adagrad": "sum"}[metric]
        correction = 1 - 0.999**5 if metric in ("adam", "amsgrad") else 1.0
        expected.append(((state[square].double() / correction).sqrt() + 1e-8).rsqrt().reshape(-1))
    torch.testing.assert_close(found, torch.cat(expected))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": "sophia"}, "metric must be one of adam"),
        ({"regularizer": "l3", "mu": 1.0}, "regularizer must be one of group"),
        ({"regularizer": "l1", "mu": -1.0}, "mu must be a number of at least 0"),
        ({"mu": 1.0}, "needs a regularizer"),
        ({"regularizer": "l1", "mu": 1.0, "low": 1.0, "high": 0.0}, "box is empty"),
        ({"regularizer": "group", "mu": 1.0, "low": 0.0}, "no closed form within a box"),
        ({"regularizer": "group", "mu": 1.0, "groups": "towers"}, "groups must be one of rows"),
        ({"rho": 0.0}, "rho = 0.0 is out of its range"),
        ({"correct_rate": True}, "correct_rate is for a constant rho"),
        ({"lr": 3.0, "lr_decay": 0.0, "regularizer": "l1", "mu": 1.0}, "set lr to at most 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_sentence(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_optimizer("prox_sgd", torch.nn.Linear(2, 2), wrong)
    assert "\n" not in str(caught.value)


def test_the_benchmark_prints_claims_values_and_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "prox_sgd", "--quick", "--epochs", "1"]) == 0
    told = capsys.readouterr().out
    assert told.count("| 1e-12 | yes |") == 6
    assert "ProxSGD sets >= 70 % of the weights to <= 1e-6" in told
