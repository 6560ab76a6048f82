"""The path between two minima: loss, accuracy, barrier and spectrum along it."""

from __future__ import annotations

import math
import re

from landscape import records
from landscape.errors import ProblemError
from landscape.stores import run_directory

from .. import shell
from ..cards import paths
from ..common import Scene
from ..numbers import number
from ..reading import Reader
from ..view import Kpi, Page, Place, Slider, href

NAME, ORDER = "Path", 4


def match(parts: tuple[str, ...]) -> bool:
    return len(parts) in (2, 3) and parts[0] == "path"


def link(run: str | None, page: Page | None = None) -> str | None:
    if page is not None and page.slider is not None and page.slider.name == "t" and len(page.runs) == 2:
        return href("path", *page.runs)
    return href("path", run) if run else None


# ------------------------------------------------------------------ which paths exist


def paths_of(
    reader: Reader, run: run_directory.Run, runs: list[tuple[str, run_directory.Run]] | None = None
) -> list[tuple[str, str]]:
    """(key, id of the other run) of every path that starts at a run; `runs` are those of the store where known."""
    if not run.keys("path"):
        return []
    names = {r.name: run_id for run_id, r in reversed(reader.runs() if runs is None else runs)}
    cleaned = {re.sub(r"[^A-Za-z0-9._+-]", "_", name): run_id for name, run_id in names.items()}
    found = []
    for key in run.keys("path"):
        try:
            other = str(run.meta(key).get("run_b", ""))
        except ProblemError:
            other = key.split("-", 2)[-1]
        found.append((key, names.get(other) or names.get(other.rpartition("/")[2]) or cleaned.get(other) or other))
    return found


def build(reader: Reader, place: Place) -> Page:
    scene = Scene.open(reader, place, place.parts[1])
    found = paths_of(reader, scene.run)
    if len(place.parts) == 2:
        if not found:
            return none_yet(scene, None)
        return one(scene, found[0][1], [k for k, b in found if b == found[0][1]], found)
    other = place.parts[2]
    keys = [k for k, b in found if b == other]
    if not keys:
        reader.run(other)  # an unknown run is 'not found', not 'not computed'
        return none_yet(scene, other)
    return one(scene, other, keys, found)


def none_yet(scene: Scene, other: str | None) -> Page:
    target = "RUN_B"
    if other is not None:
        target = scene.place_on_disk if other == scene.run_id else paths.disk(scene, other)
    sentence = (
        f"No path from {paths.name_of(scene.run_id, scene)} to "
        f"{'another run' if other is None else other} yet. Follow the straight line between their last checkpoints with"
    )
    content = shell.message("Path between two minima", sentence, scene.command("path", target, "--spectrum"))
    return Page(
        f"{scene.run_id}: path",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=paths.name_of(scene.run_id, scene),
        after=content,
    )


# ------------------------------------------------------------------ the page


def one(scene: Scene, other: str, keys: list[str], found: list[tuple[str, str]]) -> Page:
    shapes = [k.split("-", 2)[1] for k in keys]
    key = keys[shapes.index(scene.place.choice("shape", shapes))]
    choice = [
        shell.tabs(
            "From " + paths.name_of(scene.run_id, scene) + " to",
            [(b, href("path", scene.run_id, b), b == other) for b in dict.fromkeys(b for _k, b in found)],
        )
    ]
    if len(shapes) > 1:
        here = shapes[keys.index(key)]
        kinds = [(paths.kind_name(s), href("path", scene.run_id, other, shape=s), s == here) for s in shapes]
        choice.append(shell.tabs("Kind", kinds))
    r = paths.road(scene, other, key)
    t = [float(x) for x in r.path.t]
    middle = {**scene.place.query, "t": scene.place.query.get("t", "0.5")}
    index = Place(scene.place.path, scene.place.parts, middle).nearest("t", t)
    texts = [f"{x:.3g}" for x in t]
    texts[0], texts[-1] = "0: A", "1: B"
    return Page(
        f"{r.names[0]} → {other}: path",
        runs=[scene.run_id, other],
        run=scene.run_id,
        badge=f"{r.names[0]} → {other}",
        slider=Slider("t", t, texts, "Position t on the path", index),
        kpis=lambda i: kpis(r, i),
        tabs=choice,
        cards=paths.cards(r),
    )


def _beside(path: records.Path) -> str:
    """Barriers of the lines that the path is compared with."""
    found = (("straight_barrier", "straight line"), ("unaligned_barrier", "not aligned"))
    return "; ".join(f"{what} {number(path.meta[name])}" for name, what in found if name in path.meta)


def kpis(r: paths.Road, i: int) -> list[Kpi]:
    path = r.path
    ends = (float(path.loss[0]), float(path.loss[-1]))
    higher = max(ends)
    connected = path.barrier <= 0.1 * abs(higher)
    found = [
        Kpi("Position t", f"{path.t[i]:.2f}", f"A: step {path.step_a:,}, B: step {path.step_b:,}"),
        Kpi("Train loss", number(float(path.loss[i])), f"ends {number(ends[0])} and {number(ends[1])}"),
        Kpi(
            "Barrier",
            number(path.barrier),
            _beside(path) or ("linearly connected" if connected else "not linearly connected"),
            "good" if connected else "warn",
        ),
    ]
    if path.accuracy is not None:
        test = "" if path.test_accuracy is None else f"test {100 * path.test_accuracy[i]:.1f} %"
        found.append(Kpi("Train accuracy", f"{100 * path.accuracy[i]:.1f} %", test))
    c = next((x for x in r.curvature if x.step == i), None)
    if c is not None:
        first, last = r.curvature[0], r.curvature[-1]
        found.append(
            Kpi(
                "Sharpness λmax", number(c.sharpness, 4), f"ends {number(first.sharpness)} and {number(last.sharpness)}"
            )
        )
        if math.isfinite(c.negative):
            found.append(
                Kpi(
                    "Negative eigenvalues",
                    c.negative_counts,
                    f"95 %; ends ≈ {first.negative_count:,} and {last.negative_count:,} of {c.size:,}",
                )
            )
    if path.shape == "linear":
        return [*found, Kpi("Distance ‖θB − θA‖", number(path.length), f"linear path, {len(path.t)} points")]
    distance = path.meta.get("distance")
    times = f"{path.length / distance:.3g} times ‖θB − θA‖ = {number(distance)}" if distance else "of the curve"
    return [*found, Kpi("Length of the path", number(path.length), times)]
