"""Blocks that travel without MPI: from device to device by NCCL, or by gloo where asked, started with MPI's help.

`LANDSCAPE_TRANSPORT` says 'auto' (NCCL for CUDA tensors on devices of their own, MPI otherwise), 'nccl', 'gloo' or
'mpi' (device tensors are staged through host memory).
"""

from __future__ import annotations

import datetime
import os
import socket
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor

from ..errors import UsageError
from .comm import Comm

CHOICES = ("auto", "nccl", "gloo", "mpi")
_PATIENCE = datetime.timedelta(minutes=30)


class Transport:
    """All-gather and reduce-scatter of row blocks through one torch.distributed backend.

    Backends want equal shards, so rows are padded at the end to a multiple of the ranks; the padding is cut off again.
    """

    def __init__(self, comm: Comm, backend: str) -> None:
        self.rank, self.size, self.backend = comm.rank, comm.size, backend
        store = _store(comm)
        make: Any = getattr(distributed, "ProcessGroupNCCL" if backend == "nccl" else "ProcessGroupGloo")
        self._group = make(store, comm.rank, comm.size, _PATIENCE)

    def all_gather(self, part: Tensor, size: int) -> Tensor:
        """Shards (part, block) joined to (size, block)."""
        rows = -(-size // self.size)
        full = part.new_empty((rows * self.size, *part.shape[1:]))
        self._group._allgather_base(full, _padded(part, rows)).wait()
        return full[:size]

    def sum_scatter(self, full: Tensor, kept: int) -> Tensor:
        """Sum over ranks of (size, block), of which this rank keeps its first `kept` rows of the shard."""
        rows = -(-len(full) // self.size)
        part = full.new_empty((rows, *full.shape[1:]))
        self._group._reduce_scatter_base(part, _padded(full, rows * self.size)).wait()
        return part[:kept]


def open_transport(comm: Comm, device: torch.device) -> Transport | None:
    """The transport for tensors on this kind of device; None where MPI moves them. All ranks of `comm` call it.

    Raises:
        UsageError: LANDSCAPE_TRANSPORT is none of the choices.
    """
    wish = os.environ.get("LANDSCAPE_TRANSPORT") or "auto"
    if wish not in CHOICES:
        raise UsageError(f"LANDSCAPE_TRANSPORT must be one of {', '.join(CHOICES)}, got '{wish}'")
    seen = comm.gather((_backend(wish, device), _place(device)))
    backends, places = {backend for backend, _ in seen}, {place for _, place in seen}
    (backend, *others) = backends
    if comm.size == 1 or backend is None or others or (backend == "nccl" and len(places) < comm.size):
        return None
    transport: Transport | None = None
    try:
        transport = Transport(comm, backend)
    except (RuntimeError, AttributeError, OSError) as error:
        if wish == backend:
            raise
        reason = str(error)
    else:
        reason = ""
    return transport if not any(comm.gather(reason)) else None


def _backend(wish: str, device: torch.device) -> str | None:
    if wish == "gloo" and device.type == "cpu":
        return "gloo"
    on_device = device.type == "cuda" and wish in ("auto", "nccl")
    return "nccl" if on_device and distributed.is_available() and distributed.is_nccl_available() else None


def _place(device: torch.device) -> str:
    """A name that two ranks share only where they share the device: NCCL refuses such ranks."""
    if device.type != "cuda":
        return ""
    return f"{socket.gethostname()}/{torch.cuda.get_device_properties(device).uuid}"


def _store(comm: Comm) -> Any:
    """A meeting point at rank 0, whose free port travels by MPI."""
    store_at: Any = getattr(distributed, "TCPStore")  # noqa: B009  # torch's stubs do not export it
    host = "127.0.0.1" if comm.local_size == comm.size else socket.gethostname()
    store = store_at(host, 0, comm.size, True, wait_for_workers=False) if comm.rank == 0 else None
    host, port = comm.broadcast((host, store.port if store is not None else 0))
    return store or store_at(host, port, comm.size, False, wait_for_workers=False)


def _padded(block: Tensor, rows: int) -> Tensor:
    if len(block) == rows:
        return block.contiguous()
    padding = block.new_zeros((rows - len(block), *block.shape[1:]))
    return torch.cat([block, padding])
