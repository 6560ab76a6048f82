"""The card of followed eigenvalues, shown on the spectrum page."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape.readings.following import LEAST, Following
from landscape.records import operator_key

from ..axes import step_position
from ..common import Scene
from ..numbers import number
from ..plots import branches as plot
from ..reading import FOLLOW_LIMIT
from ..style import move_cursor
from ..view import Card, Missing


def card(scene: Scene, *, span: str = "wide") -> Card:
    def need() -> Following:
        if not scene.pairs:
            raise Missing(
                "No eigenpairs of this run yet. Compute the ten largest with their vectors with",
                scene.command("spectrum", "--top 10"),
            )
        size = scene.vector_bytes
        if size > FOLLOW_LIMIT:
            raise Missing(
                f"The eigenvectors of this run are {size / 2**30:.1f} GB, too much to read for a page. As a table:",
                f"landscape export {scene.place_on_disk} --record following --only {operator_key(scene.operator)}",
            )
        if not size:
            raise Missing(
                "The eigenpairs of this run were stored without vectors, so they cannot be followed. Compute them with",
                scene.command("spectrum", "--top 10 --overwrite"),
            )
        return scene.following

    def caption(_i: int) -> str:
        found = need()
        lines = int(((found.rows >= 0).sum(axis=1) > 1).sum())
        text = (
            f"Eigenpairs of {len(found.steps)} checkpoints matched by their vectors, whatever their order and sign: "
            f"{lines} lines; one ends where no vector of the next checkpoint overlaps by {LEAST:g}. Below: the part "
            "of the largest eigenvectors' space kept since the checkpoint before (line), and the weakest branch (◆)"
        )
        if np.isfinite(found.subspace).any():
            text += f", at least {number(float(np.nanmin(found.subspace)))}"
        return text + "." + degenerate_text(found)

    def table(_i: int) -> dict[str, Any]:
        found = need()
        branch, place = np.nonzero(found.rows >= 0)
        return {
            "branch": branch + 1,
            "step": found.steps[place],
            "eigenvalue [loss per squared unit of weight]": found.values[branch, place],
            "residual": found.residuals[branch, place],
            "overlap with the step before": found.overlap[branch, place],
            "overlap of the largest eigenvectors' space with the step before": found.subspace[place],
        }

    return Card(
        "branches-over",
        "Eigenvalues followed through training",
        lambda i: plot.figure(need(), selected=scene.step(i), log=scene.log, theme=scene.theme),
        caption,
        table,
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        span=span,
        about="Extreme eigenvalues as curves, matched by their eigenvectors from checkpoint to checkpoint",
    )


def degenerate_text(found: Following) -> str:
    """Which branches were not told apart, and where first; empty where all were."""
    places = [t for t, groups in enumerate(found.degenerate) if groups]
    if not places:
        return ""
    names, first = " and ".join(found.names(places[0])), found.steps[places[0]]
    share = f"{len(places)} of {len(found.steps)} checkpoints"
    return f" Open markers: not told apart at {share}, first {names} at step {first:,}."
