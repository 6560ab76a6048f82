"""Trace of the Hessian at a run's checkpoints from few products each, with a 95 % interval: Hutch++.

  landscape trace runs/adam --products 60
  mpirun -n 4 landscape trace runs/adam --checkpoints last --format json

Nothing is stored. `landscape spectrum` gives a narrower interval for more products; this is the quick look.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--products", type=_common.positive, default=60, help="a checkpoint (default: 60)")
    parser.add_argument("--operator", default="hessian", help="of landscape/operators (default: hessian)")
    _common.add_strategy(parser)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    _common.add_checkpoints(parser)
    _common.add_problem(parser)
    _common.add_computing(parser, records=False)


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world
    from landscape.distributed.progress import Progress

    comm = world()
    store, checkpoints = _common.open_checkpoints(args, comm)
    problem, _ = _common.open_problem(store, args, comm)
    note = Progress("trace", 0, comm).note
    products = _common.products_of(args, args.products, len(checkpoints), note)
    rows = []
    if comm.rank == 0 and args.format == "table":
        print(f"{'step':>8}  {'trace':>11}  95 % interval")
    for checkpoint in _common.usable(checkpoints, comm, note):
        with comm.together():
            checkpoint.load_into(problem)
        found = _trace(args, problem, comm, checkpoint, products)
        rows.append({"step": checkpoint.step, "trace": found.value, "low": found.low, "high": found.high})
        if comm.rank == 0 and args.format == "table":
            print(f"{checkpoint.step:>8}  {found.value:>11.5g}  {found.low:.5g} to {found.high:.5g}", flush=True)
    if comm.rank == 0 and args.format == "json":
        print(json.dumps({"operator": args.operator, "products": args.products, "traces": rows}))
    return 0


def _trace(args: argparse.Namespace, problem: Any, comm: Any, checkpoint: Any, products: Any) -> Any:
    from landscape.engine.curvature import operator_at
    from landscape.engine.traces import hutchpp
    from landscape.krylov.probes import probes

    theta = problem.weights()
    options = {"checkpoint": checkpoint, "seed": args.seed, "products": products}
    curvature = operator_at(problem, theta, comm, args.operator, **options)
    draw = partial(probes, size=problem.size, seed=args.seed, part=curvature.part)
    return hutchpp(
        curvature.matvec, lambda numbers: draw(numbers).to(theta), problem.size, args.products,
        curvature.reduce,
    )  # fmt: skip
