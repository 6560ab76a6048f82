"""CPU seconds of competing pieces of work, interleaved, and the memory that one takes."""

from __future__ import annotations

import ctypes
import gc
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[], Any]
_SHORTEST = 0.02  # seconds that one timing lasts at least: shorter work is repeated within it
_LONGEST = 3.0  # seconds of a piece of work in all: longer work has fewer timings, one at least


@dataclass(frozen=True)
class Timing:
    """CPU seconds: the first call (compilation and caches with it), and the median of the later ones."""

    first: float
    median: float


def interleaved(works: Mapping[str, Work], repeats: int) -> dict[str, Timing]:
    """Time pieces of work in turn, so that a slow spell of the machine meets all of them."""
    first = {name: cpu_seconds(work) for name, work in works.items()}
    once = {name: first[name] if first[name] > _LONGEST else cpu_seconds(work) for name, work in works.items()}
    often = {name: max(1, int(_SHORTEST / max(seconds, 1e-6))) for name, seconds in once.items()}
    turns = {name: min(repeats, max(1, int(_LONGEST / max(seconds, 1e-6)))) for name, seconds in once.items()}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats):
        for name, work in works.items():
            if turn < turns[name]:
                taken[name].append(cpu_seconds(work, often[name]))
    return {name: Timing(first[name], statistics.median(taken[name])) for name in works}


def cpu_seconds(work: Work, often: int = 1) -> float:
    """CPU seconds of this process for one call, the mean of `often`."""
    begin = time.process_time()
    for _ in range(often):
        work()
    return (time.process_time() - begin) / often


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a call returned, and its CPU seconds."""
    begin = time.process_time()
    found = work()
    return found, time.process_time() - begin


def peak_bytes(work: Work) -> int | None:
    """Most resident memory during a call, above that before it; None where the system does not tell."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # give freed memory back, or the next peak would hide in it
    except (AttributeError, OSError):
        return None
    before = reset_peak()
    if before is None:
        return None
    work()
    after = peak_resident()
    return None if after is None else max(0, after - before)


def reset_peak() -> int | None:
    """Make the present resident memory (bytes, returned) the peak; None where the system has no such switch."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def peak_resident() -> int | None:
    """Peak of this process's resident memory in bytes since the last `reset_peak`."""
    return _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
