"""The Structure page's cards of a low-rank training: its ranks, and how much of the top eigenvectors keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from landscape.records import Record, Structure

from ..axes import step_position
from ..common import Scene
from ..plots import low_rank as plot
from ..style import move_cursor
from ..view import Card, Missing

MEND = "Compute them, then the structure again with --overwrite"


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
        now = ", ".join(f"{rank} of layer {name}" for name, rank in here.ranks.items())
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
    """At steps without eigenvectors the plot is empty and says so; without any at all there is no plot."""
    known = {step: found for step, found in structures.items() if found.tangent is not None}
    command = scene.command("spectrum", "--eigenpairs")

    def here(i: int) -> Structure | None:
        if not known:
            raise Missing(f"No eigenvectors were known to any structure. {MEND}.", command)
        return known.get(scene.step(i))

    def lack(i: int) -> str:
        return "" if here(i) else f"No eigenvectors were known to the structure at step {scene.step(i):,}"

    def caption(i: int) -> str:
        found = here(i)
        if found is None or found.tangent is None:
            return f"{lack(i)}; there are some at step {', '.join(f'{s:,}' for s in known)}. {MEND}: {command}"
        return (
            f"Length of the part of each of the {len(found.tangent)} top eigenvectors v of the Hessian along which "
            f"all ranks stay. Dashed: of a random direction, {found.tangent_chance or 0:.3f}. {made(found)}."
        )

    def table(i: int) -> dict[str, Any]:
        found = here(i)
        values, shares = (found.tangent_values, found.tangent) if found else (np.empty(0), np.empty(0))
        return {"eigenvalue [loss per squared unit of weight]": values, "|P_T v|": shares}

    def draw(i: int) -> Any:
        found = here(i)
        most = max(len(s.tangent) for s in known.values() if s.tangent is not None)
        chance = (found or next(iter(known.values()))).tangent_chance
        return plot.tangent(found, most, chance, message=lack(i), theme=scene.theme)

    return Card(
        "tangent", lambda i: f"Eigenvectors in the tangent space at step {scene.step(i):,}", draw, caption, table,
        move=lambda i: plot.tangent_move(here(i), lack(i)),
        about="Share of the top eigenvectors within the tangent space of the matrices of these ranks",
    )  # fmt: skip
