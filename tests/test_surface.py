"""Surfaces: exact on quadratics, equal for any number of ranks, resumable, and true to the checkpoint at the centre."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import Weights, convolutional, digits, quadratic, symmetric, train
from torch import nn

from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError, UsageError
from landscape.geometry.directions import Plane, eigen_plane, random_plane
from landscape.geometry.meter import Way
from landscape.geometry.surface import grid, surface
from landscape.loss.problem import Problem

COMM = Comm()


def eigen(matrix: torch.Tensor, origin: torch.Tensor) -> Plane:
    values, vectors = torch.linalg.eigh(matrix)
    return eigen_plane(origin, vectors.T.flip(0), values.flip(0).numpy(), np.zeros(len(values)))


# ------------------------------------------------------------------ the surface


@pytest.mark.parametrize(("columns", "rows"), [(7, 7), (9, 4)])
def test_the_surface_of_a_quadratic_is_its_closed_form(columns: int, rows: int) -> None:
    matrix, origin = symmetric(10), torch.linspace(-1, 1, 10, dtype=torch.float64)
    problem, plane = quadratic(matrix, origin), eigen(matrix, origin)
    u, v = grid(plane, points=(columns, rows))
    found = surface(problem, plane, u, v, COMM)
    gradient = matrix @ origin
    slopes, (first, second) = (plane.directions @ gradient).tolist(), plane.info["values"]
    exact = (
        0.5 * float(origin @ gradient)
        + slopes[0] * u + 0.5 * first * u**2
        + (slopes[1] * v + 0.5 * second * v**2)[:, None]
    )  # fmt: skip
    assert found.loss.shape == (rows, columns)
    assert np.allclose(found.loss, exact, atol=1e-12)
    assert found.accuracy is None
    assert found.test_loss is None


def test_the_centre_is_the_checkpoints_loss_and_the_weights_stay_bit_for_bit() -> None:
    problem = digits(test=True)
    train(problem, 20)
    before, state = problem.weights(), problem.state()
    plane = random_plane(problem, before, seed=1, step=20)
    u, v = grid(plane, points=5)
    found = surface(problem, plane, u, v, COMM)
    row, column = (int(np.flatnonzero(x == 0)[0]) for x in (v, u))
    plain, held_out = problem.evaluate(before), problem.evaluate(before, "test")
    assert found.meta["centre_loss"] == pytest.approx(plain["loss"], rel=1e-6)
    assert found.meta["centre_error"] < 1e-6
    assert found.meta["weights_unchanged"] is True
    assert found.loss[row, column] == pytest.approx(plain["loss"], rel=1e-6)
    assert found.accuracy is not None
    assert found.test_loss is not None
    assert found.test_accuracy is not None
    assert found.accuracy[row, column] == plain["accuracy"]
    assert found.test_loss[row, column] == pytest.approx(held_out["loss"], rel=1e-6)
    assert found.test_accuracy[row, column] == held_out["accuracy"]
    assert torch.equal(problem.weights(), before)
    assert all(torch.equal(value, state[name]) for name, value in problem.state().items())


def test_a_convolutional_net_with_batch_norm_keeps_its_statistics() -> None:
    problem = convolutional()
    saved = train(problem, 5)
    state = problem.state()
    plane = random_plane(problem, problem.weights(), seed=1)
    u, v = grid(plane, points=3)
    found = surface(problem, plane, u, v, COMM)
    assert found.meta["centre_error"] < 1e-6
    assert found.meta["not_finite"] == 0
    assert all(torch.equal(value, state[name]) for name, value in problem.state().items())
    problem.load(saved[0].state())
    with pytest.raises(ProblemError, match="BatchNorm statistics"):
        surface(problem, plane, u, v, COMM)


def test_losses_that_are_not_finite_are_nan_and_do_not_stop_the_surface() -> None:
    def batch_loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return torch.log(model.w[0] + batch.mean()) + (model.w[1] ** 2).exp()

    problem = Problem.from_batch_loss(Weights(torch.zeros(3)), batch_loss, [torch.ones(4)])
    plane = Plane("test", 0, ["x", "y"], torch.zeros(3), torch.eye(2, 3))
    u, v = np.array([-2.0, -1.0, 0.0, 1.0]), np.array([0.0, 100.0])
    found = surface(problem, plane, u, v, COMM)
    assert np.isnan(found.loss).tolist() == [[True, True, False, False], [True] * 4]  # log of < 0, log 0, exp(1e4)
    assert found.meta["not_finite"] == 6
    assert found.loss[0, 2] == pytest.approx(1.0)


def test_a_plane_of_another_model_is_refused() -> None:
    with pytest.raises(ProblemError, match="10 weights, the model 2,410"):
        surface(digits(100), eigen(symmetric(10), torch.zeros(10, dtype=torch.float64)), *[np.zeros(1)] * 2, COMM)


# ------------------------------------------------------------------ resuming


@pytest.mark.parametrize("tolerance", [None, 0.02])
def test_a_killed_surface_goes_on_and_ends_with_the_same_bytes(tolerance: float | None) -> None:
    problem = digits(200)
    plane = random_plane(problem, problem.weights())
    u, v = grid(plane, points=(33, 29))
    kept: dict[int, Any] = {}

    def stop_after_three(number: int, block: Any) -> None:
        kept[number] = block
        if len(kept) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        surface(problem, plane, u, v, COMM, tolerance=tolerance, way=Way(0, 4, True), on_block=stop_after_three)
    computed: list[int] = []
    again = surface(
        problem, plane, u, v, COMM, tolerance=tolerance, done=kept, on_block=lambda n, _block: computed.append(n)
    )
    whole = surface(problem, plane, u, v, COMM, tolerance=tolerance, way=Way(0, 4, True))
    assert computed == list(range(3, again.meta["blocks"]))
    assert again.meta["blocks_resumed"] == 3
    assert again.meta["way"] == str(Way(0, 4, True))  # as it began
    assert np.array_equal(again.loss, whole.loss)
    assert np.array_equal(again.accuracy, whole.accuracy)  # type: ignore[arg-type]


def test_blocks_of_another_grid_or_without_a_metric_are_computed_again() -> None:
    problem = digits(100)
    plane = random_plane(problem, problem.weights())
    u, v = grid(plane, points=(4, 6))
    points = [np.arange(i, i + 8) for i in (0, 8, 16)]
    good = {"loss": np.ones(8), "accuracy": np.ones(8)}
    done = {
        0: {**good, "index": points[0]}, 1: {"loss": np.ones(8), "index": points[1]}, 2: {**good, "index": points[0]},
        7: {**good, "index": points[2]},
    }  # fmt: skip
    computed: list[int] = []
    found = surface(problem, plane, u, v, COMM, way=Way(), done=done, on_block=lambda n, _block: computed.append(n))
    assert computed == [1, 2]
    assert (found.loss.ravel()[:8] == 1).all()
    assert not (found.loss.ravel()[8:] == 1).any()


# ------------------------------------------------------------------ the grid


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=8),
    st.integers(3, 40), st.integers(3, 40), st.sampled_from(["eigen", "random", "pca"]),
)  # fmt: skip
def test_a_grid_is_even_holds_the_trajectory_and_hits_zero(
    path: list[tuple[float, float]], columns: int, rows: int, kind: str
) -> None:
    info = {"values": [4.0, -0.5], "scale": 3.0}
    plane = Plane(kind, 0, ["a", "b"], torch.ones(4), torch.eye(2, 4), info)
    try:
        axes = grid(plane, path, (columns, rows))
    except UsageError:
        assert kind == "pca"
        assert not np.array(path).any()
        return
    for axis, own, count in zip(axes, np.array(path).T, (columns, rows), strict=True):
        assert len(axis) == count
        assert (axis == 0).sum() == 1
        assert np.allclose(np.diff(axis), axis[1] - axis[0])
        assert axis[0] <= own.min() + 1e-9
        assert axis[-1] >= own.max() - 1e-9


def test_default_ranges_show_the_curvature_and_filter_units() -> None:
    def plane(kind: str, **info: Any) -> Plane:
        return Plane(kind, 0, ["a", "b"], torch.full((4,), 10.0), torch.eye(2, 4), info)

    u, v = grid(plane("eigen", values=[8.0, -2.0]), points=5)
    assert np.allclose([u[-1], v[-1], u[0]], [0.5, 1.0, -0.5])  # sqrt(2 / 8), sqrt(2 / 2)
    assert np.allclose(grid(plane("eigen", values=[8.0, -2.0]), points=5, rise=4.0)[0], 2 * u)
    assert grid(plane("eigen", values=[1.0, 1e-12]), points=5)[1][-1] == pytest.approx(20.0)  # the weights' norm
    assert grid(plane("random", scale=3.0), points=3)[0].tolist() == [-3, 0, 3]
    with pytest.raises(UsageError, match="at least 3 points"):
        grid(plane("random", scale=3.0), points=2)
