"""Write a network's layers as two thin ones each where that is smaller: the same function, as a run of its own.

  landscape train lenet --optimizer dlrt --set tau=0.15 --steps 1000 --out runs/lowrank
  landscape factorise runs/lowrank --out runs/thin
  mpirun -n 4 landscape spectrum runs/thin
  landscape factorise runs/adam --tau 0.1 --out runs/cut
  landscape train landscape.jobs.factorise:build --problem-set run=runs/adam --problem-set tau=0.1 --set lr=0.05 \\
      --steps 500 --out runs/refined

A layer of rank r becomes x -> K (V^T x) + b with r (m + n) weights in place of m n. The rank is the smallest with
|W - K V^T| <= tau |W| in the Frobenius norm: of a low-rank training its own, at larger --tau that of a truncation.
The last line trains the thin network further.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _common, _smaller

if TYPE_CHECKING:
    from landscape.loss.problem import Problem
    from landscape.networks.factored import Factorised
    from landscape.stores.run_directory import Run

TAU = 1e-5  # above the rounding of float32, below what a weight is worth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--tau", type=_smaller.threshold, default=TAU,
                        help=f"largest relative error of a layer's weight (default: {TAU:g})")  # fmt: skip
    _common.add_checkpoints(parser, "last")
    parser.add_argument("--out", metavar="NEW", help="directory of the thin run (default: only say the ranks)")


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world

    if world().rank:
        return 0  # one process factorises
    source, steps = _smaller.source_and_steps(args)
    for step in steps:
        found = _factorise(source, step, args.tau)
        print(f"step {step}: {found}; largest error of a weight {found.error:.1e}")
        if args.out is not None:
            _write(args, source, step, found)
    return 0


def build(run: str, tau: float = TAU, step: int | None = None) -> Problem:
    """The problem of a run with its network factored at a checkpoint (the last one by default)."""
    from landscape.stores.run_directory import Run

    return _factorise(Run(run), step, tau).problem


def _factorise(source: Run, step: int | None, tau: float) -> Factorised:
    from landscape.networks.factored import factorise

    return factorise(_smaller.problem_at(source, step), tau)


def _write(args: argparse.Namespace, source: Run, step: int, found: Factorised) -> None:
    origin: dict[str, Any] = {"run": str(Path(source.root).resolve()), "step": step, "tau": args.tau}
    _smaller.write(
        Path(args.out), source, step, found.problem, "landscape.jobs.factorise:build", origin,
        {"factorised": {**origin, "before": found.before, "ranks": found.ranks}},
    )  # fmt: skip
    print(f"{args.out}: written")
