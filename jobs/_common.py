"""Arguments and small steps that several jobs share; no job imports another."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from landscape.errors import Stopped

if TYPE_CHECKING:
    from landscape.parallel import Comm
    from landscape.problem import Problem
    from landscape.stores.run_directory import Run

# ---------------------------------------------------------------------- arguments


def positive(text: str) -> int:
    """An integer of at least 1."""
    return _at_least(text, 1)


def natural(text: str) -> int:
    """An integer of at least 0."""
    return _at_least(text, 0)


def _at_least(text: str, low: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number") from None
    if number < low:
        raise argparse.ArgumentTypeError(f"must be at least {low}, got {number}")
    return number


def assignment(text: str) -> tuple[str, Any]:
    """'lr=0.1' as ('lr', 0.1): the value is JSON (numbers, true, false, null, lists) or else plain text."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' must look like name=value")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, {"True": True, "False": False, "None": None}.get(value, value)


def add_problem(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("problem")
    group.add_argument("--problem", help="problem in place of the recorded one: module:function or file.py:function")
    add_problem_settings(group)


def add_problem_settings(parser: Any) -> None:
    parser.add_argument(
        "--problem-set", metavar="NAME=VALUE", type=assignment, action="append", default=[],
        help="a setting of the problem; repeat for more",
    )  # fmt: skip


def add_computing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("computing")
    group.add_argument("--samples", type=positive, help="fixed class-balanced subset of the data (default: all)")
    group.add_argument("--dtype", choices=("float32", "float64"), help="precision (default: the model's own)")
    group.add_argument("--seed", type=natural, default=0, help="of everything random (default: 0)")
    group.add_argument("--threads", type=positive, help="threads a rank (default: 1 under mpirun, else torch's choice)")
    group.add_argument("--overwrite", action="store_true", help="compute finished records again")


def add_checkpoints(parser: argparse.ArgumentParser, default: str = "all") -> None:
    parser.add_argument(
        "--checkpoints", default=default, metavar="WHICH",
        help=f"all, last, first, steps 0,100,200 or a range 100:500:50 (default: {default})",
    )


# ---------------------------------------------------------------------- steps


def problem_of(run: Run, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Name and settings of the problem: those of the run, unless the command line says otherwise."""
    changes = dict(args.problem_set)
    if args.problem is not None:
        return args.problem, changes
    return run.info.problem, {**run.info.problem_settings, **changes}


def open_problem(run: Run, args: argparse.Namespace, comm: Comm) -> tuple[Problem, dict[str, Any]]:
    """The run's problem as the command line wants it, and the settings that decide its numbers."""
    import torch

    from landscape.loading import build_problem
    from landscape.parallel import set_threads

    set_threads(args.threads, comm)
    name, settings = problem_of(run, args)
    with comm.together():
        problem = build_problem(name, settings)
        if args.samples is not None:
            problem = problem.subset(args.samples, args.seed)
        if args.dtype is not None:
            problem = problem.to(dtype=getattr(torch, args.dtype))
    decided = {
        "problem": name, "problem_settings": settings, "samples": problem.samples, "seed": args.seed,
        "dtype": str(problem.dtype).removeprefix("torch."),
    }  # fmt: skip
    return problem, decided


def not_finite(checkpoint: Any) -> str | None:
    """A sentence when a checkpoint holds NaN or infinite weights."""
    import torch

    state = checkpoint.state()
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            return (
                f"step {checkpoint.step} of '{checkpoint.run.root}' is skipped: {bad} of {value.numel()} values of "
                f"'{name}' are NaN or infinite, training diverged before it"
            )
    return None


class Counter:
    """How many pieces of a job are on disk."""

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self.total, self.unit, self.done = total, unit, done


@contextlib.contextmanager
def counting(total: int, unit: str, done: int = 0) -> Iterator[Counter]:
    """A stopped job says what is safe."""
    counter = Counter(total, unit, done)
    try:
        yield counter
    except Stopped as error:
        raise Stopped(
            f"{error}; {counter.done} of {counter.total} {unit} are safe; the same command goes on"
        ) from None
