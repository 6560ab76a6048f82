"""Cut the dead units out of a trained network: a smaller one with the same outputs, as a run of its own.

  landscape train digits_mlp --optimizer prox_sgd --set regularizer=group --set mu=0.01 --set mean_metric=true \\
      --set vectors=false --set lr=0.05 --set lr_decay=0 --set rho=0.1 --set rho_decay=0 --steps 600 --out runs/sparse
  landscape prune runs/sparse --threshold 1e-4 --out runs/small
  mpirun -n 4 landscape spectrum runs/small
  landscape train landscape.jobs.prune:build --problem-set run=runs/sparse --problem-set threshold=1e-4 --set lr=0.05 \\
      --steps 500 --out runs/retrained

A unit (neuron, channel, attention head) is dead when all weights into it are within the threshold of zero. Its constant
output goes into the biases of the layers that read it. The last line trains the smaller network further.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _common, _smaller

if TYPE_CHECKING:
    from landscape.loss.problem import Problem
    from landscape.networks.pruning import Pruned
    from landscape.stores.run_directory import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--threshold", type=_smaller.threshold, default=1e-4, metavar="T",
                        help="largest weight that counts as zero (default: 1e-4)")  # fmt: skip
    _common.add_checkpoints(parser, "last")
    parser.add_argument("--out", metavar="NEW", help="directory of the smaller run (default: only say what would go)")


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world

    if world().rank:
        return 0  # one process prunes
    source, steps = _smaller.source_and_steps(args)
    for step in steps:
        found = _prune(source, step, args.threshold)
        print(f"step {step}: {found}")
        print(f"  outputs change by {found.zeroed:.1e} through weights set to zero, by {found.change:.1e} through "
              f"cutting{f'; {found.stayed} dead units had to stay' if found.stayed else ''}")  # fmt: skip
        if args.out is not None:
            _write(args, source, step, found)
    return 0


def build(run: str, threshold: float = 1e-4, step: int | None = None) -> Problem:
    """The problem of a run with its network pruned at a checkpoint (the last one by default)."""
    from landscape.stores.run_directory import Run

    return _prune(Run(run), step, threshold).problem


def _prune(source: Run, step: int | None, threshold: float) -> Pruned:
    from landscape.networks.pruning import prune

    return prune(_smaller.problem_at(source, step), threshold)


def _write(args: argparse.Namespace, source: Run, step: int, found: Pruned) -> None:
    origin: dict[str, Any] = {"run": str(Path(source.root).resolve()), "step": step, "threshold": args.threshold}
    _smaller.write(
        Path(args.out), source, step, found.problem, "landscape.jobs.prune:build", origin,
        {"pruned": {**origin, "before": found.before, "units": found.removed, "stayed": found.stayed}},
    )  # fmt: skip
    print(f"{args.out}: written")
