"""The part of a page that shows what happens now: its components, and the digest by which a tick knows them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component
from plotly.utils import PlotlyJSONEncoder

log = logging.getLogger("landscape.app")


def section(make: Callable[[], Sequence[Component]]) -> list[Component]:
    """The live part as it is now, with the digest by which the next tick knows it."""
    children = made(make) or []
    return [
        html.Div(children, id={"type": "live", "index": "main"}, className="live", **{"aria-live": "polite"}),
        dcc.Store(id={"type": "live-digest", "index": "main"}, data=digest(children)),
        dcc.Interval(id="tick", interval=2500),
    ]


def digest(children: Any) -> str:
    return hashlib.sha256(json.dumps(children, cls=PlotlyJSONEncoder).encode()).hexdigest()[:16]


def made(make: Callable[[], Sequence[Component]]) -> list[Component] | None:
    """The live part; None, and a line in the log, where it cannot be made: the page stays as it was."""
    try:
        return list(make())
    except Exception:
        log.exception("the live part of a page could not be made")
        return None
