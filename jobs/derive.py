"""Read the architecture off a search: which operations of the cells are left, and the network of those alone.

  landscape train digits_cell --optimizer prox_sgd --set regularizer=group --set groups=operations \\
      --set weighting=div --set mu=10 --set metric=identity --set lr=0.03 --set lr_decay=0 --set rho=0.8 \\
      --set rho_decay=0 --steps 420 --checkpoint-every 42 --out runs/search
  landscape derive runs/search --out runs/cell
  landscape export runs/search --figure architecture
  landscape train digits_cell --problem-set genotype=runs/cell/genotype.json --problem-set form=final \\
      --optimizer adam --set lr=0.003 --steps 1150 --out runs/from-scratch
  landscape train landscape.jobs.derive:build --problem-set run=runs/search --set lr=0.05 --steps 500 --out runs/on
  mpirun -n 4 landscape spectrum runs/cell

Every checkpoint gets a record of the norm of every operation and of what is kept: all whose norm over all tied
tensors is above the threshold, or with --one-per-edge the largest of each edge. --out takes the last one: a run with
the weights of the search, whose outputs are compared with the searched network's, and genotype.json. The last two
trainings start from new weights and go on from the inherited ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _common, _smaller

if TYPE_CHECKING:
    from landscape.loss.problem import Problem
    from landscape.networks.derivation import Derived
    from landscape.records import Architecture
    from landscape.stores.run_directory import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the search")
    parser.add_argument("--threshold", type=_smaller.threshold, default=1e-5, metavar="T",
                        help="largest norm of a pruned operation (default: 1e-5)")  # fmt: skip
    parser.add_argument("--one-per-edge", action="store_true", help="keep the largest operation of each edge alone")
    _common.add_checkpoints(parser)
    parser.add_argument("--out", metavar="NEW", help="directory of the derived run (default: only records)")


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world
    from landscape.evidence import command, commit, now
    from landscape.loss.checkpoints import of_run
    from landscape.loss.loading import build_problem
    from landscape.networks.derivation import architecture
    from landscape.stores.run_directory import Run

    if world().rank:
        return 0  # one process derives
    source = Run(args.run)
    _smaller.check_free(args.out)
    problem = build_problem(source.info.problem, source.info.problem_settings)
    checkpoints = of_run(source, args.checkpoints)
    for checkpoint in checkpoints:
        checkpoint.load_into(problem)
        evidence = {"command": command(), "commit": commit(), "created": now()}
        record = architecture(problem, checkpoint.step, args.threshold, args.one_per_edge, evidence)
        source.write(record)
        print(f"step {checkpoint.step}: {int(record.kept.sum())} of {len(record.kept)} operations kept")
    found = _derive(source, problem, record)
    print(f"  {_listed(found)}")
    print(f"  {found.before:,} -> {found.after:,} weights; outputs change by {found.zeroed:.1e} through setting what "
          f"is pruned to zero, by {found.change:.1e} through leaving it out")  # fmt: skip
    print(f"  {_accuracies(problem, found.problem)}")
    if args.out is not None:
        _write(args, source, record, found)
    return 0


def build(run: str, threshold: float = 1e-5, step: int | None = None, one_per_edge: bool = False) -> Problem:
    """The network derived from a search at a checkpoint (the last one by default), with the weights it had there."""
    from landscape.loss.checkpoints import of_run
    from landscape.loss.loading import build_problem
    from landscape.networks.derivation import architecture
    from landscape.stores.run_directory import Run

    source = Run(run)
    (checkpoint,) = of_run(source, "last" if step is None else str(step))
    problem = build_problem(source.info.problem, source.info.problem_settings)
    checkpoint.load_into(problem)
    return _derive(source, problem, architecture(problem, checkpoint.step, threshold, one_per_edge)).problem


def _derive(source: Run, problem: Problem, record: Architecture) -> Derived:
    from landscape.loss.loading import build_problem
    from landscape.networks.derivation import derive

    def again(changed: Mapping[str, Any]) -> Problem:
        return build_problem(source.info.problem, {**source.info.problem_settings, **changed})

    return derive(problem, record, again)


def _listed(found: Derived) -> str:
    return "; ".join(
        f"{kind}: " + (", ".join(f"{s}-{t} {name}" for s, t, name in edges) or "nothing")
        for kind, edges in found.genotype.items()
    )


def _accuracies(*problems: Problem) -> str:
    part = "test" if problems[0].has_test else "train"
    before, after = (p.evaluate(p.weights(), part).get("accuracy") for p in problems)
    return "" if before is None or after is None else f"{part} accuracy {before:.4f} -> {after:.4f}"


def _write(args: argparse.Namespace, source: Run, record: Architecture, found: Derived) -> None:
    from landscape.stores.files import to_json, write_text

    origin = {"run": str(Path(source.root).resolve()), "step": record.step, "threshold": record.threshold,
              "read_off": record.read_off}  # fmt: skip
    settings = {**source.info.problem_settings, "genotype": found.genotype}
    _smaller.write(Path(args.out), source, record.step, found.problem, source.info.problem, settings,
                   {"derived": {**origin, "before": found.before, "change": found.change}})  # fmt: skip
    write_text(Path(args.out) / "genotype.json", to_json({"genotype": found.genotype, "derived": origin}) + "\n")
    print(f"{args.out}: written, with genotype.json")
