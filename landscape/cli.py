"""`landscape JOB ...`: finds the jobs by their files, turns errors into one sentence and an exit code, stops all ranks.

A job is a file in jobs/ with a docstring (its first line is its help, the rest its command lines),
`add_arguments(parser)` and `run(args) -> int`; what is heavy is imported inside `run`.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

from . import __version__, errors, plugins
from .errors import LandscapeError, Stopped, UsageError
from .launch import COMPLETE

JOBS = "landscape.jobs"
UNEXPECTED = 1
_PATIENCE = 5.0  # seconds that other ranks give rank 0 to stop
_GRACE = 10.0  # seconds that a step which saves at its end is given
_waiting: list[Stopped] | None = None  # where a signal leaves its error while a long computation is deferring it
_RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; returns the process's exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # MPICH would print a line of its own for every abort; the sentence of ours says more. Read when MPI starts.
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        if code == errors.OK:
            _complete()
        return code
    except BrokenPipeError:  # `landscape export ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.OK
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else errors.OK if leaving.code is None else UNEXPECTED
        if not _alone():  # raised by one rank alone, in a user's code perhaps: the others would wait for ever
            _tell(LandscapeError(f"a rank left in the middle of the job with sys.exit({leaving.code!r})"), False)
            _abort(code or UNEXPECTED)
        return code
    except BaseException as error:
        return _fail(error, trace="--traceback" in arguments)


def _dispatch(arguments: list[str]) -> int:
    name = next((a for a in arguments if not a.startswith("-")), None)
    if name is None or arguments[0] in ("-h", "--help", "--version"):
        return _overview(arguments)
    arguments.remove(name)
    job = _load(name)
    parser = _parser(name, job)
    args = parser.parse_args(arguments)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a user's own problem lies where the command is typed
    with _signals():
        code: int = job.run(args)
    return code


def _load(name: str) -> ModuleType:
    choices = plugins.names(JOBS)
    if name not in choices:
        close = difflib.get_close_matches(name, choices, n=1)
        guess = f" Did you mean {close[0]}?" if close else ""
        raise UsageError(f"there is no job '{name}'.{guess} The jobs are {', '.join(choices)}")
    return plugins.load(JOBS, name)


# ---------------------------------------------------------------------- help


class _Parser(argparse.ArgumentParser):
    """Under mpirun only rank 0 speaks."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if _rank() == 0 and message:
            (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(errors.USAGE, f"{self.prog}: {message}. `{self.prog} --help` says more\n")


def _parser(name: str, job: ModuleType) -> argparse.ArgumentParser:
    first, _, rest = (job.__doc__ or "").strip().partition("\n")
    parser = _Parser(
        prog=f"landscape {name}", description=first, epilog=rest.strip("\n"), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    job.add_arguments(parser)
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return parser


def _overview(arguments: list[str]) -> int:
    lines = [f"  {name:<11} {_first_line(name)}" for name in plugins.names(JOBS)]
    text = "\n".join(
        [
            "usage: landscape JOB ...   or, on N ranks, mpirun -n N landscape JOB ...",
            "",
            "Loss landscapes and Hessian spectra of PyTorch networks, from a training run to the browser.",
            "",
            "jobs (landscape JOB --help says more):",
            *lines,
            "",
            "A first look: landscape demo",
        ]
    )
    if _rank() == 0:
        print(f"landscape {__version__}" if "--version" in arguments else text)
    wanted = not arguments or arguments[0] in ("-h", "--help", "--version")
    return errors.OK if wanted else errors.USAGE


def _first_line(name: str) -> str:
    return (plugins.load(JOBS, name).__doc__ or "").strip().partition("\n")[0]


# ---------------------------------------------------------------------- signals


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM, SIGINT and SIGUSR1 (a batch system's warning) end the job as `Stopped`, once.

    Rank 0 keeps the books, so it is the one that stops, and its abort ends the others; they stop by themselves only
    when it has not done so for a while.
    """
    numbers = [getattr(signal, n) for n in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, n)]

    def stop(number: int, frame: FrameType | None) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)  # mpirun and the terminal may both send it
        stopped = Stopped(f"stopped by {signal.Signals(number).name}")
        first = _rank() == 0 or _alone()
        if _waiting is not None:
            _waiting.append(stopped)
            _raise_after(_GRACE + (0 if first else _PATIENCE), stopped)
            return
        if first:
            raise stopped
        _raise_after(_PATIENCE, stopped)

    before = {number: signal.signal(number, stop) for number in numbers} if _main_thread() else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferring() -> Iterator[Callable[[], Stopped | None]]:
    """Inside, a signal waits some seconds for the computation to ask for it, to save its state, and to raise it."""
    global _waiting
    waiting: list[Stopped] = []
    _waiting = waiting
    try:
        yield lambda: waiting[0] if waiting else None
    finally:
        _waiting = None
        if waiting:
            signal.setitimer(signal.ITIMER_REAL, 0)
    if waiting:  # it came after the last step that asked
        raise waiting[0]


def _raise_after(seconds: float, error: Exception) -> None:
    def late(number: int, frame: FrameType | None) -> NoReturn:
        raise error

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


# ---------------------------------------------------------------------- errors


def exit_code(error: BaseException) -> int:
    """The exit code of an error: its own, or that of what the operating system or torch refused."""
    if isinstance(error, LandscapeError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return errors.STOPPED
    if _out_of_memory(error) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.ENOMEM)):
        return errors.RESOURCES
    if isinstance(error, PermissionError):
        return errors.ENVIRONMENT
    return UNEXPECTED


def _out_of_memory(error: BaseException) -> bool:
    text = str(error)
    allocator = isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or allocator


def sentence(error: BaseException) -> str:
    """What is said about an error on the terminal."""
    text = " ".join(str(error).split("\n")) if str(error) else type(error).__name__
    if isinstance(error, LandscapeError):
        return text
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT; the same command goes on"
    if _out_of_memory(error):
        return f"memory ran out ({text[:160]}). Use fewer --samples, fewer --points or --probes, or more ranks"
    if isinstance(error, OSError):
        return text
    return f"unexpected {type(error).__name__}: {text}. This is a fault of landscape or of the model's code; see above"


def _fail(error: BaseException, *, trace: bool) -> int:
    code = exit_code(error)
    everywhere = getattr(error, "everywhere", False)  # all ranks raise the same: none has to be stopped
    if _alone() or everywhere:
        # An error before MPI has started, in what all ranks do alike, is told by the first of them.
        if _rank() == 0 or (code == UNEXPECTED and not everywhere):
            _tell(error, trace or code == UNEXPECTED)
        return code
    if getattr(error, "told_elsewhere", False):
        time.sleep(_PATIENCE)  # the rank of this group that failed tells it, and its abort ends this one
        _abort(code)
    if _rank() != 0:
        time.sleep(0.5)  # rank 0's message wins where several ranks fail, and its abort ends this one
    _tell(error, trace or code == UNEXPECTED)
    _abort(code)
    return code


def _tell(error: BaseException, trace: bool) -> None:
    if trace:
        traceback.print_exception(error, file=sys.stderr)
    with contextlib.suppress(OSError):
        print(f"landscape: {sentence(error)}", file=sys.stderr, flush=True)


def _rank() -> int:
    return next((int(os.environ[n]) for n in _RANK if os.environ.get(n, "").isdigit()), 0)


def _alone() -> bool:
    """Whether no other rank can be waiting for this one: MPI was not started, or has one rank."""
    parallel = sys.modules.get("landscape.distributed.parallel")
    world = getattr(parallel, "_world", None)
    return world is None or world.size == 1


def _complete() -> None:
    """Say in the file that the launcher named, if any, that every rank has come to a good end: exit codes may lie."""
    file = os.environ.get(COMPLETE)
    if not _alone():
        sys.modules["landscape.distributed.parallel"].world().barrier()
    if file and _rank() == 0:
        Path(file).touch()


def _abort(code: int) -> None:
    """End every rank, silently: the sentence has been said."""
    time.sleep(0.2)  # the launcher must have passed it on before it clears up
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.modules["landscape.distributed.parallel"].world().abort(code)
