"""The batch script for SLURM that runs `landscape JOB ARGUMENTS` on many ranks and goes on where it was stopped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from .errors import UsageError


def script(
    words: Sequence[str], ranks: int, *, nodes: int = 1, threads: int = 1, time: str = "01:00:00",
    partition: str | None = None, account: str | None = None, mpi: str = "pmix",
) -> str:  # fmt: skip
    """The script; every word of the job's command line is quoted.

    Args:
        words: the job and its arguments.

    Raises:
        UsageError: an option with a space in it, which would become two.
    """
    job = shlex.join([sys.executable, "-m", "landscape", *words])
    options = {
        "job-name": f"landscape-{words[0]}", "nodes": nodes, "ntasks": ranks, "ntasks-per-node": ranks // nodes,
        "cpus-per-task": threads, "time": time, "partition": partition, "account": account, "output": "%x-%j.out",
        "signal": "B:USR1@120", "requeue": "",
    }  # fmt: skip
    for name, value in options.items():
        if value is not None and any(c.isspace() for c in str(value)):
            raise UsageError(f"--{name} '{value}' must not contain spaces")
    header = [f"#SBATCH --{n}" + ("" if v == "" else f"={v}") for n, v in options.items() if v is not None]
    return _TEMPLATE.format(header="\n".join(header), mpi="" if mpi == "none" else f" --mpi={mpi}", job=job)


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
