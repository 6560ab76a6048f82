"""How many outliers there are, and whether it is the number of classes: key number and card."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape.readings.outliers import Outliers, largest, outliers

from ..axes import step_position
from ..common import Scene
from ..numbers import number
from ..plots import outliers_over as plot
from ..style import move_cursor
from ..view import Card, Kpi, Missing


def at(scene: Scene, step: int) -> Outliers | None:
    return outliers(largest(scene.pairs.get(step), scene.series.spectra.get(step)))


def kpi(scene: Scene, step: int) -> Kpi:
    """'9 (9 to 10)' above the edge 0.085; K = 10."""
    found, k = at(scene, step), scene.classes
    if found is None:
        if step not in scene.pairs and step not in scene.series.spectra:
            return Kpi("Outliers", "–", "no spectrum at this step")
        return Kpi("Outliers", "–", "no clear edge among the eigenvalues known")
    hint = f"above the bulk edge {number(found.edge)}" + (f"; K = {k} classes" if k else "")
    return Kpi("Outliers", found.text, hint, amount=float(found.count))


def card(scene: Scene, *, span: str = "") -> Card:
    def need() -> dict[int, Outliers]:
        steps = sorted({*scene.series.spectra, *scene.pairs})
        if not steps:
            raise Missing("No eigenvalues of this run yet. Compute them with", scene.command("spectrum", "--top 20"))
        found = {s: o for s in steps if (o := at(scene, s)) is not None}
        if not found:
            raise Missing(
                "The eigenvalues known show no edge between outliers and bulk; more of them may. Compute them with",
                scene.command("spectrum", "--top 30 --overwrite"),
            )
        return found

    def draw(i: int) -> Any:
        found = need()
        return plot.figure(
            np.array(list(found)), list(found.values()), classes=scene.classes, selected=scene.step(i), log=scene.log,
            theme=scene.theme,
        )  # fmt: skip

    def caption(i: int) -> str:
        found, k = at(scene, scene.step(i)), scene.classes
        text = f"Step {scene.step(i):,}: " + (
            "no clear edge. "
            if found is None
            else f"{found.text} outliers above the bulk edge {number(found.edge)}{f'; K = {k}' if k else ''}. "
        )
        return text + (
            "The edge is where the number of eigenvalues per factor e jumps (change point of the largest likelihood, "
            "bars: counts within 2 log units), from converged eigenvalues alone."
        )

    def table(_i: int) -> dict[str, Any]:
        found = need()
        return {
            "step": list(found),
            **{name: [getattr(o, name) for o in found.values()] for name in ("count", "low", "high", "edge", "seen")},
        }

    return Card(
        "outliers-over", "Outliers over training", draw, caption, table, span=span,
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="Number of eigenvalues above the bulk, and the bulk's edge, against the optimizer step",
    )  # fmt: skip
