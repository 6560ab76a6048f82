"""Measure this engine here: every figure beside its reference from the same run.

  landscape bench hvp                          products, in gradients, by problem and block width
  landscape bench density                      distance to the true spectrum against products spent
  landscape bench peers --markdown docs/benchmarks.md
  landscape bench all --markdown docs/benchmarks.md

A file of jobs/benches/ is a benchmark. Each runs as one process; those that need ranks start
`mpirun -n 2 landscape ...` themselves. Times are medians of CPU seconds over interleaved repeats, without the first
call. `all` runs every one in a process of its own.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from landscape import errors, launch, plugins
from landscape.errors import UsageError

from . import _common

BENCHES = "landscape.jobs.benches"
_say = partial(print, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(dest="bench", metavar="BENCH", required=True)
    for name in plugins.names(BENCHES):
        bench = plugins.load(BENCHES, name)
        first, _, rest = (bench.__doc__ or "").strip().partition("\n")
        one = choices.add_parser(
            name, help=first.replace("%", "%%"), description=first,
            epilog=rest.strip("\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        bench.add_arguments(one)
        _add_common(one)
    _add_common(choices.add_parser("all", help="All of them, one after the other."))


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("benchmark")
    group.add_argument("--quick", action="store_true", help="small sizes: a look at the tables, not at the numbers")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables into their section of this file")
    group.add_argument("--repeats", type=_common.positive, default=7, help="timings a figure (default: 7)")
    group.add_argument("--seed", type=_common.natural, default=0, help="of everything random (default: 0)")
    group.add_argument("--threads", type=_common.positive, default=1, help="threads a process (default: 1)")
    group.add_argument("--traceback", action="store_true", help="show where an error was raised")


def run(args: argparse.Namespace) -> int:
    if args.bench == "all":
        return _run_all(args)
    import torch

    from landscape.distributed.parallel import world

    from .benches._tables import Section

    comm = world()
    bench = plugins.load(BENCHES, args.bench)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if hasattr(bench, "work") and args.worker is not None:
        bench.work(args, comm)
        return errors.OK
    if comm.size > 1:
        raise _common.everywhere(UsageError(
            f"`landscape bench {args.bench}` runs as one process; those that measure ranks start mpirun themselves"
        ))  # fmt: skip
    section = Section(args.bench, (bench.__doc__ or "").strip().partition("\n")[0], _say)
    for table in bench.measure(args):
        section.add(table)
    if args.markdown is not None:
        section.write(args.markdown)
    return errors.OK


def _run_all(args: argparse.Namespace) -> int:
    """Every benchmark in a fresh process, so that none inherits another's memory, threads or imports."""
    words = ["--repeats", str(args.repeats), "--seed", str(args.seed), "--threads", str(args.threads)]
    words += ["--quick"] if args.quick else []
    words += ["--markdown", str(args.markdown)] if args.markdown else []
    codes = [launch.run(["bench", name, *words]) for name in plugins.names(BENCHES)]
    return next((code for code in codes if code), errors.OK)
