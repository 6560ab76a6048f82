"""Progressive sharpening: the slope of log lambda_max before the first crossing, and its standard error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from landscape.readings.sharpening import at_the_edge_since, slope

STEPS = np.arange(0, 1000, 100)


def test_an_exponential_growth_is_found_exactly() -> None:
    found = slope(STEPS, 3 * np.exp(0.004 * STEPS))
    assert found.per_step == pytest.approx(0.004, rel=1e-12)
    assert found.error == pytest.approx(0, abs=1e-15)
    assert (found.until, found.points) == (None, 10)
    assert found.doubling == pytest.approx(math.log(2) / 0.004)


def test_what_comes_after_the_first_crossing_does_not_count() -> None:
    values = 3 * np.exp(0.004 * STEPS)
    changed = np.where(STEPS >= 500, 7.0, values)  # falls back below the threshold afterwards
    changed[5] = 20.0
    found = slope(STEPS, changed, threshold=20.0)
    assert found.per_step == pytest.approx(0.004, rel=1e-12)
    assert (found.until, found.points) == (500.0, 5)


def test_slope_and_error_are_those_of_a_linear_regression() -> None:
    values = np.exp(0.002 * STEPS + np.random.default_rng(0).normal(size=10))
    theirs = stats.linregress(STEPS, np.log(values))
    found = slope(STEPS, values)
    assert (found.per_step, found.error) == pytest.approx((theirs.slope, theirs.stderr), rel=1e-12)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 8) * theirs.stderr, rel=1e-3)


def test_values_that_have_no_logarithm_are_left_out() -> None:
    values = 3 * np.exp(-0.001 * STEPS)
    values[[2, 4, 6]] = [np.nan, -1, 0]
    found = slope(STEPS, values, threshold=10)
    assert found.per_step == pytest.approx(-0.001, rel=1e-12)
    assert found.points == 7


@pytest.mark.parametrize(("count", "known"), [(0, (False, False)), (1, (False, False)), (2, (True, False))])
def test_too_few_checkpoints_have_no_slope_and_no_error(count: int, known: tuple[bool, bool]) -> None:
    found = slope(STEPS[:count], np.exp(STEPS[:count] / 100))
    assert (math.isfinite(found.per_step), math.isfinite(found.error)) == known
    assert slope([0, 100], [5, 6], threshold=5).points == 0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="equal length, got 1 and 2"):
        slope([1], [1, 2])


def test_the_edge_is_where_the_ratio_stays_near_one() -> None:
    assert at_the_edge_since([0.2, 0.9, 0.5, 0.9, 1.1, 1.0]) == 3
    assert at_the_edge_since([0.2, 0.9, 1.0]) is None
