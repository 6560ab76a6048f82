"""Volume: the loss on three directions as isosurfaces, and a slice through it that the slider moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape import records

from .. import shell
from ..cards.surfaces import quantities, showing, title
from ..common import Scene, badge
from ..numbers import number
from ..plots import volume as plot
from ..plots.surface import quantity
from ..reading import Reader
from ..view import Card, Kpi, Missing, Page, Place, Slider, href

NAME, ORDER = "Volume", 3.5
PLANES = ("pca", "eigen", "random")


def match(parts: tuple[str, ...]) -> bool:
    return len(parts) in (3, 4) and parts[0] == "run" and parts[2] == "volume"


def link(run: str | None, _page: Page | None = None) -> str | None:
    return href("run", run, "volume") if run else None


def build(reader: Reader, place: Place) -> Page:
    scene = Scene.open(reader, place, place.parts[1])
    known = {plane: steps for plane in PLANES if (steps := scene.run.steps("volume", plane))}
    asked = place.parts[3] if len(place.parts) == 4 else ""
    plane = asked if asked in PLANES else next(iter(known), PLANES[0])
    origins = known.get(plane, [])
    wanted = place.choice("origin", [str(s) for s in origins] or [""], str(origins[-1]) if origins else "")
    origin = int(wanted) if wanted else None
    axis = int(place.choice("axis", ("1", "2", "3"), "3")) - 1
    found = shell.attempt(lambda: read(scene, plane, origin), None)
    slices = [] if origin is None else [slice_card(scene, plane, origin, axis)]
    return Page(
        f"{badge(scene)}: volume",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=badge(scene),
        slider=slider(found, place, axis) if found is not None else None,
        kpis=lambda i: kpis(found, axis, i) if found is not None else (),
        tabs=[*tabs(scene, plane, origins, origin, axis), *switches(scene, plane, found)],
        cards=[volume_card(scene, plane, origin, axis), *slices],
    )


def read(scene: Scene, plane: str, origin: int | None) -> records.Volume:
    """The volume, or what an empty card says."""
    if origin is None:
        if not scene.run.checkpoint_steps():
            raise Missing("This run has no checkpoints yet; a volume can be computed once there is one.")
        directions = {"pca": "principal components", "eigen": "eigenvectors"}.get(plane, f"{plane} directions")
        raise Missing(
            f"No loss volume on three {directions} yet. Compute it with", scene.command("volume", f"--plane {plane}")
        )
    found: records.Volume = scene.reader.record(scene.run, records.volume_key(plane, origin))
    return showing(found, scene.place.query.get("show", "loss"))


def words(volume: records.Volume) -> str:
    return quantity(volume).capitalize()


def grid(volume: records.Volume, axis: int) -> Any:
    return (volume.u, volume.v, volume.w)[axis]


def slider(volume: records.Volume, place: Place, axis: int) -> Slider:
    """Places of the slices; the one through the origin where the URL says nothing."""
    places = [float(x) for x in grid(volume, axis)]
    centre = int(np.abs(grid(volume, axis)).argmin())
    index = place.nearest("slice", places) if "slice" in place.query else centre
    name = plot.short(volume.labels[axis])
    return Slider("slice", places, [number(x) for x in places], f"Slice across axis {axis + 1}, {name}", index)


def tabs(scene: Scene, plane: str, origins: list[int], origin: int | None, axis: int) -> list[Any]:
    across = "" if axis == 2 else str(axis + 1)

    def url(to: str, **query: str) -> str:
        return href("run", scene.run_id, "volume", to, **query, show=scene.place.query.get("show", ""))

    found = [shell.tabs("Directions", [(title(p), url(p, axis=across), p == plane) for p in PLANES])]
    if len(origins) > 1:
        shown = origins if len(origins) <= 8 else origins[:: -(-len(origins) // 8)]
        entries = [(f"{s:,}", url(plane, axis=across, origin=str(s)), s == origin) for s in shown]
        found.append(shell.tabs("Through step", entries))
    kept = str(origin) if origin is not None and scene.place.query.get("origin") else ""
    axes = [(str(a + 1), url(plane, origin=kept, axis="" if a == 2 else str(a + 1)), a == axis) for a in range(3)]
    return [*found, shell.tabs("Slice across axis", axes)]


def switches(scene: Scene, plane: str, volume: records.Volume | None) -> list[Any]:
    """The quantity that is shown; everything else of the URL stays."""
    named = {} if volume is None else quantities(volume)
    if len(named) < 2:
        return []
    kept = {name: scene.place.query.get(name, "") for name in ("origin", "axis")}
    show = scene.place.choice("show", list(named))

    def url(name: str) -> str:
        return href("run", scene.run_id, "volume", plane, **kept, show="" if name == "loss" else name)

    # the record's own loss is replaced by what is shown, its name is not
    texts = {name: "train loss" if name == "loss" else text for name, (text, _array) in named.items()}
    return [shell.tabs("Show", [(text, url(name), name == show) for name, text in texts.items()])]


def kpis(volume: records.Volume, axis: int, index: int) -> list[Kpi]:
    share = volume.meta.get("in_volume_share")
    through = np.take(volume.loss, index, axis=2 - axis)
    accuracy = quantity(volume).endswith("accuracy")
    best = np.nanmax if accuracy else np.nanmin
    own, whole = (float(best(x)) if np.isfinite(x).any() else float("nan") for x in (through, volume.loss))
    far = float(volume.off_volume.max(initial=0.0))
    return [
        Kpi("Slice", number(float(grid(volume, axis)[index])), f"along {plot.short(volume.labels[axis])}"),
        Kpi(
            f"{'Most' if accuracy else 'Least'} in it", number(own), f"{quantity(volume)}; of the whole {number(whole)}"
        ),
        Kpi("Loss at the centre", number(volume.meta.get("centre_loss")), f"checkpoint of step {volume.step:,}"),
        Kpi(
            "Path in the volume",
            f"{100 * share:.3g} %" if isinstance(share, (int, float)) else "–",
            f"of its squared distances; up to {number(far)} units of weight outside",
            "warn" if isinstance(share, (int, float)) and share < 0.5 else "",
        ),
    ]


def volume_card(scene: Scene, plane: str, origin: int | None, axis: int) -> Card:
    def caption(_i: int) -> str:
        volume = read(scene, plane, origin)
        size = " × ".join(str(len(grid(volume, a))) for a in range(3))
        text = (
            f"{words(volume)} on three {title(plane)} directions through step {volume.step:,} ({size} points): "
            "surfaces of equal value, the better half. Orange: the checkpoints' projections"
        )
        share = volume.meta.get("captured")
        if isinstance(share, (int, float)):
            text += f"; the axes hold {100 * share:.3g} % of the path's squared distances"
        residuals = volume.meta.get("residuals")
        if isinstance(residuals, list):
            text += f"; the eigenvectors' residuals are at most {number(max(residuals), 2)}"
        lost = int(np.isnan(volume.loss).sum())
        return text + f". Frame: the slice.{f' {lost:,} points are not finite.' if lost else ''}"

    def table(_i: int) -> dict[str, Any]:
        volume = read(scene, plane, origin)
        w, v, u = np.meshgrid(volume.w, volume.v, volume.u, indexing="ij")
        columns = {f"{name} [unit of weight]": g.ravel() for name, g in (("u", u), ("v", v), ("w", w))}
        return {**columns, quantity(volume): volume.loss.ravel()}

    return Card(
        "volume",
        "Volume and trajectory",
        lambda i: plot.figure(read(scene, plane, origin), axis=axis, index=i, theme=scene.theme),
        caption,
        table,
        move=lambda i: plot.move(read(scene, plane, origin), axis, i),
        about=f"Surfaces of equal training loss on three {title(plane)} directions with the projected trajectory",
    )


def slice_card(scene: Scene, plane: str, origin: int, axis: int) -> Card:
    def table(i: int) -> dict[str, Any]:
        volume = read(scene, plane, origin)
        across, down = (a for a in range(3) if a != axis)
        x, y = np.meshgrid(grid(volume, across), grid(volume, down))
        return {
            f"{plot.AXES[across]} [unit of weight]": x.ravel(),
            f"{plot.AXES[down]} [unit of weight]": y.ravel(),
            quantity(volume): np.take(volume.loss, i, axis=2 - axis).ravel(),
        }

    def title(i: int) -> str:
        return f"Slice at {plot.AXES[axis]} = {number(float(grid(read(scene, plane, origin), axis)[i]))}"

    return Card(
        "slice",
        title,
        lambda i: plot.slice_figure(read(scene, plane, origin), axis=axis, index=i, theme=scene.theme),
        lambda _i: (
            f"{words(read(scene, plane, origin))} in this slice, in the colours of the whole volume. Large markers: "
            "checkpoints whose projection lies within half a spacing of the slice."
        ),
        table,
        move=lambda i: plot.slice_move(read(scene, plane, origin), axis, i),
        about="Training loss on one slice of the volume",
    )
