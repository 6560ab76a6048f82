"""Independent tasks for groups of ranks: a group that is free draws the next one, so none waits for another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from .comm import Comm

T = TypeVar("T")


class Tasks(Generic[T]):
    """Items that groups of ranks draw from one shared counter; the order of the items is the order of the drawing.

    Args:
        items: the same on every rank.
        comm: all ranks of the job; `group` is this rank's part of them.
        groups: how many; with one, or one process, this is a plain loop.
    """

    def __init__(self, items: Sequence[T], comm: Comm, groups: int, group: Comm | None = None) -> None:
        self.items, self.comm = items, comm
        self.group = group or comm.split(groups)
        self._drawn, self._finished = comm.counter(), comm.counter()

    def __iter__(self) -> Iterator[T]:
        """The items of this rank's group; an item is finished when the next one is asked for."""
        while True:
            number = self.group.broadcast(self._drawn.add() if self.group.rank == 0 else 0)
            if number >= len(self.items):
                return
            yield self.items[number]
            if self.group.rank == 0:
                self._finished.add()

    def finished(self) -> int:
        """Items that all groups together have finished; any rank may ask at any time."""
        return self._finished.value()

    def close(self, idle: Callable[[], None] = lambda: None) -> None:
        """Wait for the other groups, calling `idle` meanwhile, and give the counters back; all ranks together."""
        self.comm.barrier(idle)
        idle()
        self._drawn.close()
        self._finished.close()
