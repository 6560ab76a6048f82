"""Ranks through MPI: the only file that imports mpi4py.

Sums are reduced in float32 or float64 only, over flat contiguous buffers in host memory; a block whose elements a
32-bit count cannot number goes column by column.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from .comm import Comm, Counter, check_dtype
from .traffic import Traffic

if TYPE_CHECKING:
    import torch

    from .transport import Transport

T = TypeVar("T")
_PIECE = 1 << 28  # elements summed at once
_LIMIT = (1 << 31) - 1  # elements that one collective can number
_LOOK = 0.02  # seconds between looks of an idle rank


class MPIComm(Comm):
    """A communicator of mpi4py; the world's unless another is handed in."""

    def __init__(self, within: Any = None) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = MPI.COMM_WORLD if within is None else within
        self.traffic = Traffic()
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()
        machine = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_size = machine.Get_size()
        machine.Free()
        self._rounds = (self.size - 1).bit_length()
        self._layout = lru_cache(maxsize=8)(self._counts_and_offsets)
        self._transports: dict[str, Transport | None] = {}  # by kind of device; None: MPI

    def split(self, groups: int) -> Comm:
        if groups == 1:
            return self
        return MPIComm(self._comm.Split(self.rank * groups // self.size, self.rank))

    def counter(self) -> Counter:
        return _SharedCounter(self._mpi, self._comm)

    # ------------------------------------------------------------------ small things

    def sum(self, array: T) -> T:
        out: T = _contiguous_copy(array)
        flat = _as_numpy(out).reshape(-1)
        for start in range(0, flat.size, _PIECE):
            self._comm.Allreduce(self._mpi.IN_PLACE, flat[start : start + _PIECE])
        self.traffic.count("sum", self._rounds, self._rounds * flat.nbytes)
        if isinstance(array, np.ndarray):
            return out
        back: T = cast(Any, out).to(cast(Any, array).device)
        return back

    def broadcast(self, value: T, root: int = 0) -> T:
        result: T = self._comm.bcast(value, root=root)
        self.traffic.count("control", self._rounds, 0)
        return result

    def gather(self, value: T) -> list[T]:
        result: list[T] = self._comm.allgather(value)
        self.traffic.count("control", self._rounds, 0)
        return result

    def barrier(self, idle: Callable[[], None] | None = None) -> None:
        self.traffic.count("control", self._rounds, 0)
        if idle is None:
            self._comm.Barrier()
            return
        request = self._comm.Ibarrier()
        while not request.Test():
            idle()
            time.sleep(_LOOK)

    def abort(self, code: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)

    def _mark(self, error: Exception, first: int) -> None:
        if self.size == self._mpi.COMM_WORLD.Get_size():
            super()._mark(error, first)
        elif self.rank != first:
            vars(error)["told_elsewhere"] = True  # one rank of a group speaks, and ends the job

    # ------------------------------------------------------------------ vectors

    def _counts_and_offsets(self, size: int, width: int) -> tuple[list[int], list[int]]:
        edges = np.minimum(np.arange(self.size + 1, dtype=np.int64) * -(-size // self.size), size) * width
        return np.diff(edges).tolist(), edges[:-1].tolist()

    def _transport(self, block: torch.Tensor) -> Transport | None:
        """What moves blocks on this kind of device, chosen when the first one comes."""
        kind = block.device.type
        if kind not in self._transports:
            from .transport import open_transport

            self._transports[kind] = open_transport(self, block.device)
        return self._transports[kind]

    def all_gather(self, part: torch.Tensor, size: int) -> torch.Tensor:
        if _too_many(size, part):
            return _by_columns(lambda column: self.all_gather(column, size), part)
        counts, offsets = self._layout(size, int(np.prod(part.shape[1:])))
        if (transport := self._transport(part)) is not None:
            full = transport.all_gather(part, size)
        else:
            host = part.contiguous().cpu()  # no MPI library is trusted with device memory
            full = host.new_empty((size, *part.shape[1:]))
            self._comm.Allgatherv(_as_numpy(host).reshape(-1), [_as_numpy(full).reshape(-1), counts, offsets, None])
            full = full.to(part.device)
        self._count("all_gather", counts, (self.rank + 1) % self.size, part.element_size())
        return full

    def collect(self, part: torch.Tensor, size: int) -> torch.Tensor | None:
        import torch

        if _too_many(size, part):
            columns = [self.collect(column, size) for column in part.split(1, dim=1)]
            whole = [column for column in columns if column is not None]  # all of them on rank 0, none elsewhere
            return torch.cat(whole, dim=1) if whole else None
        host = part.contiguous().cpu()
        counts, offsets = self._layout(size, int(np.prod(part.shape[1:])))
        full = host.new_empty((size, *part.shape[1:])) if self.rank == 0 else None
        target = None if full is None else [_as_numpy(full).reshape(-1), counts, offsets, None]
        self._comm.Gatherv(_as_numpy(host).reshape(-1), target)
        self.traffic.count("collect", int(self.rank > 0), int(self.rank > 0) * host.nbytes)
        return full

    def sum_scatter(self, full: torch.Tensor) -> torch.Tensor:
        check_dtype(full)
        if _too_many(len(full), full):
            return _by_columns(self.sum_scatter, full)
        mine = self.part(len(full))
        counts, _ = self._layout(len(full), int(np.prod(full.shape[1:])))
        if (transport := self._transport(full)) is not None:
            part = transport.sum_scatter(full, mine.stop - mine.start)
        else:
            host = full.contiguous().cpu()
            part = host.new_empty((mine.stop - mine.start, *full.shape[1:]))
            self._comm.Reduce_scatter(_as_numpy(host).reshape(-1), _as_numpy(part).reshape(-1), counts)
            part = part.to(full.device)
        self._count("reduce_scatter", counts, self.rank, full.element_size())
        return part

    def _count(self, kind: str, counts: list[int], kept: int, itemsize: int) -> None:
        self.traffic.count(kind, self.size - 1, (sum(counts) - counts[kept]) * itemsize)


class _SharedCounter(Counter):
    """A number in rank 0's memory that any rank changes by itself (one-sided, atomic)."""

    def __init__(self, mpi: Any, comm: Any) -> None:
        self._mpi = mpi
        self._window = mpi.Win.Allocate(8 if comm.Get_rank() == 0 else 0, 8, comm=comm)
        if comm.Get_rank() == 0:
            np.frombuffer(self._window.tomemory(), dtype=np.int64)[:] = 0
        comm.Barrier()

    def add(self, amount: int = 1) -> int:
        before, change = np.zeros(1, dtype=np.int64), np.array([amount], dtype=np.int64)
        self._window.Lock(0, self._mpi.LOCK_SHARED)
        self._window.Fetch_and_op(change, before, 0, 0, self._mpi.SUM)
        self._window.Unlock(0)
        return int(before[0])

    def close(self) -> None:
        self._window.Free()


def _too_many(size: int, block: torch.Tensor) -> bool:
    return block.ndim > 1 and block.shape[1] > 1 and size * int(np.prod(block.shape[1:])) > _LIMIT


def _by_columns(collective: Callable[[torch.Tensor], torch.Tensor], block: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([collective(column.contiguous()) for column in block.split(1, dim=1)], dim=1)


def _contiguous_copy(array: Any) -> Any:
    check_dtype(array)
    return np.array(array, order="C") if isinstance(array, np.ndarray) else array.detach().cpu().contiguous().clone()


def _as_numpy(array: Any) -> Any:
    """A view as numpy; bfloat16, which numpy lacks, as its bits (gathering moves them, sums never see them)."""
    if isinstance(array, np.ndarray):
        return array
    import torch

    bits = array.detach().view(torch.int16) if array.dtype == torch.bfloat16 else array.detach()
    return bits.numpy()
