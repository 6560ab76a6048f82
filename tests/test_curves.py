"""Curves between minima: formulas, length, training against closed forms, valleys and passes, ranks and resuming."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_problems import Weights, convolutional, digits, quadratic, symmetric, train, two_minima

from landscape import plugins
from landscape.distributed.parallel import Comm
from landscape.errors import UsageError
from landscape.geometry.curve import Curve, kind_module, straight
from landscape.geometry.curve_training import train_curve
from landscape.geometry.path import follow
from landscape.loss.problem import Problem

COMM = Comm()
T = np.linspace(0, 1, 11)
KINDS = plugins.names("landscape.geometry.curves")
TRAINED = [kind for kind in KINDS if kind_module(kind).BENDS]


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_are_a_partition_that_ends_at_a_and_b(kind: str) -> None:
    for points in {2, 3, 6} if kind_module(kind).BENDS else {2}:
        c = kind_module(kind).coefficients(np.linspace(0, 1, 13), points)
        assert c.shape == (13, points)
        np.testing.assert_allclose(c.sum(axis=1), 1, atol=1e-14)
        np.testing.assert_array_equal(c[[0, -1]], np.eye(points)[[0, -1]])


def test_equal_steps_of_t_are_equally_long() -> None:
    a, c, b = torch.tensor([[0.0, 0], [0, 1], [1, 1]], dtype=torch.float64)
    polygon = Curve("polygon", torch.stack([a, 3 * c, b]))
    assert polygon.length == pytest.approx(3 + np.sqrt(5), rel=1e-12)
    assert torch.allclose(polygon.at(1.5 / polygon.length), 1.5 * c, atol=1e-12)
    parabola = Curve("bezier", torch.stack([a, c, b]))  # speed 2 sqrt(s^2 + (1 - s)^2)
    assert parabola.length == pytest.approx(1 + np.arcsinh(1) / np.sqrt(2), rel=1e-6)
    stops = torch.stack([parabola.at(float(t)) for t in np.linspace(0, 1, 1001)])
    steps = torch.linalg.norm(stops[1:] - stops[:-1], dim=1)
    assert float(steps.max() / steps.min()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_the_bend_over_a_quadratic_has_a_closed_form(seed: int) -> None:
    """The mean of theta^T H theta along a quadratic Bezier curve is least at P = -3/4 (A + B), for every H > 0."""
    matrix = symmetric(5, seed)
    matrix = matrix @ matrix / 5 + 0.3 * torch.eye(5)
    a, b = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rate = 0.5 / float(torch.linalg.eigvalsh(matrix)[-1])
    curve, losses = train_curve(quadratic(matrix), a, b, "bezier", COMM, steps=400, rate=rate, batch_size=0, seed=seed)
    assert torch.linalg.norm(curve.points[1] + 0.75 * (a + b)) < 0.03 * torch.linalg.norm(a + b)
    assert len(losses) == 400


def wells(height: float = 1.0) -> tuple[Problem, torch.Tensor, torch.Tensor]:
    """L = (x^2 - 1)^2 + 3 (y - height (1 - x^2))^2: minima (-1, 0) and (1, 0), the pass (0, height) at loss 1."""

    def batch_loss(model: Any, batch: torch.Tensor) -> torch.Tensor:
        x, y = model.w
        return (x**2 - 1) ** 2 + 3 * (y - height * (1 - x**2)) ** 2 + 0 * batch.sum()

    problem = Problem.from_batch_loss(Weights(torch.zeros(2).double()), batch_loss, [torch.ones(3).double()])
    return problem, *torch.tensor([[-1.0, 0], [1, 0]], dtype=torch.float64)


def test_the_elastic_band_finds_the_pass_and_curves_come_over_or_above_it() -> None:
    problem, a, b = wells()
    barriers = {"linear": follow(problem, straight(a, b), T, COMM).barrier}
    for kind in TRAINED:
        curve, _ = train_curve(problem, a, b, kind, COMM, steps=200, rate=0.01, batch_size=0)
        path = follow(problem, curve, np.linspace(0, 1, 101), COMM)
        barriers[kind] = path.barrier
        if kind == "elastic_band":
            assert torch.allclose(curve.points[5], torch.tensor([0.0, 1.0]).double(), atol=1e-3)
            spans = torch.linalg.norm(curve.points[1:] - curve.points[:-1], dim=1)
            assert float(spans.max() / spans.min()) < 1.2  # the springs keep the images apart
    assert barriers["linear"] == pytest.approx(4)
    assert barriers["elastic_band"] == pytest.approx(1, abs=0.05)  # no path is below 1
    assert all(0.999 < barriers[kind] < 2 for kind in TRAINED)


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_a_curve_between_two_digits_minima_lowers_the_barrier_tenfold(kind: str) -> None:
    problem = digits(400, test=True)
    vectors = [problem.vector_from(state) for state in two_minima(problem)]
    line = follow(problem, straight(*vectors), T, COMM)
    curve, _ = train_curve(problem, *vectors, kind, COMM, steps=400)
    path = follow(problem, curve, T, COMM)
    assert line.barrier > 0.1
    assert path.barrier < line.barrier / 10
    assert (path.loss[0], path.loss[-1]) == (line.loss[0], line.loss[-1])
    assert path.length > line.length


@pytest.mark.parametrize("kind", TRAINED)
def test_training_goes_on_from_a_state_to_the_same_curve(kind: str) -> None:
    problem = convolutional()
    a = problem.weights()
    train(problem, 5)
    b, home = problem.weights(), problem.state()
    options: dict[str, Any] = {"steps": 6, "rate": 0.05, "seed": 3, "every": 4}
    states: list[Any] = []
    whole, losses = train_curve(
        problem, a, b, kind, COMM, on_state=lambda s: states.append({n: x.copy() for n, x in s.items()}), **options
    )
    assert [len(s["losses"]) for s in states] == [4, 6]
    problem.load(home)
    rest, again = train_curve(problem, a, b, kind, COMM, begin=states[0], **options)
    assert torch.equal(rest.points, whole.points)
    assert np.array_equal(again, losses)
    assert torch.equal(problem.weights(), b)
    assert not any(m.training for m in problem.model.modules())


def test_nothing_to_train_is_refused() -> None:
    problem = digits(100)
    w = problem.weights()
    with pytest.raises(UsageError, match="nothing to train"):
        train_curve(problem, w, w, "linear", COMM)
    with pytest.raises(UsageError, match="positive rate"):
        train_curve(problem, w, w, "bezier", COMM, rate=0.0)
    with pytest.raises(UsageError, match=r"unknown curve 'circle'.*bezier"):
        train_curve(problem, w, w, "circle", COMM)
