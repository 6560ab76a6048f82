"""A smaller network as a run of its own, for the jobs that make one of another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import UsageError

if TYPE_CHECKING:
    from landscape.loss.problem import Problem
    from landscape.records import RunInfo
    from landscape.stores.run_directory import Run


def threshold(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text}")
    return number


def check_free(out: str | None) -> None:
    """Refuse a directory that holds a run.

    Raises:
        UsageError: it does.
    """
    if out is not None and (Path(out) / "run.json").exists():
        raise UsageError(f"'{out}' holds a run already; give another directory with --out")


def source_and_steps(args: argparse.Namespace) -> tuple[Run, list[int]]:
    """The run and the steps of --checkpoints; one step alone where there is an --out, which must be free.

    Raises:
        UsageError: several steps for one --out, or it holds a run.
    """
    from landscape.loss.checkpoints import of_run
    from landscape.stores.run_directory import Run

    source = Run(args.run)
    steps = [checkpoint.step for checkpoint in of_run(source, args.checkpoints)]
    if args.out is not None and len(steps) > 1:
        raise UsageError(f"--out takes one checkpoint, --checkpoints names {len(steps)}; say one, --checkpoints STEP")
    check_free(args.out)
    return source, steps


def problem_at(source: Run, step: int | None) -> Problem:
    """The problem of a run with the weights of a checkpoint, the last one by default."""
    from landscape.loss.checkpoints import of_run
    from landscape.loss.loading import build_problem

    (checkpoint,) = of_run(source, "last" if step is None else str(step))
    problem = build_problem(source.info.problem, source.info.problem_settings)
    checkpoint.load_into(problem)
    return problem


def write(
    out: Path, source: Run, step: int, smaller: Problem, problem: str, settings: dict[str, Any], meta: dict[str, Any]
) -> None:
    """The smaller network as a finished run of one checkpoint, which says where it comes from."""
    from landscape.evidence import command, commit, now, versions
    from landscape.records import RunInfo

    create(out, RunInfo(
        name=out.resolve().name, problem=problem, problem_settings=settings, optimizer=source.info.optimizer,
        settings=source.info.settings, every=source.info.every, size=smaller.size, seed=source.info.seed,
        created=now(), finished=now(),
        meta={"versions": versions(), "command": command(), "commit": commit(), **meta},
    ), step, smaller)  # fmt: skip


def create(out: Path, info: RunInfo, step: int, problem: Problem) -> Run:
    """A finished run of one checkpoint: the problem's present weights."""
    from landscape.evidence import now
    from landscape.loss.checkpoints import write_tensors
    from landscape.stores.files import new_directory, to_json
    from landscape.stores.run_directory import Run

    made = Run.create(out, info)
    loss = problem.evaluate(problem.weights())["loss"]
    with new_directory(made.checkpoint_directory(step)) as part:
        write_tensors(part / "weights.safetensors", problem.state())
        (part / "meta.json").write_text(to_json({"step": step, "loss": loss, "created": now(), "lr": None}))
    return made
