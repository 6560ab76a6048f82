"""Stability thresholds are where gradient descent on a parabola starts to diverge; none is claimed elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import softmax_run

from landscape.stability import threshold


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
