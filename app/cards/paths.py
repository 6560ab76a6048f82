"""The cards of a path between two minima: what lies along it, and the spectrum at the selected point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape import records
from landscape.readings import overlaps, quadrature

from .. import facts
from ..common import Scene
from ..numbers import number
from ..plots import along, scree
from ..plots import density as density_plot
from ..reading import THIS
from ..series import Series
from ..style import move_cursor
from ..view import Card, Missing


def name_of(run_id: str, scene: Scene) -> str:
    return scene.info.name if run_id == THIS else run_id


def disk(scene: Scene, other: str) -> str:
    return Scene.open(scene.reader, scene.place, other).place_on_disk


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


def kind_name(shape: str) -> str:
    """A path's kind as the tabs say it: 'elastic band, aligned'."""
    return shape.replace("_", " ").replace(".aligned", ", aligned")


def alignment(path: records.Path) -> str:
    """What the permutation of B did, in a sentence."""
    told = path.meta.get("alignment")
    if not told:
        return ""
    still = f"; not permuted: {', '.join(told['unpermuted'])}" if told["unpermuted"] else ""
    return (
        f" B's units were permuted onto A's: {told['moved']:,} of {sum(told['groups']):,} moved, "
        f"distance {number(told['distance_before'])} to {number(told['distance_after'])}{still}."
    )


# ------------------------------------------------------------------ cards


def cards(r: Road) -> list[Card]:
    return [along_card(r), density_card(r), *([scree_card(r)] if r.pairs else [])]


def along_card(r: Road) -> Card:
    path = r.path

    def caption(_i: int) -> str:
        what = "Loss, accuracy, sharpness and eigenvalue density" if r.series else "Loss and accuracy"
        kind = kind_name(path.shape) + (", aligned" if path.aligned else "")
        words = ["path", disk(r.scene, r.other), *(["--kind", path.shape] if path.shape != "linear" else [])]
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
        told = alignment(path)
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
                r.scene.command("path", disk(r.scene, r.other), "--spectrum"),
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
