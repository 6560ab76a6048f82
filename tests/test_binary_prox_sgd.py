"""ProxSGD for binary weights: its gradients are those of the penalty, its boxes hold, its indicators are resumed."""

from __future__ import annotations

import copy

import pytest
import torch

from landscape.optimizers.binary_prox_sgd import BinaryProxSGD, make
from landscape.optimizers.prox_sgd import ProxSGD

SETTINGS = {"metric": "identity", "lr": 0.5, "lr_decay": 0.0, "rho": 0.3, "rho_decay": 0.0}


def penalty(x: torch.Tensor, a: torch.Tensor, mu: float) -> torch.Tensor:
    return mu / 4 * (a * (x + 1) ** 2 + (1 - a) * (x - 1) ** 2).sum()


def quadratic(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (x - torch.linspace(-0.4, 0.6, 6, dtype=torch.float64)).square().sum()


def test_a_step_is_prox_sgd_on_the_joint_objective() -> None:
    """The two gradients against automatic differentiation of the whole objective, 50 steps, float64."""
    mu, start = 0.7, torch.linspace(-0.9, 0.9, 6, dtype=torch.float64)
    ours = torch.nn.Parameter(start.clone())
    x, a = torch.nn.Parameter(start.clone()), torch.nn.Parameter(torch.ones(6, dtype=torch.float64))
    optimizer = BinaryProxSGD([ours], mu=mu, **SETTINGS)
    boxes = [{"params": [x], "low": -1.0, "high": 1.0}, {"params": [a], "low": 0.0, "high": 1.0}]
    reference = ProxSGD(boxes, **SETTINGS)
    for _ in range(50):
        optimizer.zero_grad()
        quadratic(ours).backward()
        before = ours.grad.clone()
        optimizer.step()
        torch.testing.assert_close(ours.grad, before, rtol=0, atol=0)  # the caller's gradient is left as it was
        reference.zero_grad()
        (quadratic(x) + penalty(x, a, mu)).backward()
        reference.step()
        assert ours.abs().max() <= 1
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-13)
    torch.testing.assert_close(optimizer.indicators[0], a.detach(), rtol=0, atol=1e-13)
    assert optimizer.regularization() == pytest.approx(float(penalty(x, a, mu).detach()), rel=1e-12)


def test_a_strong_penalty_makes_the_weights_binary() -> None:
    x = torch.nn.Parameter(torch.tensor([-0.3, 0.2, 0.4, -0.1], dtype=torch.float64))
    optimizer = make([x], mu=1.0, start=0.5, metric="identity", lr=0.3, lr_decay=0, rho=0.5, rho_decay=0)
    for _ in range(300):
        x.grad = torch.zeros_like(x)
        optimizer.step()
    torch.testing.assert_close(x.detach(), torch.tensor([-1.0, 1, 1, -1], dtype=torch.float64), rtol=0, atol=1e-6)


def test_signs_are_the_read_out_and_leave_the_training_alone() -> None:
    x = torch.nn.Parameter(torch.tensor([-0.3, 0.0, 0.4]))
    optimizer = make([x])
    with optimizer.snapshot():
        assert x.tolist() == [-1, 1, 1]
    assert x.tolist() == pytest.approx([-0.3, 0, 0.4])
    optimizer.finalize_()
    assert x.tolist() == [-1, 1, 1]


def test_a_resumed_training_ends_at_the_same_weights() -> None:
    def trained(stop: int | None) -> torch.Tensor:
        x = torch.nn.Parameter(torch.linspace(-0.9, 0.9, 6, dtype=torch.float64))
        optimizer = make([x], mu=0.1)
        for step in range(20):
            if step == stop:
                weights, state = copy.deepcopy((x.detach(), optimizer.state_dict()))
                x = torch.nn.Parameter(weights)
                optimizer = make([x], mu=0.1)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            quadratic(x).backward()
            optimizer.step()
        return x.detach()

    for stop in (0, 7):
        torch.testing.assert_close(trained(stop), trained(None), rtol=0, atol=0)


def test_biases_stay_real_where_they_are_left_out() -> None:
    weight, bias = torch.nn.Parameter(torch.full((2, 2), 0.5)), torch.nn.Parameter(torch.full((2,), 3.0))
    optimizer = make([weight, bias], vectors=False)
    for w in (weight, bias):
        w.grad = torch.full_like(w, -1.0)
    optimizer.step()
    optimizer.finalize_()
    assert weight.tolist() == [[1, 1], [1, 1]]
    assert float(bias[0]) > 3
    assert len(optimizer.indicators) == 1


@pytest.mark.parametrize("setting", [{"mu": -1.0}, {"start": 1.5}, {"lr": 100.0}])
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be at least|may leave the box"):
        make([torch.nn.Parameter(torch.zeros(1))], **setting)
