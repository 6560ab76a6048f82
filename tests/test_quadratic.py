"""The quadratic model of a surface: exact on quadratics, the dense Hessian's on networks, equal on any ranks."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact import dense, mlp_problem
from small_problems import convolutional, quadratic, symmetric, train
from torch import nn

from landscape import cli
from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError
from landscape.geometry.derivatives import plane_derivatives, with_derivatives
from landscape.geometry.directions import Plane, eigen_plane, random_plane
from landscape.geometry.surface import grid, surface
from landscape.loss.problem import Problem
from landscape.readings.quadratic import Quadratic, agreement
from landscape.records import Array, Surface
from landscape.stores.run_directory import Run

COMM = Comm()


def model_of(record: Surface) -> Quadratic:
    found = Quadratic.of(record)
    assert found is not None
    return found


def measured(problem: Problem, plane: Plane, points: int = 9) -> Surface:
    return with_derivatives(surface(problem, plane, *grid(plane, points=points), COMM), problem, COMM)


def line(loss: Array, u: Array, curvature: float = 1.0, **meta: Any) -> Surface:
    """A surface that is the same for every v, with the exact model at its origin."""
    v = np.linspace(-4.0, 4.0, 5)
    stored = {"gradient": [0.0, 0.0], "hessian": [[curvature, 0.0], [0.0, 0.0]], "asymmetry": 0.0}
    known = {"centre_loss": 1.0, "dtype": "float64", "quadratic": stored}
    return Surface(0, "random", ["a", "b"], u, v, np.tile(loss, (5, 1)), meta={**known, **meta})


# ------------------------------------------------------------------ the derivatives


def test_on_a_quadratic_problem_the_model_is_the_surface() -> None:
    matrix, origin = symmetric(10), torch.linspace(-1, 1, 10, dtype=torch.float64)
    problem, plane = quadratic(matrix, origin), random_of(10)
    plane = dataclasses.replace(plane, origin=origin)
    found = measured(problem, plane)
    model = model_of(found)
    rows = plane.directions.numpy()
    assert np.allclose(model.gradient, rows @ matrix.numpy() @ origin.numpy(), atol=1e-12)
    assert np.allclose(model.hessian, rows @ matrix.numpy() @ rows.T, atol=1e-12)
    assert model.asymmetry < 1e-14
    agreed = agreement(found, model)
    assert np.abs(agreed.model - found.loss).max() < 1e-10
    assert agreed.difference.max() < 1e-10
    assert agreed.share == 1.0
    assert agreed.to_the_edge
    assert agreed.radius == min(found.u[-1], found.v[-1])


def random_of(size: int) -> Plane:
    rows, _ = torch.linalg.qr(torch.randn(size, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    return Plane("random", 0, ["a", "b"], torch.zeros(size, dtype=torch.float64), rows.T.contiguous(), {"scale": 1.0})


def test_on_an_eigenvector_plane_the_hessian_is_the_diagonal_of_the_eigenvalues() -> None:
    problem = mlp_problem(hidden=4, samples=300, batch_size=128)
    values, vectors = np.linalg.eigh(dense(problem))
    pairs = vectors.T[::-1][:2].copy(), values[::-1][:2].copy()
    plane = eigen_plane(problem.weights(), torch.from_numpy(pairs[0]), pairs[1], np.zeros(2))
    found = plane_derivatives(problem, plane, COMM)
    assert np.allclose(found["hessian"], np.diag(pairs[1]), atol=1e-10 * pairs[1][0])
    vector = problem.weights().requires_grad_(True)
    loss = sum(problem.count(b) * problem.batch_loss(vector, b) for b in problem.batches) / problem.samples
    (slope,) = torch.autograd.grad(loss, vector)
    assert np.allclose(found["gradient"], (plane.directions @ slope).numpy(), atol=1e-13)
    assert found["asymmetry"] < 1e-12


def test_near_the_origin_of_a_network_the_surface_leaves_the_model_with_the_third_power() -> None:
    problem = mlp_problem(hidden=4, samples=200, batch_size=128)
    plane = random_plane(problem, problem.weights(), seed=0)
    errors = []
    for reach in (0.1, 0.05):
        line_ = np.linspace(-reach, reach, 5)
        found = with_derivatives(surface(problem, plane, line_, line_, COMM), problem, COMM)
        errors.append(np.abs(model_of(found).on(found.u, found.v) - found.loss).max())
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)


def test_statistics_of_batch_norm_are_those_of_the_checkpoint_frozen() -> None:
    problem = convolutional()
    saved = train(problem, 5)
    before = problem.state()
    plane = random_plane(problem, problem.weights(), seed=1)
    found = plane_derivatives(problem, plane, COMM)
    exact = plane_derivatives(problem.to(dtype=torch.float64), plane, COMM)
    assert np.allclose(found["hessian"], exact["hessian"], rtol=1e-3, atol=1e-6)
    assert np.allclose(found["gradient"], exact["gradient"], rtol=1e-3, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in problem.state().items())
    problem.load(saved[0].state())
    with pytest.raises(ProblemError, match="BatchNorm statistics"):
        plane_derivatives(problem, plane, COMM)


class Once(torch.autograd.Function):
    """x^2 with a gradient and without a second derivative: torch returns a wrong one and says nothing."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return 2 * grad * ctx.saved_tensors[0]


class Squares(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Once.apply(super().forward(x))


def test_a_model_without_a_second_derivative_keeps_its_surface_and_is_told_why() -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    problem = Problem(Squares(3, 1), nn.functional.mse_loss, (x, x[:, :1]), name="squares")
    found = measured(problem, random_plane(problem, problem.weights(), seed=0), points=3)
    assert np.isfinite(found.loss).all()
    assert list(found.meta["quadratic"]) == ["reason"]
    assert "Squares" in found.meta["quadratic"]["reason"] or "product" in found.meta["quadratic"]["reason"]
    assert Quadratic.of(found) is None


# ------------------------------------------------------------------ where it holds


def test_the_radius_is_that_of_the_closed_form() -> None:
    u = np.linspace(-4, 4, 8001)
    found = line(1 + 0.5 * u**2 + 0.1 * u**3, u)
    agreed = agreement(found, model_of(found))
    assert agreed.radius == pytest.approx(0.25, abs=0.002)  # |c u^3| = 5 % of u^2 / 2 at u = 0.025 / c, c = 0.1
    assert not agreed.to_the_edge
    right = u[agreed.holds[2] & (u > 0)].max()  # there the rise is the larger measured one: c u / (1/2 + c u) = 5 %
    assert right == pytest.approx(0.05 * 0.5 / (0.95 * 0.1), abs=0.002)
    assert agreed.share == pytest.approx((0.25 + right) / 8, abs=0.001)
    within = "within 0.251 units of weight of the origin"
    assert agreed.words == f"holds to 5 % of the rise {within}, at 6 % of the grid points"


def test_a_model_that_fails_next_to_the_origin_is_said_to() -> None:
    u = np.linspace(-4, 4, 9)
    found = line(1 + 0.5 * u**2 + 0.1 * u**3, u)
    agreed = agreement(found, model_of(found))
    assert agreed.words == "misses 5 % of the rise at grid points as near as 1, and holds at 11 % of the grid points"


def test_a_level_set_through_the_origin_is_no_zero_to_divide_by() -> None:
    u = np.linspace(-1, 1, 41)
    v = np.linspace(-1, 1, 41)
    loss = 1 + u + v[:, None] + 1e-3 * (u**3 + 2 * v[:, None] ** 3)  # rises and falls: L - L0 = 0 near u = -v
    stored = {"gradient": [1.0, 1.0], "hessian": [[0.0, 0.0], [0.0, 0.0]], "asymmetry": 0.0}
    found = Surface(0, "random", ["a", "b"], u, v, loss,
                    meta={"centre_loss": 1.0, "dtype": "float64", "quadratic": stored})  # fmt: skip
    agreed = agreement(found, model_of(found))
    assert np.isfinite(agreed.difference).all()
    assert agreed.difference[20, 20] == 0.0
    assert agreed.difference[20].max() < 2e-3


def test_where_the_loss_is_lost_the_model_does_not_hold_and_rounding_is_no_failure() -> None:
    u = np.linspace(-2, 2, 41)
    exact = 1 + 0.5 * u**2
    lost = exact.copy()
    lost[30] = math.nan
    agreed = agreement(line(lost, u), model_of(line(lost, u)))
    assert agreed.radius == pytest.approx(u[30])
    assert agreed.share == pytest.approx(40 / 41)
    rounded = line((1 + 1e-6 * u**2 / 2).astype(np.float32).astype(float), u, curvature=1e-6, dtype="float32")
    assert agreement(rounded, model_of(rounded)).share == 1.0
    strict = dataclasses.replace(rounded, meta={**rounded.meta, "dtype": "float64"})
    assert agreement(strict, model_of(strict)).share < 1.0


@pytest.mark.parametrize(
    "meta",
    [{"quadratic": None}, {"quadratic": {"reason": "no"}}, {"centre_loss": None}, {"centre_loss": math.nan},
     {"quadratic": {"gradient": [None, 0.0], "hessian": [[0.0, 0.0], [0.0, 0.0]], "asymmetry": 0.0}}],
)  # fmt: skip
def test_a_surface_without_a_model_has_none(meta: dict[str, Any]) -> None:
    assert Quadratic.of(line(np.ones(3), np.arange(3.0) - 1, **meta)) is None


# ------------------------------------------------------------------ the job


def test_the_job_stores_the_model_and_adds_it_to_an_older_surface(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "run"
    train_words = ["train", "digits_mlp", "--problem-set", "hidden=4", "--steps", "4", "--checkpoint-every", "4"]
    words = ["surface", str(place), "--plane", "random", "--points", "5"]
    assert cli.main([*train_words, "--out", str(place)]) == 0
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "the quadratic model " in told
    assert "minim" in told
    run, key = Run(place), "surface-random-00000004"
    new = run.read(key, large=True)
    assert Quadratic.of(new) is not None
    old = {name: value for name, value in new.meta.items() if name != "quadratic"}
    run.write(dataclasses.replace(new, meta=old))
    assert cli.main(words) == 0
    again = run.read(key, large=True)
    assert again.meta == new.meta  # its time and command too: nothing else was computed
    assert np.array_equal(again.loss, new.loss)
    assert np.array_equal(again.directions, new.directions)
