"""The searched architecture of a run: the card with its cells at the selected step."""

from __future__ import annotations

import contextlib
from typing import Any

from landscape.errors import LandscapeError
from landscape.records import Architecture

from ..common import Scene
from ..numbers import number
from ..plots import architecture as plot
from ..view import Card, Missing


def found(scene: Scene) -> dict[int, Architecture]:
    """Readable architectures by step: of all operations above the threshold, else of one an edge."""
    kept: dict[int, Architecture] = {}
    for key in scene.run.keys("architecture"):
        with contextlib.suppress(LandscapeError):
            record: Architecture = scene.reader.record(scene.run, key)
            if record.read_off == "all" or record.step not in kept:
                kept[record.step] = record
    return dict(sorted(kept.items()))


def nearest(scene: Scene, step: int) -> Architecture:
    """The architecture of a step, else of the last one before it, else the first.

    Raises:
        Missing: none was read off.
    """
    records = found(scene)
    if not records:
        raise Missing(
            "No architecture of this run. Of a search (digits_cell with groups=operations) it is read off with",
            scene.command("derive", ranks=1),
        )
    before = [s for s in records if s <= step]
    return records[before[-1] if before else min(records)]


def card(scene: Scene) -> Card | None:
    """The cells; None where the run has no architecture."""
    records = found(scene)
    if not records:
        return None
    first = next(iter(records.values()))
    same = [r for r in records.values() if (r.kinds, r.operations) == (first.kinds, first.operations)]
    top = max((float(r.norms.max()) for r in same), default=1.0)

    def caption(i: int) -> str:
        here = nearest(scene, scene.step(i))
        gone = int((here.kept == 0).sum())
        rule = f"norm at most {number(here.threshold)}" if here.read_off == "all" else "all but the largest of an edge"
        return (
            f"{gone} of {len(here.kept)} operations pruned: {rule}, over all tensors and cells that share it. As wide "
            "as the norm of its group; a node sums what reaches it. One of "
            f"{len(records)} steps, {min(records):,} to {max(records):,}."
        )

    def table(i: int) -> dict[str, Any]:
        here = nearest(scene, scene.step(i))
        return {
            "cell": here.kinds, "source": here.source, "target": here.target, "operation": here.operations,
            "norm [units of weight]": here.norms, "weights": here.sizes, "kept": here.kept,
        }  # fmt: skip

    return Card(
        "architecture", lambda i: f"Searched architecture at step {nearest(scene, scene.step(i)).step:,}",
        lambda i: plot.figure(nearest(scene, scene.step(i)), top=top, theme=scene.theme), caption, table, span="wide",
        move=lambda i: plot.move(nearest(scene, scene.step(i)), top=top, theme=scene.theme),
        about="Graph of the cells' operations, kept ones in colour, at the selected step",
    )  # fmt: skip
