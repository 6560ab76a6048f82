"""The only room that knows MPI. One process is the same program: everything takes a `Comm`.

Sums are reduced in float32 or float64 only (some MPI libraries add bfloat16 as raw bytes), over flat contiguous
buffers, in pieces below 2^28 elements so that 32-bit counts never overflow.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .errors import EnvironmentProblem, LandscapeError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_PIECE = 1 << 28


class Comm:
    """One process. Every method also describes what the MPI world below does."""

    rank = 0
    size = 1

    def sum(self, array: T) -> T:
        """Elementwise sum over ranks of a float32 or float64 array or tensor; equal on every rank."""
        return array

    def broadcast(self, value: T, root: int = 0) -> T:
        """The root's value on every rank."""
        return value

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank, on every rank."""
        return [value]

    def barrier(self) -> None:
        """Wait for all ranks."""

    def abort(self, code: int) -> None:
        """End every rank at once with this exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's items: every size-th one, from its rank on."""
        return list(items[self.rank :: self.size])

    def part(self, size: int, rank: int | None = None) -> slice:
        """A rank's contiguous shard of a vector of this size (its own by default)."""
        rank = self.rank if rank is None else rank
        return slice(rank * size // self.size, (rank + 1) * size // self.size)

    def all_gather(self, part: torch.Tensor, size: int) -> torch.Tensor:
        """Shards (part, block) of all ranks joined to the full (size, block) tensor."""
        return part

    def sum_scatter(self, full: torch.Tensor) -> torch.Tensor:
        """Sum over ranks of full (size, block) tensors, of which each rank keeps its shard (part, block)."""
        return full

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """If the block fails on any rank, the first failure is raised on every rank (so that none waits for ever)."""
        failure: Exception | None = None
        try:
            yield
        except Exception as caught:
            failure = caught
        reports = self.gather(None if failure is None else _report(failure))
        for rank, report in enumerate(reports):
            if report is not None:
                error = failure if rank == self.rank and failure is not None else _rebuild(report)
                error.everywhere = True  # type: ignore[attr-defined]  # the command line need not abort the others
                raise error


def _report(error: Exception) -> tuple[str, str, int | None]:
    return type(error).__name__, str(error), getattr(error, "exit_code", None)


def _rebuild(report: tuple[str, str, int | None]) -> Exception:
    name, text, code = report
    if code is None:
        return RuntimeError(f"{name} on another rank: {text}")
    error = LandscapeError(text)
    error.exit_code = code
    return error


class _MPIWorld(Comm):
    """MPI.COMM_WORLD through mpi4py."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._world = MPI.COMM_WORLD
        self.rank = self._world.Get_rank()
        self.size = self._world.Get_size()

    def sum(self, array: T) -> T:
        out: T = _contiguous_copy(array)
        flat = _as_numpy(out).reshape(-1)
        for start in range(0, flat.size, _PIECE):
            self._world.Allreduce(self._mpi.IN_PLACE, flat[start : start + _PIECE])
        return out if isinstance(array, np.ndarray) else out.to(array.device)  # type: ignore[attr-defined,no-any-return]

    def broadcast(self, value: T, root: int = 0) -> T:
        result: T = self._world.bcast(value, root=root)
        return result

    def gather(self, value: T) -> list[T]:
        result: list[T] = self._world.allgather(value)
        return result

    def barrier(self) -> None:
        self._world.Barrier()

    def abort(self, code: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._world.Abort(code)

    def _counts(self, size: int, width: int) -> list[int]:
        parts = [self.part(size, rank) for rank in range(self.size)]
        return [(p.stop - p.start) * width for p in parts]

    def all_gather(self, part: torch.Tensor, size: int) -> torch.Tensor:
        device, part = part.device, part.contiguous().cpu()  # no library is trusted with device memory
        width = part[0].numel() if len(part) else int(np.prod(part.shape[1:]))
        full = part.new_empty((size, *part.shape[1:]))
        counts = self._counts(size, width)
        offsets = [sum(counts[:r]) for r in range(self.size)]
        self._world.Allgatherv(_as_numpy(part).reshape(-1), [_as_numpy(full).reshape(-1), counts, offsets, None])
        return full.to(device)

    def sum_scatter(self, full: torch.Tensor) -> torch.Tensor:
        device, full = full.device, full.contiguous().cpu()
        _check_dtype(full)
        mine = self.part(len(full))
        part = full.new_empty((mine.stop - mine.start, *full.shape[1:]))
        width = int(np.prod(full.shape[1:]))
        self._world.Reduce_scatter(
            _as_numpy(full).reshape(-1), _as_numpy(part).reshape(-1), self._counts(len(full), width)
        )
        return part.to(device)


def _check_dtype(array: Any) -> None:
    if str(array.dtype).removeprefix("torch.") not in ("float32", "float64"):
        raise TypeError(f"only float32 and float64 are summed over ranks, got {array.dtype}")


def _contiguous_copy(array: Any) -> Any:
    _check_dtype(array)
    return np.array(array, order="C") if isinstance(array, np.ndarray) else array.detach().cpu().contiguous().clone()


def _as_numpy(array: Any) -> Any:
    return array if isinstance(array, np.ndarray) else array.detach().numpy()


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
        comm = _MPIWorld()
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
