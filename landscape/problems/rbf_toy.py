"""One dimension, a few Gaussian units: the toy on which splitting grows a student towards its teacher.

    f(x) = sum_j a_j exp(-(w_j x + b_j)^2 / 2)                                        (Liu, Wu & Wang 2019)

The teacher's data are made, not measured: they are what the method's authors show it on.
"""

from __future__ import annotations

import torch
from torch import nn

from ..errors import UsageError
from ..loss.problem import Problem
from ._layers import activation_layer, set_seed


def build(
    hidden: int = 1,
    teacher: int = 15,
    data_seed: int = 0,
    activation: str = "gaussian",
    seed: int | None = None,
    samples: int = 200,
    batch_size: int = 256,
) -> Problem:
    """A student of `hidden` units on a teacher's values at equidistant points of [-5, 5], mean squared error.

    Args:
        hidden: units of the student, with w, b ~ N(0, 1) and a ~ U(-3, 3) like the teacher's.
        teacher: units of the teacher.
        data_seed: of the teacher.
        activation: gaussian, or another smooth one for both.
        seed: of the student's weights; None takes them from torch's generator, which `landscape train --seed` sets.
        samples: points.
        batch_size: samples a batch of the curvature jobs; it changes no number.
    """
    if hidden < 1 or teacher < 1 or samples < 2:
        raise UsageError(f"a toy needs a unit of each and two samples, got {hidden}, {teacher} and {samples}")
    generator = torch.Generator().manual_seed(data_seed)
    x = torch.linspace(-5, 5, samples)[:, None]
    with torch.no_grad():
        y = _drawn(_network(teacher, activation), generator)(x)
    set_seed(seed)
    student = _drawn(_network(hidden, activation), None)
    return Problem(student, nn.functional.mse_loss, (x, y), batch_size=batch_size, name="rbf_toy")


def _network(units: int, activation: str) -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, units), activation_layer(activation), nn.Linear(units, 1, bias=False))


def _drawn(network: nn.Sequential, generator: torch.Generator | None) -> nn.Sequential:
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith("0."):
                weight.normal_(generator=generator)
            else:
                weight.uniform_(-3, 3, generator=generator)
    return network
