"""Optimizers of games on min_x max_y xy, where each has a contraction rate in closed form."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from landscape import plugins
from landscape.errors import UsageError
from landscape.learning.training import make_optimizer

RATE = 0.1


def bilinear(x: Tensor, y: Tensor) -> Callable[[], float]:
    """x descends xy, y ascends it: F = (y, -x)."""

    def closure() -> float:
        x.grad, y.grad = y.detach().clone(), -x.detach().clone()
        return float((x * y).detach().sum())

    return closure


def players() -> tuple[Tensor, Tensor]:
    return tuple(torch.nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (1.0, 0.7))  # type: ignore[return-value]


def field(x: Tensor, y: Tensor) -> Callable[[], tuple[float, dict[Tensor, Tensor]]]:
    """The same with its graph, for optimizers that differentiate it."""
    return lambda: (float((x * y).detach().sum()), {x: 1 * y, y: -x})


def contraction(optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int = 400) -> float:
    """The factor a step by which the distance from the equilibrium shrinks, after a while."""
    lengths = []
    closure: Any = (field if getattr(optimizer, "returns_field", False) else bilinear)(x, y)
    for _ in range(steps):
        optimizer.step(closure)
        lengths.append(float(torch.hypot(x.detach(), y.detach())))
    half = steps // 2
    return (lengths[-1] / lengths[half - 1]) ** (1 / (steps - half))


def made(name: str, *weights: Tensor) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(weights, RATE)
    more = {"gamma": 1.0} if name == "consensus" else {}
    return plugins.load("landscape.optimizers", name).make(list(weights), lr=RATE, **more)  # type: ignore[no-any-return]


RATES = {
    "sgd": np.sqrt(1 + RATE**2),  # simultaneous descent moves away
    "extragradient": np.sqrt(1 - RATE**2 + RATE**4),
    "consensus": np.sqrt((1 - RATE) ** 2 + RATE**2),  # gamma 1
    "optimistic": np.abs(np.roots([1, -(1 - 2j * RATE), -1j * RATE])).max(),
}


@pytest.mark.parametrize("name", RATES)
def test_the_distance_from_the_equilibrium_changes_at_its_exact_rate(name: str) -> None:
    x, y = players()
    assert contraction(made(name, x, y), x, y) == pytest.approx(RATES[name], rel=1e-12)


def test_one_player_alone_takes_two_steps_of_look_ahead() -> None:
    """On a x^2 / 2 extragradient multiplies x by 1 - lr a + (lr a)^2."""
    x = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = made("extragradient", x)

    def closure() -> float:
        optimizer.zero_grad()
        (1.5 * x.square().sum()).backward()
        return 0.0

    optimizer.step(closure)
    assert float(x.detach()) == pytest.approx(1 - 0.3 + 0.09, abs=1e-15)


def test_the_first_optimistic_step_is_plain_descent_and_a_saved_state_goes_on() -> None:
    x, y = players()
    optimizer = made("optimistic", x, y)
    optimizer.step(bilinear(x, y))  # type: ignore[arg-type]
    assert (float(x.detach()), float(y.detach())) == (pytest.approx(1 - RATE * 0.7), pytest.approx(0.7 + RATE))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    copies = [torch.nn.Parameter(w.detach().clone()) for w in (x, y)]
    again = made("optimistic", *copies)
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for weights, one in (((x, y), optimizer), (copies, again)):
        for _ in range(3):
            one.step(bilinear(*weights))  # type: ignore[arg-type]
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])


@pytest.mark.parametrize("name", ["extragradient", "optimistic", "consensus"])
def test_a_rate_of_zero_is_refused(name: str) -> None:
    settings: dict[str, Any] = {"lr": 0.0}
    with pytest.raises(UsageError, match="lr must be positive"):
        make_optimizer(name, torch.nn.Linear(2, 2), settings)
