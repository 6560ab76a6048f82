"""What fast splitting and firefly descent claim, trained here: the value, and whether it holds.

  landscape bench firefly
  landscape bench firefly --parts toys --seeds 32
  landscape bench firefly --markdown docs/benchmarks.md

Toys are radial-basis students that grow from one to eight units, one a stage of 2,000 steps. The eigenpairs are those
of the splitting matrices of a 784-64-10 tanh network on 2,000 images of Fashion-MNIST (of the digits where it is not
installed), in float64. The tasks are digits with permuted pixels.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from torch import nn

    from ._tables import Row, Table

WIDTH = 8
SHOWN = (1, 2, 3, 4, 5, 6, 8)
METHODS = ("firefly", "random new unit", "splitting steepest descent")
FEW, MANY = 20, 200  # steps of training before the splitting matrices are looked at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=8, help="toys (default: 8)")
    parser.add_argument("--networks", type=_common.positive, default=3, help="seeds of the others (default: 3)")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), help="only these (default: all)")
    parser.add_argument("--stage", type=_common.positive, default=2000, help="steps a stage of the toys")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.seeds, args.networks, args.stage = 2, 1, 40
    claims: list[Row] = []
    for part in args.parts or PARTS:
        yield from PARTS[part](args, claims)
    yield Table("Claims", {"claim": "", "value": "", "holds": ""}, claims)


# ---------------------------------------------------------------------- fast splitting


def _eigenpairs(args: argparse.Namespace, claims: list[Row]) -> Iterator[Table]:
    from ._tables import Table

    columns = {"solver": "", "CPU s": ".2f", "speed-up": ".1f", "median rel. error": ".1e", "largest": ".1e",
               "rank correlation": ".3f", "lowest fifth found": ".2f"}  # fmt: skip
    for steps in (FEW, MANY):
        rows: dict[str, Row] = {}
        yield Table(f"Smallest eigenpairs of 64 splitting matrices after {steps} steps of training", columns,
                    _solved(args, steps, rows), "Errors against dense matrices; means over "
                    f"{args.networks} networks, the largest over all.")  # fmt: skip
        descent, lanczos = (next(r for n, r in rows.items() if n.startswith(word)) for word in ("Rayleigh", "Lanczos"))
        claims += [
            (f"Rayleigh descent finds >= 90 % of the lowest fifth at >= 2x the speed, after {steps} steps",
             f"{descent[6]:.0%}, {descent[2]:.1f}x", descent[6] >= 0.9 and descent[2] >= 2),
            (f"Lanczos, 20 products: largest error <= 1e-4 at >= 5x the speed, after {steps} steps",
             f"{lanczos[4]:.1e}, {lanczos[2]:.1f}x", lanczos[4] <= 1e-4 and lanczos[2] >= 5),
        ]  # fmt: skip
    yield Table("Choice under a budget: 200 random cases", {"what": "", "value": ".3g"}, _budgets(args.seed))


def _solved(args: argparse.Namespace, steps: int, solved: dict[str, Row]) -> Iterator[Row]:
    from . import _eigenpairs_of_neurons as neurons

    found: dict[str, Any] = {}
    for seed in range(args.seed, args.seed + args.networks):
        for name, seconds, base, errors in neurons.solvers(seed, steps, args.quick):
            found.setdefault(name, []).append((seconds, base, errors))
    for row in neurons.rows(found):
        solved[row[0]] = row
        yield row


def _budgets(seed: int) -> Iterator[Row]:
    import numpy as np

    from landscape.growing.budget import WHOLE, knapsack, relaxed

    generator = np.random.default_rng(seed)
    gaps, kept = [], []
    for _ in range(200):
        n = int(generator.integers(30, 200))
        values, costs = generator.normal(size=n), generator.uniform(0.1, 3.0, n)
        budget = float(generator.uniform(0.2, 0.6) * costs.sum())
        ours, theirs = knapsack(values, costs, budget), relaxed(values, costs, budget)
        gaps.append(abs(values @ ours - values @ theirs) / abs(values @ theirs))
        kept.append((values @ (theirs >= WHOLE)) / (values @ theirs))
    yield "linear programme against the fractional knapsack, largest relative gap", max(gaps)
    yield "share of its value that the integer part keeps, least", min(kept)


# ---------------------------------------------------------------------- toys


def _toys(args: argparse.Namespace, claims: list[Row]) -> Iterator[Table]:
    from ._tables import Table

    losses: dict[str, list[float]] = {}
    used: list[list[str]] = []
    yield Table(f"Toys: median loss by number of units, {args.seeds} seeds", {
        "method": "", **{str(n): ".2g" for n in SHOWN},
    }, _grown(args, losses, used))  # fmt: skip
    firefly, new, split = (losses[method][3] for method in METHODS)
    ratios = firefly / new, firefly / split
    shares = ", ".join(f"{sum(k == 'unit' for k in kinds) / max(len(kinds), 1):.0%}" for kinds in used)
    claims += [
        ("firefly at 4 units <= 0.5 x the loss with a random new unit", f"{ratios[0]:.2f} x", ratios[0] <= 0.5),
        ("firefly at 4 units <= 0.2 x the loss of splitting", f"{ratios[1]:.3f} x", ratios[1] <= 0.2),
        ("share of growths that were new units, by stage", shares, None),
    ]


def _grown(args: argparse.Namespace, losses: dict[str, list[float]], used: list[list[str]]) -> Iterator[Row]:
    from ._rbf_toys import students

    growers: tuple[Callable[..., nn.Module], ...] = (_firefly, _new, _split)
    for method, grower in zip(METHODS, growers, strict=True):
        toys = students(range(args.seed, args.seed + args.seeds))
        median: list[float] = []
        for units in range(1, WIDTH + 1):
            toys.train(args.stage)
            median.append(float(toys.losses().median()))
            if units < WIDTH:
                picked: list[str] = []
                toys.take([grower(toys, i, args.seed + 100 * units + i, picked) for i in range(args.seeds)])
                if method == "firefly":
                    used.append(picked)
        losses[method] = median
        yield method, *(median[n - 1] for n in SHOWN)


def _firefly(toys: Any, i: int, seed: int, picked: list[str]) -> nn.Module:
    from landscape.growing.firefly import grow

    found = grow(
        toys.problem(i), number=1, steps=200, lr=1e-2, penalty=0.0, eps=0.1, units=20, start=0.1, spread=1.0, seed=seed,
    )  # fmt: skip
    if found is None:
        return _new(toys, i, seed, picked)
    picked.append(found[1].rows[0]["what"])
    return found[0].model


def _new(toys: Any, i: int, seed: int, _picked: list[str]) -> nn.Module:
    """A random unit with a small random out-weight."""
    from landscape.growing.candidates import Candidates, Choice

    found = Candidates(toys.problem(i), eps=0.1, units=1, splits=False, spread=1.0, seed=seed)
    return found.grown([Choice("unit", "0", 0, 0.0)])[0].model


def _split(toys: Any, i: int, _seed: int, _picked: list[str]) -> nn.Module:
    """The unit of the smallest eigenvalue in two, whatever its sign, by eps = 0.01."""
    from landscape.growing.extremes import lanczos
    from landscape.growing.growth import grow
    from landscape.growing.splits import Split, steepest
    from landscape.growing.splitting import Splitting
    from landscape.growing.units import layers_of

    problem = toys.problem(i)
    layers = layers_of(problem).need()
    splitting = Splitting(problem, layers)
    ends = lanczos(splitting.product, splitting.like(), 20)["0"]
    unit = int(ends.low.argmin())
    low, high = float(ends.low[unit]), float(ends.high[unit])
    return grow(problem, layers, [Split("0", unit, *steepest(ends, unit), low, low, high)], 1e-2)[0].model


# ---------------------------------------------------------------------- tasks


def _tasks(args: argparse.Namespace, claims: list[Row]) -> Iterator[Table]:
    from . import _tasks as tasks
    from ._tables import Table

    grown: dict[str, list[dict[str, Any]]] = {}

    def rows() -> Iterator[Row]:
        for method in tasks.METHODS:
            seeds = range(args.seed, args.seed + args.networks)
            grown[method] = [tasks.trained(method, seed, 3, 8, 20 if args.quick else 400) for seed in seeds]
            yield from tasks.rows({method: grown[method]})

    yield Table(f"Three tasks of permuted digits, 16 units and 8 more a task, {args.networks} seeds", {
        "method": "", "units": ".0f", "test accuracy": ".3f", "of new tasks": ".3f", "forgotten": ".3f", "grown": "",
    }, rows(), "Forgotten: the largest loss of accuracy of a task since it was learned.")  # fmt: skip
    firefly, _only, random, _frozen, tuned = (grown[method] for method in tasks.METHODS)

    def accuracy(runs: list[dict[str, Any]]) -> float:
        return float(statistics.mean(statistics.mean(run["final"]) for run in runs))

    kept, lost, gain = tasks.forgotten(firefly), tasks.forgotten(tuned), accuracy(firefly) - accuracy(random)
    claims += [
        ("tasks grown with masks forget nothing", f"{kept:.3f}", kept == 0),
        ("fine-tuning forgets more than 10 points", f"{lost:.3f}", lost > 0.1),
        ("firefly's units are better than random new ones on the tasks", f"{100 * gain:+.2f} points", gain > 0),
    ]


PARTS: dict[str, Callable[[argparse.Namespace, list[Any]], Iterator[Any]]] = {
    "eigenpairs": _eigenpairs, "toys": _toys, "tasks": _tasks,
}  # fmt: skip
