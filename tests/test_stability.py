"""Stability thresholds are where gradient descent on a parabola starts to diverge; none is claimed elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import softmax_run

from landscape.readings.stability import threshold


def run_with(optimizer: str, settings: dict[str, Any]) -> Any:
    return dataclasses.replace(softmax_run.info(), optimizer=optimizer, settings=settings)


@pytest.mark.parametrize(
    ("optimizer", "settings", "value", "formula"),
    [
        ("SGD", {"lr": 0.2}, 10.0, "2/η"),
        ("SGD", {"lr": 0.2, "momentum": 0.9}, 19.0, "(2+2β)/η"),
        ("SGD", {"lr": 0.2, "momentum": 0.9, "nesterov": True}, 3.8 / (0.2 * 2.8), "(2+2β)/(η(1+2β))"),
        ("SGD", {"lr": 0.2, "weight_decay": 0.5}, 9.5, "2/η − weight decay"),
        ("SGD", {"lr": 0.2, "momentum": 0.9, "dampening": 0.1}, None, "no threshold: dampened momentum"),
        ("Adam", {"lr": 0.01}, None, "no stability threshold known for Adam's raw Hessian"),
        ("SGD", {}, None, "no threshold: the learning rate was not recorded"),
        ("Extragradient", {"lr": 0.2}, 5.0, "1/η"),
        ("Optimistic", {"lr": 0.2}, 10 / 3, "2/(3η)"),
        ("ProxSGD", {"metric": "identity", "regularizer": "none", "lr": 0.5, "rho": 0.1}, 76.0, "(4−2ρ)/(ερ)"),
        ("ProxSGD", {"metric": "identity", "regularizer": "l1", "lr": 0.5, "rho": 0.1}, None,
         "no threshold: the step is proximal"),
        ("ProxSGD", {"metric": "adam"}, None,
         "no stability threshold known for ProxSGD's hessian; see its preconditioned"),
    ],
)
def test_the_threshold_is_the_optimizers_own(
    optimizer: str, settings: dict[str, Any], value: float | None, formula: str
) -> None:
    found = threshold(run_with(optimizer, settings))
    assert found.formula == formula
    assert found.value == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("optimizer", "settings", "value", "formula"),
    [
        ("Adam", {"lr": 0.01, "betas": [0.9, 0.999]}, 3800, "(2+2β₁)/((1−β₁)η)"),
        ("AdamW", {"lr": 0.01, "betas": [0.5, 0.999], "weight_decay": 0.01}, 600, "(2+2β₁)/((1−β₁)η)"),
        ("Adam", {"lr": 0.01, "weight_decay": 0.01}, None, "no threshold: the weight decay is part of the gradient"),
        ("RMSprop", {"lr": 0.01}, 200, "2/η"),
        ("RMSprop", {"lr": 0.01, "momentum": 0.9}, 380, "(2+2β)/η"),
        ("NAdam", {"lr": 0.01, "betas": [0.9, 0.999]}, None, "no stability threshold known for NAdam"),
        ("Adam", {}, None, "no threshold: one learning rate for all weights was not recorded"),
    ],
)
def test_the_preconditioned_sharpness_has_its_own_threshold(
    optimizer: str, settings: dict[str, Any], value: float | None, formula: str
) -> None:
    found = threshold(run_with(optimizer, settings), "preconditioned")
    assert found.formula == formula
    assert found.value == (None if value is None else pytest.approx(value))


def test_rates_that_decay_raise_the_threshold_with_the_step() -> None:
    settings = {"metric": "adam", "regularizer": "none", "lr": 0.06, "lr_decay": 0.5, "rho": 0.9, "rho_decay": 0.5,
                "offset": 4.0}  # fmt: skip
    info = run_with("ProxSGD", settings)
    assert threshold(info, "preconditioned").formula == "no threshold: its rates decay, and the step is not known"
    at = {step: threshold(info, "preconditioned", step).value for step in (0, 95)}
    eps, rho = 0.06 / 10, 0.9 / 10
    assert at[95] == pytest.approx((4 - 2 * rho) / (eps * rho))
    assert at[0] is not None
    assert at[95] is not None
    assert at[0] < at[95]


@pytest.mark.parametrize(("name", "factor"), [("Extragradient", [1.0, -1.0, 1.0]), ("Optimistic", None)])
def test_look_ahead_starts_to_diverge_at_its_own_threshold(name: str, factor: list[float] | None) -> None:
    limit = threshold(run_with(name, {"lr": 0.1})).value
    assert limit is not None
    for share, grows in ((1 - 1e-6, False), (1 + 1e-6, True)):
        x = 0.1 * limit * share
        radius = abs(np.polyval(factor, x)) if factor else np.abs(np.roots([1, -(1 - 2 * x), -x])).max()
        assert bool(radius > 1) == grows


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.3)])
@pytest.mark.parametrize("rho", [0.0, 0.05, 5.0])
def test_sam_leaves_its_orbit_of_two_points_at_its_own_threshold(rho: float, momentum: float, decay: float) -> None:
    """At the limit x goes to -x and back: with g = h x, m = -(momentum's limit), one step of SAM's on a parabola."""
    slope, lr = 0.7, 0.1
    settings = {"lr": lr, "rho": rho, "momentum": momentum, "weight_decay": decay}
    limit = threshold(run_with("SAM", settings), slope=slope).value
    assert limit is not None
    for share, grows in ((1 - 1e-6, False), (1 + 1e-6, True)):
        h = limit * share
        x = slope / h
        pull = h * (x + rho) + decay * x
        moved = x - lr * (momentum * -pull / (1 + momentum) + pull)
        assert bool(abs(moved) > abs(x)) == grows
    if rho:
        assert threshold(run_with("SAM", settings)).value is None


@pytest.mark.parametrize("gamma", [0.0, 0.1, 3.0])
def test_consensus_on_one_loss_starts_to_diverge_at_its_own_threshold(gamma: float) -> None:
    limit = threshold(run_with("Consensus", {"lr": 0.1, "gamma": gamma})).value
    assert limit is not None
    for share, grows in ((1 - 1e-6, False), (1 + 1e-6, True)):
        h = limit * share
        assert bool(abs(1 - 0.1 * h * (1 + gamma * h)) > 1) == grows


def diverges(curvature: float, lr: float, momentum: float, nesterov: bool) -> bool:
    """Whether torch's SGD rule grows on the parabola curvature / 2 x^2: spectral radius of (x, buffer) above 1."""
    look = 1 + momentum if nesterov else 1.0
    back = momentum**2 if nesterov else momentum
    step = np.array([[1 - lr * look * curvature, -lr * back], [curvature, momentum]])
    return bool(np.abs(np.linalg.eigvals(step)).max() > 1 + 1e-12)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.5, True)])
def test_gradient_descent_starts_to_diverge_there(momentum: float, nesterov: bool) -> None:
    limit = threshold(run_with("SGD", {"lr": 0.1, "momentum": momentum, "nesterov": nesterov})).value
    assert limit is not None
    assert not diverges(limit * (1 - 1e-6), 0.1, momentum, nesterov)
    assert diverges(limit * (1 + 1e-6), 0.1, momentum, nesterov)
