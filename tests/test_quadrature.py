"""Densities, axes, moments and masses of Gauss rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape import quadrature
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
    assert quadrature.mass_below(spectrum, 1.5) == pytest.approx(0.35)


def test_the_trace_is_size_times_the_first_moment():
    mean, half = quadrature.trace(spectrum_of([[1.0, 3.0], [2.0, 4.0]], [[0.5, 0.5], [0.5, 0.5]], size=10))
    assert mean == pytest.approx(25)
    assert half == pytest.approx(12.706 * np.std([20, 30], ddof=1) / np.sqrt(2))
    assert quadrature.trace(spectrum_of([1.0], [1.0]))[1] == np.inf


def test_a_width_must_be_positive():
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        quadrature.density([1.0], [1.0], [0.0], 0)
