"""Starting ranks: finds an mpirun that works without root and without flags typed by hand."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# What a launcher leaves behind; a job started from inside a rank must not take itself for one of its ranks.
_LAUNCHER_PREFIXES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_LOCAL", "HYDI_", "HYDRA_")

COMPLETE = "LANDSCAPE_COMPLETE"  # names the file that rank 0 writes when all ranks have come to the job's good end


@functools.cache
def find_mpirun() -> str | None:
    """The mpirun beside this Python (a wheel's) or else the one on PATH, or None."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("mpirun")


@functools.cache
def family(mpirun: str) -> str:
    """'openmpi', 'mpich' or 'other', from `mpirun --version`."""
    try:
        text = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=30).stdout.lower()
    except (OSError, subprocess.SubprocessError):
        return "other"
    if "open mpi" in text or "open-mpi" in text or "openrte" in text or "prte" in text:
        return "openmpi"
    return "mpich" if "hydra" in text or "mpich" in text else "other"


def mpirun_command(ranks: int) -> list[str]:
    """The words in front of `landscape JOB` that start this many ranks; [] for one rank or without an mpirun."""
    mpirun = find_mpirun()
    if ranks < 2 or mpirun is None:
        return []
    # Open MPI refuses more ranks than cores and pins even a single rank to one core unless told otherwise.
    flags = ["--oversubscribe", "--bind-to", "none"] if family(mpirun) == "openmpi" else []
    return [mpirun, *flags, "-n", str(ranks)]


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a launched job: one thread a rank unless set, and nothing of an outer launcher."""
    values = {k: v for k, v in (os.environ if base is None else base).items() if not k.startswith(_LAUNCHER_PREFIXES)}
    values.setdefault("OMP_NUM_THREADS", "1")
    mpirun = find_mpirun()
    if mpirun is not None and family(mpirun) == "openmpi":
        values.setdefault("OMPI_MCA_osc", "^ucx")  # on one machine it only complains, once a rank and shared counter
    if mpirun is not None and family(mpirun) == "openmpi" and hasattr(os, "geteuid") and os.geteuid() == 0:
        values |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return values


def landscape_command(arguments: Sequence[str], ranks: int = 1) -> list[str]:
    """The words that run `landscape ARGUMENTS` with this Python on this many ranks."""
    return [*mpirun_command(ranks), sys.executable, "-m", "landscape", *arguments]


def run(arguments: Sequence[str], ranks: int = 1) -> int:
    """Run `landscape ARGUMENTS` to its end; returns its exit code."""
    if ranks > 1 and find_mpirun() is None:
        print("landscape: no mpirun found, running on one process (pip install mpich brings one)", file=sys.stderr)
    if not mpirun_command(ranks):
        alone = {k: v for k, v in os.environ.items() if k != COMPLETE}  # an outer job's marker is not ours to write
        return _wait(subprocess.Popen(landscape_command(arguments), env=alone))
    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder) / "complete"
        values = environment() | {COMPLETE: str(marker)}
        code = _wait(subprocess.Popen(landscape_command(arguments, ranks), env=values))
        if code == 0 and not marker.exists():  # MPICH's mpirun says 0 when a rank has left by os._exit(0)
            print("landscape: a rank left before the job was complete; run the same command again", file=sys.stderr)
            return 1
        return code


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except BaseException:  # stopped: the job must not outlive its launcher
        process.terminate()
        process.wait()
        raise
