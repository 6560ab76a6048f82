"""Progress of long work: a live line on a terminal, a line a minute in a log, a status file for the app."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import deque
from typing import Any

from ..evidence import command
from .parallel import Comm

TAIL = 30  # lines of the log that the status file repeats


def memory_bytes() -> int:
    """Resident memory of this process now (its peak where the system does not tell)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def duration(seconds: float) -> str:
    """'42 s', '3 min 07 s' or '2 h 05 min'."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Progress of a job on rank 0: one live line on a terminal, one line a minute in a log, a status for the app.

    `run` is anything with `write_status(job, dict)`; `unit` names what is counted; `skipped` of the total were
    finished by an earlier start and do not count in the rate.
    """

    def __init__(
        self,
        job: str,
        total: int,
        comm: Comm,
        *,
        unit: str = "",
        run: Any = None,
        skipped: int = 0,
        every: float = 60.0,
    ) -> None:
        self.job, self.total, self.unit, self.run, self.skipped = job, total, unit, run, skipped
        self.active = comm.rank == 0
        self.ranks = comm.size
        self.live = self.active and sys.stderr.isatty()
        self.every = every
        self.started = time.monotonic()
        self.printed = 0.0 if self.live else self.started  # a log's first line comes after its first minute
        self.status_written = -1e9
        self.done: float = skipped
        self.numbers: dict[str, Any] = {}
        self.began = time.time()
        self.tail: deque[str] = deque(maxlen=TAIL)
        if self.active:
            self._write_status("running")

    def update(self, done: float, **numbers: Any) -> None:
        """`done` of the total are finished; `numbers` are shown behind it, e.g. loss=0.1."""
        self.done = done
        self.numbers = numbers or self.numbers
        if not self.active:
            return
        now = time.monotonic()
        if now - self.printed >= (0.1 if self.live else self.every):
            self.printed = now
            self._print(end="" if self.live else "\n")
        if now - self.status_written >= 1.0:
            self._write_status("running")

    def note(self, text: str) -> None:
        """A line of its own in the log, e.g. a result that was just written."""
        self.tail.append(text)
        if self.active:
            print(f"\r\033[K{text}" if self.live else text, file=sys.stderr, flush=True)

    def close(self, state: str = "done") -> None:
        """Finish with 'done', 'stopped' or 'failed'."""
        if self.active:
            self._print(end="\n")
            self._write_status(state)

    def rate(self) -> float:
        """Units a second of this start."""
        return (self.done - self.skipped) / max(time.monotonic() - self.started, 1e-9)

    def eta(self) -> float | None:
        """Seconds left, or None before anything is finished."""
        rate = self.rate()
        return (self.total - self.done) / rate if rate > 0 and self.done > self.skipped else None

    def line(self) -> str:
        """The line that is shown."""
        share = self.done / self.total if self.total else 1.0
        filled = round(20 * min(max(share, 0.0), 1.0))
        eta = self.eta()
        parts = [
            f"{self.job}  |{'#' * filled}{'-' * (20 - filled)}| {self.done:.4g}/{self.total} {self.unit}".rstrip(),
            f"{self.rate():.3g}/s",
            *(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.numbers.items()),
            f"{memory_bytes() / 1e9:.2f} GB",
            f"gone {duration(time.monotonic() - self.started)}",
        ]
        if eta is not None and self.done < self.total:
            parts.append(f"left {duration(eta)}")
        return "  ".join(parts)

    def _print(self, end: str) -> None:
        text = self.line()
        if self.live:
            text = "\r\033[K" + text[: max(20, _columns() - 1)]
        print(text, end=end, file=sys.stderr, flush=True)

    def _write_status(self, state: str) -> None:
        self.status_written = time.monotonic()
        if self.run is None:
            return
        numbers = {k: v for k, v in self.numbers.items() if isinstance(v, (int, float, str))}
        self.run.write_status(
            self.job,
            {
                "job": self.job, "state": state, "done": self.done, "total": self.total, "unit": self.unit,
                "rate": self.rate(), "eta_s": self.eta(), "ranks": self.ranks, "pid": os.getpid(),
                "memory_bytes": memory_bytes(), "began": self.began, "updated": time.time(), "numbers": numbers,
                "command": command(self.ranks), "log": [*self.tail, self.line()],
            },
        )


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 120
