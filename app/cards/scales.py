"""The card of the inverse scale space path, of runs whose optimizer keeps a sparse copy of the weights."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from landscape.errors import LandscapeError
from landscape.records import ScaleSpace

from .. import facts
from ..axes import step_position
from ..common import Scene
from ..plots import scale_space as plot
from ..style import move_cursor
from ..view import Card


def cards(scene: Scene) -> list[Card]:
    """One card where the run has such a record, else none."""
    found = _last(scene)
    return [] if found is None else [_card(scene, found)]


def _last(scene: Scene) -> ScaleSpace | None:
    steps = scene.run.steps("scale_space", "gamma")
    with contextlib.suppress(LandscapeError):
        if steps:
            record: ScaleSpace = scene.reader.record(scene.run, f"scale_space-gamma-{steps[-1]:08d}")
            return record
    return None


def _card(scene: Scene, found: ScaleSpace) -> Card:
    def draw(i: int) -> Any:
        return plot.figure(found, selected=scene.step(i), log=scene.log, theme=scene.theme)

    def caption(i: int) -> str:
        at = int(np.searchsorted(found.steps, scene.step(i), side="right")) - 1
        entered = found.path_entered
        begun = f"The first unit enters at step {entered.min():,}. " if len(entered) else ""
        how = facts.evidence(found)
        return (
            f"{begun}At step {int(found.steps[max(at, 0)]):,}, {100 * float(found.share()[max(at, 0)]):.2f} % of all "
            f"units are in the support of Γ. Above: up to {plot.DRAWN} of every layer that enter first, at the "
            f"checkpoints. Made by {found.meta.get('command', 'an unknown command')}{f' ({how})' if how else ''}."
        )

    def table(_i: int) -> dict[str, Any]:
        return {"layer": [found.layers[n] for n in found.unit_layers],
                "entered the support at step (0: never)": found.entered}  # fmt: skip

    return Card(
        "scale-space", "Inverse scale space path", draw, caption, table,
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="Norms of the first units of the sparse copy, and the share of each layer in it, against the step",
    )  # fmt: skip
