"""The Structure page's cards of cells searched together with their hardware: accuracy against cycles and energy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from landscape.errors import LandscapeError
from landscape.records import Array, Front

from ..common import Scene
from ..plots import front as plot
from ..view import Card, Kpi, Missing


def cards(scene: Scene) -> list[Card]:
    """Two cards where the run has a front, else none."""
    keys = sorted(scene.run.keys("front"))
    return [cycles_card(scene, keys[-1]), energy_card(scene, keys[-1])] if keys else []


def kpis(scene: Scene) -> list[Kpi]:
    """What the exploration came to; nothing where there is none that can be read."""
    found = None
    with contextlib.suppress(LandscapeError, Missing):
        found = read(scene, max(scene.run.keys("front"), default=""))
    if found is None:
        return []
    trained = np.isfinite(found.accuracy)
    accurate = int(np.nanargmax(found.accuracy))
    cheap = int(np.argmin(np.where(trained, found.cycles, np.inf)))
    return [
        Kpi("Cells", f"{len(found.accuracy):,}", f"{int((~trained).sum())} turned away untrained"),
        Kpi("On the front", f"{len(set(found.cells[found.best == 1].tolist())):,}",
            f"cells; {int(found.best.sum())} of {len(found.cells)} points"),
        Kpi("Most accurate", f"{100 * found.accuracy[accurate]:.1f} %",
            f"cell {accurate}, {found.families[accurate]}: {found.cycles[accurate]:,.0f} cycles a sample"),
        Kpi("Fewest cycles", f"{found.cycles[cheap]:,.0f}",
            f"cell {cheap}, {found.families[cheap]}: test accuracy {100 * found.accuracy[cheap]:.1f} %"),
    ]  # fmt: skip


def read(scene: Scene, key: str) -> Front:
    """The record, of which there is something to draw.

    Raises:
        ProblemError: it is damaged.
        Missing: no cell of it was trained.
    """
    found: Front = scene.reader.record(scene.run, key)
    if not np.isfinite(found.accuracy[found.cells]).any():
        raise Missing("No cell of this exploration was trained. Allow more with --most-cycles or --area in",
                      "landscape coexplore --out RUN")  # fmt: skip
    return found


def cycles_card(scene: Scene, key: str) -> Card:
    def caption(found: Front) -> str:
        away = int(np.isnan(found.accuracy).sum())
        return (
            f"A point is a cell on one design of at most {found.area} multipliers and lanes and {found.most_cycles:,} "
            f"cycles a sample. Line: the best accuracy that a cost buys. Ringed: no other point is as good in "
            f"accuracy, cycles and energy and better in one. {away} of {len(found.accuracy)} cells were turned away "
            f"untrained. Made by {found.meta.get('command', 'an unknown command')}."
        )

    return _card(scene, key, "cycles", lambda found: found.point_cycles, "cycles a sample", caption)


def energy_card(scene: Scene, key: str) -> Card:
    def caption(found: Front) -> str:
        cells = len(set(found.cells[found.best == 1].tolist()))
        return (
            "The same points. Energy is that of multiplications, of reads and of all multipliers and lanes for all "
            f"cycles, in multiplications that cost as much. The front has {int(found.best.sum())} of "
            f"{len(found.cells)} points, of {cells} cells."
        )

    return _card(
        scene, key, "energy", lambda found: found.point_energy, "energy a sample [multiplications]", caption
    )  # fmt: skip


def _card(
    scene: Scene, key: str, cost: str, of: Callable[[Front], Array], title: str, caption: Callable[[Front], str]
) -> Card:
    """Accuracy against a cost, one value a point, whose axis has a title."""

    def draw(_i: int) -> Any:
        found = read(scene, key)
        return plot.figure(found, of(found), title, theme=scene.theme)

    return Card(f"front-{cost}", f"Cells on their hardware: accuracy against {cost}", draw,
                lambda _i: caption(read(scene, key)), lambda _i: table(read(scene, key)),
                about=f"Test accuracy of searched cells against {cost} a sample, one point a design")  # fmt: skip


def table(found: Front) -> dict[str, Any]:
    """One row a point."""
    at = found.cells
    return {
        "cell": at, "found by": [found.families[n] for n in at], "mu": found.mu[at],
        "operations": found.operations[at], "multipliers, rows": found.rows, "multipliers, columns": found.columns,
        "lanes": found.lanes, "cycles a sample": found.point_cycles,
        "energy a sample [multiplications]": found.point_energy, "test accuracy": found.accuracy[at],
        "on the front": found.best,
    }  # fmt: skip
