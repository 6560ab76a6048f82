"""What happens now on a page: asked for with every tick, sent only when it has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash.development.base_component import Component

from landscape.errors import LandscapeError

from .. import now
from ..reading import Reader
from ..view import Place
from . import router


def renewed(reader: Reader, place: Place, known: Sequence[Any]) -> list[Component] | None:
    """The live part of a page; None where it has none or is as it was."""
    try:
        page = router.resolve(reader, place)[1]
    except LandscapeError:
        return None
    if page.live is None or len(known) != 1:
        return None
    children = now.made(page.live)
    return None if children is None or now.digest(children) == known[0] else children
