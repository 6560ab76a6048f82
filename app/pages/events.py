"""Events: what happened first in a range of the training, and where the run stands to the edge of stability."""

from __future__ import annotations

from .. import pins, shell
from ..cards import edge, windows
from ..common import Scene, badge
from ..reading import Reader
from ..view import Kpi, Page, Place, href
from . import overview

NAME, ORDER = "Events", 1.5


def match(parts: tuple[str, ...]) -> bool:
    return len(parts) == 3 and parts[0] == "run" and parts[2] == "events"


def link(run: str | None, _page: Page | None = None) -> str | None:
    return href("run", run, "events") if run else None


def build(reader: Reader, place: Place) -> Page:
    scene = Scene.open(reader, place, place.parts[1])

    def url(**changes: str) -> str:
        kept = {name: place.query.get(name, "") for name in ("op", "x", "window")}
        return href("run", scene.run_id, "events", **{**kept, **changes})

    tabs = [shell.tabs("Steps", [("linear", url(x=""), not scene.log), ("log", url(x="log"), scene.log)])]
    if place.query.get("window"):
        low, high = windows.window(scene)
        entries = [("whole training", url(window=""), False), (f"{int(low):,} to {int(high):,}", url(), True)]
        tabs.append(shell.tabs("Window", entries))
    return Page(
        f"{badge(scene)}: events",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=badge(scene),
        slider=pins.slider(scene),
        kpis=pins.compared(scene, lambda i: kpis(scene, i)),
        tabs=tabs,
        cards=[overview.training_card(scene), edge.card(scene), windows.card(scene)],
    )


def kpis(scene: Scene, index: int) -> list[Kpi]:
    step = scene.step(index)
    return [
        overview.step_kpi(scene, index),
        overview.loss_kpi(scene, step),
        overview.sharpness_kpi(scene, scene.curvature_at(step)),
        edge.kpi(scene, index),
        edge.slope_kpi(scene),
    ]
