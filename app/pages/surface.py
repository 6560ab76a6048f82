"""Surface and trajectory on a plane of directions, flat or raised, and what the projection hides."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from landscape import records
from landscape.errors import LandscapeError
from landscape.readings import shares

from .. import facts, shell
from ..axes import step_position
from ..cards import readings, surfaces
from ..common import Scene, badge
from ..numbers import number
from ..plots import projection
from ..reading import Reader
from ..style import move_cursor
from ..view import Card, Kpi, Missing, Page, Place, href
from . import overview

NAME, ORDER = "Surface", 3
PLANES = ("eigen", "pca", "random")


def match(parts: tuple[str, ...]) -> bool:
    return len(parts) in (3, 4) and parts[0] == "run" and parts[2] == "surface"


def link(run: str | None, _page: Page | None = None) -> str | None:
    return href("run", run, "surface") if run else None


def build(reader: Reader, place: Place) -> Page:
    scene = Scene.open(reader, place, place.parts[1])
    planes = scene.planes()
    plane = place.parts[3][:40] if len(place.parts) == 4 else surfaces.first(scene)[0]
    origins = [s for p, s in planes if p == plane]
    wanted = place.choice("origin", [str(s) for s in origins] or [""], str(origins[-1]) if origins else "")
    origin = int(wanted) if wanted else None
    view = place.choice("view", ("2d", "3d"))
    shown, interpolated = quantities(scene, plane, origin)
    show, points = place.choice("show", list(shown)), place.choice("points", ("hidden", "shown"))
    surface = surfaces.card(
        scene, plane, origin, view=view, show=show, points=points == "shown", square=view == "2d", height=620
    )

    def stored() -> records.Surface:
        return surfaces.labelled(surfaces.read(scene, plane, origin))

    cards = [surface]
    if ".line" not in plane:
        cards = [
            readings.overlaid(surface, place, stored) if show == "loss" else surface,
            projection_card(scene, plane, origin),
            readings.quadratic_card(scene, plane, stored),
            readings.topology_card(scene, stored),
        ]
    overlay = [readings.switch(place)] if len(cards) > 1 and show == "loss" else []
    return Page(
        f"{badge(scene)}: surface",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=badge(scene),
        slider=scene.slider,
        kpis=lambda i: kpis(scene, plane, origin, i),
        tabs=[*tabs(scene, plane, origins, origin, view), *switches(scene, plane, shown, interpolated), *overlay],
        cards=cards,
        after=shell.attempt(lambda: readings.topology_table(stored), []) if len(cards) > 1 else [],
    )


def quantities(scene: Scene, plane: str, origin: int | None) -> tuple[dict[str, str], bool]:
    """What the surface can show, in words by its name in the URL, and whether some of its points are interpolated."""
    with contextlib.suppress(Missing, LandscapeError):
        surface = surfaces.read(scene, plane, origin)
        named = {name: words for name, (words, _array) in surfaces.quantities(surface).items()}
        return named, surface.measured is not None
    return {"loss": "train loss"}, False


def switches(scene: Scene, plane: str, shown: dict[str, str], interpolated: bool) -> list[Any]:
    """Quantity and measured points; everything else of the URL stays."""
    place = scene.place
    show, points = place.choice("show", list(shown)), place.choice("points", ("hidden", "shown"))
    kept = {name: place.query.get(name, "") for name in ("origin", "view")}

    def url(**changes: str) -> str:
        query = {"show": "" if show == "loss" else show, "points": "" if points == "hidden" else points, **changes}
        return href("run", scene.run_id, "surface", plane, **kept, **query)

    found = []
    if len(shown) > 1:
        entries = [(words, url(show="" if name == "loss" else name), name == show) for name, words in shown.items()]
        found.append(shell.tabs("Show", entries))
    if interpolated and place.query.get("view") != "3d":
        ways = [("hidden", url(points=""), points == "hidden"), ("shown", url(points="shown"), points == "shown")]
        found.append(shell.tabs("Measured points", ways))
    return found


def tabs(scene: Scene, plane: str, origins: list[int], origin: int | None, view: str) -> list[Any]:
    def url(to: str, **query: str) -> str:
        return href("run", scene.run_id, "surface", to, **query)

    known = [*PLANES, *sorted({p for p, _s in scene.planes()} - {*PLANES})]
    raised = "3d" if view == "3d" else ""
    kept = str(origin) if origin is not None and scene.place.query.get("origin") else ""
    found = [shell.tabs("Plane", [(surfaces.title(p), url(p, view=raised), p == plane) for p in known])]
    if len(origins) > 1:
        shown = origins if len(origins) <= 8 else origins[:: -(-len(origins) // 8)]
        entries = [(f"{s:,}", url(plane, view=raised, origin=str(s)), s == origin) for s in shown]
        found.append(shell.tabs("Through step", entries))
    if ".line" in plane:
        return found
    names = ["", *(guest.run for guest in scene.guests(plane, origin))]
    if len(names) > 1:
        shown_run = scene.place.choice("of", names)
        runs = [(name or scene.info.name, url(plane, view=raised, origin=kept, of=name), name == shown_run)
                for name in names]  # fmt: skip
        found.append(shell.tabs("Projection of", runs))
    show = scene.place.query.get("show", "")
    views = [("2-D", url(plane, origin=kept, show=show), view == "2d"),
             ("3-D", url(plane, origin=kept, show=show, view="3d"), view == "3d")]  # fmt: skip
    return [*found, shell.tabs("View", views)]


def kpis(scene: Scene, plane: str, origin: int | None, index: int) -> list[Kpi]:
    step = scene.step(index)
    first = [
        Kpi(
            "Step", f"{step:,}", f"checkpoint {index + 1} of {len(scene.steps)}" if scene.steps else "no checkpoint yet"
        ),
        overview.loss_kpi(scene, step),
    ]
    trajectory = scene.trajectory(plane, origin) if origin is not None else None
    if trajectory is None or step not in trajectory.steps:
        return first
    k = list(trajectory.steps).index(step)
    true, on_plane = float(trajectory.loss[k]), float(trajectory.surface_loss[k])
    ratio = on_plane / true if true else math.nan
    off, far = float(trajectory.off_plane[k]), float(trajectory.distance[k])
    return [
        *first,
        Kpi(
            "Loss on the plane",
            number(on_plane),
            f"{number(ratio)} × the true loss",
            "warn" if abs(ratio - 1) > 0.5 else "",
        ),
        Kpi(
            "Off the plane",
            number(off),
            f"{100 * off / far:.0f} % of the distance from the origin" if far > 0 else "this is the origin",
        ),
        *gradient_kpi(trajectory, k),
        Kpi(
            "Coordinates",
            f"{number(float(trajectory.u[k]))}, {number(float(trajectory.v[k]))}",
            "u, v in units of weight",
        ),
    ]


def gradient_kpi(trajectory: Any, k: int) -> list[Kpi]:
    found = shares.gradient_share(trajectory)
    if found is None or not math.isfinite(found[k]):
        return []
    norm = float(trajectory.gradient_norm[k])
    return [Kpi("Gradient in the plane", f"{100 * float(found[k]):.0f} %", f"of its norm {number(norm)}")]


def projection_card(scene: Scene, plane: str, origin: int | None) -> Card:
    def need() -> Any:
        guest = next((g for g in scene.guests(plane, origin) if g.run == scene.place.query.get("of")), None)
        trajectory = guest or (scene.trajectory(plane, origin) if origin is not None else None)
        if trajectory is None or not len(trajectory.steps):
            raise Missing(
                "No trajectory on this plane yet. Project the checkpoints with",
                scene.command("trajectory", f"--plane {plane}"),
            )
        return trajectory

    def caption(_i: int) -> str:
        trajectory = need()
        low, high = facts.projection_ratio(trajectory)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.nanmax(np.where(trajectory.distance > 0, trajectory.off_plane / trajectory.distance, 0))
        return (
            f"Above: loss of each checkpoint and of its projection; where they differ, the surface misleads "
            f"({number(low)} to {number(high)} ×). Middle: the distance that the projection hides, "
            f"at most {100 * share:.0f} %. Below: how much of the squared distance from the origin, and of the "
            "gradient's norm, the plane holds."
        )

    def table(_i: int) -> dict[str, Any]:
        t = need()
        return {
            "step": t.steps,
            "u [unit of weight]": t.u,
            "v [unit of weight]": t.v,
            "distance from the plane [unit of weight]": t.off_plane,
            "distance from the origin [unit of weight]": t.distance,
            "train loss": t.loss,
            "loss at the projection": t.surface_loss,
            "share of the squared distance in the plane": shares.captured(t),
            **({} if (g := shares.gradient_share(t)) is None else {"share of the gradient's norm in the plane": g}),
        }

    return Card(
        "projection-over",
        "What the projection hides",
        lambda i: projection.figure(need(), selected=scene.step(i), log=scene.log, theme=scene.theme, height=620),
        caption,
        table,
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="True loss against the loss on the plane, and the distance from the plane, against the optimizer step",
    )
