"""Cells of group-sparse searches on their hardware: penalties with and without costs, random cells of equal cost."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.learning.cell_exploration import Found

    from ._tables import Row

OPERATIONS = "skip,maxpool,conv1,conv3,conv5"
STRENGTHS = {0.0: (0.4, 0.55, 0.7, 0.9), 0.5: (0.15, 0.25, 0.4, 0.6)}  # mu by the power of the costs in the penalty
FIXED = (4, 4, 8)  # rows, columns and lanes of hardware that is the same for all

Explored = dict[str, Any]


def rows(args: argparse.Namespace, kept: list[Explored]) -> Iterator[Row]:
    """Every cell on the hardware of fewest cycles; what was found goes to `kept`, a dictionary a seed."""
    from landscape.learning.cell_exploration import Cells, Hardware, explore, front_of, judge, random_like

    hardware = Hardware()
    for seed in range(args.seed, args.seed + args.seeds):
        cells = Cells({"operations": OPERATIONS, "channels": args.channels}, seed, args.steps, args.cell_epochs)
        families: dict[str, list[Found]] = {}
        for power, strengths in STRENGTHS.items():
            chosen = strengths[1::2] if args.quick else strengths
            found = list(explore(cells, chosen, hardware, power))
            families[found[0].family] = found
        searched = [one for one in found if one.accuracy is not None]  # of the last power
        families["random"] = [judge(cells, random_like(cells, one, 100 * seed + i), hardware)
                              for i, one in enumerate(searched)]  # fmt: skip
        fronts = {name: front_of(cells, some, hardware) for name, some in families.items()}
        kept.append({"cells": cells, "hardware": hardware, "families": families, "fronts": fronts,
                     "pairs": list(zip(searched, families["random"], strict=True))})  # fmt: skip
        whole = front_of(cells, [one for some in families.values() for one in some], hardware)
        for name, some in families.items():
            for one in some:
                assert one.cost is not None
                best = any(one.cell == other.cell for other in whole)
                yield (seed, name, one.mu, one.operations, str(one.design), one.cost.cycles, one.cost.energy,
                       one.accuracy, "yes" if best else "")  # fmt: skip


def claims(kept: list[Explored]) -> Iterator[Row]:
    """Of all seeds."""
    names = list(kept[0]["families"])
    plain, weighted = names[0], names[-2]
    for which in ("cycles", "energy"):
        gains = [value for row in kept if (value := _gain(row, weighted, plain, which)) is not None]
        yield (f"Within a budget of {which} the front of {weighted} is at least as accurate as the unweighted one, in "
               "the mean over budgets", _points(gains), bool(gains) and statistics.mean(gains) >= 0)  # fmt: skip
    for which in ("cycles", "energy"):
        costs = "; ".join(_least(kept, name, which) for name in (weighted, plain))
        yield f"Least {which} of a trained cell, by seed: {weighted}; unweighted (reported)", costs, None
    for a, b in ((weighted, plain), (plain, weighted), (weighted, "random"), ("random", weighted)):
        share = _dominated(kept, a, b)
        yield f"Points of the front of {b} that one of {a} dominates or equals (reported)", share, None
    yield from _against_random(kept)
    cells = [one for row in kept for some in row["families"].values() for one in some]
    slow = [one for one in cells if one.cost.cycles > kept[0]["hardware"].most_cycles]
    trained = sum(one.accuracy is not None for one in slow)
    yield "No cell that every design makes too slow is trained", f"{trained} of {len(slow)}", trained == 0
    yield _own_hardware(kept)


def _gain(row: Explored, a: str, b: str, which: str) -> float | None:
    """Accuracy of one front less that of another, mean over budgets between where both have a cell and the dearest."""
    from landscape.learning.cell_exploration import within_budgets

    points = [[(getattr(one.cost, which), one.accuracy) for one in row["fronts"][name]] for name in (a, b)]
    if not all(points):
        return None
    low, high = max(min(p)[0] for p in points), max(cost for p in points for cost, _ in p)
    means = [within_budgets(p, low, high) for p in points]
    return means[0] - means[1]


def _least(kept: list[Explored], name: str, which: str) -> str:
    least: list[float | None] = [
        min((getattr(one.cost, which) for one in row["fronts"][name]), default=None) for row in kept
    ]
    return ", ".join("none" if value is None else f"{value:,.0f}" for value in least)


def _points(values: list[float]) -> str:
    if not values:
        return "no two fronts"
    each = ", ".join(f"{100 * v:+.1f}" for v in values)
    return f"{100 * statistics.mean(values):+.1f} points ({each})"


def _dominated(kept: list[Explored], a: str, b: str) -> str:
    from landscape.networks.coexploration import dominates

    beaten = [any(dominates(one, other) for one in row["fronts"][a]) for row in kept for other in row["fronts"][b]]
    return f"{sum(beaten)} of {len(beaten)}"


def _against_random(kept: list[Explored]) -> Iterator[Row]:
    from scipy.stats import t

    pairs = [(a, b) for row in kept for a, b in row["pairs"] if b.accuracy is not None]
    apart = [max(abs(b.cost.cycles / a.cost.cycles - 1), abs(b.cost.energy / a.cost.energy - 1)) for a, b in pairs]
    gains = [a.accuracy - b.accuracy for a, b in pairs]
    if len(gains) < 2:
        return
    mean, wide = statistics.mean(gains), statistics.stdev(gains) / len(gains) ** 0.5
    wide *= float(t.ppf(0.975, len(gains) - 1))
    yield (f"A searched cell is more accurate than a random one of its cost (costs within {max(apart):.0%}, median "
           f"{statistics.median(apart):.0%})", f"{100 * mean:+.1f} +- {100 * wide:.1f} points, {len(gains)} pairs",
           mean - wide > 0)  # fmt: skip


def _own_hardware(kept: list[Explored]) -> Row:
    from landscape.networks.cell_costs import Design, price

    fixed, ratios, designs = Design(*FIXED), [], set()
    for row in kept:
        for one in (one for some in row["families"].values() for one in some if one.accuracy is not None):
            ratios.append(price(row["cells"].layers_within(one.cell), fixed).cycles / one.cost.cycles)
            designs.add(one.design)
    return (f"Cycles on {fixed} for all cells, in those on each cell's own hardware of no more area (reported)",
            f"{statistics.mean(ratios):.2f} x, {len(designs)} designs", None)  # fmt: skip
