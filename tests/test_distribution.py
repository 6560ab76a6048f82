"""The distribution function between the nodes: jumps where eigenvalues are known, nearer to the truth elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from landscape.jobs.benches import _spectra
from landscape.readings import distribution, quadrature
from landscape.records import Spectrum

TRUTH = _spectra.synthetic(800, few=8)
PROBLEM = _spectra.diagonal_problem(TRUTH)


def spectrum_of(nodes, weights, residuals, size=100):
    rows = [np.atleast_2d(np.asarray(a, dtype=float)) for a in (nodes, weights, residuals)]
    return Spectrum(0, "hessian", size, rows[0], rows[1], rows[1], rows[2], {})


def test_it_is_nearer_to_the_truth_than_the_nodes_in_the_mean_of_ten_seeds():
    found = [_spectra.density(PROBLEM, seed, 4, 16) for seed in range(10)]
    ours = np.mean([distribution.distance(s, TRUTH) for s in found])
    assert ours < 0.9 * np.mean([quadrature.wasserstein(s, TRUTH) for s in found])


def test_sampling_alone_is_below_the_error_and_falls_with_the_probes():
    few, many = (_spectra.density(PROBLEM, 0, b, 12, b) for b in (4, 16))
    assert _spectra.sampling_alone(few, TRUTH) < distribution.distance(few, TRUTH)
    assert _spectra.sampling_alone(many, TRUTH) < 0.55 * _spectra.sampling_alone(few, TRUTH)


def test_single_and_converged_multiple_eigenvalues_are_jumps():
    exact = np.concatenate([np.zeros(97), [1.0, 2.0, 5.0]])
    found = spectrum_of([0.0, 1.0, 2.0, 5.0], [0.97, 0.01, 0.01, 0.01], np.zeros(4))
    assert distribution.distance(found, exact) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(
        distribution.distribution(found, [-0.1, 0.5, 1.5, 4.0, 6.0]), [0, 0.97, 0.98, 0.99, 1], atol=1e-12
    )


def test_half_of_a_node_lies_on_either_side_and_what_lies_between_is_linear_in_the_logarithm():
    found = spectrum_of([0.1, 1.0, 10.0], [0.2, 0.4, 0.4], np.ones(3))
    places = [0.1 - 1e-9, 0.1 + 1e-9, 1.0, 10**0.5, 10.0 + 1e-6]
    np.testing.assert_allclose(distribution.distribution(found, places), [0, 0.1, 0.4, 0.6, 1], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(3, 60), count=st.integers(1, 12))
def test_it_rises_from_none_to_all_and_its_distance_is_that_of_many_samples_of_it(seed, size, count):
    draw = np.random.default_rng(seed)
    nodes, weights = np.sort(draw.normal(size=count)), draw.dirichlet(np.ones(count))
    found = spectrum_of(nodes, weights, draw.random(count), size)
    places = np.sort(np.concatenate([draw.uniform(-4, 4, 50), nodes]))
    values = distribution.distribution(found, places)
    assert (np.diff(values) >= -1e-12).all()
    assert 0 <= values[0] <= values[-1] <= 1 + 1e-12
    grid = np.linspace(nodes[0] - 1e-9, nodes[-1] + 1e-9, 20_001)
    steps = distribution.distribution(found, grid)
    mass = np.maximum(np.diff(steps, prepend=0.0), 0.0)  # rounding
    exact = draw.normal(size=size)
    expected = wasserstein_distance(grid, exact, mass)
    assert distribution.distance(found, exact) == pytest.approx(expected, abs=5e-3)
