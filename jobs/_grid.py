"""The options --groups and --memory, and the plan that comes of them; shared by jobs with independent checkpoints."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from landscape.distributed.planning import Plan, available_memory, plan

from . import _common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from landscape.distributed.parallel import Comm
    from landscape.distributed.progress import Progress
    from landscape.loss.problem import Problem

_SHARE = 0.8  # of what is free, when nobody says how much may be used


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ranks")
    group.add_argument("--groups", type=_groups, default=None, metavar="N",
                       help="groups of ranks, each on a checkpoint of its own (default: auto)")  # fmt: skip
    group.add_argument("--memory", type=_gigabytes, metavar="GB",
                       help="memory a rank may use (default: 80 %% of its share of what is free)")  # fmt: skip


def planned(
    args: argparse.Namespace, problems: Sequence[Problem], comm: Comm, tasks: int, progress: Progress
) -> Plan:
    """The grid for so many spectra of these problems, told in the log.

    Raises:
        ResourceError: memory does not suffice, whatever the grid.
    """
    largest = max(problems, key=lambda p: p.size)
    with comm.together():
        alone = getattr(args, "eigenpairs", False)
        probes, iterations, block = (1, 1, 1) if alone else (args.probes, args.iterations, args.block)
        found = plan(
            comm.size, largest.size, largest.samples, len(largest.batches), tasks, _memory(args, largest, comm),
            probes, iterations, block, args.top + args.bottom, largest.dtype.itemsize, args.groups,
            max(largest.count(batch) for batch in largest.batches),
        )  # fmt: skip
    progress.note(str(found))
    if found.ranks_per_group > len(largest.batches):
        progress.note(
            f"warning: {found.ranks_per_group} ranks share {len(largest.batches)} batches, so some may have no work; "
            f"build the problem with batch_size={found.batch_size or 1}, or start fewer ranks"
        )
    return found


def _memory(args: argparse.Namespace, problem: Problem, comm: Comm) -> int:
    """Bytes a rank may use: the least of all ranks."""
    if args.memory is not None:
        return int(args.memory * 1e9)
    free = available_memory()
    if problem.device.type == "cuda":
        import torch

        free = torch.cuda.mem_get_info(problem.device)[0]
        sharing: Any = -(-comm.local_size // max(torch.cuda.device_count(), 1))
    else:
        sharing = comm.local_size
    return min(comm.gather(int(_SHARE * free / sharing)))


def _groups(text: str) -> int | None:
    return None if text == "auto" else _common.positive(text)


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of gigabytes") from None
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value
