"""Train a problem with several optimizers and seeds, analyse every run, and compare them in one table.

  landscape compare digits_mlp --optimizers sgd:lr=0.1 adam:lr=0.003 prox_sgd --seeds 3 --out compared
  mpirun -n 4 landscape compare digits_mlp --optimizers "sgd:lr=0.1,momentum=0.9" "adam:lr=0.003,betas=[0.9,0.99]" \\
      "prox_sgd:regularizer=l1,mu=5e-4" --seeds 5 --steps 2000 --checkpoint-every 200 --out compared

Every rank takes the next run that is left: it trains it, computes eigenpairs at --checkpoints (of the preconditioned
Hessian too where the optimizer has a metric) and densities at --spectra. A run that diverges is a row of the table. The
same command goes on where it was stopped, and takes further optimizers or seeds in. The table is printed and kept as
STORE/comparisons/NAME.md, .csv (a row a run) and .json (rows and means); what the runs' jobs said is in NAME.log/.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from landscape.errors import Diverged, LandscapeError, ProblemError

from . import _common, _comparison, _other
from ._comparison import Member


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problem", help="a shipped problem, module:function or file.py:function")
    parser.add_argument("--optimizers", nargs="+", required=True, metavar="NAME[:SETTING=VALUE,...]",
                        help="of torch.optim or landscape/optimizers, each with its settings")  # fmt: skip
    parser.add_argument("--seeds", type=_common.positive, default=3, help="runs of each: seeds 0, 1, ... (default: 3)")
    parser.add_argument("--out", required=True, metavar="STORE", help="directory of the runs")
    parser.add_argument("--name", help="of the comparison (default: the store's)")
    group = parser.add_argument_group("training")
    _common.add_problem_settings(group)
    group.add_argument("--steps", type=_common.positive, default=1000, help="optimizer steps (default: 1000)")
    group.add_argument("--checkpoint-every", type=_common.positive, default=100, metavar="K",
                       help="steps between checkpoints (default: 100)")  # fmt: skip
    group.add_argument("--batch-size", type=_common.natural, metavar="B", help="samples a step, 0 for all")
    group = parser.add_argument_group("analysis")
    group.add_argument("--checkpoints", default="all", metavar="WHICH",
                       help="eigenpairs at: all, last, steps, a range or none (default: all)")  # fmt: skip
    group.add_argument("--spectra", default="last", metavar="WHICH", help="densities at, likewise (default: last)")
    group.add_argument("--top", type=_common.positive, default=5, help="largest eigenpairs (default: 5)")
    group.add_argument("--probes", type=_common.positive, default=4, help="of a density (default: 4)")
    group.add_argument("--iterations", type=_common.positive, default=40, help="of a density (default: 40)")
    group.add_argument("--samples", type=_common.positive, help="fixed class-balanced subset (default: all)")
    group.add_argument("--dtype", choices=("float32", "float64"), help="precision (default: the model's own)")
    _common.add_strategy(group)
    parser.add_argument("--threads", type=_common.positive, help="threads a rank")


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world
    from landscape.distributed.progress import Progress
    from landscape.distributed.tasks import Tasks
    from landscape.records import check_key

    comm = world()
    with comm.together():
        name = check_key(args.name or Path(args.out).resolve().name)
        members, problem = _members(args)
    progress = Progress("compare", len(members), comm, unit="runs")
    tasks = Tasks(members, comm, comm.size)  # one rank a run
    with _common.counting(len(members), "runs", 0, progress) as counter:

        def update(mine: int = 0) -> None:
            counter.done = tasks.finished() + mine
            progress.update(counter.done)

        for member in tasks:
            with _log(args.out, name, member):
                state = _do(args, name, member, problem, tasks.group, comm.size)
            print(f"{member.name}: {state}", file=sys.stderr, flush=True)
            update(1)  # the counter hears of it when the next one is drawn
        tasks.close(update)
    if comm.rank == 0:
        rows = [_comparison.row(member, problem) for member in members]
        place = _comparison.write(args.out, name, rows, _facts(args, comm.size))
        print(Path(f"{place}.md").read_text(encoding="utf-8"), end="")
        print(f"\n{place}.csv has a row a run; look at them with: landscape dashboard {args.out}")
    return 0


def _members(args: argparse.Namespace) -> tuple[list[Member], Any]:
    """The runs, seeds outside so that every optimizer has some early; each optimizer is tried on the problem first."""
    import torch

    from landscape.learning.training import make_optimizer
    from landscape.loss.loading import build_problem

    chosen = _comparison.optimizers(args.optimizers)
    torch.manual_seed(0)
    problem = build_problem(args.problem, dict(args.problem_set))
    for optimizer in chosen:
        make_optimizer(optimizer.name, problem.model, optimizer.settings, problem)
    return [Member(o, seed, args.out) for seed in range(args.seeds) for o in chosen], problem


@contextlib.contextmanager
def _log(store: str, name: str, member: Member) -> Iterator[None]:
    """What the jobs of a run say goes to its file: many of them at once would be no text."""
    place = Path(store) / "comparisons" / f"{name}.log"
    place.mkdir(parents=True, exist_ok=True)
    with (
        open(place / f"{member.name}.txt", "a", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield


# ---------------------------------------------------------------------- one run


def _do(args: argparse.Namespace, name: str, member: Member, problem: Any, group: Any, ranks: int) -> str:
    """Train and analyse a run; what is finished already is skipped by the jobs themselves."""
    try:
        _other.run("train", _training(args, name, member), group)
        _analyse(args, member, problem, group)
    except Diverged as error:
        return str(error).partition(".")[0]
    except LandscapeError as error:
        error.everywhere = ranks == 1  # the other ranks know nothing of it
        raise
    return "done"


def _training(args: argparse.Namespace, name: str, member: Member) -> list[Any]:
    words = [args.problem, "--optimizer", member.optimizer.name, *_other.settings("--set", member.optimizer.settings),
             *_other.settings("--problem-set", dict(args.problem_set)), "--steps", args.steps,
             "--checkpoint-every", args.checkpoint_every, "--seed", member.seed, "--comparison", name,
             "--out", member.root]  # fmt: skip
    return [*words, *_other.given(args, "batch_size", "threads")]


def _analyse(args: argparse.Namespace, member: Member, problem: Any, group: Any) -> None:
    from landscape.stores.run_directory import Run

    run = Run(member.root)
    densities = _steps(run, args.spectra)
    pairs = [s for s in _steps(run, args.checkpoints) if s not in densities]
    common = [member.root, "--top", args.top, *_other.given(args, "samples", "dtype", "threads", "strategy")]
    if densities:
        _other.run("spectrum", [*common, "--checkpoints", _listed(densities), "--probes", args.probes,
                          "--iterations", args.iterations], group)  # fmt: skip
    if pairs:
        _other.run("spectrum", [*common, "--checkpoints", _listed(pairs), "--eigenpairs"], group)
    adaptive = [s for s in sorted({*pairs, *densities}) if _has_metric(run, s, problem)]
    if adaptive:
        _other.run("spectrum", [*common, "--checkpoints", _listed(adaptive), "--eigenpairs", "--operator",
                          "preconditioned"], group)  # fmt: skip


def _steps(run: Any, which: str) -> list[int]:
    from landscape.loss.checkpoints import of_run

    return [] if which == "none" else [checkpoint.step for checkpoint in of_run(run, which)]


def _listed(steps: list[int]) -> str:
    return ",".join(map(str, steps))


def _has_metric(run: Any, step: int, problem: Any) -> bool:
    """Whether the checkpoint holds a diagonal metric of its optimizer."""
    from landscape.engine.curvature import check_checkpoint
    from landscape.loss.checkpoints import Checkpoint

    try:
        Checkpoint(run, step).fit(problem)
        check_checkpoint("preconditioned", problem, Checkpoint(run, step))
    except ProblemError:
        return False
    return True


def _facts(args: argparse.Namespace, ranks: int) -> dict[str, Any]:
    from landscape.evidence import evidence

    settings = {k: v for k, v in vars(args).items() if k not in ("traceback", "out", "name")}
    return evidence(ranks, settings=settings)
