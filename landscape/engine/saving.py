"""Going on inside a long computation: when its state is saved, and what a place to keep it must offer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from ..distributed.parallel import Comm
from ..errors import LandscapeError, Stopped


@dataclass(frozen=True)
class State:
    """A computation between two of its steps; `shards` are this rank's columns `part` of arrays (k, size)."""

    numbers: dict[str, Any]  # JSON values
    arrays: dict[str, NDArray[Any]]  # small, equal on all ranks
    shards: dict[str, NDArray[Any]]  # (k, part)
    part: slice
    told: str = "the computation"  # what it is the state of, for people


class Stored(Protocol):
    """A saved state as it is read back, on any number of ranks."""

    @property
    def numbers(self) -> dict[str, Any]: ...
    @property
    def arrays(self) -> dict[str, NDArray[Any]]: ...
    def fill(self, name: str, out: NDArray[Any], part: slice) -> None:
        """Read the columns `part` of a shard into out (k, part)."""


class Saved(Protocol):
    """Where a state is kept: every method is called by all ranks together."""

    def load(self) -> Stored | None: ...
    def save(
        self, numbers: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], shards: Mapping[str, NDArray[Any]],
        part: slice,
    ) -> None: ...  # fmt: skip


Asked = Callable[[], LandscapeError | None]  # the error to end with, when a signal has asked the job to stop


@contextlib.contextmanager
def _never() -> Iterator[Asked]:
    yield lambda: None


@dataclass
class Keeper:
    """Saves a state every so many seconds, and when the job is asked to stop, at a boundary of steps.

    All ranks must agree when: rank 0's clock decides, told about once a second by one small broadcast.

    Args:
        saved: where to; None keeps nothing.
        every: seconds between two saves; 0 saves at every boundary.
        deferring: a context in which signals wait for the next boundary; gives what asks whether one came.
        note: says a line in the job's log.
        settings: JSON values that decide the operator beyond its weights: the problem, its data.
    """

    comm: Comm
    saved: Saved | None = None
    every: float = 300.0
    deferring: Callable[[], AbstractContextManager[Asked]] = _never
    note: Callable[[str], None] = lambda text: None
    settings: Mapping[str, Any] = field(default_factory=dict)
    _asked: Asked = field(default=lambda: None, repr=False)
    _steps: int = 1  # boundaries until ranks speak again
    _round: int = 1
    _spoke: float = field(default_factory=time.monotonic)
    _kept: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Around the steps: signals wait for a boundary, where there is a place to save to."""
        if self.saved is None:
            yield
            return
        self._spoke = self._kept = time.monotonic()
        self._steps = self._round = 1
        with self.deferring() as self._asked:
            yield

    def load(self, fits: Mapping[str, Any]) -> Stored | None:
        """The saved state, if it belongs to the computation that `fits` describes."""
        found = None if self.saved is None else self.saved.load()
        if found is None:
            return None
        told = found.numbers.get("fits", {})
        different = [name for name in fits if told.get(name) != fits[name]]
        if different:
            self.note(f"a saved state is not used: it was made with another {', '.join(different)}")
            return None
        return found

    def boundary(self, state: Callable[[], State]) -> None:
        """Between two steps: save when it is time.

        Raises:
            Stopped: the job was asked to stop; the state is safe.
        """
        if self.saved is None:
            return
        self._steps -= 1
        if self._steps > 0:
            return
        now = time.monotonic()
        pace = (now - self._spoke) / self._round
        stop = self._asked() is not None
        order = (stop, stop or now - self._kept >= self.every, max(1, min(1000, int(1.0 / max(pace, 1e-3)))))
        stop, save, self._round = self.comm.broadcast(order if self.every else (stop, True, 1))
        self._steps, self._spoke = self._round, now
        if save or stop:
            kept = state()
            self.saved.save(kept.numbers, kept.arrays, kept.shards, kept.part)
            self._kept = time.monotonic()
        if stop:
            stopped = Stopped(f"{self.comm.broadcast(self._asked())}; the state of {kept.told} is saved")
            stopped.everywhere = True
            raise stopped
