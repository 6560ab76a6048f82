"""Which records a card was drawn from: noted when they are handed out."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from contextvars import ContextVar

from landscape import records


class Notes:
    """Which records were handed out, so that a card can say what it was drawn from."""

    def __init__(self) -> None:
        self._groups: dict[int, tuple[object, Collection[records.Record]]] = {}

    def add(self, owner: object, found: Collection[records.Record]) -> None:
        """Note a group once; its owner is kept, so that no id is given to another object meanwhile."""
        self._groups.setdefault(id(owner), (owner, found))

    def records(self) -> list[records.Record]:
        return list({id(r): r for _owner, group in self._groups.values() for r in group}.values())


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextlib.contextmanager
def noting() -> Iterator[Notes]:
    """Inside, every record that is handed out is noted."""
    found = Notes()
    token = _notes.set(found)
    try:
        yield found
    finally:
        _notes.reset(token)


def note(owner: object, found: Collection[records.Record]) -> None:
    """Note records that were read earlier and are used now."""
    notes = _notes.get()
    if notes is not None:
        notes.add(owner, found)
