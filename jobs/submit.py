"""Print a batch script for SLURM that runs a job on many ranks, or run it here with --run.

  landscape submit --ranks 8 --time 02:00:00 spectrum runs/adam --probes 8 > spectrum.sbatch
  landscape submit --ranks 2 --run spectrum runs/adam

The script is printed, never submitted: read it, then `sbatch spectrum.sbatch`. On a cluster the ranks are started by
srun; --run starts what you would type as
  mpirun -n 2 landscape spectrum runs/adam

The job plans its own grid: with many checkpoints its ranks part into groups (`--groups`, `--memory` of the job say
otherwise). Options of submit come before the job's name; what follows belongs to the job.
"""

from __future__ import annotations

import argparse
import sys

from landscape import plugins
from landscape.errors import UsageError

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=_common.positive, default=4, help="MPI processes in all (default: 4)")
    parser.add_argument("--nodes", type=_common.positive, default=1, help="machines (default: 1)")
    parser.add_argument("--threads", type=_common.positive, default=1, help="cores a rank (default: 1)")
    parser.add_argument("--time", default="01:00:00", help="limit, hours:minutes:seconds (default: 01:00:00)")
    parser.add_argument("--partition", help="queue of the cluster")
    parser.add_argument("--account", help="account to charge")
    parser.add_argument("--mpi", default="pmix", choices=("pmix", "pmi2", "none"),
                        help="how srun talks to MPI: pmix for Open MPI, pmi2 for MPICH (default: pmix)")  # fmt: skip
    parser.add_argument("--run", action="store_true", help="run here and now with mpirun")
    parser.add_argument("job", metavar="JOB", help="name of the job")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="arguments of the job")


def run(args: argparse.Namespace) -> int:
    from landscape import batch_script, launch

    jobs = [name for name in plugins.names("landscape.jobs") if name != "submit"]
    if args.job not in jobs:
        raise UsageError(f"there is no job '{args.job}' to submit; the jobs are {', '.join(jobs)}")
    if args.ranks % args.nodes:
        raise UsageError(f"--ranks {args.ranks} cannot be spread evenly over --nodes {args.nodes}; make it a multiple")
    if args.run:
        return launch.run([args.job, *args.arguments], args.ranks)
    sys.stdout.write(batch_script.script(
        [args.job, *args.arguments], args.ranks, nodes=args.nodes, threads=args.threads, time=args.time,
        partition=args.partition, account=args.account, mpi=args.mpi,
    ))  # fmt: skip
    return 0
