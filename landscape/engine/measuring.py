"""What a piece of work costs here: time, peak memory, and the memory there is."""

from __future__ import annotations

import contextlib
import re
import resource
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from ..distributed.planning import available_memory
from .heap import give_back

T = TypeVar("T")


def available(device: torch.device) -> float:
    """Bytes that are free on the device: of the machine, or of what a container may use of it."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(available_memory())


def timed(work: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """(result, seconds): wall time on a GPU; on a CPU the calling thread's CPU time, so that a busy machine, or threads
    that spin while they wait, decide nothing.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        result = work()
        torch.cuda.synchronize(device)
        return result, time.perf_counter() - start
    start = time.thread_time()
    result = work()
    return result, max(time.thread_time() - start, 1e-9)


class Peak:
    """Peak memory in bytes above the state at the beginning of a `with`."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0.0

    def __enter__(self) -> Peak:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = float(torch.cuda.memory_allocated(self.device))
        else:
            give_back()
            # Linux forgets the peak so far when it is told to; elsewhere only a new record is seen.
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            self._before = _resident_peak()
        return self

    def __exit__(self, *failure: object) -> None:
        cuda = self.device.type == "cuda"
        peak = float(torch.cuda.max_memory_allocated(self.device)) if cuda else _resident_peak()
        self.bytes = max(peak - self._before, 0.0)


def _resident_peak() -> float:
    with contextlib.suppress(OSError, TypeError, ValueError):
        return 1024.0 * _field("/proc/self/status", "VmHWM")
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _field(path: str, name: str) -> float:
    with open(path) as file:
        found = re.search(rf"^{name}:\s+(\d+)", file.read(), re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return float(found[1])


@contextlib.contextmanager
def saved_bytes(count: list[float]) -> Iterator[None]:
    """Appends the bytes that autograd graphs built within hold on to, each storage once."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
    count.append(float(sum(seen.values())))
