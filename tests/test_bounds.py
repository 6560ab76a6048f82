"""Intervals hold the truth as often as they say, and inequalities always."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from exact import mlp_eigenvalues, mlp_problem

from landscape.distributed.parallel import Comm
from landscape.engine.checks import noise_level
from landscape.engine.spectrum import spectrum_at
from landscape.jobs.benches import _coverage, _spectra
from landscape.krylov.probes import probes as probes_named
from landscape.readings import bounds, quadrature, rules, smoothing

TRUTH = _spectra.synthetic(400)


def spectrum(seed=0, probes=4, iterations=12, block=4, eigenvalues=TRUTH):
    return _spectra.density(_spectra.diagonal_problem(eigenvalues), seed, probes, iterations, block)


def test_every_interval_holds_the_truth_in_most_of_forty_seeds():
    rows = _coverage.measure(TRUTH, range(40), probes=4, iterations=12, block=4)
    for name, (covered, half) in rows.items():
        assert covered >= 0.85, name
        assert np.isfinite(half), name


def test_the_known_variance_gives_a_narrower_interval_than_three_degrees_of_freedom():
    rows = _coverage.measure(TRUTH, range(20), probes=4, iterations=12, block=4)
    assert rows["trace"][1] < 0.8 * rows["trace, t over probes"][1]


@pytest.mark.parametrize(("probes", "block"), [(4, 4), (3, 1), (6, 4), (1, 1)])
def test_the_stieltjes_bounds_hold_for_the_probes_own_measure(probes, block):
    # Take the sampling error away: the probes' own distribution function, from the exact eigenvectors.
    n, places = len(TRUTH), np.quantile(TRUTH, np.linspace(0.02, 0.98, 25)) + 1e-7
    found = spectrum(3, probes, 12, block)
    plain = dataclasses.replace(found, weights=found.gauss_weights)  # nothing taken out
    first = 0
    for rest in bounds.spaces(plain):
        starts = probes_named(range(first, first + rest.probes), n, 3).numpy()
        first += rest.probes
        values, vectors = np.linalg.eigh(starts.T @ starts)
        own = np.square(starts @ (vectors / np.sqrt(values)) @ vectors.T).mean(axis=1)  # (n,)
        exact = np.array([own[x > TRUTH].sum() for x in places])
        low, high = bounds.stieltjes(rest, places)
        assert (low <= exact + 1e-9).all()
        assert (exact <= high + 1e-9).all()
        assert (high - low).mean() < 0.9


def test_half_as_many_iterations_are_the_leading_block_of_the_longer_run():
    short, half = spectrum(iterations=10), rules.halved(spectrum(iterations=20))
    assert half is not None
    np.testing.assert_allclose(half.nodes, short.nodes, atol=1e-10)
    np.testing.assert_allclose(half.gauss_weights, short.gauss_weights, atol=1e-10)
    np.testing.assert_allclose(half.residuals, short.residuals, atol=1e-9)
    assert rules.halved(dataclasses.replace(short, starts=None)) is None


def test_an_exact_rule_has_no_width():
    eigenvalues = np.array([-1.0, 0.5, 2.0, 3.0])
    found = spectrum(probes=4, block=4, iterations=5, eigenvalues=eigenvalues)
    assert bounds.trace(found).half < 1e-9
    assert bounds.trace(found).value == pytest.approx(4.5)
    assert bounds.share_below(found, 0.0).low == pytest.approx(0.25, abs=1e-6)
    assert bounds.share_below(found, 0.0).high == pytest.approx(0.25, abs=1e-6)


def test_a_null_space_is_not_taken_for_one_eigenvalue():
    eigenvalues = np.sort(np.concatenate([np.zeros(60), np.linspace(1, 2, 8)]))
    found = spectrum(probes=4, block=4, iterations=15, eigenvalues=eigenvalues)
    assert bounds.share_below(found, 0.5).holds(60 / 68)
    assert bounds.trace(found).holds(eigenvalues.sum())


def test_records_without_signed_components_still_have_a_band():
    found = dataclasses.replace(spectrum(), starts=None)
    for x in (-0.1, 0.0, 0.3):
        interval = bounds.share_below(found, x)
        assert interval.low <= interval.value <= interval.high
        assert interval.holds((x > TRUTH).mean())


def test_a_distribution_function_with_its_band_ascends_and_shares_add_up():
    found = spectrum(iterations=20)
    grid = np.linspace(TRUTH[0] - 1, TRUTH[-1] + 1, 60)
    value, low, high = bounds.cdf_band(found, grid)
    for curve in (value, low, high):
        assert (np.diff(curve) > -1e-9).all()
    assert (low <= value + 1e-9).all()
    assert (value <= high + 1e-9).all()
    assert (value[0], value[-1]) == (0.0, pytest.approx(1.0))
    split = bounds.signs(found, 0.01)
    assert split.negative.value + split.unresolved.value + split.positive.value == pytest.approx(1)
    exact = [(TRUTH < -0.01).mean(), (np.abs(TRUTH) <= 0.01).mean(), (TRUTH > 0.01).mean()]
    for share, truth in zip((split.negative, split.unresolved, split.positive), exact, strict=True):
        assert share.holds(truth)
    assert bounds.share_above(found, 0.3).value == pytest.approx(1 - bounds.share_below(found, 0.3).value)


def test_t_is_students():
    assert bounds.student(3) == pytest.approx(3.182)
    assert bounds.student(np.inf) == pytest.approx(1.96, abs=1e-3)
    assert bounds.student(0.5) == pytest.approx(12.706)
    assert 2.228 < bounds.student(9.5) < 2.262


def test_bounds_of_the_digits_mlp_in_float32():
    problem, exact = mlp_problem(torch.float32), mlp_eigenvalues()
    found, _ = spectrum_at(problem, problem.weights(), Comm(), iterations=25, top=0, bottom=0)
    assert bounds.trace(found).half < 0.05 * exact.sum()
    assert abs(bounds.trace(found).value - exact.sum()) < 2 * bounds.trace(found).half
    assert bounds.frobenius(found).value == pytest.approx(np.sqrt((exact**2).sum()), rel=2e-3)
    noise = bounds.noise_level(found)
    assert 1e-10 * exact[-1] < noise < 1e-6 * exact[-1]
    assert bounds.signs(found, 3 * noise).negative.holds((exact < -3 * noise).mean())
    assert bounds.share_above(found, 0.1 * exact[-1]).holds((exact > 0.1 * exact[-1]).mean())


def test_the_noise_of_float64_is_rounding():
    problem = mlp_problem(hidden=4, epochs=1, samples=60)
    assert noise_level(problem, problem.weights()) is None
    found, _ = spectrum_at(problem, problem.weights(), Comm(), iterations=5, top=1, bottom=0)
    assert 0 < found.meta["lambda_noise"] < 1e-13


def test_the_trace_of_the_quadrature_lies_in_the_middle():
    found = spectrum()
    assert bounds.trace(found).value == pytest.approx(quadrature.trace(found)[0])


def test_the_automatic_width_shrinks_with_the_products_and_bounds_the_error():
    widths = []
    for iterations in (10, 20, 40):
        found = spectrum(iterations=iterations)
        width = smoothing.settled_width(found)
        assert width is not None
        widths.append(width)
        grid = np.linspace(TRUTH[0] - 5 * width, TRUTH[-1] + 5 * width, 20_001)
        ours = quadrature.density(*quadrature.measure(found), grid, width)
        exact = quadrature.density(TRUTH, np.full(len(TRUTH), 1 / len(TRUTH)), grid, width)
        assert np.trapezoid(np.abs(ours - exact), grid) < 0.1
    assert widths[0] > widths[1] > widths[2]


def test_the_automatic_width_of_the_asinh_axis_and_of_old_records():
    found = [spectrum(seed, iterations=n) for seed, n in ((0, 10), (1, 20))]
    few, many = (smoothing.automatic([s]) for s in found)
    assert few.value >= many.value
    assert smoothing.automatic(found) == max(few, many, key=lambda w: w.value)
    grid = np.linspace(-15, 15, 3000)
    for record, width in zip(found, (few, many), strict=True):
        half = rules.halved(record)
        pair = [quadrature.asinh_density(s, grid, width_u=width.value, sharp_u=width.sharp) for s in (record, half)]
        change = np.trapezoid(np.abs(pair[0] - pair[1]), grid)
        assert change == pytest.approx(width.change, abs=2e-3)
        assert width.settled == (width.change < 0.05)
        assert width.settled or width.value == pytest.approx(0.5)
        assert width.sharp == min(width.value, 0.12)
    old = dataclasses.replace(found[1], starts=None)
    assert smoothing.settled_width(old) is None
    assert smoothing.automatic([old]) == smoothing.automatic([]) == smoothing.Width(0.12)


def test_a_spectrum_whose_eigenvalues_are_all_known_needs_no_smoothing():
    whole = spectrum(eigenvalues=TRUTH[:40], probes=4, iterations=10)  # an invariant space: the rule is the spectrum
    assert quadrature.resolved(whole).all()
    assert smoothing.automatic([whole]).value == 0.12
