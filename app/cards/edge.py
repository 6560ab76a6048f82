"""The edge of stability: sharpness against the optimizer's own threshold, for the operator that it belongs to."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.readings import sharpening, stability

from .. import facts
from ..axes import step_position
from ..common import Scene
from ..numbers import number
from ..plots import edge as plot
from ..style import move_cursor
from ..view import Card, Kpi, Missing
from .spectra import operator_name

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stability:
    """Sharpness and threshold (step,) of one operator; empty with a `reason` where no threshold is known."""

    operator: str
    steps: Array
    sharpness: Array
    limit: Array
    formula: str
    reason: str = ""

    @functools.cached_property
    def ratio(self) -> Array:
        return np.asarray(self.sharpness / self.limit)

    @property
    def slope(self) -> sharpening.Slope:
        """Before the ratio first reaches 1."""
        return sharpening.slope(self.steps, self.sharpness, self.limit if len(self.limit) else None)

    def at(self, step: int) -> float:
        """The ratio at a step; NaN where there is none."""
        here = np.flatnonzero(self.steps == step)
        return float(self.ratio[here[0]]) if len(here) else float("nan")


def stability_of(scene: Scene) -> Stability:
    """Of the chosen operator where it has a threshold, else of the first other one that has: Adam's is on
    `preconditioned`."""
    plain = [o for o in scene.operators if "[" not in o]
    reason = ""
    for operator in dict.fromkeys([scene.operator, *plain]):
        if operator in scene.operators:
            series, pairs = scene.reader.series(scene.run, operator), scene.reader.eigenpairs(scene.run, operator)
            found = facts.over_training(series, pairs) if operator != scene.operator else scene.curvature
            limits = [(c, stability.threshold(scene.info, operator, c.step)) for c in found if np.isfinite(c.sharpness)]
            known = [(c.step, c.sharpness, t.value) for c, t in limits if t.value is not None]
            if known:
                steps, sharpness, limit = (np.array(column, dtype=np.float64) for column in zip(*known, strict=True))
                return Stability(operator, steps, sharpness, limit, limits[-1][1].formula)
        reason = reason or stability.threshold(scene.info, operator, scene.steps[-1] if scene.steps else None).formula
    nothing = np.empty(0)
    return Stability(scene.operator, nothing, nothing, nothing, "", reason)


def missing(scene: Scene, found: Stability) -> Missing:
    """Why there is no ratio, and what would give one."""
    if scene.operators and stability.threshold(scene.info, "preconditioned", 1).value is not None:
        return Missing(
            f"The threshold of {scene.info.optimizer} is one of the preconditioned Hessian, of which there are no "
            "eigenvalues yet. Compute them with",
            scene.command("spectrum", "--operator preconditioned --eigenpairs --top 3"),
        )
    if scene.operators and found.reason and stability.threshold(scene.info, scene.operator, 1).value is None:
        return Missing(f"No ratio can be given: {found.reason}.")
    return Missing("No eigenvalues of this run yet. Compute some with", scene.command("spectrum", "--eigenpairs"))


# ------------------------------------------------------------------ words


def slope_text(found: sharpening.Slope) -> str:
    """The rate of progressive sharpening in words: a factor over a thousand steps, with its interval."""
    if found.points < 3 or found.last is None:
        return "too few values before the threshold for a slope"
    rate, error = 1000 * found.per_step, 1000 * found.half_width
    return f"d ln λmax / d step = ({number(rate)} ± {number(error, 2)}) · 10⁻³ up to step {found.last:,.0f} (95 %)"


def edge_text(found: Stability) -> str:
    since = sharpening.at_the_edge_since(found.ratio)
    if since is not None:
        return f"at the edge since step {int(found.steps[since]):,}"
    last = float(found.ratio[-1])
    where = "below the edge" if last < 0.8 else "beyond the edge" if last > 1.25 else "near the edge"
    return f"{where} at the end"


def kpi(scene: Scene, index: int) -> Kpi:
    """Ratio at the selected step."""
    found = stability_of(scene)
    label = "Sharpness / threshold"
    if not len(found.ratio):
        return Kpi(label, "–", found.reason or "no eigenvalues yet")
    value = found.at(scene.step(index))
    return Kpi(label, number(value), f"{edge_text(found)}; {found.formula}", "warn" if value > 1 else "", amount=value)


def slope_kpi(scene: Scene) -> Kpi:
    found, label = stability_of(scene), "Progressive sharpening"
    rate = found.slope
    if not len(found.ratio):
        rate = sharpening.slope([c.step for c in scene.curvature], [c.sharpness for c in scene.curvature])
    if rate.points < 3 or rate.last is None:
        return Kpi(label, "–", "fewer than three eigenvalues before the threshold")
    text = f"± {number(1000 * rate.half_width, 2)} (95 %) up to step {rate.last:,.0f}"
    return Kpi(label, f"{number(1000 * rate.per_step)} / 1,000", f"d ln λmax per step, {text}")


# ------------------------------------------------------------------ the card


def card(scene: Scene, *, span: str = "") -> Card:
    def need() -> Stability:
        found = stability_of(scene)
        if not len(found.ratio):
            raise missing(scene, found)
        return found

    def draw(i: int) -> Any:
        found = need()
        label = f"{found.formula} = {number(float(found.limit[-1]))}"
        return plot.figure(
            found.steps, found.sharpness, found.limit, label=label, selected=scene.step(i), log=scene.log,
            theme=scene.theme,
        )  # fmt: skip

    def caption(_i: int) -> str:
        found = need()
        noise = " With mini-batches, staying below the threshold is expected." if scene.full_batch is False else ""
        return (
            f"λmax of the {operator_name(found.operator)} over {found.formula}: "
            f"{edge_text(found)} (0.8 to 1.25 of it). "
            f"Progressive sharpening: {slope_text(found.slope)}.{noise}"
        )

    def table(_i: int) -> dict[str, Any]:
        found = need()
        return {
            "step": found.steps.astype(int),
            f"largest eigenvalue of the {found.operator}": found.sharpness,
            f"threshold {found.formula}": found.limit,
            "ratio": found.ratio,
        }

    return Card(
        "edge-over", "Edge of stability", draw, caption, table, span=span,
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="Sharpness with the optimizer's threshold, and their ratio, against the optimizer step",
    )  # fmt: skip
