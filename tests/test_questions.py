"""What the pages answer, as numbers: sharpening, outliers, first crossings, means over seeds, moving subspaces."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import softmax_run
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.learning.training import Norms
from landscape.readings import events, outliers, replicates, sharpening, subspaces
from landscape.stores.run_directory import Run


@given(st.floats(-0.01, 0.01), st.integers(3, 40))
@settings(max_examples=20, deadline=None)
def test_the_slope_of_an_exponential_is_its_rate(rate: float, count: int) -> None:
    steps = np.arange(count) * 10
    found = sharpening.slope(steps, 2 * np.exp(rate * steps))
    assert found.per_step == pytest.approx(rate, abs=1e-12)
    assert found.error == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_outliers_are_counted_where_sparse_eigenvalues_end_and_dense_ones_begin(count: int) -> None:
    bulk = np.exp(-0.02 * np.arange(30))
    top = np.exp(0.3 * np.arange(1, count + 1))[::-1]
    found = outliers.outliers(np.concatenate([top, bulk]))
    assert found is not None
    assert found.count == count
    assert found.edge == 1.0
    assert found.low <= count <= found.high
    assert outliers.outliers(1e6 * np.concatenate([top, bulk])).count == count  # type: ignore[union-attr]


def test_an_even_spectrum_has_no_outliers_and_a_few_eigenvalues_say_nothing() -> None:
    assert outliers.outliers(np.exp(-0.1 * np.arange(40))) is None
    assert outliers.outliers(np.array([10.0, 1.0, 0.99])) is None
    generator = np.random.default_rng(0)
    chance = [outliers.outliers(np.exp(-np.cumsum(generator.exponential(size=40)))) for _ in range(300)]
    assert np.mean([c is not None for c in chance]) < 0.1


def test_eigenvalues_come_from_the_density_only_while_nodes_are_single() -> None:
    spectrum, pairs = softmax_run.spectrum(60, softmax_run.trained()[1][-1])
    exact = np.sort(spectrum.nodes[0])[::-1]
    positive = exact[exact > 1e-12]
    np.testing.assert_allclose(outliers.largest(pairs, spectrum)[: len(positive)], positive)
    heavy = np.where(spectrum.nodes == exact[6], 2 / spectrum.size, spectrum.weights)
    np.testing.assert_allclose(outliers.largest(pairs, dataclasses.replace(spectrum, weights=heavy)), exact[:6])
    np.testing.assert_allclose(outliers.largest(pairs), pairs.values)


# ------------------------------------------------------------------ events


def test_a_spike_leaves_the_band_of_the_steps_before_it_and_noise_does_not() -> None:
    y = np.random.default_rng(0).normal(size=2000)
    upper = events.band(y)
    assert np.isnan(upper[:8]).all()
    assert (y[8:] > upper[8:]).mean() < 0.005
    y[1500:1503] = 30
    found = events.first("it jumped", np.arange(2000), y, events.band(y), (1400, 1600))
    assert found == events.Event("it jumped", 1500, 1499)
    assert events.first("it jumped", np.arange(2000), y, events.band(y), (1501, 1600)) is None


def test_the_band_is_that_of_a_direct_median() -> None:
    y = np.random.default_rng(1).exponential(size=150)
    middle = np.median(y[20:120])
    direct = middle + 5 * 1.4826 * np.median(np.abs(y[20:120] - middle))
    assert events.band(y)[120] == pytest.approx(direct)


def test_an_order_is_claimed_only_where_measurements_do_not_overlap() -> None:
    update, loss = events.Event("the update norm rose", 3982, 3981), events.Event("the loss rose", 3991, 3990)
    fine = events.Event("λmax passed 2/η", 3988, 3986)
    coarse = events.Event("λmax passed 2/η", 4000, 3500)
    assert events.ordered([loss, update, fine])
    assert not events.ordered([loss, update, coarse])
    assert not events.ordered([events.Event("a", 5, 4), events.Event("b", 5, 4)])
    assert events.sentence([loss, update]) == "the update norm rose at step 3,982, the loss rose at step 3,991"
    assert events.sentence([coarse]) == "λmax passed 2/η between steps 3,500 and 4,000"


# ------------------------------------------------------------------ runs


def test_runs_that_differ_in_their_seed_alone_are_one_group() -> None:
    base = softmax_run.info()
    other = dataclasses.replace(base, settings={**base.settings, "lr": 0.1})
    infos = [base, other, dataclasses.replace(base, seed=1, name="again")]
    assert replicates.groups(infos) == [[0, 2], [1]]
    assert replicates.differences(infos) == {"lr": [0.5, 0.1, 0.5], "seed": [0, 0, 1]}


def test_the_interval_over_seeds_is_students() -> None:
    from scipy import stats

    values = [1.0, 2.0, 4.0, np.nan]
    found = replicates.mean(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values[:3]), scale=stats.sem(values[:3]))
    assert found.value == pytest.approx(7 / 3)
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))
    assert replicates.mean([3.0]).half == np.inf


# ------------------------------------------------------------------ subspaces


def test_overlaps_of_all_checkpoints_are_those_of_dense_projectors(tmp_path: Path) -> None:
    run = softmax_run.full_run(tmp_path / "run")
    found = subspaces.overlaps(run, "hessian", 3)
    projectors = []
    for weights in softmax_run.trained()[1]:
        top = np.linalg.eigh(softmax_run.hessian(weights))[1][:, -3:]
        projectors.append(top @ top.T)
    exact = np.array([[np.trace(p @ q) / 3 for q in projectors] for p in projectors])
    np.testing.assert_allclose(found.matrix, exact, atol=1e-10)
    assert found.steps.tolist() == list(softmax_run.trained()[0])
    assert subspaces.overlaps(run, "hessian", 3, most=3).steps.tolist() == [0, 30, 60]
    with pytest.raises(subspaces.ProblemError, match="no two checkpoints with 5"):
        subspaces.overlaps(Run(tmp_path / "run"), "hessian", 5)


def test_the_gradients_share_is_the_sum_of_squared_cosines() -> None:
    weights = softmax_run.trained()[1][2]
    _, pairs = softmax_run.spectrum(20, weights)
    slope = softmax_run.gradient(weights)
    assert pairs.vectors is not None
    cosines = pairs.vectors @ slope / np.linalg.norm(slope)
    known = dataclasses.replace(pairs, meta={"gradient": {"norm": 1.0, "cosines": cosines.tolist()}})
    steps, shares = subspaces.gradient_shares([pairs, known], 2)
    top = np.linalg.eigh(softmax_run.hessian(weights))[1][:, -2:]
    assert steps.tolist() == [20]
    assert shares[0] == pytest.approx(np.square(top.T @ slope).sum() / (slope @ slope))


def test_norms_are_those_of_gradient_and_update_of_a_step() -> None:
    model = torch.nn.Linear(3, 2)
    measure = Norms(model)
    model(torch.ones(4, 3)).square().sum().backward()
    slope = torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    found = measure()
    assert found["grad_norm"] == pytest.approx(float(slope.norm()), rel=1e-6)
    assert found["update_norm"] == pytest.approx(0.1 * float(slope.norm()), rel=1e-5)
    assert measure()["update_norm"] == 0
