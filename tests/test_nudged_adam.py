"""NudgedAdam: what it takes out of the gradient, against dense eigenvectors and against Adam itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_problems import digits
from torch import Tensor

from landscape.errors import UsageError
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.optimizers.nudged_adam import NudgedAdam

CURVATURES = torch.tensor([100.0, 1.0, 0.5, 0.1], dtype=torch.float64)


def rotated(seed: int = 0) -> Tensor:
    """A quadratic's matrix with eigenvalues 100, 1, 0.5, 0.1 in a random basis, columns of which are eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    return basis


def quadratic(weight: Tensor, basis: Tensor) -> Callable[[], Tensor]:
    matrix = basis @ torch.diag(CURVATURES) @ basis.T
    return lambda: 0.5 * weight @ matrix @ weight


def stepped(optimizer: str, settings: dict[str, Any], steps: int) -> tuple[Any, Tensor, Tensor]:
    """(optimizer, weights before the last step, weights after it) on the digits."""
    torch.manual_seed(0)
    problem = digits().to(dtype=torch.float64)
    made, batches = make_optimizer(optimizer, problem.model, settings), MiniBatches(problem, 64, 0)
    before = problem.weights()
    for step in range(steps):
        before = problem.weights()
        train_step(problem, made, batches.at(step))
    return made, before, problem.weights()


def test_with_gamma_one_it_is_adam_bit_for_bit() -> None:
    ends = [stepped(name, settings, 20)[2] for name, settings in
            (("nudged_adam", {"gamma": 1.0, "lr": 0.01}), ("adam", {"lr": 0.01}))]  # fmt: skip
    assert torch.equal(*ends)


@pytest.mark.parametrize("k", [1, 2])
def test_the_gradient_has_no_part_left_along_the_top_eigenvectors(k: int) -> None:
    basis = rotated()
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = NudgedAdam([weight], k=k, products=8)
    full = basis @ torch.diag(CURVATURES) @ basis.T @ weight.detach()
    optimizer.step(quadratic(weight, basis))
    assert weight.grad is not None
    top = basis[:, :k]
    assert float((top.T @ weight.grad).norm()) <= 1e-10 * float(full.norm())
    torch.testing.assert_close(weight.grad, full - top @ (top.T @ full), rtol=1e-9, atol=1e-9)
    assert float(full @ weight.grad) == pytest.approx(float(weight.grad @ weight.grad))  # still a descent direction
    again = optimizer._without(weight.grad, optimizer._directions([weight]))  # once more changes nothing
    torch.testing.assert_close(again, weight.grad, rtol=0, atol=1e-10 * float(full.norm()))
    assert optimizer.eigenvalues == pytest.approx(CURVATURES[:k].tolist())


def test_a_part_of_it_stays_with_gamma_between() -> None:
    basis = rotated()
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    full = basis @ torch.diag(CURVATURES) @ basis.T @ weight.detach()
    NudgedAdam([weight], gamma=0.25, products=8).step(quadratic(weight, basis))
    assert weight.grad is not None
    assert float(basis[:, 0] @ weight.grad) == pytest.approx(0.25 * float(basis[:, 0] @ full))


def test_the_step_itself_is_orthogonal_only_after_the_moments() -> None:
    """Adam scales every weight by itself, so a gradient without e_1 does not make a step without it."""
    cosines = {}
    for apply in ("pre", "post"):
        optimizer, before, after = stepped("nudged_adam", {"apply": apply, "products": 20, "every": 1}, 8)
        directions = optimizer._directions([w for g in optimizer.param_groups for w in g["params"]])
        cosines[apply] = float((directions @ (after - before)).norm() / (after - before).norm())
    assert cosines["post"] <= 1e-12
    assert cosines["pre"] > 1e-3


def test_the_search_finds_the_top_of_the_mini_batchs_hessian() -> None:
    problem = digits(64).to(dtype=torch.float64)
    optimizer = make_optimizer("nudged_adam", problem.model, {"products": 40, "lr": 1e-4})
    vector = problem.weights()
    train_step(problem, optimizer, problem.batches)
    exact = torch.autograd.functional.hessian(lambda w: problem.batch_loss(w, problem.batches[0]), vector)
    values, vectors = torch.linalg.eigh(exact)
    assert isinstance(optimizer, NudgedAdam)
    assert optimizer.eigenvalues[0] == pytest.approx(float(values[-1]), rel=1e-6)
    found = optimizer._directions(list(problem.model.parameters()))[0]
    assert abs(float(found @ vectors[:, -1])) > 1 - 1e-6


def test_warm_starts_follow_the_eigenvector_with_few_products() -> None:
    basis = rotated(1)
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = NudgedAdam([weight], products=2, every=1, lr=1e-4)
    for _ in range(8):
        optimizer.step(quadratic(weight, basis))
    assert abs(float(optimizer._directions([weight])[0] @ basis[:, 0])) > 0.9999


def test_plain_descent_diverges_where_the_nudged_gradient_does_not() -> None:
    """diag(100, 1, 0.5, 0.1) at a rate between 2/100 and 2/1: the sharp coordinate alone decides."""
    sharp, rest = 0, slice(1, None)
    basis = torch.eye(4, dtype=torch.float64)
    plain, nudged = (torch.nn.Parameter(torch.ones(4, dtype=torch.float64)) for _ in range(2))
    optimizer = NudgedAdam([nudged], products=8)
    for _ in range(200):
        with torch.no_grad():
            plain -= 0.05 * CURVATURES * plain
        before = nudged.detach().clone()
        optimizer.step(quadratic(nudged, basis))
        assert nudged.grad is not None
        nudged.data.copy_(before - 0.05 * nudged.grad)  # its gradient, in plain descent
    assert float(plain.detach().norm()) > 1e10
    assert float(nudged.detach()[sharp]) == pytest.approx(1.0, abs=1e-6)  # bounded, but frozen
    assert float(nudged.detach()[rest].norm()) < 0.5


def test_eigenvalues_below_the_threshold_are_left_alone() -> None:
    ends = [stepped("nudged_adam", s, 6)[2] for s in ({"threshold": 1e9}, {"gamma": 1.0})]
    assert torch.equal(*ends)


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    def after(stop: int | None) -> Tensor:
        torch.manual_seed(0)
        problem = digits()
        optimizer, batches = make_optimizer("nudged_adam", problem.model, {"every": 3}), MiniBatches(problem, 64, 0)
        for step in range(10):
            if step == stop:
                file = io.BytesIO()
                torch.save(optimizer.state_dict(), file)
                optimizer = make_optimizer("nudged_adam", problem.model, {"every": 3})
                optimizer.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
            train_step(problem, optimizer, batches.at(step))
        return problem.weights()

    assert torch.equal(after(None), after(5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"apply": "both"}, "apply must be pre or post"), ({"k": 0}, "k must be at least 1"),
     ({"k": 5, "products": 4}, "products must be at least 5"), ({"gamma": -1.0}, "gamma must be at least 0")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_optimizer("nudged_adam", torch.nn.Linear(2, 2), wrong)


def test_a_step_needs_a_closure() -> None:
    with pytest.raises(ValueError, match="need a closure that returns the loss with its graph"):
        NudgedAdam([torch.nn.Parameter(torch.ones(1))]).step()
