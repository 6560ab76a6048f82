"""Which page a URL means: the pages folder is the registry, tried in the order of their ORDER."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from landscape import plugins
from landscape.errors import LandscapeError

from ..notes import noting
from ..reading import NotFound, Reader
from ..view import Page, Place

PACKAGE = "landscape.app.pages"


@functools.cache
def modules() -> tuple[Any, ...]:
    """Page modules in navigation order. Each has NAME, ORDER, match(parts), build(reader, place), link(run)."""
    return tuple(sorted((plugins.load(PACKAGE, name) for name in plugins.names(PACKAGE)), key=lambda m: m.ORDER))


class NoPage(NotFound):
    """The URL names nothing that exists."""


def resolve(reader: Reader, place: Place) -> tuple[Any, Page]:
    """The page module of a place and its page.

    Raises:
        LandscapeError: no page has this URL, or its run does not exist or cannot be read.
    """
    for module in modules():
        if module.match(place.parts):
            with noting() as found:
                page = module.build(reader, place)
            return module, dataclasses.replace(page, sources=tuple(found.records()))
    raise NoPage(f"there is no page '{place.path[:80]}'")


class Pages:
    """The pages that were scrubbed last, kept while their files do not change: a slider's step reads nothing again."""

    def __init__(self, reader: Reader, most: int = 8) -> None:
        self._reader, self._most = reader, most
        self._kept: dict[tuple[str, str, str], tuple[str, Page]] = {}

    def at(self, place: Place) -> Page:
        """The page of a place.

        Raises:
            LandscapeError: as `resolve`.
        """
        key = (place.path, repr(sorted(place.query.items())), place.theme)
        kept = self._kept.pop(key, None)
        if kept is None or kept[0] != self._reader.signature(list(kept[1].runs)):
            _module, page = resolve(self._reader, place)
            kept = (self._reader.signature(list(page.runs)), page)
        self._kept[key] = kept  # the last one is the newest
        while len(self._kept) > self._most:
            self._kept.pop(next(iter(self._kept)), None)
        return kept[1]


def shown(here: Any, page: Page | None, reader: Reader) -> list[Any]:
    """The modules of the navigation: one with `applies(reader, run)` only for the runs that it says yes to."""
    run = page.run if page else None

    def wanted(module: Any) -> bool:
        try:
            return module is here or bool(run is not None and module.applies(reader, run))
        except LandscapeError:
            return False

    return [m for m in modules() if not hasattr(m, "applies") or wanted(m)]


def navigation(here: Any, page: Page | None, reader: Reader) -> list[tuple[str, str | None, bool]]:
    """Name, URL (None: greyed) and whether it is the present page, for every page that is shown."""
    run = page.run if page else None
    return [(m.NAME, m.link(run, page), m is here) for m in shown(here, page, reader)]
