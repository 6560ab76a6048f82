"""AdaBound is Adam while its bounds are far apart, and SGD with averaged gradients once they have met."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from landscape.optimizers.adabound import AdaBound

START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def run(optimizer: torch.optim.Optimizer, weight: Tensor, steps: int = 60) -> Tensor:
    """On the same noisy gradients of a parabola."""
    for step in range(steps):
        noise = torch.randn(3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        weight.grad = torch.tensor([5.0, 1.0, 0.1], dtype=torch.float64) * weight.detach() + noise
        optimizer.step()
    return weight.detach()


def made(**settings: Any) -> tuple[AdaBound, Tensor]:
    weight = torch.nn.Parameter(START.clone())
    return AdaBound([weight], **settings), weight


@pytest.mark.parametrize("amsgrad", [False, True])
def test_with_bounds_that_do_not_close_it_is_adam(amsgrad: bool) -> None:
    weight = torch.nn.Parameter(START.clone())
    theirs = torch.optim.Adam([weight], 0.01, eps=0.0, amsgrad=amsgrad)
    ours, own = made(lr=0.01, gamma=1e-12, eps=0.0, amsbound=amsgrad)
    torch.testing.assert_close(run(ours, own), run(theirs, weight), rtol=0, atol=1e-11)


def test_with_bounds_that_have_met_it_is_descent_along_the_mean_gradient() -> None:
    """lr is huge, so every rate is the upper bound's, final_lr (1 + 1 / (gamma t))."""
    ours, own = made(lr=1e9, final_lr=0.02, gamma=0.5)
    x, mean = START.clone(), torch.zeros(3, dtype=torch.float64)
    for step in range(60):
        noise = torch.randn(3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        mean = 0.9 * mean + 0.1 * (torch.tensor([5.0, 1.0, 0.1], dtype=torch.float64) * x + noise)
        x = x - 0.02 * (1 + 1 / (0.5 * (step + 1))) * mean
    torch.testing.assert_close(run(ours, own), x, rtol=0, atol=1e-13)


def test_every_rate_lies_between_the_bounds_and_a_schedule_moves_them() -> None:
    ours, own = made(lr=0.01, final_lr=0.05, gamma=0.1)
    run(ours, own, 20)
    before, mean = own.detach().clone(), ours.state[own]["exp_avg"]
    for share in (1.0, 0.5):
        ours.param_groups[0]["lr"] = 0.01 * share
        own.grad = torch.ones(3, dtype=torch.float64)
        ours.step()
        t = int(ours.state[own]["step"])
        rates = (before - own.detach()) / mean
        low, high = 0.05 * share * (1 - 1 / (0.1 * t + 1)), 0.05 * share * (1 + 1 / (0.1 * t))
        assert low * (1 - 1e-12) <= float(rates.min()) <= float(rates.max()) <= high * (1 + 1e-12)
        before = own.detach().clone()


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    first, one = made(amsbound=True)
    run(first, one, 7)
    second, two = made(amsbound=True)
    two.data.copy_(one.detach())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(run(first, one, 5), run(second, two, 5))


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"final_lr": -1.0}, {"gamma": 0.0}, {"beta1": 1.0}, {"eps": math.nan}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} = .* is out of its range"):
        made(**wrong)
