"""Jobs started from the browser: one at a time, in the order they came, each with a folder for its log and its file.

    STORE/.jobs/0001/log.txt    what the job printed
    STORE/.jobs/0001/film.mp4   what it wrote, where it writes a file of its own

Only a dashboard with --allow-submit has a queue. A job is an argument list that `offers` has validated, never a shell's
string; it runs in a session of its own, so that stopping it stops its ranks.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from landscape import launch
from landscape.errors import STOPPED, UsageError

from ..offers import Order

FOLDER = ".jobs"
WAITING = 20  # most entries that wait
TAIL = 6000  # characters of a log


@dataclass
class Entry:
    """One order and what became of it."""

    number: int
    order: Order
    folder: Path
    state: str = "queued"  # 'queued', 'running', 'done', 'failed', 'stopped'
    began: float = 0.0
    ended: float = 0.0

    @property
    def command(self) -> str:
        """What would be typed."""
        words = ["landscape", *self.order.words]
        return shlex.join(["mpirun", "-n", str(self.order.ranks), *words] if self.order.ranks > 1 else words)

    @property
    def file(self) -> Path | None:
        """The finished file."""
        found = self.folder / self.order.file if self.order.file and self.state == "done" else None
        return found if found is not None and found.is_file() else None

    def log(self) -> str:
        """The end of what the job printed."""
        try:
            with open(self.folder / "log.txt", "rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
                return stream.read().decode("utf-8", "replace")
        except OSError:
            return ""


class Queue:
    """Orders of one dashboard."""

    def __init__(self, store: Path) -> None:
        self.root = store / FOLDER
        self.entries: list[Entry] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._work, name="jobs", daemon=True).start()
        atexit.register(self.close)

    def add(self, order: Order) -> Entry:
        """Put an order at the end.

        Raises:
            UsageError: too many wait already.
        """
        with self._changed:
            if sum(e.state == "queued" for e in self.entries) >= WAITING:
                raise UsageError(f"{WAITING} jobs wait already; wait for one, or stop one")
            folder, number = self._folder()
            entry = Entry(number, order.placed(str(folder)), folder)
            self.entries.append(entry)
            self._changed.notify()
        return entry

    def _folder(self) -> tuple[Path, int]:
        number = len(self.entries) + 1
        self.root.mkdir(exist_ok=True)
        while True:
            folder = self.root / f"{number:04d}"
            try:
                folder.mkdir()
                return folder, number
            except FileExistsError:  # of an earlier dashboard, or of another one
                number += 1

    def entry(self, number: int) -> Entry | None:
        return next((e for e in self.entries if e.number == number), None)

    def stop(self, number: int) -> bool:
        """Stop a running job, or take a waiting one out; False where there is nothing to stop."""
        with self._changed:
            entry = self.entry(number)
            if entry is None or entry.state not in ("queued", "running"):
                return False
            if entry.state == "running":
                self._terminate()
            entry.state = "stopped"
            return True

    def close(self) -> None:
        """Stop everything: jobs do not outlive the dashboard that started them."""
        with self._changed:
            self._closed = True
            self._terminate()
            self._changed.notify()

    def _terminate(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not any(e.state == "queued" for e in self.entries):
                    self._changed.wait()
                if self._closed:
                    return
                entry = next(e for e in self.entries if e.state == "queued")
                log = open(entry.folder / "log.txt", "wb")  # noqa: SIM115  closed below, beyond the lock
                entry.state, entry.began = "running", time.time()
                try:
                    words = launch.landscape_command(entry.order.words, entry.order.ranks)
                    self._process = subprocess.Popen(
                        words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                        env=launch.environment(), start_new_session=True,
                    )  # fmt: skip
                except OSError as error:
                    log.write(str(error).encode())
                    entry.state = "failed"
            code = self._process.wait() if entry.state != "failed" and self._process is not None else 1
            log.close()
            with self._changed:
                self._process = None
                entry.ended = time.time()
                if entry.state == "running":
                    entry.state = "done" if code == 0 else "stopped" if code == STOPPED else "failed"
