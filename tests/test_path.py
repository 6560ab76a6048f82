"""Paths: closed forms on quadratics, exact ends, recomputed statistics, and points that survive a kill."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import Weights, convolutional, digits, quadratic, symmetric, train

from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError, UsageError
from landscape.geometry.curve import Curve, straight
from landscape.geometry.path import compare_models, follow
from landscape.loss.batch_statistics import recompute_statistics
from landscape.loss.problem import Problem
from landscape.readings import overlaps
from landscape.records import Eigenpairs, Spectrum

COMM = Comm()
T = np.linspace(0, 1, 11)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_the_path_over_a_quadratic_and_its_barrier_have_a_closed_form(seed: int) -> None:
    matrix = symmetric(7, seed)
    a, b = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    path = follow(quadratic(matrix), straight(a, b), T, COMM)
    way = b - a
    bend = float(way @ matrix @ way)  # loss(t) - chord(t) = -1/2 t (1 - t) way^T A way
    exact = [0.5 * float((a + t * way) @ matrix @ (a + t * way)) for t in T]
    assert np.allclose(path.loss, exact, atol=1e-11)
    assert path.barrier == pytest.approx(max(0.0, -bend / 8), abs=1e-11)
    assert path.length == pytest.approx(float(torch.linalg.norm(way)), rel=1e-14)


def test_the_barrier_between_two_wells_is_the_hill_between_them() -> None:
    def batch_loss(model: Any, batch: torch.Tensor) -> torch.Tensor:
        return (model.w[0] ** 2 - batch.mean()) ** 2 + model.w[1] ** 2

    problem = Problem.from_batch_loss(Weights(torch.zeros(2).double()), batch_loss, [torch.ones(3).double()])
    path = follow(problem, straight(*torch.tensor([[-1.0, 0], [1.0, 0]]).double()), T, COMM)
    assert path.barrier == pytest.approx(1.0)
    assert path.meta["barrier_t"] == 0.5
    assert np.allclose(path.loss, ((2 * T - 1) ** 2 - 1) ** 2)


def test_the_ends_are_the_checkpoints_and_nothing_is_moved() -> None:
    problem = digits(200, test=True)
    a = problem.weights()
    train(problem, 20)
    b = problem.weights()
    path = follow(problem, straight(a, b), np.array([-0.1, 0, 0.5, 1, 1.1]), COMM, run_a="sgd", run_b="adam", step_b=20)
    for index, vector in ((1, a), (3, b)):
        plain, held_out = problem.evaluate(vector), problem.evaluate(vector, "test")
        assert path.loss[index] == pytest.approx(plain["loss"], rel=1e-6)
        assert path.accuracy is not None
        assert path.accuracy[index] == plain["accuracy"]
        assert path.test_loss is not None
        assert path.test_loss[index] == pytest.approx(held_out["loss"], rel=1e-6)
    assert torch.equal(problem.weights(), b)
    assert path.meta["weights_unchanged"] is True
    assert (path.run_a, path.run_b, path.step_a, path.step_b, path.shape) == ("sgd", "adam", 0, 20, "linear")
    assert path.spectra == []


# ------------------------------------------------------------------ BatchNorm


def test_recomputed_statistics_are_those_of_the_data_in_one_pass() -> None:
    problem = convolutional()
    train(problem, 10)
    norm: Any = problem.model[1]
    recompute_statistics(problem, problem.weights())
    with torch.no_grad():
        outputs = [problem.model[0](inputs) for inputs, _targets in problem.batches]  # 64, 64, 64 and 8 samples
    sizes = torch.tensor([len(o) for o in outputs], dtype=torch.float32)
    means = torch.stack([o.mean((0, 2, 3)) for o in outputs])
    variances = torch.stack([o.transpose(0, 1).flatten(1).var(1) for o in outputs])
    assert torch.allclose(norm.running_mean, (sizes @ means) / sizes.sum(), atol=1e-6)
    assert torch.allclose(norm.running_var, (sizes @ variances) / sizes.sum(), rtol=1e-5)
    assert norm.momentum == 0.1
    assert not any(m.training for m in problem.model.modules())


def test_statistics_are_recomputed_at_every_point_and_put_back() -> None:
    problem = convolutional()
    a = problem.weights()
    train(problem, 20)
    b, before = problem.weights(), problem.state()
    path = follow(problem, straight(a, b), np.array([0.0, 0.5, 1.0]), COMM)
    assert all(torch.equal(value, before[name]) for name, value in problem.state().items())
    for t, loss in zip((0.0, 0.5, 1.0), path.loss, strict=True):
        vector = ((1 - t) * a.double() + t * b.double()).float()
        recompute_statistics(problem, vector)
        assert loss == problem.evaluate(vector)["loss"]
    assert path.meta["batch_norm"].startswith("recomputed")


# ------------------------------------------------------------------ spectra and resuming


class Dense:
    """The exact spectrum of a quadratic, and how often it was asked for."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix, self.calls = matrix, list[int]()

    def __call__(self, vector: torch.Tensor, index: int, comm: Comm) -> tuple[Spectrum, Eigenpairs]:
        self.calls.append(index)
        values, vectors = np.linalg.eigh(self.matrix.numpy() * (1 + index))
        size = len(values)
        spread = np.full((1, size), 1 / size)
        meta = {"seed": 3, "norm": np.float64(values[-1]), "loss": float("nan")}
        spectrum = Spectrum(index, "hessian", size, values[None], spread, spread, 0 * spread, meta)
        return spectrum, Eigenpairs(
            index, "hessian", size, values[::-1][:2], np.zeros(2), values[:1], np.zeros(1), vectors.T[:3], meta
        )


def test_every_point_carries_its_spectrum() -> None:
    matrix, size = symmetric(6), 6
    ends = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    path = follow(quadratic(matrix), straight(*ends), np.linspace(0, 1, 3), COMM, spectrum_at=Dense(matrix))
    assert [s.step for s in path.spectra] == [0, 1, 2]
    for i, (spectrum, pairs) in enumerate(zip(path.spectra, path.eigenpairs, strict=True)):
        exact = np.linalg.eigvalsh(matrix.numpy()) * (1 + i)
        assert np.allclose(spectrum.nodes[0], exact)
        assert np.allclose(pairs.values, exact[::-1][:2])
        assert pairs.vectors is None
        assert spectrum.meta["norm"] == pytest.approx(exact[-1])


def test_a_killed_path_goes_on_without_repeating_a_point() -> None:
    matrix, size = symmetric(6), 6
    problem = quadratic(matrix)
    ends = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    t = np.linspace(0, 1, 5)
    kept: dict[int, dict[str, Any]] = {}

    def stop_in_the_third_spectrum(index: int, point: dict[str, Any]) -> None:
        kept[index] = point
        if index == 2 and "spectrum/json" in point:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(problem, straight(*ends), t, COMM, spectrum_at=Dense(matrix), on_point=stop_in_the_third_spectrum)
    assert set(kept) == {0, 1, 2, 3, 4}
    rest, told = Dense(matrix), list[int]()
    again = follow(
        problem, straight(*ends), t, COMM, spectrum_at=rest, done=kept, on_point=lambda index, _: told.append(index)
    )
    whole = follow(problem, straight(*ends), t, COMM, spectrum_at=Dense(matrix))
    assert rest.calls == told == [3]  # both ends come first
    assert np.array_equal(again.loss, whole.loss)
    for one, other in zip(again.spectra, whole.spectra, strict=True):
        assert np.array_equal(one.nodes, other.nodes)


# ------------------------------------------------------------------ eigenvectors along the path


def turning(vector: torch.Tensor, index: int, comm: Comm) -> tuple[Spectrum, Eigenpairs]:
    """Eigenvalues 5, 5, 1 whose double eigenspace is given by a basis that turns, and tips over from A to B."""
    angle, tip = 1.3 * index, float(vector[0]) * np.pi / 2  # vector[0] is t
    c, s = np.cos(angle), np.sin(angle)
    plane = np.array([[np.cos(tip), 0, np.sin(tip), 0], [0, 1, 0, 0]])
    vectors = np.concatenate([np.array([[c, s], [-s, c]]) @ plane, [[-np.sin(tip), 0, np.cos(tip), 0]]])
    empty = np.zeros((1, 1))
    spectrum = Spectrum(index, "hessian", 4, empty, empty + 1, empty + 1, empty)
    pairs = np.array([5.0, 5.0, 1.0]), np.full(3, 1e-9), np.empty(0), np.empty(0)
    return spectrum, Eigenpairs(index, "hessian", 4, *pairs, vectors)


@pytest.mark.parametrize("resumed", [False, True])
def test_overlaps_with_the_ends_are_those_of_the_spaces_whatever_basis_spans_them(resumed: bool) -> None:
    problem, t = quadratic(symmetric(4)), np.linspace(0, 1, 5)
    line = straight(torch.zeros(4).double(), torch.tensor([1.0, 0, 0, 0]).double())
    kept: dict[int, dict[str, Any]] = {}

    def keep(index: int, point: dict[str, Any]) -> None:
        kept[index] = point
        if index == 2 and "spectrum/json" in point:
            raise KeyboardInterrupt

    if resumed:
        with pytest.raises(KeyboardInterrupt):
            follow(problem, line, t, COMM, spectrum_at=turning, on_point=keep)
    path = follow(problem, line, t, COMM, spectrum_at=turning, done=kept)
    assert list(overlaps.along(path)) == [2]  # one of two equal eigenvalues has no vector of its own
    with_a, with_b = overlaps.along(path)[2]
    angle = t * np.pi / 2
    np.testing.assert_allclose(with_a, (1 + np.cos(angle) ** 2) / 2, atol=1e-12)
    np.testing.assert_allclose(with_b, (1 + np.sin(angle) ** 2) / 2, atol=1e-12)
    assert path.overlap_a is not None
    assert path.overlap_a.shape == (5, 3, 3)
    assert path.overlap_next is not None
    np.testing.assert_allclose(path.overlap_next[:, 2, 2], np.cos(np.pi / 8), atol=1e-12)  # tipped by so much a point


def test_a_sketch_of_long_vectors_keeps_their_inner_products_and_short_ones_are_whole() -> None:
    vectors = np.random.default_rng(1).standard_normal((3, 60_000))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mixed = np.stack([vectors[0], 0.6 * vectors[0] + 0.8 * vectors[1], vectors[2]]).astype(np.float32)
    (found,) = overlaps.consecutive([overlaps.sketched(v) for v in (vectors, mixed)])  # type: ignore[misc]
    assert np.abs(found - vectors @ mixed.T).max() < 5 * np.sqrt(2 / overlaps.WIDE)
    np.testing.assert_array_equal(overlaps.sketched(vectors[:, :100]), vectors[:, :100])
    assert overlaps.consecutive([found, None]) is None


def test_other_curves_are_measured_beside_the_path() -> None:
    matrix = symmetric(5)
    a, b, c = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    path = follow(quadratic(matrix), Curve("bezier", torch.stack([a, c, b])), T, COMM, beside={
        "straight_loss": straight(a, b)})  # fmt: skip
    alone = follow(quadratic(matrix), straight(a, b), T, COMM)
    np.testing.assert_array_equal(path.straight_loss, alone.loss)
    assert path.meta["straight_barrier"] == alone.barrier
    assert path.meta["straight_length"] == path.meta["distance"] == alone.length < path.length
    assert (path.loss[0], path.loss[-1]) == (alone.loss[0], alone.loss[-1])
    with pytest.raises(UsageError, match=r"t must lie in \[0, 1\]"):
        follow(quadratic(matrix), Curve("bezier", torch.stack([a, c, b])), np.array([-1.0, 0, 1]), COMM)


# ------------------------------------------------------------------ bad input


def test_two_architectures_are_named_with_their_first_difference() -> None:
    a, b = digits(100).state(), convolutional().state()
    with pytest.raises(ProblemError) as caught:
        compare_models(a, b, "runs/sgd step 300", "runs/adam step 300")
    text = str(caught.value)
    assert "runs/sgd step 300 has 4 tensors, 2,410 values" in text
    assert "First difference: 0.weight has shape (32, 64) in A and (6, 1, 3, 3) in B" in text
    with pytest.raises(ProblemError, match=r"First difference: 2\.bias only in A"):
        compare_models(a, {k: v for k, v in a.items() if k != "2.bias"})
    with pytest.raises(ProblemError, match=r"First difference: extra only in B"):
        compare_models(a, {**a, "extra": torch.zeros(1)})
    compare_models(a, a)


def test_ends_of_another_size_or_not_finite_are_refused() -> None:
    problem = digits(100)
    good = problem.weights()
    with pytest.raises(ProblemError, match="A has 5 weights, the model of the problem 2,410"):
        follow(problem, straight(torch.zeros(5), torch.zeros(5)), T, COMM)
    with pytest.raises(ProblemError, match="A holds NaN"):
        follow(problem, straight(good * torch.nan, good), T, COMM)


@pytest.mark.parametrize("t", [[0.0, 0.5], [0.5, 1.0], [0.0, 1.0, 0.5], [[0.0, 1.0]]])
def test_t_must_ascend_and_hold_both_ends(t: Any) -> None:
    problem = digits(100)
    with pytest.raises(UsageError, match="t must ascend"):
        follow(problem, straight(problem.weights(), problem.weights()), np.array(t), COMM)
