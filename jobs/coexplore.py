"""Explore cells together with their hardware: a front of accuracy against cycles and energy.

  landscape coexplore --out runs/cells
  landscape coexplore --out runs/compared --power 0.5 0 --random --seed 1
  landscape export runs/cells --figure front
  mpirun -n 4 landscape spectrum runs/cells
  landscape train digits_cell --problem-set form=scaled --optimizer prox_sgd --set regularizer=group \\
      --set groups=operations --set factors=runs/cells/factors.json --set mu=0.3 --set metric=identity --set lr=0.2 \\
      --set lr_decay=0 --set rho=0.8 --set rho_decay=0 --steps 230 --out runs/search

Every strength --mu of the group-sparse search on `digits_cell` leaves one cell. The penalty of an operation is times
what it costs on the hardware of the cell before, to the power --power. Of all hardware within --area, that of fewest
cycles is taken for a cell; a cell that needs more than --most-cycles on it is turned away, the others are trained from
new weights. The run --out is the most accurate cell of the front, with the record of all; cells/NN.json are the
architectures, for `--problem-set genotype=`, and factors.json is what operations cost on that cell's hardware.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import ProblemError

from . import _common, _smaller

if TYPE_CHECKING:
    from landscape.learning.cell_exploration import Cells, Found, Hardware
    from landscape.records import Front

OPERATIONS = "skip,maxpool,conv1,conv3,conv5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="RUN", help="directory of the run")
    group = parser.add_argument_group("search")
    _common.add_problem_settings(group)
    group.add_argument("--mu", type=_smaller.threshold, nargs="+", default=[0.15, 0.25, 0.4, 0.6], metavar="MU",
                       help="strengths, a cell each (default: 0.15 0.25 0.4 0.6)")  # fmt: skip
    group.add_argument("--power", type=_smaller.threshold, nargs="+", default=[0.5], metavar="P",
                       help="of the costs in the penalty; 0: the same for all operations (default: 0.5)")  # fmt: skip
    group.add_argument("--random", action="store_true", help="add a random cell of about the cost of each trained one")
    group.add_argument("--steps", type=_common.positive, default=230, help="of a search (default: 230)")
    group.add_argument("--epochs", type=_common.positive, default=12, help="of a training (default: 12)")
    group.add_argument("--seed", type=_common.natural, default=0, help="of weights and batches (default: 0)")
    group = parser.add_argument_group("hardware")
    group.add_argument("--area", type=_common.positive, default=24, help="multipliers and lanes (default: 24)")
    group.add_argument("--most-cycles", type=_common.positive, default=10_000, metavar="N",
                       help="a sample may take (default: 10000)")  # fmt: skip
    parser.add_argument("--threads", type=_common.positive, help="torch's threads")


def run(args: argparse.Namespace) -> int:
    import torch

    from landscape.distributed.parallel import world
    from landscape.evidence import command, commit, now
    from landscape.learning.cell_exploration import Cells, Hardware, record

    if world().rank:
        return 0  # one process explores
    torch.set_num_threads(args.threads or 1)
    _smaller.check_free(args.out)
    hardware = Hardware(args.area, args.most_cycles)
    cells = Cells({"operations": OPERATIONS, **dict(args.problem_set)}, args.seed, args.steps, args.epochs)
    found = _explore(args, cells, hardware)
    front = record(cells, found, hardware, {"command": command(), "commit": commit(), "created": now()})
    if not front.best.any():
        raise ProblemError(f"no cell does {hardware.most_cycles} cycles on an area of {hardware.area}; allow more with "
                           "--most-cycles or --area, or search at other strengths with --mu")  # fmt: skip
    _write(Path(args.out), cells, found, front)
    return 0


def _explore(args: argparse.Namespace, cells: Cells, hardware: Hardware) -> list[Found]:
    from landscape.learning.cell_exploration import explore, judge, random_like

    found = []
    for power in args.power:
        for one in explore(cells, args.mu, hardware, power):
            found.append(_told(one))
    trained = [one for one in found if one.accuracy is not None]
    for i, one in enumerate(trained if args.random else ()):
        found.append(_told(judge(cells, random_like(cells, one, 1000 * args.seed + i), hardware)))
    return found


def _told(one: Found) -> Found:
    if one.cost is None:
        print(f"{one.family}, mu {one.mu:g}: no hardware fits into the area", flush=True)
        return one
    how = "turned away" if one.accuracy is None else f"test accuracy {one.accuracy:.4f}"
    print(f"{one.family}, mu {one.mu:g}: {one.operations} operations, {one.cost.cycles:,} cycles and energy "
          f"{one.cost.energy:,.0f} on {one.design}; {how}", flush=True)  # fmt: skip
    return one


def _write(out: Path, cells: Cells, found: list[Found], front: Front) -> None:
    from landscape.evidence import command, commit, now, versions
    from landscape.learning.cell_exploration import PROBLEM, TRAINING
    from landscape.networks.cell_costs import factors
    from landscape.records import RunInfo
    from landscape.stores.files import to_json, write_text

    best = max((found[number] for number in front.cells[front.best == 1]), key=lambda one: one.accuracy or 0.0)
    assert best.design is not None
    problem, _accuracy = cells.train(best.cell)
    settings: dict[str, Any] = dict(TRAINING)
    run = _smaller.create(out, RunInfo(
        name=out.resolve().name, problem=PROBLEM, problem_settings=cells.final(best.cell), optimizer="Adam",
        settings=settings, every=front.step, size=problem.size, seed=cells.seed, created=now(), finished=now(),
        meta={"versions": versions(), "command": command(), "commit": commit()},
    ), front.step, problem)  # fmt: skip
    run.write(front)
    (out / "cells").mkdir(exist_ok=True)
    for number, one in enumerate(found):
        write_text(out / "cells" / f"{number:02d}.json", to_json({"genotype": one.genotype}) + "\n")
    costs = factors(cells.layers, best.design)
    write_text(out / "factors.json", to_json({"factors": costs, "design": str(best.design)}) + "\n")
    print(f"{out}: written, with {len(found)} cells, {int(front.best.sum())} points on the front")
