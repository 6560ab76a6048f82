"""Does the gradient live in the top eigenspace, and does that space move? Two cards."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from landscape.readings.subspaces import MOST, Overlaps, gradient_shares

from .. import shell
from ..axes import step_position
from ..common import Scene
from ..numbers import number
from ..plots import alignment as plot
from ..reading import FOLLOW_LIMIT
from ..style import move_cursor
from ..view import Card, Missing, href

KS = (1, 2, 5, 10, 20)


def known(scene: Scene) -> list[int]:
    """The k that every checkpoint's eigenpairs allow: 1, 2, 5, ... and the number of classes."""
    most = min((len(p.values) for p in scene.pairs.values()), default=0)
    return sorted({k for k in (*KS, scene.classes or 1) if k <= most})


def chosen(scene: Scene) -> int:
    """The k of the matrix: the URL's, else the number of classes, else the largest known."""
    ks = known(scene) or [1]
    default = k if (k := scene.classes) in ks else ks[-1]
    return int(scene.place.choice("k", [str(k) for k in ks], str(default)))


def no_pairs(scene: Scene) -> Missing:
    return Missing(
        "No eigenpairs of this run yet. Compute the ten largest with their vectors with",
        scene.command("spectrum", "--top 10"),
    )


def share_card(scene: Scene) -> Card:
    def need() -> dict[int, Any]:
        if not scene.pairs:
            raise no_pairs(scene)
        found = {k: s for k in known(scene) if k != 2 and len((s := gradient_shares(scene.pairs.values(), k))[0])}
        if not found:
            raise Missing(
                "The eigenpairs were stored without the gradient's components. Compute them again with",
                scene.command("spectrum", "--top 10 --overwrite"),
            )
        return found

    def caption(i: int) -> str:
        found, step = need(), scene.step(i)
        here = [(k, float(v[s == step][0])) for k, (s, v) in found.items() if (s == step).any()]
        text = ", ".join(f"top {k}: {number(v)}" for k, v in here)
        size = next(iter(scene.pairs.values())).size
        return (
            f"Share of the squared gradient norm in the k largest eigenvectors' space at step {step:,}: "
            f"{text or 'not known'}. A random direction has k/n, {number(max(found) / size)} for k = {max(found)}; "
            "gradient of the loss over all data."
        )

    def table(_i: int) -> dict[str, Any]:
        found = need()
        steps = next(iter(found.values()))[0]
        return {"step": steps, **{f"share of |g|^2 in the top {k}": v for k, (_s, v) in found.items()}}

    return Card(
        "alignment-over", "Gradient in the top eigenspace",
        lambda i: plot.figure(need(), selected=scene.step(i), log=scene.log, theme=scene.theme),
        caption, table, move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="Share of the squared gradient norm in the top eigenspace against the optimizer step",
    )  # fmt: skip


def matrix_card(scene: Scene) -> Card:
    k = chosen(scene)

    @functools.cache
    def need() -> Overlaps:
        if not scene.pairs:
            raise no_pairs(scene)
        size = scene.vector_bytes
        if size > FOLLOW_LIMIT:
            raise Missing(f"The eigenvectors of this run are {size / 2**30:.1f} GB, too much to read for a page.")
        if not size:
            raise Missing(
                "The eigenpairs of this run were stored without vectors. Compute them with",
                scene.command("spectrum", "--top 10 --overwrite"),
            )
        return scene.reader.overlaps(scene.run, scene.operator, k)

    def caption(i: int) -> str:
        found, step = need(), scene.step(i)
        here = int(np.abs(found.steps - step).argmin())
        row = found.matrix[here]
        text = f"Space of the {k} largest eigenvectors: step {found.steps[here]:,} shares {row[0]:.2f} with the first, "
        text += f"{row[-1]:.2f} with the last checkpoint"
        if here:
            text += f" and {row[here - 1]:.2f} with the one before"
        more = f" {MOST} of the checkpoints." if len(scene.pairs) > MOST else ""
        return f"{text}; 1 is the same space, two random ones share {number(k / found.size)}.{more}"

    def table(_i: int) -> dict[str, Any]:
        found = need()
        return {
            "step": found.steps,
            **{f"overlap with step {s}": c for s, c in zip(found.steps, found.matrix.T, strict=True)},
        }

    def url(choice: int) -> str:
        kept = {name: scene.place.query.get(name, "") for name in ("op", "x", "view")}
        return href("run", scene.run_id, "spectrum", **kept, k=choice)

    tabs = [shell.tabs("k", [(str(c), url(c), c == k) for c in known(scene)])] if len(known(scene)) > 1 else []
    return Card(
        "overlap", "Overlap of top eigenspaces",
        lambda i: plot.matrix(need(), selected=scene.step(i), log=scene.log, theme=scene.theme),
        caption, table, move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])), controls=tabs,
        about="Heatmap of the overlap of the top eigenspaces of every two checkpoints",
    )  # fmt: skip
