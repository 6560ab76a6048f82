"""Networks and their hardware searched together: a front of accuracy against cycles, and the curvature along it.

  landscape bench coexplore
  landscape bench coexplore --seeds 5 --markdown docs/benchmarks.md
  landscape bench coexplore --parts cells

chains: children are networks of the digits, 64 - widths - 10, trained for five epochs. Joint: each child on the tiles
of 1, 2, 4 and 8 that are best for it, in cycles or in energy; fixed: tiles of 4 for every layer. Cycles, area and
energy are of the analytic model in `landscape/networks/coexploration.py`. Both searches train as many children, of the
same initial weights.

cells: every strength mu of a group-sparse search on `digits_cell` is a cell, with the penalty of each operation times
what it costs on the hardware of the cell before (to a power), with the same penalty for all, and random cells that cost
as much. All designs within an area are tried for each cell, which is then trained from new weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from landscape.loss.problem import Problem
    from landscape.networks.coexploration import Child

    from ._tables import Row, Table

PARTS = ("chains", "cells")
AREA, MOST_CYCLES = 144, 100  # multipliers, cycles a sample
FIXED = (4,)  # tiles of the hardware that is fixed

Numbers = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=3, help="searches a row (default: 3)")
    parser.add_argument("--children", type=_common.positive, default=16, help="trained a search (default: 16)")
    parser.add_argument("--epochs", type=_common.positive, default=5, help="of a chain's training (default: 5)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these (default: all)")
    parser.add_argument("--steps", type=_common.positive, default=230, help="of a search for a cell (default: 230)")
    parser.add_argument("--cell-epochs", type=_common.positive, default=12, help="of a cell's training (default: 12)")
    parser.add_argument("--channels", type=_common.positive, default=8, help="of a cell's nodes (default: 8)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    if args.quick:
        args.seeds, args.children, args.epochs, args.steps, args.cell_epochs, args.channels = 1, 3, 1, 20, 1, 2
    for part, tables in (("chains", _chains), ("cells", _cells)):
        if part in args.parts:
            yield from tables(args)


def _cells(args: argparse.Namespace) -> Iterator[Table]:
    from . import _coexplore_cells
    from ._tables import Table

    kept: list[Numbers] = []
    yield Table(f"Cells of group-sparse searches: {args.steps} steps, trained {args.cell_epochs} epochs", {
        "seed": "d", "penalty": "", "mu": "g", "operations": "d", "rows x columns + lanes": "", "cycles": ",d",
        "energy": ",.0f", "accuracy": ".4f", "on the front of all": "",
    }, _coexplore_cells.rows(args, kept), "mu of a random cell: of the search whose cell costs as much.")  # fmt: skip
    yield Table("Claims: cells", {"claim": "", "value": "", "holds": ""}, _coexplore_cells.claims(kept))


def _chains(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    found: list[Numbers] = []
    yield Table(f"Fronts: at most {MOST_CYCLES} cycles a sample and {AREA} multipliers, {args.children} children", {
        "seed": "d", "search": "", "hidden": "", "tiles": "", "accuracy": ".4f", "cycles": "d", "energy": ",.0f",
        "multipliers in use": ".0%", "lambda_max": ".3f", "trace": ".2f",
    }, _fronts(args, found))  # fmt: skip
    yield Table("Claims: chains", {"claim": "", "value": "", "holds": ""}, _claims(found))


def _fronts(args: argparse.Namespace, found: list[Numbers]) -> Iterator[Row]:
    from landscape.networks.coexploration import TILES, explore, front

    for seed in range(args.seed, args.seed + args.seeds):
        trainings = _Trainings(seed, args.epochs)
        searches: dict[str, list[Child]] = {}
        for name, tiles in (("joint", TILES), ("fixed", FIXED)):
            searches[name] = explore(trainings.accuracy, 64, 10, most_cycles=MOST_CYCLES, area=AREA,
                                     trained=args.children, tiles=tiles, seed=seed)  # fmt: skip
            searches[f"{name} front"] = front(_built(searches[name], tiles))
            for child in searches[f"{name} front"]:
                top, trace = trainings.curvature(child.hidden)
                assert child.cost is not None
                yield (seed, name, "-".join(map(str, child.hidden)), "-".join(map(str, child.tiles or ())),
                       child.accuracy, child.cost.cycles, child.cost.energy, child.cost.use, top, trace)  # fmt: skip
        curves = {hidden: trainings.curvature(hidden) for hidden in trainings.known}
        found.append({**searches, "known": dict(trainings.known), "curvature": curves})


def _built(children: list[Child], tiles: tuple[int, ...]) -> list[Child]:
    """Every trained child on all hardware that is fast enough and worth building."""
    from dataclasses import replace

    from landscape.networks.coexploration import hardware_front

    return [replace(child, tiles=some, cost=price) for child in children if child.accuracy is not None
            for some, price in hardware_front((64, *child.hidden, 10), AREA, tiles)
            if price.cycles <= MOST_CYCLES]  # fmt: skip


class _Trainings:
    """Trained networks by their widths, each trained once."""

    def __init__(self, seed: int, epochs: int) -> None:
        self.seed, self.epochs = seed, epochs
        self.known: dict[tuple[int, ...], float] = {}
        self._problems: dict[tuple[int, ...], Problem] = {}
        self._curvature: dict[tuple[int, ...], tuple[float, float]] = {}

    def accuracy(self, hidden: tuple[int, ...]) -> float:
        from landscape.learning.training import MiniBatches, make_optimizer, train_step
        from landscape.loss.loading import build_problem

        if hidden not in self.known:
            problem = build_problem("digits_mlp", {"hidden": list(hidden), "seed": self.seed})
            optimizer = make_optimizer("adam", problem.model, {"lr": 0.01})
            batches = MiniBatches(problem, 64, self.seed)
            for step in range(self.epochs * batches.an_epoch):
                train_step(problem, optimizer, batches.at(step))
            self._problems[hidden] = problem
            self.known[hidden] = problem.evaluate(problem.weights(), "test")["accuracy"]
        return self.known[hidden]

    def curvature(self, hidden: tuple[int, ...]) -> tuple[float, float]:
        from ._curvature import sharpness_and_trace

        if hidden not in self._curvature:
            self._curvature[hidden] = sharpness_and_trace(self._problems[hidden])
        return self._curvature[hidden]


def _claims(found: list[Numbers]) -> Iterator[Row]:
    from scipy.stats import spearmanr

    from landscape.networks.coexploration import TILES, best_hardware, dominates

    beaten = faster = points = violators = trained_violators = turned_away = 0
    for row in found:
        joint, fixed = row["joint front"], row["fixed front"]
        points += len(fixed)
        beaten += sum(any(dominates(a, b) for a in joint) for b in fixed)
        faster += sum(any(a.accuracy >= b.accuracy and a.cost.cycles <= b.cost.cycles for a in joint) for b in fixed)
        for child in row["joint"]:
            best = best_hardware((64, *child.hidden, 10), AREA, TILES)
            violates = best is None or best[1].cycles > MOST_CYCLES
            violators += violates
            trained_violators += violates and child.accuracy is not None
            turned_away += child.accuracy is None
    yield ("Every child of the fixed hardware's front is dominated or equalled by one of the joint front, in accuracy "
           "and cycles", f"{faster} of {points}", faster == points)  # fmt: skip
    yield "in energy as well", f"{beaten} of {points}", beaten == points
    yield ("No violator of the specification is trained", f"{trained_violators} of {violators} violators",
           trained_violators == 0)  # fmt: skip
    yield "Children judged without a training (reported)", f"{turned_away}", None
    for name, which in (("lambda_max", 0), ("trace", 1)):
        pairs = [(row["known"][h], row["curvature"][h][which]) for row in found for h in row["known"]]
        if len(pairs) > 2:
            value = float(spearmanr(*zip(*pairs, strict=True)).statistic)
            yield f"Rank correlation of accuracy and {name} over all trained children (reported)", f"{value:+.2f}", None
