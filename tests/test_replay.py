"""A trace of the objective, rewritten, gives the numbers of the objective and writes on nothing but its own memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from landscape.engine.tape import written
from landscape.geometry.directions import random_plane
from landscape.geometry.meter import Meter, PlaneMeter, Way
from landscape.geometry.replay import by_window, laid_out
from landscape.loss.problem import Problem

PLACES = np.array([[0.0, 0.0], [0.3, -0.2], [0.4, -0.2], [-4.0, 1.5], [40.0, 30.0]])


def convolving(*, window: int, size: int) -> Problem:
    torch.manual_seed(window)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(window), nn.Conv2d(3, 4, 2), nn.Tanh(), nn.MaxPool2d(2, 1),
        nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip
    data = torch.randn(50, 1, size, size), torch.randint(0, 4, (50,))
    model(data[0])
    return Problem(model, nn.functional.cross_entropy, data, batch_size=30).to(dtype=torch.float64)


@pytest.mark.parametrize(("window", "size"), [(2, 12), (3, 13)])
@pytest.mark.parametrize("points", [1, 2])
def test_a_replayed_surface_is_the_surface_and_leaves_data_and_weights_alone(
    window: int, size: int, points: int
) -> None:
    problem = convolving(window=window, size=size)
    plane = random_plane(problem, problem.weights())
    before = problem.weights(), [x.clone() for batch in problem.batches for x in batch]
    meter = PlaneMeter(problem, plane.origin, plane.directions, Way(26, points, True, True, True))
    assert meter._replay is not None
    assert meter._replay.windows == ([(window, window)] if points == 1 else [None])  # relu and pool have changed places
    for _ in range(2):  # nothing that is kept was written on
        found = meter.measure(PLACES)
    wanted = Meter(problem).measure(meter.vectors(PLACES))
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-12)
    np.testing.assert_array_equal(found["accuracy"], wanted["accuracy"])
    assert torch.equal(problem.weights(), before[0])
    assert all(map(torch.equal, (x for batch in problem.batches for x in batch), before[1]))


def test_the_maximum_over_parts_is_the_pool() -> None:
    images = torch.randn(2, 3, 7, 9)
    torch.testing.assert_close(by_window(images, (2, 3)).amax(0), nn.functional.max_pool2d(images, (2, 3)))
    assert laid_out(images[None], (2, 3)).shape == (1, 6, 2, 3, 3, 3)
    assert laid_out(images, None) is images


def test_what_is_written_in_place_is_on_the_tape_as_what_it_computes() -> None:
    def work(x: torch.Tensor) -> torch.Tensor:
        first = (x + 1).relu_()
        return (first + first.mul_(2)).sum(0)  # both terms are the changed tensor

    inputs = torch.randn(4, 3)
    graph = written(work, [inputs])
    assert not any("_." in str(node.target) for node in graph.graph.nodes)
    torch.testing.assert_close(graph(-inputs), work(-inputs))


@pytest.mark.parametrize(
    ("work", "what"),
    [
        (lambda x: x * float(x.sum()), "depends on values"),
        (lambda x: x[x > 0].sum(), "depends on values"),
        (lambda x: x + torch.rand(3), "chance"),
        (lambda x: x.mul_(2), "does not own"),
        (lambda x: (y := x + 1, z := y[0], y.mul_(2), z)[-1], "written over"),
    ],
)
def test_work_that_a_tape_cannot_hold_is_told(work: Callable[[torch.Tensor], torch.Tensor], what: str) -> None:
    with pytest.raises(RuntimeError, match=what):
        written(work, [torch.randn(4, 3)])
