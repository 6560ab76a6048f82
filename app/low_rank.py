"""The Structure page's cards of a low-rank training: its ranks, and how much of the top eigenvectors keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from landscape.records import Record, Structure

from .common import Scene
from .plots import low_rank as plot
from .style import move_cursor, redrawn, step_position
from .view import Card, Missing


def cards(scene: Scene, structures: Mapping[int, Structure], made: Callable[[Record], str]) -> list[Card]:
    """Two cards where a layer has a rank, else none; `made` says how a record came about."""
    if not any(found.ranks for found in structures.values()):
        return []
    return [ranks_card(scene, structures, made), tangent_card(scene, structures, made)]


def ranks_card(scene: Scene, structures: Mapping[int, Structure], made: Callable[[Record], str]) -> Card:
    steps, entries = list(structures), list(structures.values())

    def sharpness() -> Any:
        return np.array([getattr(scene.curvature_at(s), "sharpness", np.nan) for s in steps])

    def caption(i: int) -> str:
        here = structures.get(scene.step(i), entries[-1])
        changes = [e for e in scene.run.events() if e.get("event") == "rank"]
        now = ", ".join(f"{name} {rank}" for name, rank in here.ranks.items())
        last = f", the last at step {changes[-1]['step']:,}" if changes else ""
        return (
            f"Ranks at step {here.step:,}: {now}. {len(changes):,} changes in all{last}. Below: the largest eigenvalue "
            f"of the Hessian in the weights W = USVᵀ themselves. {made(here)}."
        )

    def table(_i: int) -> dict[str, Any]:
        names = list(dict.fromkeys(name for s in entries for name in s.ranks))
        ranks = {f"rank of {name}": [s.ranks.get(name) for s in entries] for name in names}
        return {"step": steps, **ranks, "sharpness [loss per squared unit of weight]": sharpness()}

    return Card(
        "ranks-over", "Ranks over training",
        lambda i: plot.ranks(entries, sharpness(), selected=scene.step(i), log=scene.log, theme=scene.theme),
        caption, table, move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="Rank of every low-rank layer, and the largest eigenvalue, against the optimizer step",
    )  # fmt: skip


def tangent_card(scene: Scene, structures: Mapping[int, Structure], made: Callable[[Record], str]) -> Card:
    having = {step: found for step, found in structures.items() if found.tangent is not None}

    def known(i: int) -> tuple[Structure, Any]:
        if not having:
            raise Missing(
                "No eigenvectors were known to the structure of any step. Compute them, then the structure again with "
                "--overwrite.", scene.command("spectrum", "--eigenpairs"),
            )  # fmt: skip
        here = having[min(having, key=lambda s: (abs(s - scene.step(i)), s))]
        return here, here.tangent

    def draw(i: int) -> Any:
        return plot.tangent(known(i)[0], theme=scene.theme)

    def caption(i: int) -> str:
        here, shares = known(i)
        return (
            f"Length of the part of each of the {len(shares)} top eigenvectors v of the Hessian along which all ranks "
            f"stay. Dashed: of a random direction, {here.tangent_chance or 0:.3f}. {made(here)}."
        )

    def table(i: int) -> dict[str, Any]:
        here, shares = known(i)
        return {"eigenvalue [loss per squared unit of weight]": here.tangent_values, "|P_T v|": shares}

    return Card(
        "tangent", lambda i: f"Eigenvectors in the tangent space at step {known(i)[0].step:,}", draw, caption, table,
        move=(lambda i: redrawn(draw(i))) if len(having) > 1 else None,
        about="Share of the top eigenvectors within the tangent space of the matrices of these ranks",
    )  # fmt: skip
