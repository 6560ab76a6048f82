"""Trajectories: exact coordinates, true losses beside projected ones, and a problem left as it came."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_problems import Saved, convolutional, digits, quadratic, symmetric, train

from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError
from landscape.geometry.directions import Plane, eigen_plane, pca_plane
from landscape.geometry.gradients import loss_and_gradient
from landscape.geometry.trajectory import coordinates, trajectory
from landscape.readings import shares

COMM = Comm()


def descent(matrix: torch.Tensor, start: torch.Tensor, rate: float, steps: int) -> list[Saved]:
    """Gradient descent on 1/2 w^T A w in closed form: w_k = (1 - rate A)^k w_0."""
    step = torch.eye(len(matrix), dtype=matrix.dtype) - rate * matrix
    return [Saved(k, {"w": torch.linalg.matrix_power(step, k) @ start}) for k in range(steps + 1)]


def test_gradient_descent_on_a_quadratic_has_its_closed_form_on_the_eigenvector_plane() -> None:
    matrix = symmetric(8) + 6 * torch.eye(8, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(matrix)
    origin, start = torch.zeros(8, dtype=torch.float64), torch.linspace(-1, 2, 8, dtype=torch.float64)
    plane = eigen_plane(origin, vectors.T.flip(0), values.flip(0).numpy(), np.zeros(8))
    saved = descent(matrix, start, 0.05, 6)
    found = trajectory(quadratic(matrix), plane, saved, COMM)
    first, second = plane.info["values"]
    k = np.arange(7)
    u, v = (float(d @ start) * (1 - 0.05 * x) ** k for d, x in zip(plane.directions, (first, second), strict=True))
    exact = [0.5 * float(s.state()["w"] @ matrix @ s.state()["w"]) for s in saved]
    assert np.allclose(found.u, u, atol=1e-12)
    assert np.allclose(found.v, v, atol=1e-12)
    assert np.allclose(found.surface_loss, 0.5 * (first * u**2 + second * v**2), atol=1e-12)
    assert np.allclose(found.loss, exact, atol=1e-12)
    assert np.allclose(found.off_plane**2 + u**2 + v**2, found.distance**2, atol=1e-12)
    assert found.steps.tolist() == list(range(7))
    share = ((u**2 + v**2).sum()) / (found.distance**2).sum()
    assert found.meta["in_plane_share"] == pytest.approx(share)
    weights = torch.stack([s.state()["w"] for s in saved])
    gradients = (weights @ matrix).numpy()
    norms = np.linalg.norm(gradients, axis=1)
    assert np.allclose(found.gradient_norm, norms, atol=1e-12)
    assert np.allclose([found.gradient_u, found.gradient_v], [first * u, second * v], atol=1e-12)
    assert np.allclose(shares.gradient_share(found), np.hypot(first * u, second * v) / norms, atol=1e-12)
    assert np.allclose(shares.captured(found), 1 - (found.off_plane / found.distance) ** 2, atol=1e-12)
    assert np.allclose(found.moved[1:], 0.05 * norms[:-1], atol=1e-12)  # one step of gradient descent
    seen = np.hypot(np.diff(u), np.diff(v)).sum() / (0.05 * norms[:-1]).sum()
    assert shares.length_share(found) == pytest.approx(seen)


def test_the_gradient_is_that_of_the_checkpoint_with_its_own_statistics() -> None:
    problem = convolutional()
    saved = train(problem, 20)
    plane = pca_plane([problem.vector_from(s.state()) for s in saved], step=20)
    found = trajectory(problem, plane, saved, COMM)
    for i, checkpoint in enumerate(saved):
        problem.load(checkpoint.state())
        _, gradient = loss_and_gradient(problem, problem.weights())
        along = plane.directions.double() @ gradient
        assert np.allclose([found.gradient_u[i], found.gradient_v[i]], along, rtol=1e-5, atol=1e-7)
        assert found.gradient_norm[i] == pytest.approx(float(torch.linalg.norm(gradient)))
    problem.load(saved[-1].state())
    without = trajectory(problem, plane, saved, COMM, gradients=False)
    assert without.gradient_norm is None
    assert shares.gradient_share(without) is None
    assert np.array_equal(without.loss, found.loss)


def test_the_last_checkpoint_is_the_origin_of_its_principal_plane() -> None:
    problem = digits(200)
    saved = train(problem, 30)
    plane = pca_plane([problem.vector_from(s.state()) for s in saved], step=30)
    before = problem.state()
    found = trajectory(problem, plane, saved, COMM)
    assert [found.u[-1], found.v[-1], found.off_plane[-1], found.distance[-1]] == [0, 0, 0, 0]
    assert found.loss[-1] == found.surface_loss[-1] == problem.evaluate(problem.weights())["loss"]
    assert found.meta["in_plane_share"] == pytest.approx(plane.info["captured"], abs=1e-6)
    for i, saved_one in enumerate(saved):
        assert found.loss[i] == problem.evaluate(problem.vector_from(saved_one.state()))["loss"]
    assert all(torch.equal(value, before[name]) for name, value in problem.state().items())


def test_the_true_loss_uses_the_checkpoints_own_statistics() -> None:
    problem = convolutional()
    saved = train(problem, 20)
    plane = pca_plane([problem.vector_from(s.state()) for s in saved], step=20)
    before = problem.state()
    found = trajectory(problem, plane, saved, COMM)
    assert all(torch.equal(value, before[name]) for name, value in problem.state().items())
    for i, checkpoint in enumerate(saved):
        problem.load(checkpoint.state())
        assert found.loss[i] == problem.evaluate(problem.weights())["loss"]
    with pytest.raises(ProblemError, match="BatchNorm statistics"):
        trajectory(problem, moved(plane), saved, COMM)


def moved(plane: Plane) -> Plane:
    return Plane(plane.kind, plane.step, plane.labels, plane.origin + 1, plane.directions)


def test_a_float32_plane_serves_a_float64_problem() -> None:
    problem = digits(100)
    saved = train(problem, 20)
    plane = pca_plane([problem.vector_from(s.state()) for s in saved], step=20)
    single, double = (trajectory(p, plane, saved, COMM) for p in (problem, problem.to(dtype=torch.float64)))
    assert np.allclose(single.loss, double.loss, rtol=1e-5)
    assert np.allclose(single.surface_loss, double.surface_loss, rtol=1e-5)
    assert np.array_equal(single.u, double.u)


def test_coordinates_cost_no_evaluation_and_match_the_trajectory() -> None:
    problem = quadratic(symmetric(6), torch.ones(6, dtype=torch.float64))
    saved = descent(symmetric(6), torch.ones(6, dtype=torch.float64), 0.1, 4)
    plane = pca_plane([s.state()["w"] for s in saved], step=4)
    found = trajectory(problem, plane, saved, COMM)
    places = coordinates(problem, plane, saved, COMM)
    assert np.array_equal(places.T, [found.u, found.v, found.off_plane, found.distance])


def test_a_checkpoint_of_another_model_is_refused_and_the_problem_left_alone() -> None:
    problem = digits(100)
    before = problem.weights()
    plane = Plane("test", 0, ["a", "b"], before, torch.eye(2, problem.size))
    with pytest.raises(ProblemError, match="does not fit"):
        trajectory(problem, plane, [Saved(3, {"w": torch.zeros(4)})], COMM)
    bad = {**problem.state(), "0.bias": torch.full((32,), torch.nan)}
    with pytest.raises(ProblemError, match="not finite"):
        trajectory(problem, plane, [Saved(3, bad)], COMM)
    assert torch.equal(problem.weights(), before)


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0"), (7.94e-4, "0.079"), (0.0377, "3.8"), (0.9949, "99"), (0.9951, "100"), (1.0, "100")]
)
def test_a_share_in_per_cent_has_two_digits_and_a_hundred_no_exponent(share: float, text: str) -> None:
    assert shares.in_percent(share) == text
