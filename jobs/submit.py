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
import shlex
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
    from landscape import launch

    jobs = [name for name in plugins.names("landscape.jobs") if name != "submit"]
    if args.job not in jobs:
        raise UsageError(f"there is no job '{args.job}' to submit; the jobs are {', '.join(jobs)}")
    if args.ranks % args.nodes:
        raise UsageError(f"--ranks {args.ranks} cannot be spread evenly over --nodes {args.nodes}; make it a multiple")
    if args.run:
        return launch.run([args.job, *args.arguments], args.ranks)
    sys.stdout.write(script(args))
    return 0


def script(args: argparse.Namespace) -> str:
    """The batch script; every word of the job's command line is quoted."""
    job = shlex.join([sys.executable, "-m", "landscape", args.job, *args.arguments])
    options = {
        "job-name": f"landscape-{args.job}", "nodes": args.nodes, "ntasks": args.ranks,
        "ntasks-per-node": args.ranks // args.nodes, "cpus-per-task": args.threads, "time": args.time,
        "partition": args.partition, "account": args.account, "output": "%x-%j.out", "signal": "B:USR1@120",
        "requeue": "",
    }  # fmt: skip
    for name, value in options.items():
        if value is not None and any(c.isspace() for c in str(value)):
            raise UsageError(f"--{name} '{value}' must not contain spaces")
    header = [f"#SBATCH --{n}" + ("" if v == "" else f"={v}") for n, v in options.items() if v is not None]
    mpi = "" if args.mpi == "none" else f" --mpi={args.mpi}"
    return _TEMPLATE.format(header="\n".join(header), mpi=mpi, job=job)


_TEMPLATE = """#!/bin/bash
{header}

# 120 seconds before the time limit SLURM sends USR1 to this script, which passes it on: the job saves what it has and
# ends with 75. The script then puts itself back into the queue, and the same command goes on where it stopped.
set -u
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
export LANDSCAPE_COMPLETE="$PWD/.complete-$SLURM_JOB_ID"  # written at the job's good end: an exit code of 0 may lie
rm -f "$LANDSCAPE_COMPLETE"

srun --ntasks="$SLURM_NTASKS" --cpus-per-task="$SLURM_CPUS_PER_TASK"{mpi} \\
    {job} &
job=$!
trap 'kill -USR1 "$job"' USR1

wait "$job"
code=$?
if [ "$code" -eq 138 ]; then  # 128 + USR1: the trap ended the wait, not the job
    wait "$job"
    code=$?
fi
if [ "$code" -eq 0 ] && [ ! -e "$LANDSCAPE_COMPLETE" ]; then
    echo "landscape: a rank left before the job was complete; submit the same script again" >&2
    code=1
fi
rm -f "$LANDSCAPE_COMPLETE"
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
