"""Cells on their hardware: costs by hand and as sums, the weighted penalty, random cells of equal cost, fronts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from landscape.learning.cell_exploration import (
    Cells,
    Found,
    Hardware,
    built,
    connected,
    explore,
    front_of,
    judge,
    random_like,
    within_budgets,
)
from landscape.learning.training import make_optimizer, train_step
from landscape.loss.loading import build_problem
from landscape.networks.cell_costs import Design, Layer, best_design, design_front, designs, factors, layers_of, price
from landscape.networks.coexploration import IDLE, MULTIPLY, READ, dominates
from landscape.networks.derivation import architecture, derive
from landscape.regularizers.group import WEIGHTING, make

SMALL = {"channels": 2, "reduce": 1, "operations": "none,skip,maxpool,conv1,conv3"}
HARDWARE = Hardware(area=12, most_cycles=900)


@pytest.fixture(scope="module")
def cells() -> Cells:
    return Cells(SMALL, seed=0, steps=6, epochs=1, threshold=0.45)  # dead from the start: at most 1.44 0.8^6


def test_a_layer_by_hand() -> None:
    """3 channels to 5 on 2 x 4 multipliers, 9 taps at 16 places: 2 x 2 tiles."""
    found = price([Layer("", 3, 5, 9, 16, True)], Design(2, 4, 2))
    reads = 144 * (3 * 2 + 5 * 2) + 9 * 15
    assert (found.cycles, found.area) == (4 * 144, 10)
    assert found.energy == pytest.approx(MULTIPLY * 15 * 144 + READ * reads + IDLE * 10 * 4 * 144)
    assert found.use == pytest.approx(15 / (8 * 4))
    pool = price([Layer("", 5, 5, 9, 16, False)], Design(2, 4, 2))
    assert pool.cycles == 3 * 144
    assert pool.energy == pytest.approx(READ * 5 * 144 + IDLE * 10 * 3 * 144)


def test_multiplications_of_all_operations_by_hand(cells: Cells) -> None:
    """Stem 1 -> 2 at 4 x 4; a normal cell; a cell that halves on edges from its inputs; outputs of four channels."""
    full, half, channels = 16, 4, 2
    convolutions = (1 + 9) * channels**2  # conv1 and conv3, a place
    normal = 5 * convolutions * full + 2 * channels**2 * full
    reduce = 5 * convolutions * half + (channels**2 + 2 * channels**2) * full
    wanted = 9 * channels * full + normal + reduce + 2 * channels * 10
    assert sum(layer.multiplications for layer in cells.layers) == wanted
    pools = sum(layer.taps * layer.places for layer in cells.layers if not layer.multiplies)
    assert pools == 5 * (9 + 1) * (full + half)


def test_the_cost_of_a_derived_cell_is_the_sum_over_its_operations(cells: Cells) -> None:
    searched = build_problem("digits_cell", {**SMALL, "seed": 0, "form": "scaled"})
    record = architecture(searched, 0, 1e-5)
    record.kept[:] = np.random.default_rng(0).random(len(record.kept)) < 0.4
    again = {**SMALL, "seed": 0, "form": "scaled"}
    network = derive(searched, record, lambda changed: build_problem("digits_cell", {**again, **changed}))
    design = Design(2, 1, 2)
    found = price(layers_of(network.problem), design)
    cell = tuple((kind, tuple(map(tuple, edges))) for kind, edges in network.genotype.items())
    own = [price([x for x in cells.layers if x.group == f"{kind}.{s}-{t}.{name}"], design)
           for kind, edges in cell for s, t, name in edges]  # fmt: skip
    base = price([x for x in cells.layers if not x.group], design)
    assert len(own) > 5
    assert found == price(cells.layers_within(cell), design)
    assert found.cycles == base.cycles + sum(c.cycles for c in own)
    assert found.energy == pytest.approx(base.energy + sum(c.energy for c in own))


def test_the_best_design_and_the_front_are_those_of_all(cells: Cells) -> None:
    every = [(d, price(cells.layers, d)) for d in itertools.starmap(Design, itertools.product((1, 2, 4, 8), repeat=3))]
    within = [(d, c) for d, c in every if c.area <= 12]
    assert sorted(d for d, _ in within) == sorted(designs(12))
    best, kept = best_design(cells.layers, 12), design_front(cells.layers, 12)
    assert best == kept[0] == min(within, key=lambda pair: (pair[1].cycles, pair[1].energy, pair[0]))
    for _, c in within:
        assert any(k.cycles <= c.cycles and k.energy <= c.energy for _, k in kept)
    assert best_design(cells.layers, 1) is None


# ---------------------------------------------------------------------- the weighted penalty


@pytest.mark.parametrize("weighting", WEIGHTING)
@pytest.mark.parametrize("diagonal", [False, True])
def test_the_weighted_prox_is_the_argmin(weighting: str, diagonal: bool) -> None:
    """Two groups over two tensors and one weight in none, against points near and far and at zero."""
    layout = ((1, (0, 1), 2), (1, (1,), 1), None)
    generator = torch.Generator().manual_seed(3)
    b = [torch.randn(n, generator=generator, dtype=torch.float64) for n in (4, 1, 1)]
    tau = [torch.rand(n, generator=generator, dtype=torch.float64) + 0.5 for n in (4, 1, 1)] if diagonal else (
        [torch.tensor(1.3, dtype=torch.float64)] * 3)  # fmt: skip
    for factors_, mu in (((0.2, 2.0), 0.6), ((3.0, 0.1), 0.6), ((0.0, 1.0), 0.6)):
        rule = make(mu, weighting=weighting, layout=layout, factors=factors_)
        found = rule.prox(b, tau)

        def value(x: list[torch.Tensor], rule=rule) -> float:  # type: ignore[no-untyped-def]
            near = sum(float((t * (one - p).square()).sum()) for one, p, t in zip(x, b, tau, strict=True)) / 2
            return near + float(rule.value(x))

        best, random = value(found), np.random.default_rng(0)
        for width in (1.0, 0.1, 1e-2, 1e-3):
            for _ in range(60):
                other = [x + width * torch.from_numpy(random.normal(size=len(x))) for x in found]
                assert value(other) >= best - 1e-12
        zeroed = [torch.cat([0 * found[0][:2], found[0][2:]]), *found[1:]]
        assert value(zeroed) >= best - 1e-12
        assert torch.equal(found[2], b[2])
        if factors_[0] == 0:
            assert torch.equal(found[0][:2], b[0][:2])
        weights = [math.sqrt(float(b[0][:2].square().sum())),
                   math.sqrt(float(b[0][2:].square().sum() + b[1].square().sum()))]  # fmt: skip
        sizes = [2.0, 3.0]
        wanted = mu * sum(f * n ** WEIGHTING[weighting] * w for f, n, w in zip(factors_, sizes, weights, strict=True))
        assert float(rule.value(b)) == pytest.approx(wanted)


def test_factors_are_refused_where_there_are_no_such_groups(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = build_problem("digits_cell", SMALL).model
    spanning = {"regularizer": "group", "groups": "operations", "mu": 1.0, "lr": 0.1}
    for settings, message in (
        ({**spanning, "factors": {"normal.0-9.skip": 1.0}}, "no group"),
        ({**spanning, "factors": {"normal.0-2.skip": -1.0}}, "at least 0"),
        ({**spanning, "factors": str(tmp_path / "none.json")}, "no file with the factors"),
        ({**spanning, "groups": "rows", "factors": {}}, "factors need"),
    ):
        with pytest.raises(Exception, match=message):
            make_optimizer("prox_sgd", model, settings)
    with pytest.raises(ValueError, match="2 groups need as many factors, got 1"):
        make(1.0, layout=((1, (0, 1), 1),), factors=(1.0,)).prox([torch.ones(2)], [torch.ones(())])


def test_costs_as_factors_have_mean_one_and_take_the_dear_operations_first(cells: Cells) -> None:
    found = factors(cells.layers, Design(2, 2, 2))
    assert np.mean(list(found.values())) == pytest.approx(1.0)
    assert found["normal.0-2.conv3"] > found["normal.0-2.conv1"] > found["normal.0-2.skip"]
    assert set(factors(cells.layers, Design(2, 2, 2), 0.0).values()) == {1.0}
    problem = build_problem("digits_cell", {**SMALL, "seed": 0, "form": "scaled"})
    before = architecture(problem, 0, 0.0).norms
    dear = {name: 40.0 if name.endswith("conv3") else 0.0 for name in found}
    dear |= {f"{kind}.{s}-{t}.none": 0.0 for kind in ("normal", "reduce") for t in (2, 3) for s in range(t)}
    settings = {"regularizer": "group", "groups": "operations", "metric": "identity", "lr": 0.5, "lr_decay": 0.0,
                "mu": 1.0, "factors": dear}  # fmt: skip
    optimizer = make_optimizer("prox_sgd", problem.model, settings)
    for _ in range(3):
        train_step(problem, optimizer, problem.batches[:1])
    record = architecture(problem, 3, 0.0)
    conv3 = np.array([name == "conv3" for name in record.operations])
    np.testing.assert_allclose(record.norms[conv3], before[conv3] / 8, rtol=1e-5)  # dead at once: (1 - lr)^3
    assert (record.norms[~conv3] > before[~conv3] / 4).all()


# ---------------------------------------------------------------------- exploration


def test_what_no_input_reaches_is_left_out() -> None:
    some = {"normal": [[2, 4, "skip"], [3, 4, "skip"], [1, 3, "conv1"], [2, 3, "conv3"]], "reduce": [[2, 3, "skip"]]}
    assert connected(some) == (("normal", ((1, 3, "conv1"), (3, 4, "skip"))), ("reduce", ()))


def test_the_loops_judge_by_the_best_design_and_turn_slow_cells_away(cells: Cells) -> None:
    whole, slower = list(explore(cells, (0.0, 1e6), HARDWARE)), Hardware(area=12, most_cycles=10**6)
    assert whole[0].operations == 2 * 5 * 4  # all but 'none'
    assert whole[0].accuracy is None
    assert whole[0].cost is not None
    assert whole[0].cost.cycles > HARDWARE.most_cycles
    assert whole[1].operations == 0
    assert whole[1].accuracy is None
    trained = judge(cells, Found("weighted", 1.0, (("normal", ((0, 2, "conv1"),)), ("reduce", ((1, 2, "skip"),))),
                                 None, None), slower)  # fmt: skip
    assert trained.accuracy is not None
    assert trained.cost == best_design(cells.layers_within(trained.cell), 12)[1]  # type: ignore[index]
    other = random_like(cells, trained, 0)
    assert other.cost is not None
    assert abs(other.cost.cycles / trained.cost.cycles - 1) < 0.2
    points = built(cells, [trained, whole[1]], slower)
    assert {p.design for p in points} == {d for d, _ in design_front(cells.layers_within(trained.cell), 12)}
    kept = front_of(cells, [trained], slower)
    assert all(any(dominates(k, p) for k in kept) for p in points)


def test_the_mean_over_budgets_is_the_area_under_the_best() -> None:
    points = [(100.0, 0.8), (10.0, 0.5), (30.0, 0.4)]
    assert within_budgets(points, 10, 1000) == pytest.approx((0.5 + 0.8) / 2)
    assert within_budgets(points, 100, 1000) == pytest.approx(0.8)
    assert within_budgets(points, 10, 100) == pytest.approx(0.5)
