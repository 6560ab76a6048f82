"""The path between two minima: loss, accuracy, barrier and spectrum along it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape import records
from landscape.errors import ProblemError
from landscape.readings import overlaps, quadrature
from landscape.stores import run_directory

from .. import facts, shell
from ..common import Scene
from ..plots import along, scree
from ..plots import density as density_plot
from ..reading import THIS, Reader, Series
from ..style import move_cursor, number
from ..view import Card, Kpi, Missing, Page, Place, Slider, href

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


def name_of(run_id: str, scene: Scene) -> str:
    return scene.info.name if run_id == THIS else run_id


def none_yet(scene: Scene, other: str | None) -> Page:
    target = "RUN_B" if other is None else str(scene.place_on_disk if other == scene.run_id else _disk(scene, other))
    sentence = (
        f"No path from {name_of(scene.run_id, scene)} to "
        f"{'another run' if other is None else other} yet. Follow the straight line between their last checkpoints with"
    )
    content = shell.message("Path between two minima", sentence, scene.command("path", target, "--spectrum"))
    return Page(
        f"{scene.run_id}: path",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=name_of(scene.run_id, scene),
        after=content,
    )


def _disk(scene: Scene, other: str) -> str:
    return Scene.open(scene.reader, scene.place, other).place_on_disk


# ------------------------------------------------------------------ the page


@dataclass(frozen=True, eq=False)
class Road:
    scene: Scene
    other: str
    path: records.Path
    series: Series | None
    curvature: list[facts.Curvature]

    @property
    def pairs(self) -> list[records.Eigenpairs]:
        """Eigenpairs of every point, or nothing."""
        return self.path.eigenpairs if len(self.path.eigenpairs) == len(self.path.t) else []

    @property
    def names(self) -> tuple[str, str]:
        return name_of(self.scene.run_id, self.scene), self.other


_series: dict[int, tuple[records.Path, Series, list[facts.Curvature]]] = {}


def road(scene: Scene, other: str, key: str) -> Road:
    """A path with its spectra as a series indexed by point; kept while the record is the same object."""
    path: records.Path = scene.reader.record(scene.run, key)
    if id(path) not in _series:
        if len(_series) > 16:
            _series.clear()
        spectra = dict(enumerate(path.spectra)) if len(path.spectra) == len(path.t) else {}
        pairs = list(path.eigenpairs) if len(path.eigenpairs) == len(path.t) else [None] * len(path.t)
        series = Series("hessian", spectra)
        curves = [
            facts.curvature(i, spectra.get(i), pair) for i, pair in enumerate(pairs) if spectra or pair is not None
        ]
        _series[id(path)] = (path, series, curves)
    _path, series, curves = _series[id(path)]
    return Road(scene, other, path, series if series.spectra else None, curves)


def one(scene: Scene, other: str, keys: list[str], found: list[tuple[str, str]]) -> Page:
    shapes = [k.split("-", 2)[1] for k in keys]
    key = keys[shapes.index(scene.place.choice("shape", shapes))]
    choice = [
        shell.tabs(
            "From " + name_of(scene.run_id, scene) + " to",
            [(b, href("path", scene.run_id, b), b == other) for b in dict.fromkeys(b for _k, b in found)],
        )
    ]
    if len(shapes) > 1:
        choice.append(
            shell.tabs(
                "Kind",
                [(_kind(s), href("path", scene.run_id, other, shape=s), s == shapes[keys.index(key)]) for s in shapes],
            )
        )
    r = road(scene, other, key)
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
        cards=[along_card(r), density_card(r), *([scree_card(r)] if r.pairs else [])],
    )


def _kind(shape: str) -> str:
    """A path's kind as the tabs say it: 'elastic band, aligned'."""
    return shape.replace("_", " ").replace(".aligned", ", aligned")


def _beside(path: records.Path) -> str:
    """Barriers of the lines that the path is compared with."""
    found = (("straight_barrier", "straight line"), ("unaligned_barrier", "not aligned"))
    return "; ".join(f"{what} {number(path.meta[name])}" for name, what in found if name in path.meta)


def _alignment(path: records.Path) -> str:
    """What the permutation of B did, in a sentence."""
    told = path.meta.get("alignment")
    if not told:
        return ""
    still = f"; not permuted: {', '.join(told['unpermuted'])}" if told["unpermuted"] else ""
    return (
        f" B's units were permuted onto A's: {told['moved']:,} of {sum(told['groups']):,} moved, "
        f"distance {number(told['distance_before'])} to {number(told['distance_after'])}{still}."
    )


def kpis(r: Road, i: int) -> list[Kpi]:
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


def along_card(r: Road) -> Card:
    path = r.path

    def caption(_i: int) -> str:
        what = "Loss, accuracy, sharpness and eigenvalue density" if r.series else "Loss and accuracy"
        kind = _kind(path.shape) + (", aligned" if path.aligned else "")
        words = ["path", _disk(r.scene, r.other), *(["--kind", path.shape] if path.shape != "linear" else [])]
        words += ["--align"] if path.aligned else []
        end = (
            ""
            if r.series
            else f" For spectra along it: {r.scene.command(*words, '--spectrum')}"
        )
        rule = f"the barrier {number(path.barrier)} is measured from it; connected means at most 10 % of the higher end"
        spaces = (
            " Overlap: share of the top eigenspace inside that of A or B (dotted: the fewest vectors that stand apart)."
            if overlaps.along(path) else ""
        )  # fmt: skip
        told = _alignment(path)
        return f"{what} at {len(path.t)} points of the {kind} path. Dotted: the chord; {rule}.{told}{spaces}{end}"

    def table(_i: int) -> dict[str, Any]:
        columns: dict[str, Any] = {"t": path.t, "train loss": path.loss}
        for name, values in (
            ("train accuracy", path.accuracy),
            ("test loss", path.test_loss),
            ("test accuracy", path.test_accuracy),
            ("train loss, straight line", path.straight_loss),
            ("train loss, straight line, not aligned", path.unaligned_loss),
        ):
            if values is not None:
                columns[name] = values
        for k, (with_a, with_b) in overlaps.along(path).items():
            columns |= {f"overlap of top {k} with A": with_a, f"overlap of top {k} with B": with_b}
        if len(r.curvature) == len(path.t):
            columns |= {
                "sharpness [loss per squared unit of weight]": [c.sharpness for c in r.curvature],
                "smallest eigenvalue": [c.lowest for c in r.curvature],
                "trace": [c.trace for c in r.curvature],
            }
        return columns

    return Card(
        "along",
        "Along the path",
        lambda i: along.figure(
            path,
            r.curvature,
            r.series,
            width=r.scene.width_of(r.series) if r.series is not None else None,
            selected=float(path.t[i]),
            names=r.names,
            theme=r.scene.theme,
        ),
        caption,
        table,
        move=lambda i: move_cursor(float(path.t[i])),
        about="Loss, accuracy and spectrum along the path",
        span="tall" if r.pairs else "",
    )


def density_card(r: Road) -> Card:
    def need() -> Series:
        if r.series is None:
            raise Missing(
                "No spectra along this path yet. Compute them with",
                r.scene.command("path", _disk(r.scene, r.other), "--spectrum"),
            )
        return r.series

    def parts(i: int) -> dict[str, Any]:
        pairs = r.pairs[i] if r.pairs else None
        ticks = np.empty(0) if pairs is None else np.concatenate([pairs.values, pairs.lowest_values])
        return {"density": need().density(i, r.scene.width_of(need())), "eigenvalues": ticks}

    def table(i: int) -> dict[str, Any]:
        return {
            "eigenvalue [loss per squared unit of weight]": quadrature.from_asinh(need().grid),
            "density per unit asinh(eigenvalue/1e-3)": need().density(i, r.scene.width_of(need())),
        }

    def caption(i: int) -> str:
        width = r.scene.width_of(need()).text
        made = facts.evidence(need().spectra[i])
        return f"{made}; kernels of width {width}; ticks: extreme eigenvalues; shaded: negative curvature."

    return Card(
        "density",
        lambda i: f"Spectrum at t = {r.path.t[i]:.2f}",
        lambda i: density_plot.figure(need().grid, **parts(i), theme=r.scene.theme, height=300),
        caption,
        table,
        move=lambda i: density_plot.move(need().grid, **parts(i)),
        about="Eigenvalue density at the selected point of the path",
    )


def scree_card(r: Road) -> Card:
    pairs = r.pairs
    top, low = max(len(p.values) for p in pairs), max(len(p.lowest_values) for p in pairs)
    ends = [v for p in pairs for v in (*p.values, *p.lowest_values) if np.isfinite(v)]
    reach = (min(ends, default=-1.0), max(ends, default=1.0))

    def table(i: int) -> dict[str, Any]:
        p = pairs[i]
        return {"eigenvalue [loss per squared unit of weight]": [*p.values, *p.lowest_values],
                "residual": [*p.residuals, *p.lowest_residuals]}  # fmt: skip

    return Card(
        "scree", lambda i: f"Extreme eigenvalues at t = {r.path.t[i]:.2f}",
        lambda i: scree.figure(pairs[i], top=top, low=low, reach=reach, theme=r.scene.theme),
        "Largest and smallest eigenvalues with residual bounds; below, the ratio of neighbours: a tall bar is a gap.",
        table, move=lambda i: scree.move(pairs[i], top=top), about="Extreme eigenvalues at the selected point",
    )  # fmt: skip
