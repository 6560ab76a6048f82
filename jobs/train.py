"""Train a problem and record weights, metrics and optimizer state as a run.

  landscape train digits_mlp --optimizer adam --set lr=0.003 --steps 1500 --checkpoint-every 100 --out runs/adam
  landscape train my/problem.py:build --optimizer sgd --set lr=0.1 --set momentum=0.9 --steps 500 --out runs/mine

Training is one process; the jobs on its checkpoints run under mpirun:
  mpirun -n 4 landscape spectrum runs/adam

A killed training goes on with the same command and ends with the same weights. A larger --steps trains longer.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

from landscape.errors import Diverged, ProblemError, Stopped

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problem", help="a shipped problem, module:function or file.py:function")
    parser.add_argument("--optimizer", default="sgd", help="of torch.optim or landscape/optimizers (default: sgd)")
    parser.add_argument("--set", metavar="NAME=VALUE", type=_common.assignment, action="append", default=[],
                        help="a setting of the optimizer, e.g. lr=0.1; repeat for more")  # fmt: skip
    _common.add_problem_settings(parser)
    parser.add_argument("--steps", type=_common.positive, default=1000, help="optimizer steps (default: 1000)")
    parser.add_argument("--checkpoint-every", type=_common.positive, default=100, metavar="K",
                        help="steps between checkpoints (default: 100)")  # fmt: skip
    parser.add_argument("--batch-size", type=_common.natural, metavar="B",
                        help="samples a step, 0 for all (default: 64)")  # fmt: skip
    parser.add_argument("--seed", type=_common.natural, default=0, help="of weights and mini-batches (default: 0)")
    parser.add_argument("--comparison", metavar="NAME", help="of the comparison that the run belongs to")
    parser.add_argument("--norms", action="store_true",
                        help="record norms of gradient and update of every step, to see what came first")  # fmt: skip
    parser.add_argument("--name", help="shown in tables (default: the directory's name)")
    parser.add_argument("--out", required=True, metavar="RUN", help="directory of the new run")
    parser.add_argument("--threads", type=_common.positive, help="torch's threads")


def run(args: argparse.Namespace, comm: Any = None) -> int:
    """Train on the first rank of `comm` (all ranks of the job)."""
    import torch

    from landscape.distributed.parallel import set_threads, world
    from landscape.distributed.progress import Progress
    from landscape.learning.training import MiniBatches, make_optimizer
    from landscape.loss.loading import build_problem

    comm = comm or world()
    if comm.rank:
        return 0  # one process trains; the others have nothing to share it with
    if comm.size > 1:
        Progress("train", 0, comm).note("train uses one process; the other ranks are idle")
    set_threads(args.threads, comm)
    settings, problem_settings = dict(args.set), dict(args.problem_set)
    torch.manual_seed(args.seed)
    problem = build_problem(args.problem, problem_settings)
    optimizer = make_optimizer(args.optimizer, problem.model, settings, problem)
    batches = MiniBatches(problem, args.batch_size, args.seed)
    with _recorder(args, problem, optimizer, problem_settings, batches.samples) as recorder:
        return _train(args, problem, optimizer, recorder, batches, comm)


def _recorder(
    args: argparse.Namespace, problem: Any, optimizer: Any, problem_settings: dict[str, Any], batch_size: int
) -> Any:
    from landscape.evidence import check_settings
    from landscape.learning.recorder import Recorder, hyperparameters
    from landscape.loss.fingerprint import fingerprint
    from landscape.stores.run_directory import Run

    decided = {"problem": args.problem, "problem settings": problem_settings, "data": fingerprint(problem),
               "optimizer": type(optimizer).__name__, **hyperparameters(optimizer), "--seed": args.seed,
               "--batch-size": batch_size, "--checkpoint-every": args.checkpoint_every}  # fmt: skip
    if (Path(args.out) / "run.json").exists():
        check_settings(f"run '{args.out}'", Run(args.out).info.meta.get("training"), decided,
                       "Give another directory with --out, or the old values to go on with this one")  # fmt: skip
    return Recorder(
        args.out, problem=args.problem, problem_settings=problem_settings, model=problem.model, optimizer=optimizer,
        every=args.checkpoint_every, seed=args.seed, name=args.name, resume=True,
        meta={"training": decided, "batch_size": batch_size, **_comparison(args)},
    )  # fmt: skip


def _comparison(args: argparse.Namespace) -> dict[str, Any]:
    return {} if args.comparison is None else {"comparison": args.comparison}


def _train(args: argparse.Namespace, problem: Any, optimizer: Any, recorder: Any, batches: Any, comm: Any) -> int:
    from landscape.cli import deferring
    from landscape.distributed.progress import Progress
    from landscape.learning.training import Norms, evaluation, train_step

    begun = recorder.steps
    if begun >= args.steps:
        print(f"{args.out} is trained already: {begun} steps, {len(recorder.run.checkpoint_steps())} checkpoints")
        return 0
    _note(recorder, **_comparison(args))
    if "diverged" in recorder.run.info.meta:
        raise _diverged(args, recorder)
    progress = Progress("train", args.steps, comm, unit="steps", run=recorder.run, skipped=begun)
    measure = Norms(problem.model) if args.norms else dict
    if begun:
        progress.note(f"resume: {begun} of {args.steps} steps found in {args.out}")
    else:
        recorder.log(**evaluation(problem))
    seconds = 0.0
    try:
        with deferring() as asked:
            for step in range(begun, args.steps):
                started = time.perf_counter()
                loss = train_step(problem, optimizer, batches.at(step))
                seconds += time.perf_counter() - started
                if not math.isfinite(loss):
                    _note(recorder, diverged={"step": step + 1, "loss": str(loss)})
                    raise _diverged(args, recorder)
                due = (step + 1) % args.checkpoint_every == 0 or step + 1 == args.steps
                found = evaluation(problem) if due else {}
                recorder.step(loss=loss, **measure(), **found)
                progress.update(step + 1, loss=loss)
                stopped = asked()
                if stopped is not None:
                    recorder.save_state()  # only between two steps do weights, optimizer and metrics belong together
                    raise stopped
    except Stopped as error:
        progress.close("stopped")
        safe = f"{recorder.saved_steps} of {args.steps} steps are safe"
        raise Stopped(f"{error}; {safe}; the same command goes on") from None
    except ProblemError:
        progress.close("failed")
        raise
    _note(recorder, step_seconds=seconds / (args.steps - begun))
    progress.close()
    print(_summary(args, recorder))
    return 0


def _note(recorder: Any, **facts: Any) -> None:
    recorder.run.update_info(meta=recorder.run.info.meta | facts)


def _diverged(args: argparse.Namespace, recorder: Any) -> Diverged:
    found = recorder.run.info.meta["diverged"]
    return Diverged(f"training diverged: the loss is {found['loss']} at step {found['step']}. The checkpoints before "
                    f"it are kept in {args.out}; try a smaller --set lr=... in another directory")  # fmt: skip


def _summary(args: argparse.Namespace, recorder: Any) -> str:
    metrics = recorder.run.metrics()
    last = {k: float(v[-1]) for k, v in metrics.items() if k != "step" and len(v) and math.isfinite(float(v[-1]))}
    numbers = "  ".join(f"{k} {v:.4g}" for k, v in last.items())
    return f"{args.out}: {recorder.steps} steps, {numbers}"
