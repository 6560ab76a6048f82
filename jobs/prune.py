"""Cut the dead units out of a trained network: a smaller one with the same outputs, as a run of its own.

  landscape train digits_mlp --optimizer prox_sgd --set regularizer=group --set mu=0.01 --set mean_metric=true \\
      --set vectors=false --set lr=0.05 --set lr_decay=0 --set rho=0.1 --set rho_decay=0 --steps 600 --out runs/sparse
  landscape prune runs/sparse --threshold 1e-4 --out runs/small
  mpirun -n 4 landscape spectrum runs/small
  landscape train landscape.jobs.prune:build --problem-set run=runs/sparse --problem-set threshold=1e-4 --set lr=0.05 \\
      --steps 500 --out runs/retrained

A unit (neuron, channel) is dead when all weights into it are within the threshold of zero. Its constant output goes
into the biases of the layers that read it. The last line trains the smaller network further.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _common

if TYPE_CHECKING:
    from landscape.problem import Problem
    from landscape.pruning import Pruned
    from landscape.stores.run_directory import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--threshold", type=_threshold, default=1e-4, metavar="T",
                        help="largest weight that counts as zero (default: 1e-4)")  # fmt: skip
    _common.add_checkpoints(parser, "last")
    parser.add_argument("--out", metavar="NEW", help="directory of the smaller run (default: only say what would go)")


def _threshold(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text}")
    return number


def run(args: argparse.Namespace) -> int:
    from landscape.checkpoints import of_run
    from landscape.errors import UsageError
    from landscape.parallel import world
    from landscape.stores.run_directory import Run

    if world().rank:
        return 0  # one process prunes
    source = Run(args.run)
    steps = [checkpoint.step for checkpoint in of_run(source, args.checkpoints)]
    if args.out is not None and len(steps) > 1:
        raise UsageError(f"--out takes one checkpoint, --checkpoints names {len(steps)}; networks of several sizes are "
                         "several runs")  # fmt: skip
    if args.out is not None and (Path(args.out) / "run.json").exists():
        raise UsageError(f"'{args.out}' holds a run already; give another directory with --out")
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
    from landscape.checkpoints import of_run
    from landscape.loading import build_problem
    from landscape.pruning import prune

    (checkpoint,) = of_run(source, "last" if step is None else str(step))
    problem = build_problem(source.info.problem, source.info.problem_settings)
    checkpoint.load_into(problem)
    return prune(problem, threshold)


def _write(args: argparse.Namespace, source: Run, step: int, found: Pruned) -> None:
    """The smaller network as a finished run of one checkpoint, which says where it comes from."""
    from landscape.checkpoints import write_tensors
    from landscape.evidence import command, commit, now, versions
    from landscape.records import RunInfo
    from landscape.stores.files import new_directory, to_json
    from landscape.stores.run_directory import Run

    origin: dict[str, Any] = {"run": str(Path(source.root).resolve()), "step": step, "threshold": args.threshold}
    info = RunInfo(
        name=Path(args.out).resolve().name, problem="landscape.jobs.prune:build", problem_settings=origin,
        optimizer=source.info.optimizer, settings=source.info.settings, every=source.info.every,
        size=found.after, seed=source.info.seed, created=now(), finished=now(),
        meta={"versions": versions(), "command": command(), "commit": commit(),
              "pruned": {**origin, "before": found.before, "units": found.removed, "stayed": found.stayed}},
    )  # fmt: skip
    made = Run.create(Path(args.out), info)
    loss = found.problem.evaluate(found.problem.weights())["loss"]
    with new_directory(made.checkpoint_directory(step)) as part:
        write_tensors(part / "weights.safetensors", found.problem.state())
        (part / "meta.json").write_text(to_json({"step": step, "loss": loss, "created": now(), "lr": None}))
    print(f"{args.out}: written")
