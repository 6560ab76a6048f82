"""Cells and their hardware explored together: each strength of a group-sparse search is one cell (GSparsity, 2022).

Slow loop: a search over all operations at a strength mu, with the penalty of every operation times what it costs on the
hardware of the cell before; what is left is trained from new weights. Fast loop: all hardware within an area is tried
for the cell that was found, by the analytic model and without a training; a cell that none makes fast enough is turned
away, and the best hardware gives the next search its costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..loss.loading import build_problem
from ..loss.problem import Problem
from ..networks.cell_costs import Design, Layer, best_design, design_front, factors, layers_of, price
from ..networks.coexploration import Cost, front
from ..networks.derivation import architecture, genotype
from ..records import Front
from .training import MiniBatches, make_optimizer, train_step

PROBLEM = "digits_cell"
SEARCH: dict[str, Any] = {"regularizer": "group", "groups": "operations", "metric": "identity", "lr": 0.2,
                          "lr_decay": 0.0, "rho": 0.8, "rho_decay": 0.0}  # fmt: skip
TRAINING = {"lr": 3e-3}  # Adam's, of a cell
DRAWS = 4000  # random cells that one of a given cost is chosen among

Edges = tuple[tuple[int, int, str], ...]  # (source, target, operation)
Cell = tuple[tuple[str, Edges], ...]  # (kind of cell, its operations)


@dataclass(frozen=True)
class Found:
    """A cell on a design; `accuracy` is None where it was never trained, `cost` where nothing can be built."""

    family: str
    mu: float
    cell: Cell
    design: Design | None
    cost: Cost | None
    accuracy: float | None = None

    @property
    def genotype(self) -> dict[str, list[list[Any]]]:
        """As `digits_cell` reads it."""
        return {kind: [list(edge) for edge in edges] for kind, edges in self.cell}

    @property
    def operations(self) -> int:
        return sum(len(edges) for _kind, edges in self.cell)


@dataclass(frozen=True)
class Hardware:
    """What can be built, and what it must do."""

    area: int = 24  # multipliers and lanes
    most_cycles: int = 10_000  # a sample


class Cells:
    """Searched and trained networks of cells of one seed; every cell is trained once.

    Args:
        settings: of the problem.
        steps: of a search.
        epochs: of a training.
        threshold: norm at which an operation is pruned.
    """

    def __init__(
        self, settings: Mapping[str, Any], seed: int = 0, steps: int = 300, epochs: int = 12, threshold: float = 1e-2
    ) -> None:
        self.settings, self.seed = dict(settings), seed
        self.steps, self.epochs, self.threshold = steps, epochs, threshold
        self.layers = layers_of(self._whole())
        self._trained: dict[Cell, tuple[Problem, float]] = {}

    def _whole(self) -> Problem:
        return build_problem(PROBLEM, {**self.settings, "seed": self.seed, "form": "scaled"})

    @property
    def training_steps(self) -> int:
        return self.epochs * MiniBatches(self._whole(), 64, 0).an_epoch

    def final(self, cell: Cell) -> dict[str, Any]:
        """Settings of the problem of a cell's network."""
        edges = {kind: [list(edge) for edge in edges] for kind, edges in cell}
        return {**self.settings, "seed": self.seed + 1000, "form": "final", "genotype": edges}

    def search(self, mu: float, costs: Mapping[str, float] | None) -> Cell:
        """What a search at a strength leaves of all operations; `costs` multiply the penalty of each."""
        problem = self._whole()
        chosen = {**SEARCH, "mu": mu, "factors": dict(costs) if costs is not None else None}
        _train(problem, "prox_sgd", chosen, self.steps, self.seed)
        return connected(genotype(architecture(problem, self.steps, self.threshold)))

    def train(self, cell: Cell) -> tuple[Problem, float]:
        """The network of a cell from new weights in its final form, and its test accuracy."""
        if cell not in self._trained:
            problem = build_problem(PROBLEM, self.final(cell))
            _train(problem, "adam", TRAINING, self.training_steps, self.seed)
            self._trained[cell] = problem, problem.evaluate(problem.weights(), "test")["accuracy"]
        return self._trained[cell]

    def layers_within(self, cell: Cell) -> list[Layer]:
        """The layers of a cell's network: those that every network has, and those of its operations."""
        kept = {f"{kind}.{source}-{target}.{name}" for kind, edges in cell for source, target, name in edges}
        return [layer for layer in self.layers if not layer.group or layer.group in kept]


def _train(problem: Problem, optimizer: str, settings: dict[str, Any], steps: int, seed: int) -> None:
    made, batches = make_optimizer(optimizer, problem.model, settings), MiniBatches(problem, 64, seed)
    for step in range(steps):
        train_step(problem, made, batches.at(step))


def connected(found: Mapping[str, Sequence[Sequence[Any]]]) -> Cell:
    """The operations that the cell's inputs reach: what reads a node that nothing writes is left out."""
    cells = []
    for kind, edges in found.items():
        reached = {0, 1}
        for source, target, _name in sorted(edges, key=lambda edge: edge[1]):
            reached |= {target} if source in reached else set()
        cells.append((kind, tuple(sorted((int(s), int(t), str(o)) for s, t, o in edges if s in reached))))
    return tuple(sorted(cells))


# ---------------------------------------------------------------------- the two loops


def explore(cells: Cells, strengths: Iterable[float], hardware: Hardware, power: float = 0.5) -> Iterator[Found]:
    """A cell a strength; `power` is that of the costs in the penalty, 0 for one that knows no hardware."""
    family = f"cost^{power:g}" if power else "unweighted"
    first = best_design(cells.layers, hardware.area)
    design = first[0] if first else None
    for mu in strengths:
        cell = cells.search(mu, factors(cells.layers, design, power) if power and design else None)
        found = judge(cells, Found(family, mu, cell, None, None), hardware)
        design = found.design or design
        yield found


def judge(cells: Cells, found: Found, hardware: Hardware) -> Found:
    """A cell on the hardware of fewest cycles, trained unless that is too slow or no image gets through."""
    best = best_design(cells.layers_within(found.cell), hardware.area)
    if best is None:
        return found
    found = replace(found, design=best[0], cost=best[1])
    if best[1].cycles > hardware.most_cycles or not all(edges for _kind, edges in found.cell):
        return found
    return replace(found, accuracy=cells.train(found.cell)[1])


def random_like(cells: Cells, found: Found, seed: int) -> Found:
    """A cell of random operations that costs nearly as much on the same design, not yet trained.

    Of `DRAWS` cells, each of a random share of the operations, that whose cycles and energy are nearest.
    """
    assert found.design is not None
    assert found.cost is not None
    random = np.random.default_rng(seed)
    groups = [name for name in dict.fromkeys(layer.group for layer in cells.layers) if name]
    own = [price([x for x in cells.layers if x.group == name], found.design) for name in groups]
    base = price([x for x in cells.layers if not x.group], found.design)
    each = np.array([[c.cycles, c.energy] for c in own])  # (group, 2)
    keep = random.random((DRAWS, len(groups))) < random.random((DRAWS, 1))
    totals = keep @ each + [base.cycles, base.energy]  # (draw, 2)
    distance = np.abs(totals / [found.cost.cycles, found.cost.energy] - 1).max(axis=1)
    for draw in np.argsort(distance, kind="stable"):
        names = [name for name, kept in zip(groups, keep[draw], strict=True) if kept]
        cell = _cell(names, found.cell)
        if sum(len(edges) for _kind, edges in cell) == len(names) and all(edges for _kind, edges in cell):
            return Found("random", found.mu, cell, found.design, price(cells.layers_within(cell), found.design))
    raise AssertionError("no random cell is connected")  # a draw of all operations is


def _cell(names: Iterable[str], like: Cell) -> Cell:
    edges: dict[str, list[list[Any]]] = {kind: [] for kind, _edges in like}
    for name in names:
        kind, places, operation = name.split(".")
        edges[kind].append([*map(int, places.split("-")), operation])
    return connected(edges)


# ---------------------------------------------------------------------- fronts


def built(cells: Cells, found: Iterable[Found], hardware: Hardware) -> list[Found]:
    """Every trained cell on all designs that are fast enough and worth building."""
    return [
        replace(one, design=design, cost=cost) for one in found if one.accuracy is not None
        for design, cost in design_front(cells.layers_within(one.cell), hardware.area)
        if cost.cycles <= hardware.most_cycles
    ]  # fmt: skip


def front_of(cells: Cells, found: Iterable[Found], hardware: Hardware) -> list[Found]:
    """What no other cell on any design dominates in accuracy, cycles and energy."""
    return front(built(cells, found, hardware))


def record(cells: Cells, found: Sequence[Found], hardware: Hardware, meta: Mapping[str, Any] | None = None) -> Front:
    """What an exploration found, to be stored; a point is on the front of all families together."""
    points, kept = [], []
    best = set(front_of(cells, found, hardware))
    for number, one in enumerate(found):
        for point in built(cells, [one], hardware):
            points.append((number, point))
            kept.append(int(point in best))

    def column(values: Iterable[float]) -> NDArray[np.float64]:
        return np.array(list(values), dtype=np.float64)

    def whole(values: Iterable[int]) -> NDArray[np.int64]:
        return np.array(list(values), dtype=np.int64)

    designs, costs = [p.design or Design(0, 0, 0) for _, p in points], [p.cost for _, p in points]
    return Front(
        step=cells.training_steps, families=[one.family for one in found],
        genotypes=[one.genotype for one in found], area=hardware.area, most_cycles=hardware.most_cycles,
        mu=column(one.mu for one in found), operations=whole(one.operations for one in found),
        accuracy=column(math.nan if one.accuracy is None else one.accuracy for one in found),
        cycles=column(one.cost.cycles if one.cost else math.nan for one in found),
        energy=column(one.cost.energy if one.cost else math.nan for one in found),
        cells=whole(number for number, _ in points), rows=whole(d.rows for d in designs),
        columns=whole(d.columns for d in designs), lanes=whole(d.lanes for d in designs),
        point_cycles=column(c.cycles for c in costs if c), point_energy=column(c.energy for c in costs if c),
        best=whole(kept), meta=dict(meta or {}),
    )  # fmt: skip


def within_budgets(points: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """Mean over budgets b in [low, high], uniform in log b, of the best accuracy that costs at most b.

    Args:
        points: (cost, accuracy); the cheapest costs at most `low`.
    """
    total, best, before = 0.0, 0.0, math.log(low)
    for cost, accuracy in [*sorted(points), (high, 0.0)]:
        at = min(max(math.log(cost), math.log(low)), math.log(high))
        total += best * (at - before)
        before, best = at, max(best, accuracy)
    return total / math.log(high / low)
