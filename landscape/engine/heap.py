"""Memory that is freed stays with the process: pages that go back to the system are faulted in again by the next array.

On a small network that took a quarter of a surface's time (65,000 faults for 51 x 51 points, measured).
"""

from __future__ import annotations

import contextlib
import ctypes

_TRIM, _MMAP = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_LARGEST = 32 << 20  # bytes of an array that comes from the heap; glibc takes no more
_KEPT = 256 << 20  # bytes at the heap's end that stay


def reuse_pages() -> bool:
    """Keep freed memory, up to some hundred megabytes, in this process; False where the system knows no such switch."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return False
    return bool(mallopt(_MMAP, _LARGEST)) and bool(mallopt(_TRIM, _KEPT))


def give_back() -> None:
    """Return freed memory to the system after all: before a peak is measured, which could hide in it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
