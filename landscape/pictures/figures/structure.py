"""A network whose structure changed while it trained: the map with its path; ranks, support or zeros over sharpness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ...errors import ProblemError
from ...records import Eigenpairs, ScaleSpace, Structure, Surface, Trajectory
from .. import drawing
from ..scales import Array, number, percent
from ..scene import Readable
from . import surface
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, all_of, drawn

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))


@dataclass(frozen=True)
class Course:
    """What changed over training: a curve (checkpoint,) a layer, at steps (checkpoint,)."""

    steps: Array
    curves: dict[str, Array]
    label: str  # of the axis
    told: str  # for the caption
    whole: bool = False  # numbers that jump, such as ranks


def course(structures: list[Structure], scales: list[ScaleSpace]) -> Course:
    """Ranks where layers are trained in factors, else the support where there is a sparse copy, else the zeros."""
    steps = np.array([s.step for s in structures], dtype=np.float64)
    last = structures[-1]
    if last.ranks:
        ranks = {n: np.array([float(s.ranks.get(n, np.nan)) for s in structures]) for n in last.ranks}
        told = f"Ranks at the end: {', '.join(f'{r} of layer {n}' for n, r in last.ranks.items())}."
        return Course(steps, ranks, "rank", told + _tangent(last), whole=True)
    if scales:
        found = max(scales, key=lambda s: s.step)
        shares = 100 * found.selected / np.maximum(found.units, 1)
        told = f"At the end {percent(float(found.share()[-1]))} of the units are in the support."
        return Course(found.steps.astype(np.float64), dict(zip(found.layers, shares.T, strict=True)),
                      "in the support, %", told)  # fmt: skip
    kept = [s for s in structures if s.layers == last.layers]
    zeros = {n: np.array([100 * s.zeros[k] for s in kept]) for k, n in enumerate(last.layers)}
    told = f"At the end {percent(last.share(last.zeros))} of the weights are zero."
    return Course(np.array([float(s.step) for s in kept]), zeros, "zero weights, %", told)


def _tangent(found: Structure) -> str:
    if found.tangent is None or not len(found.tangent):
        return ""
    low, high = float(found.tangent.min()), float(found.tangent.max())
    beside = f", {found.tangent_chance:.3f} of a random direction" if found.tangent_chance is not None else ""
    return (f" Part of the {len(found.tangent)} top eigenvectors along which the ranks stay: {low:.3f} to {high:.3f} "
            f"of their length{beside}.")  # fmt: skip


def changes(axes: Axes, found: Course) -> None:
    """A line a layer."""
    ink = drawing.ink()
    for place, (name, values) in enumerate(found.curves.items()):
        axes.plot(found.steps, values, color=ink.series[place % 4], ls=DASHES[place // 4 % 4], lw=1.3, marker="o",
                  ms=2, drawstyle="steps-post" if found.whole else "default", label=f"layer {name}")  # fmt: skip
    axes.set_ylim(0, 1.08 * max((float(np.nanmax(v, initial=0)) for v in found.curves.values()), default=1.0) or 1.0)
    axes.set_ylabel(found.label)
    if len(found.curves) <= 6:
        axes.legend(loc="best", handlelength=1.4)
    axes.grid(True)


def sharpness(axes: Axes, pairs: list[Eigenpairs]) -> None:
    """Largest eigenvalue of the Hessian in the weights themselves, with its residual."""
    tops = [float(e.values[0]) for e in pairs]
    axes.errorbar([e.step for e in pairs], tops, [float(e.residuals[0]) for e in pairs], color=drawing.ink().text,
                  lw=1.3, marker="o", ms=2, capsize=2)  # fmt: skip
    axes.set_ylim(min(0.0, *tops), 1.1 * max(tops) if max(tops) > 0 else None)
    axes.set_ylabel("λ max\n(loss / weight²)")
    axes.grid(True)


def figure(
    structures: list[Structure], scales: list[ScaleSpace], pairs: list[Eigenpairs], plane: Surface | None = None,
    trajectory: Trajectory | None = None, *, sheet: Sheet | None = None, about: str = "",
) -> Plate:  # fmt: skip
    """The course above, the sharpness below where it is known, the map beside them where there is one."""
    sheet, found = sheet or Sheet.of("text"), course(structures, scales)
    pairs = [e for e in pairs if len(e.values)]

    def draw(page: Any) -> None:
        parts: Any = [page]
        if plane is not None:
            parts = (page.subfigures(2, 1, height_ratios=(1.15, 1)) if sheet.narrow
                     else page.subfigures(1, 2, width_ratios=(1.15, 1)))  # fmt: skip
            surface.draw(parts[0].subplots(), plane, trajectory, narrow=True)
        rows = np.atleast_1d(parts[-1].subplots(2 if pairs else 1, 1, sharex=True, squeeze=True))
        rows[0].set_title("Structure over training")
        changes(rows[0], found)
        if pairs:
            sharpness(rows[1], pairs)
        drawing.step_axis(rows[-1], np.append(found.steps, [e.step for e in pairs]), 5)
        for axes in rows[:-1]:
            axes.set_xlabel("")

    words = [about, about_projection(plane, trajectory) if plane is not None else "", found.told]
    if pairs:
        words.append(f"Sharpness {number(float(pairs[-1].values[0]))} at step {pairs[-1].step:,}.")
    aspect = 1.7 if sheet.narrow else 0.46
    return drawn(sheet, aspect if plane is not None else 0.55 * aspect + 0.15, " ".join(filter(None, words)), draw)


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Over the whole training, on the plane that is asked for."""
    structures = sorted((run.read(k) for k in run.keys("structure")), key=lambda s: s.step)
    if not structures:
        raise ProblemError(f"run '{run.info.name}' has no structure. Compute it with `landscape structure {run.root}`")
    try:
        plane, trajectory = surface.read(run, choice)
    except ProblemError:
        plane, trajectory = None, None
    scales = [run.read(k) for k in run.keys("scale_space")]
    return figure(structures, scales, all_of(run, "eigenpairs", choice.operator), plane, trajectory, sheet=sheet,
                  about=about_run(run))  # fmt: skip
