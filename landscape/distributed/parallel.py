"""The door to many ranks: finds the launcher, connects to MPI, names devices and sets threads.

One process is the same program: everything takes a `Comm`, and no MPI is imported where no launcher started it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import EnvironmentProblem
from .comm import Comm, Counter

if TYPE_CHECKING:
    import torch

__all__ = ["Comm", "Counter", "device_of", "launched_ranks", "local_rank", "set_threads", "under_launcher", "world"]

# ---------------------------------------------------------------------- the world

_world: Comm | None = None


def launched_ranks() -> int:
    """Ranks that the launcher says it started (mpirun of MPICH or Open MPI, srun); 1 without a launcher."""
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
        value = os.environ.get(name, "")
        if value.isdigit():
            return int(value)
    return 1


def under_launcher() -> bool:
    """Whether mpirun or srun started this process."""
    return any(n in os.environ for n in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "SLURM_STEP_NUM_TASKS"))


def world() -> Comm:
    """All ranks of this job; a plain one-process Comm (and no MPI import) when no launcher started it.

    Raises:
        EnvironmentProblem: no MPI library under a launcher, or launcher and library do not belong together.
    """
    global _world
    if _world is None:
        _world = _connect() if under_launcher() else Comm()
    return _world


def _connect() -> Comm:
    ranks = launched_ranks()
    try:
        from .mpi import MPIComm

        comm = MPIComm()
    except (ImportError, RuntimeError) as error:
        if ranks == 1:
            return Comm()
        raise EnvironmentProblem(
            f"started {ranks} times by a launcher, but no MPI library can be loaded ({error}). "
            "Install one (pip install mpich, or your site's module), or run without mpirun"
        ) from error
    if comm.size == 1 and ranks > 1:
        raise EnvironmentProblem(
            f"started {ranks} times, but each process sees a world of size 1: mpirun and the library that mpi4py found "
            "belong to different MPIs. `python -m mpi4py --mpi-lib-version` names the library; use its own mpirun"
        )
    return comm


def local_rank() -> int:
    """This rank's number on its machine, as the launcher says it; 0 without one."""
    for name in ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"):
        value = os.environ.get(name, "")
        if value.isdigit():
            return int(value)
    return 0


def device_of(name: str) -> torch.device:
    """'cpu', 'cuda' (the ranks of a machine share its devices in turn) or 'cuda:1' as a device that is there.

    Raises:
        EnvironmentProblem: there is no such device here.
    """
    import torch

    try:
        device = torch.device(name)
        if device.type == "cuda":
            count = torch.cuda.device_count()
            if count == 0 or (device.index or 0) >= count:
                raise RuntimeError(f"{count} CUDA devices are visible")
            device = torch.device("cuda", device.index if device.index is not None else local_rank() % count)
            torch.backends.cuda.matmul.allow_tf32 = False  # its products carry three digits: no bulk near zero
            torch.backends.cudnn.allow_tf32 = False
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise EnvironmentProblem(f"device '{name}' cannot be used here: {reason}. Choose another, e.g. cpu") from error
    return device


def set_threads(threads: int | None, comm: Comm) -> int:
    """Set torch's threads: as asked, else one a rank under a launcher (ranks beat threads), else torch's own choice."""
    import torch

    if threads is None and under_launcher():
        threads = 1
    if threads is not None:
        torch.set_num_threads(max(1, threads))
    return torch.get_num_threads()
