"""Minima, saddles and passes: counted against components of sublevel sets at all thresholds, and against gudhi."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from landscape.readings.topology import hole_pairs, sublevel_pairs, topology
from landscape.records import Array, Surface

KING, ROOK = np.ones((3, 3)), ndimage.generate_binary_structure(2, 1)
# few values make plateaus and ties; NaN is a loss that was lost
heights = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7),
    elements=st.one_of(st.integers(0, 4).map(float), st.floats(-3, 3, width=16), st.just(math.nan)),
)  # fmt: skip


def of(loss: Array, **meta: object) -> Surface:
    rows, columns = loss.shape
    return Surface(0, "random", ["u", "v"], np.arange(columns) * 1.0, np.arange(rows) * 2.0, loss, meta=dict(meta))


def alive(births: list[float], deaths: list[float], threshold: float) -> int:
    return sum(birth <= threshold < death for birth, death in zip(births, deaths, strict=True))


@settings(max_examples=200, deadline=None)
@given(heights)
def test_components_and_holes_at_every_threshold_are_those_of_the_pairs(loss: Array) -> None:
    filled = np.where(np.isnan(loss), np.inf, loss)
    basins, holes = sublevel_pairs(loss), hole_pairs(loss)
    births, deaths = [filled[b] for b, _ in basins], [math.inf if d is None else filled[d] for _, d in basins]
    opened, closed = [filled[d] for _, d in holes], [filled[b] for b, _ in holes]
    for threshold in np.unique(filled[np.isfinite(filled)]):
        below = filled <= threshold
        assert alive(births, deaths, threshold) == ndimage.label(below, KING)[1]
        outside = ndimage.label(np.pad(~below, 1, constant_values=True), ROOK)[1] - 1
        assert alive(opened, closed, threshold) == outside


@settings(max_examples=100, deadline=None)
@given(heights)
def test_pairs_are_gudhis(loss: Array) -> None:
    gudhi = pytest.importorskip("gudhi")
    filled = np.where(np.isnan(loss), np.inf, loss)
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=filled)
    complex_.persistence(min_persistence=0)
    ours = [
        sorted((filled[b], math.inf if d is None else filled[d]) for b, d in sublevel_pairs(loss)),
        sorted((filled[d], filled[b]) for b, d in hole_pairs(loss)),
    ]
    for dimension, pairs in enumerate(ours):
        theirs = complex_.persistence_intervals_in_dimension(dimension)
        finite = [tuple(pair) for pair in theirs.tolist() if pair[0] < math.inf]  # they also have a class born at inf
        assert pairs == sorted(finite)


@settings(max_examples=100, deadline=None)
@given(heights)
def test_the_euler_characteristic_of_a_window_is_one(loss: Array) -> None:
    whole = np.nan_to_num(loss, nan=5.0)
    found = topology(of(whole), least=0.0)
    merges = sum(pair.saddle is not None for pair in (*found.basins, *found.peaks))
    assert len(found.basins) - merges + len(found.peaks) == 1


def test_two_wells_are_told_with_their_barrier() -> None:
    u, v = np.linspace(-1.5, 1.5, 61), np.linspace(-1, 1, 41)
    loss = (u**2 - 1) ** 2 + 0.2 * u + v[:, None] ** 2 + 1.0
    found = topology(Surface(7, "pca", ["a", "b"], u, v, loss))
    deep, shallow = found.basins
    assert deep.saddle is None
    assert math.isinf(deep.persistence)
    assert deep.extremum.u == pytest.approx(-1.025, abs=0.05)
    assert shallow.extremum.u == pytest.approx(0.975, abs=0.05)
    assert shallow.saddle is not None
    assert (shallow.saddle.u, shallow.saddle.v) == pytest.approx((0.05, 0.0), abs=0.05)
    assert shallow.persistence == pytest.approx(2.005 - loss[20, 50], abs=1e-3)
    assert shallow.persistence == shallow.saddle.loss - shallow.extremum.loss
    assert not any(c.border for c in (deep.extremum, shallow.extremum, shallow.saddle))
    assert found.words == "2 minima, 1 saddle, 0 maxima"
    assert (found.unresolved, found.not_finite) == (0, 0)


def test_a_hill_is_a_peak_inside_the_window_and_none_at_its_border() -> None:
    u = np.linspace(-2, 2, 41)
    ring = (u**2 + u[:, None] ** 2 - 1) ** 2 + 0.1 * u  # a valley around a hill at the origin, walls outside
    (peak,) = topology(of(ring)).peaks
    assert peak.extremum.column == pytest.approx(20, abs=1)
    assert peak.extremum.row == 20
    assert peak.saddle is not None
    assert peak.persistence == peak.extremum.loss - peak.saddle.loss
    dome = topology(of(-(u**2) - u[:, None] ** 2))
    assert dome.peaks[0].extremum.loss == 0
    assert len(dome.basins) == 4
    assert all(pair.extremum.border for pair in dome.basins)
    slope = topology(of(u + u[:, None]))
    assert (len(slope.basins), len(slope.peaks), slope.basins[0].extremum.border) == (1, 0, True)


def test_a_wall_of_lost_losses_keeps_basins_apart_for_ever() -> None:
    loss = np.array([[1.0, math.nan, 0.5], [2.0, math.nan, 3.0]])
    found = topology(of(loss))
    assert [(p.extremum.loss, p.saddle, p.persistence) for p in found.basins] == [
        (0.5, None, math.inf), (1.0, None, math.inf),
    ]  # fmt: skip
    assert found.not_finite == 2
    island = np.ones((3, 3))
    island[1, 1] = math.nan
    assert topology(of(island)).peaks == []  # a place that diverged is no maximum
    nothing = topology(of(np.full((3, 3), math.nan)))
    assert (nothing.basins, nothing.peaks, nothing.not_finite) == ([], [], 9)


def test_ripples_of_rounding_are_no_basins() -> None:
    noisy = np.ones((9, 9))
    noisy[2, 2], noisy[6, 6] = 1 - 1e-7, 0.5
    found = topology(of(noisy, dtype="float32"))
    assert len(found.basins) == 1
    assert found.unresolved == 1
    assert len(topology(of(noisy, dtype="float64")).basins) == 2


def test_a_narrow_valley_along_the_diagonal_is_one_basin() -> None:
    assert len(topology(of(1.0 - np.eye(9))).basins) == 1
