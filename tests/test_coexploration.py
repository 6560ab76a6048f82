"""The cost model, exact hardware, the controller's update and fronts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from landscape.errors import UsageError
from landscape.networks.coexploration import (
    TILES,
    WIDTHS,
    Child,
    Controller,
    Cost,
    best_hardware,
    cost,
    dominates,
    explore,
    front,
    hardware_front,
)  # fmt: skip


def test_the_cost_of_a_pipeline_by_hand() -> None:
    found = cost((64, 10, 10), (4, 8))
    assert (found.cycles, found.latency, found.area) == (48, 52, 80)
    assert found.energy == pytest.approx(3 * 740 + 0.1 * 80 * 48)
    assert found.use == pytest.approx(740 / (80 * 48))
    assert cost((8, 8), (8,)).use == 1
    with pytest.raises(UsageError, match="2 layers"):
        cost((64, 10, 10), (4,))


def test_the_best_hardware_is_the_best_of_all_and_a_larger_area_is_never_slower() -> None:
    widths = (64, 16, 32, 10)
    slow = None
    for area in (3, 40, 90, 144, 192):
        found = best_hardware(widths, area)
        assert found is not None
        tried = [cost(widths, tiles) for tiles in itertools.product(TILES, repeat=3)]
        assert found[1].cycles == min(c.cycles for c in tried if c.area <= area)
        assert slow is None or found[1].cycles <= slow
        slow = found[1].cycles
        worth = hardware_front(widths, area)
        assert worth[0] == found
        for tiles in itertools.product(TILES, repeat=3):
            price = cost(widths, tiles)
            assert price.area > area or any(w.cycles <= price.cycles and w.energy <= price.energy for _, w in worth)
    assert best_hardware(widths, 2) is None


def test_the_controller_moves_along_the_gradient_of_the_expected_reward() -> None:
    """The mean update over many samples is rate * d E[reward] / d table = rate p (r - E[reward])."""
    reward = np.array([1.0, 0.0, 0.5])
    controller = Controller(0, rate=1.0)
    controller.tables[0] = np.array([0.3, -0.2, 0.1])
    p = controller.probabilities(0)
    before, total = [t.copy() for t in controller.tables], np.zeros(3)
    for _ in range(6_000):
        choices = controller.sample()
        controller._mean = 0.25  # any baseline leaves the mean as it is
        controller.learn(choices, float(reward[choices[0]]))
        total += controller.tables[0] - before[0]
        controller.tables = [t.copy() for t in before]
    np.testing.assert_allclose(total / 6_000, p * (reward - p @ reward), atol=0.02)


def test_a_front_holds_what_nothing_dominates() -> None:
    def child(name: int, accuracy: float, cycles: int, energy: float = 1.0) -> Child:
        return Child((name,), (1,), Cost(cycles, cycles, 1, energy, 1.0), accuracy)

    some = [child(1, 0.9, 10), child(2, 0.8, 20), child(3, 0.95, 30), child(4, 0.9, 10), child(5, 0.9, 40, 0.5)]
    assert [c.hidden for c in front([*some, Child((9,), None, None)])] == [(1,), (3,), (5,)]
    assert dominates(some[0], some[1])
    assert not dominates(some[1], some[0])


def test_violators_are_never_trained_and_the_search_finds_what_pays() -> None:
    asked = []

    def accuracy(hidden: tuple[int, ...]) -> float:
        asked.append(hidden)
        return 1 - 1 / sum(hidden)

    found = explore(accuracy, 64, 10, most_cycles=40, area=144, trained=30, seed=1)
    assert len(asked) == 30 == sum(c.accuracy is not None for c in found)
    for hidden in asked:
        best = best_hardware((64, *hidden, 10), 144)
        assert best is not None
        assert best[1].cycles <= 40
    assert any(c.cost is not None and c.cost.cycles > 40 for c in found)  # there are violators, turned away
    assert len(found) > 5 * 30
    assert set(itertools.chain(*asked)) <= set(WIDTHS)
