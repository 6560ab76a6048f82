"""Arguments and small steps that several jobs share; no job imports another."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from landscape.errors import LandscapeError, Stopped

if TYPE_CHECKING:
    from landscape.distributed.parallel import Comm
    from landscape.distributed.progress import Progress
    from landscape.loss.problem import Problem
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


def number_that(what: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """A reader of numbers that fit; `what` they must be stands in the refusal of others."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if fits(number := float(text)):
                return number
        raise argparse.ArgumentTypeError(f"must be {what}, got '{text}'")

    return read


above_zero = number_that("a number above 0", lambda x: 0 < x < math.inf)


def assignment(text: str) -> tuple[str, Any]:
    """'lr=0.1' as ('lr', 0.1): the value is JSON (numbers, true, false, null, lists), a number or else plain text."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' must look like name=value")
    for read in (json.loads, float):  # JSON has no '.5', no 'nan' and no 'inf'
        with contextlib.suppress(ValueError):
            return name, read(value)
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


def add_computing(parser: argparse.ArgumentParser, *, records: bool = True) -> None:
    group = parser.add_argument_group("computing")
    group.add_argument("--samples", type=positive, help="fixed class-balanced subset of the data (default: all)")
    group.add_argument("--dtype", choices=("float32", "float64"), help="precision (default: the model's own)")
    group.add_argument("--device", help="cpu, cuda or cuda:N (default: the model's own)")
    group.add_argument("--seed", type=natural, default=0, help="of everything random (default: 0)")
    group.add_argument("--threads", type=positive, help="threads a rank (default: OMP_NUM_THREADS or 1)")
    if records:
        group.add_argument("--overwrite", action="store_true", help="compute finished records again")


def add_strategy(group: Any) -> None:
    group.add_argument(
        "--strategy", default="auto",
        help="how products are computed: kept, batched, forward, forward_batched, linearised or compiled (default: "
             "the fastest of them, measured)",
    )  # fmt: skip


def add_checkpoints(parser: argparse.ArgumentParser, default: str = "all") -> None:
    parser.add_argument(
        "--checkpoints", default=default, metavar="WHICH",
        help=f"all, last, first, steps 0,100,200 or a range 100:500:50 (default: {default})",
    )


SPECTRUM_OPTIONS = ("operator", "probes", "iterations", "block", "top", "bottom", "tolerance")


def add_spectrum(parser: argparse.ArgumentParser, *, probes: int = 4, iterations: int = 50) -> Any:
    """The options of `spectrum_at`; returns their group."""
    group = parser.add_argument_group("spectrum")
    group.add_argument("--operator", default="hessian",
                       help="of landscape/operators or a sum: 'hessian - 0.5*fisher' (default: hessian)")  # fmt: skip
    group.add_argument("--probes", type=positive, default=probes, help=f"random start vectors (default: {probes})")
    group.add_argument("--iterations", type=positive, default=iterations,
                       help=f"Lanczos iterations of the density (default: {iterations})")  # fmt: skip
    group.add_argument("--block", type=positive, default=4, help="probes multiplied at once (default: 4)")
    group.add_argument("--top", type=natural, default=10, help="largest eigenpairs (default: 10)")
    group.add_argument("--bottom", type=natural, default=2, help="smallest eigenpairs (default: 2)")
    group.add_argument("--tolerance", type=above_zero, help="relative residual of an eigenpair (default: by precision)")
    add_strategy(group)
    return group


def spectrum_options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in SPECTRUM_OPTIONS}


# ---------------------------------------------------------------------- steps


def problem_of(run: Run, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Name and settings of the problem: those of the run, unless the command line says otherwise."""
    changes = dict(args.problem_set)
    if args.problem is not None:
        return args.problem, changes
    return run.info.problem, {**run.info.problem_settings, **changes}


def open_checkpoints(args: argparse.Namespace, comm: Comm) -> tuple[Run, list[Any]]:
    """The run and those of its checkpoints that are asked for, of a job with an operator, which is checked too."""
    from landscape.engine.curvature import check_operator
    from landscape.loss.checkpoints import of_run
    from landscape.stores.run_directory import Run

    with comm.together():
        store = Run(args.run)
        check_operator(args.operator)
        return store, of_run(store, args.checkpoints)


def open_problem(run: Run, args: argparse.Namespace, comm: Comm) -> tuple[Problem, dict[str, Any]]:
    """The run's problem as the command line wants it, and the settings that decide its numbers."""
    import torch

    from landscape.loss.fingerprint import fingerprint
    from landscape.loss.loading import build_problem

    name, settings = problem_of(run, args)
    with comm.together():
        torch.manual_seed(args.seed)  # a loader that shuffles freezes one order, on every rank and at every start
        full = build_problem(name, settings)
        data, problem = fingerprint(full), as_asked(full, args, comm)
    trained = (run.info.meta.get("training") or {}).get("data")
    own = args.problem is None and not args.problem_set
    if own and trained is not None and trained != data and comm.rank == 0:
        print(f"note: the data of '{name}' are not those that '{run.root}' was trained on (digest {data}, then "
              f"{trained}): other files, or another version of a package or of Python", file=sys.stderr)  # fmt: skip
    decided = {
        "problem": name, "problem_settings": settings, "data": data, "samples": args.samples, "seed": args.seed,
        "dtype": str(problem.dtype).removeprefix("torch."),
    }  # fmt: skip
    if args.samples is not None:
        decided["rows"] = problem.sampling["digest"]  # so that other data or another rule is noticed
    return problem, decided


def as_asked(problem: Problem, args: argparse.Namespace, comm: Comm) -> Problem:
    """The problem on the samples and device, in the precision and with the threads of the command line."""
    import torch

    from landscape.distributed.parallel import device_of, set_threads

    # Spinning threads of one small product after another cost far more than they give, most of all on a busy machine.
    wished = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    set_threads(args.threads or (int(wished) if wished.isdigit() else 1), comm)
    if args.samples is not None:
        problem = problem.subset(args.samples, args.seed)
    device = None if args.device is None else device_of(args.device)
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    return problem if device is None and dtype is None else problem.to(dtype=dtype, device=device)


def products_of(
    args: argparse.Namespace, expected: int, checkpoints: int, note: Callable[[str], None],
    memory: float | None = None, block: int | None = None,
) -> Any:  # fmt: skip
    """What chooses how the job's products are computed: `expected` with a vector at each of its checkpoints.

    Args:
        memory: bytes a rank may use for them; by default half of what is free.
        block: vectors multiplied at once; by default as the command line says.

    Raises:
        UsageError: no such strategy.
    """
    from landscape.engine.products import Products

    width: int = getattr(args, "block", 4) if block is None else block
    return Products(args.strategy, memory, block=width, expected=expected, checkpoints=checkpoints, note=note)


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


def usable(
    checkpoints: Iterable[Any], comm: Comm, note: Callable[[str], None], refused: list[str] | None = None
) -> Iterator[Any]:
    """Checkpoints one by one; those with weights that are not finite are named, put into `refused`, and skipped."""
    for checkpoint in checkpoints:
        with comm.together():
            reason = not_finite(checkpoint)
        if reason is None:
            yield checkpoint
            continue
        note(f"warning: {reason}")
        if refused is not None:
            refused.append(reason)


def at_width_of(origin: Any, checkpoints: list[Any], comm: Comm, note: Callable[[str], None]) -> tuple[list[Any], str]:
    """Checkpoints of a run whose network grew as points in the weights of one of them, and a caption's sentence of it.

    Those of smaller networks are embedded by copying units; those of larger ones are left out. '' where none grew.
    """
    from landscape.growing.embedding import at_width_of as written

    with comm.together():
        found, embedded = written(origin, checkpoints)
    left = len(checkpoints) - len(found)
    if left:
        note(f"{left} checkpoints after step {origin.step} are left out: the network grew, and has weights of its own")
    few = f"{embedded} checkpoint{'s' if embedded > 1 else ''} from before the network grew embedded by copying units"
    return found, few if embedded else ""


def everywhere(error: LandscapeError) -> LandscapeError:
    """Mark an error that every rank raises by itself, so that one of them tells it and none is aborted."""
    error.everywhere = True
    return error


def finished(store: Run, key: str, decided: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether a record exists that was made with the same settings.

    Raises:
        UsageError: it was made with others.
    """
    from landscape.evidence import check_settings

    if overwrite or not store.has(key):
        return False
    check_settings(f"the record {key} of '{store.root}'", store.meta(key)["meta"].get("settings"), decided)
    return True


class Parts:
    """Finished pieces of a record by number; their names carry a hash of what they depend on."""

    def __init__(self, store: Run, key: str, decided: Mapping[str, Any], *arrays: Any) -> None:
        import numpy as np

        digest = hashlib.sha256(json.dumps(dict(decided), sort_keys=True, default=str).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        self.store, self.key, self.tag = store, key, digest.hexdigest()[:12]

    def write(self, number: int, arrays: Mapping[str, Any]) -> None:
        self.store.write_part(self.key, f"{self.tag}-{number:06d}", **arrays)

    def read(self) -> dict[int, dict[str, Any]]:
        found = self.store.read_parts(self.key)
        return {int(n.rpartition("-")[2]): a for n, a in found.items() if n.startswith(f"{self.tag}-")}


class Counter:
    """How many pieces of a job are on disk."""

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self.total, self.unit, self.done = total, unit, done


@contextlib.contextmanager
def counting(total: int, unit: str, done: int = 0, progress: Progress | None = None) -> Iterator[Counter]:
    """A stopped job says what is safe; the progress is closed with how it ended."""
    counter = Counter(total, unit, done)
    state = "failed"
    try:
        yield counter
        state = "done"
    except Stopped as error:
        state = "stopped"
        safe = f"{counter.done} of {counter.total} {unit} are safe"
        told = Stopped(f"{error}; {safe}; the same command goes on")
        told.everywhere = error.everywhere
        raise told from None
    finally:
        if progress is not None:
            progress.close(state)
