"""Early-stopped winning tickets: the support that DessiLBI has found by a checkpoint, as a sparse network to train.

  landscape train digits_mlp --problem-set hidden=[100,100] --optimizer dessilbi --steps 1840 --checkpoint-every 460 \\
      --out runs/lbi
  landscape ticket runs/lbi
  landscape train landscape.jobs.ticket:build --problem-set run=runs/lbi --problem-set step=1380 --set lr=0.1 \\
      --set momentum=0.9 --steps 920 --out runs/ticket
  landscape ticket runs/lbi --checkpoints 1380 --out runs/at-the-start
  mpirun -n 4 landscape spectrum runs/ticket

The network of `landscape.jobs.ticket:build` has the initial weights of the run and computes with those of the mask
alone: what is zero stays zero under every optimizer. by=support takes the support of Gamma, by=magnitude as many of
the largest weights of every layer (of the last checkpoint of the run `ranked`, where it is named, as one-shot pruning
does), by=random as many drawn by `seed`. --out writes it, untrained, as a run of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _common, _smaller

if TYPE_CHECKING:
    from landscape.loss.problem import Problem
    from landscape.networks.tickets import Masks
    from landscape.stores.run_directory import Run

BY = ("support", "magnitude", "random")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of a run of dessilbi")
    _common.add_checkpoints(parser)
    parser.add_argument("--by", choices=BY, default="support", help="which weights are kept (default: support)")
    parser.add_argument("--ranked", metavar="RUN", help="by magnitude: of this run's last checkpoint (default: RUN's)")
    parser.add_argument("--seed", type=_common.natural, default=0, help="of a random mask (default: 0)")
    parser.add_argument("--out", metavar="NEW", help="directory of the untrained ticket, a run (default: only say)")


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world

    if world().rank:
        return 0  # there is nothing to share
    source, steps = _smaller.source_and_steps(args)
    settings: dict[str, Any] = {"run": str(Path(source.root).resolve()), "by": args.by, "seed": args.seed}
    if args.ranked is not None:
        settings["ranked"] = str(Path(args.ranked).resolve())
    for step in steps:
        print(_told(source, step, settings))
        if args.out is not None:
            ticket = build(step=step, **settings)
            kept = {name: int(m.sum()) for name, m in _masks(source, step, args.by, args.ranked, args.seed).items()}
            _smaller.write(Path(args.out), source, 0, ticket, "landscape.jobs.ticket:build", {**settings, "step": step},
                           {"ticket": {**settings, "step": step, "kept": kept}})  # fmt: skip
            print(f"{args.out}: written")
    return 0


def build(run: str, step: int | None = None, by: str = "support", ranked: str | None = None, seed: int = 0) -> Problem:
    """The problem of a run with the ticket of a checkpoint (the last one by default) at the run's initial weights.

    Args:
        run: directory of a run of dessilbi.
        step: the checkpoint whose support gives the mask, or the number of weights a layer.
        by: support, magnitude or random.
        ranked: for by=magnitude, the run whose last weights are ranked (default: those of the checkpoint).
        seed: of a random mask.
    """
    from landscape.errors import ProblemError
    from landscape.loss.checkpoints import of_run
    from landscape.loss.loading import build_problem
    from landscape.networks.tickets import masked
    from landscape.stores.run_directory import Run

    source = Run(run)
    first = of_run(source, "first")[0]
    if first.step != 0:
        raise ProblemError(f"'{run}' has no checkpoint of its initial weights, step 0; its first is {first.step}")
    problem = build_problem(source.info.problem, source.info.problem_settings)
    return masked(problem, first.state(), _masks(source, step, by, ranked, seed))


def _masks(source: Run, step: int | None, by: str, ranked: str | None, seed: int) -> Masks:
    from landscape.errors import UsageError
    from landscape.loss.checkpoints import of_run
    from landscape.networks.tickets import by_lot, largest, structured, support
    from landscape.stores.run_directory import Run

    if by not in BY:
        raise UsageError(f"by must be one of {', '.join(BY)}, got '{by}'")
    (checkpoint,) = of_run(source, "last" if step is None else str(step))
    state = checkpoint.optimizer_state()
    masks = support(state)
    rows = structured(state, masks)
    if by == "magnitude":
        of = checkpoint if ranked is None else of_run(Run(ranked), "last")[0]
        return largest(of.state(), masks, rows)
    return masks if by == "support" else by_lot(masks, rows, seed)


def _told(source: Run, step: int, settings: dict[str, Any]) -> str:
    """What a checkpoint's mask keeps, and the accuracy of its weights and of those within the mask."""
    from landscape.loss.checkpoints import of_run
    from landscape.loss.loading import build_problem
    from landscape.networks.tickets import share, zeroed

    (checkpoint,) = of_run(source, str(step))
    if step == 0 and not checkpoint.optimizer_state():
        return "step 0: the support is still empty"
    masks = _masks(source, step, settings["by"], settings.get("ranked"), settings["seed"])
    problem = build_problem(source.info.problem, source.info.problem_settings)
    weights = checkpoint.state()
    found = []
    for state in (weights, zeroed(weights, masks)):
        problem.load(state)
        measured = problem.evaluate(problem.weights(), "test" if problem.has_test else "train")
        found.append("  ".join(f"{name} {value:.4g}" for name, value in measured.items()))
    layers = ", ".join(f"{name.removesuffix('.weight')} {int(m.sum()):,} of {m.numel():,}" for name, m in masks.items())
    return f"step {step}: {100 * share(masks):.2f} % kept ({layers})\n  W: {found[0]}\n  W within it: {found[1]}"
