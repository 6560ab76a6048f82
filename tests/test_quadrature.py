"""Densities, axes, moments and masses of Gauss rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from landscape.readings import quadrature
from landscape.records import Spectrum


def spectrum_of(nodes, weights, size=100):
    nodes, weights = np.atleast_2d(np.asarray(nodes, float)), np.atleast_2d(np.asarray(weights, float))
    return Spectrum(0, "hessian", size, nodes, weights, weights, np.zeros_like(nodes))


rules = st.integers(1, 12).flatmap(
    lambda m: st.tuples(
        st.lists(st.floats(-100, 100), min_size=m, max_size=m), st.lists(st.floats(0.01, 1), min_size=m, max_size=m)
    )
)


@settings(max_examples=50, deadline=None)
@given(rules, st.floats(0.01, 5))
def test_a_density_integrates_to_one_and_is_not_negative(rule, width):
    nodes, weights = np.array(rule[0]), np.array(rule[1]) / np.sum(rule[1])
    grid = np.linspace(nodes.min() - 8 * width, nodes.max() + 8 * width, 20_001)
    heights = quadrature.density(nodes, weights, grid, width)
    step = grid[1] - grid[0]
    assert (heights >= 0).all()
    if step < width / 2:
        assert heights.sum() * step == pytest.approx(1, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(rules)
def test_the_asinh_density_integrates_to_one_over_u(rule):
    spectrum = spectrum_of(rule[0], np.array(rule[1]) / np.sum(rule[1]))
    grid = np.linspace(-15, 15, 6001)
    assert quadrature.asinh_density(spectrum, grid).sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-6)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1))
def test_asinh_and_back(value, lambda0):
    back = quadrature.from_asinh(quadrature.to_asinh(value, lambda0), lambda0)
    assert back == pytest.approx(value, rel=1e-9, abs=1e-12)


@given(st.floats(-1e4, 1e4), st.floats(0, 2e4))
def test_ticks_are_ascending_within_the_range_and_few(low, width):
    values, texts = quadrature.asinh_ticks(low, low + width)
    assert values == sorted(values)
    assert all(low <= v <= low + width for v in values)
    assert len(values) == len(texts) <= 11


def test_padded_rules_count_nothing_twice():
    spectrum = spectrum_of([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]], [[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    nodes, weights = quadrature.measure(spectrum)
    assert weights.sum() == pytest.approx(1)
    assert np.isfinite(nodes).all()
    np.testing.assert_allclose(quadrature.moments(spectrum, 1), [1.5, 2.3])
    np.testing.assert_allclose(quadrature.moments(spectrum, 0), 1)
    assert weights[nodes < 1.5].sum() == pytest.approx(0.35)


def test_the_trace_is_size_times_the_first_moment():
    mean, half = quadrature.trace(spectrum_of([[1.0, 3.0], [2.0, 4.0]], [[0.5, 0.5], [0.5, 0.5]], size=10))
    assert mean == pytest.approx(25)
    assert half == pytest.approx(12.706 * np.std([20, 30], ddof=1) / np.sqrt(2))
    assert quadrature.trace(spectrum_of([1.0], [1.0]))[1] == np.inf


def test_a_width_must_be_positive():
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        quadrature.density([1.0], [1.0], [0.0], 0)


def test_single_eigenvalues_stay_sharp_and_samples_of_a_continuum_reach_their_neighbours():
    # 50 eigenvalues: two single ones, and a bulk of which three unresolved nodes are samples
    nodes = np.array([[-0.05, 0.0, 0.05, 1.0, 2.0]])
    weights = np.array([[0.4, 0.4, 0.16, 0.02, 0.02]])
    residuals = np.array([[0.05, 0.05, 0.05, 1e-9, 0.3]])
    spectrum = Spectrum(0, "hessian", 50, nodes, weights, weights, residuals)
    widths = quadrature.kernel_widths(spectrum, 1e-3, 0.1)
    np.testing.assert_allclose(widths[3:], 0.1)
    assert (widths[:3] >= 1.0).all()
    null = Spectrum(0, "hessian", 50, nodes, weights, weights, np.where(nodes == 0, 1e-9, residuals))
    assert quadrature.kernel_widths(null, 1e-3, 0.1)[1] == pytest.approx(0.1)  # a converged null space is a line


def test_probes_that_share_nodes_are_one_measure():
    spectrum = spectrum_of([[1.0, 2.0], [1.0, 2.0]], [[0.4, 0.6], [0.2, 0.8]])
    nodes, weights = quadrature.measure(spectrum)
    np.testing.assert_allclose(nodes, [1, 2])
    np.testing.assert_allclose(weights, [0.3, 0.7])


@settings(max_examples=50, deadline=None)
@given(rules, st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_the_wasserstein_distance_is_scipys(rule, eigenvalues):
    weights = np.array(rule[1]) / np.sum(rule[1])
    expected = wasserstein_distance(rule[0], eigenvalues, weights)
    assert quadrature.wasserstein(spectrum_of(rule[0], weights), eigenvalues) == pytest.approx(expected, abs=1e-9)
