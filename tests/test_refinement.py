"""From coarse to fine: a fraction of the points, an error within the tolerance, and an estimate that is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_problems import convolutional, digits, train

from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError, UsageError
from landscape.geometry.directions import Plane, random_plane
from landscape.geometry.meter import Way
from landscape.geometry.refinement import Float64, Grid, filled, levels, places, refine
from landscape.geometry.surface import POLICIES, RECOMPUTED, surface
from landscape.loss.batch_statistics import recompute_statistics
from landscape.loss.problem import Problem

COMM = Comm()
FUNCTIONS: dict[str, Callable[[Float64, Float64], Float64]] = {
    "bowl": lambda u, v: 0.1 + 3 * u**2 + 30 * v**2,
    "waves": lambda u, v: 1 + u**2 + 0.3 * np.sin(9 * u) * np.cos(7 * v),
    "valley": lambda u, v: 0.01 + (1 - 2 * u) ** 2 + 4 * (v - 2 * u**2) ** 2,
    "kink": lambda u, v: 0.2 + np.abs(u + 0.3 * v) + 2 * np.maximum(v - 0.2, 0),
    "six orders": lambda u, v: np.exp(7 * (u**2 + v**2)),
    "signed": lambda u, v: u**3 - v,
}


def measured(f: Callable[[Float64, Float64], Float64], columns: int, rows: int, tolerance: float | None) -> Grid:
    grid = Grid(np.linspace(-1, 1.1, columns), np.linspace(-0.9, 1, rows))
    full = f(*np.meshgrid(grid.u, grid.v))
    for index in refine(grid, tolerance):
        assert not grid.measured.flat[index].any(), "no point is measured twice"
        grid.put(index, full.flat[index])
    return grid


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_quarter_of_the_points_gives_the_grid_within_the_tolerance(name: str) -> None:
    grid = measured(FUNCTIONS[name], 201, 161, 0.01)
    exact = FUNCTIONS[name](*np.meshgrid(grid.u, grid.v))
    error = np.abs(filled(grid.u, grid.v, grid.loss, grid.measured) - exact) / np.ptp(exact)
    assert grid.measured.mean() <= 0.25
    assert error.max() <= 0.01
    assert (error[grid.measured] == 0).all()
    assert max(grid.held_out) <= 0.01
    assert (grid.expected[grid.measured] == 0).all()
    assert (grid.expected <= 0.01).all()


def test_without_a_tolerance_every_point_is_measured_coarse_ones_first() -> None:
    grid = Grid(np.arange(51.0), np.arange(40.0))
    steps = []
    for index in refine(grid, None):
        grid.put(index, np.ones(len(index)))
        steps.append(len(index))
    assert grid.measured.all()
    assert sum(steps) == 51 * 40
    assert steps == sorted(steps)
    assert steps[0] / grid.measured.size < 0.11
    assert levels(grid.u, grid.v) == [4, 2, 1]
    assert places(10, 4).tolist() == [0, 4, 8, 9]


def test_where_the_loss_diverges_the_edge_is_measured_and_nothing_is_made_up() -> None:
    def cut(u: Float64, v: Float64) -> Float64:
        return np.where(u + v > 0.8, np.nan, 0.1 + u**2 + v**2)

    grid = measured(cut, 101, 101, 0.01)
    exact = cut(*np.meshgrid(grid.u, grid.v))
    found = filled(grid.u, grid.v, grid.loss, grid.measured)
    assert grid.measured.mean() < 0.3
    assert np.array_equal(np.isnan(found), np.isnan(exact))
    assert np.nanmax(np.abs(found - exact)) <= 0.01 * np.ptp(exact[np.isfinite(exact)])


def test_a_narrow_peak_between_the_first_points_is_found_by_those_held_out() -> None:
    grid = measured(lambda u, v: 1 + 5 * np.exp(-200 * ((u - 0.33) ** 2 + (v + 0.21) ** 2)), 201, 201, 0.01)
    found = filled(grid.u, grid.v, grid.loss, grid.measured)
    assert found.max() == pytest.approx(6, rel=0.01)
    assert grid.measured.mean() < 0.15


def test_a_surface_that_is_nowhere_finite_ends() -> None:
    grid = measured(lambda u, v: np.full_like(u, np.nan), 51, 51, 0.01)
    assert np.isnan(filled(grid.u, grid.v, grid.loss, grid.measured)).all()


# ------------------------------------------------------------------ surfaces


def test_the_digits_network_needs_a_quarter_of_its_points() -> None:
    problem = digits(200, test=True)
    problem.metrics = {"largest": lambda outputs, _targets: outputs.amax(dim=1).mean()}
    train(problem, 60)
    plane = random_plane(problem, problem.weights(), seed=2)
    u, v = (np.linspace(-x, x, 101) * plane.info["scale"] for x in (1.0, 1.2))
    way = Way(0, 32, True, True)
    whole = surface(problem, plane, u, v, COMM, way=way)
    found = surface(problem, plane, u, v, COMM, way=way, tolerance=0.01)
    assert whole.measured is whole.error is None
    assert found.measured is not None
    assert found.error is not None
    assert found.metrics is not None
    assert whole.metrics is not None
    assert found.meta["points_measured"] == found.measured.sum() <= 0.25 * whole.loss.size
    for name in ("loss", "test_loss"):
        one, other = getattr(found, name), getattr(whole, name)
        assert np.abs(one - other).max() <= 0.01 * np.ptp(other), name
    known = found.measured == 1
    np.testing.assert_allclose(found.loss[known], whole.loss[known], rtol=1e-5)
    assert found.metric_names == ["largest", "test_largest"]
    assert np.abs(found.metrics - whole.metrics).max() <= 0.02 * np.ptp(whole.metrics)
    assert (found.error[known] == 0).all()
    assert 0 < found.error.max() <= 0.01 * np.ptp(whole.loss)
    assert found.meta["held_out"] > 20
    assert found.meta["held_out_error"] <= 0.01


def test_a_long_surface_shows_a_coarse_picture_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscape.geometry.surface.PICTURE_AFTER", 0.0)
    problem = digits(100)
    plane = random_plane(problem, problem.weights())
    axis = np.linspace(-1, 1, 45)
    pictures: list[Any] = []
    whole = surface(problem, plane, axis, axis, COMM, way=Way(0, 16), on_picture=pictures.append)
    first = pictures[0]
    assert first.meta["partial"] is True
    assert first.measured.mean() < 0.1
    assert np.isfinite(first.loss).all()
    assert np.abs(first.loss - whole.loss).max() < 0.2 * np.ptp(whole.loss)
    assert "partial" not in whole.meta
    assert whole.measured is None


@pytest.mark.parametrize("settings", [{"tolerance": 0.0}, {"tolerance": float("nan")}, {"batch_norm": "running"}])
def test_settings_that_say_nothing_are_refused(settings: dict[str, Any]) -> None:
    problem = digits(100)
    plane = random_plane(problem, problem.weights())
    with pytest.raises(UsageError):
        surface(problem, plane, np.arange(3.0), np.arange(3.0), COMM, **settings)


# ------------------------------------------------------------------ BatchNorm and metrics


def test_recomputed_statistics_are_those_of_the_point_and_frozen_ones_of_the_origin() -> None:
    problem = convolutional()
    train(problem, 5)
    state, before = problem.state(), problem.weights()
    plane = random_plane(problem, before, seed=1)
    axis = np.array([-2.0, 0.0, 1.0])
    frozen = surface(problem, plane, axis, axis, COMM)
    recomputed = surface(problem, plane, axis, axis, COMM, batch_norm=RECOMPUTED)
    assert all(torch.equal(value, state[name]) for name, value in problem.state().items())
    assert recomputed.meta["batch_norm"] == POLICIES[RECOMPUTED] != frozen.meta["batch_norm"]
    assert frozen.loss[0, 2] == pytest.approx(problem.evaluate(plane.point(1.0, -2.0))["loss"], rel=1e-5)
    recompute_statistics(problem, plane.point(1.0, -2.0))
    own = problem.evaluate(plane.point(1.0, -2.0))["loss"]
    assert recomputed.loss[0, 2] == pytest.approx(own, rel=1e-6)
    assert abs(frozen.loss[0, 2] - own) > 1e-3


def test_a_model_without_statistics_has_no_policy() -> None:
    problem = convolutional(statistics=False)
    plane = Plane("test", 0, ["x", "y"], problem.weights(), torch.eye(2, problem.size))
    found = surface(problem, plane, np.arange(3.0), np.arange(3.0), COMM, batch_norm=RECOMPUTED)
    assert found.meta["batch_norm"] == "none"


@pytest.mark.parametrize("name", ["loss", "test_margin", "two words", "accuracy"])
def test_a_metric_needs_a_name_of_its_own(name: str) -> None:
    data = torch.randn(4, 2), torch.randn(4, 1)
    with pytest.raises(ProblemError, match="a metric cannot be named"):
        Problem(torch.nn.Linear(2, 1), torch.nn.functional.mse_loss, data, metrics={name: lambda x, y: x.mean()})


def test_metrics_of_a_model_with_its_own_loss_see_the_batch() -> None:
    def batch_loss(model: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = model(batch)
        return outputs.mean(), outputs

    batches = [torch.randn(3, 2), torch.randn(5, 2)]
    metrics = {"product": lambda outputs, batch: (outputs * batch[:, :1]).mean()}
    problem = Problem.from_batch_loss(torch.nn.Linear(2, 1), batch_loss, batches, metrics=metrics)
    everything = torch.cat(batches)
    exact = float((problem.model(everything) * everything[:, :1]).mean())
    assert problem.evaluate(problem.weights())["product"] == pytest.approx(exact, rel=1e-5)
