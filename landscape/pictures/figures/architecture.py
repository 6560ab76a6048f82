"""The cells of a searched network, kept operations in colour and pruned ones grey, and their norms over training."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ...errors import ProblemError
from ...readings import cells
from ...records import Architecture
from .. import drawing
from ..scales import number, percent
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, about_run, drawn

_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))
Look = tuple[str, Any]  # colour, dashes


def looks(record: Architecture) -> dict[str, Look]:
    """Colour and dashes of every operation; 'none' is muted."""
    ink = drawing.ink()
    names = [name for name in dict.fromkeys(record.operations) if name != "none"]
    found = {name: (ink.series[i % 4], _DASHES[i // 4 % 3]) for i, name in enumerate(names)}
    return {"none": (ink.muted, "-"), **found} if "none" in record.operations else dict(found)


def cell(axes: Axes, record: Architecture, kind: str) -> None:
    """One kind of cell as a graph; the width of a kept operation grows with the norm of its group."""
    ink, look = drawing.ink(), looks(record)
    plan = cells.drawing(record, kind)
    top = float(record.norms.max()) or 1.0
    for strand in sorted(plan.strands, key=lambda s: bool(record.kept[s.group])):
        kept = bool(record.kept[strand.group])
        colour, dashes = look[record.operations[strand.group]]
        axes.plot(*strand.points.T, color=colour if kept else ink.faint, ls=dashes if kept else "-",
                  lw=0.9 + 2.1 * float(record.norms[strand.group]) / top if kept else 0.5,
                  alpha=1.0 if kept else 0.7, zorder=3 if kept else 2, solid_capstyle="butt")  # fmt: skip
    for place in plan.places:
        box = {"boxstyle": "round,pad=0.35", "fc": ink.paper, "ec": ink.muted, "lw": 0.8}
        axes.text(place.x, place.y, place.label, ha="center", va="center", bbox=box, zorder=5)
    left, right, low, high = plan.box
    axes.set_xlim(left - 0.5, right + 0.5)
    axes.set_ylim(low - 0.35, high + 0.35)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(f"{kind.capitalize()} cell at step {record.step:,}")


def norms(axes: Axes, records: list[Architecture], most: int) -> None:
    """Norm of every group over the steps, and the threshold."""
    ink, look = drawing.ink(), looks(records[-1])
    steps = np.array([r.step for r in records])
    values = np.array([r.norms for r in records])  # (checkpoint, group)
    limit = records[-1].threshold
    shown = values[values > 0]
    low = min(float(shown.min(initial=1.0)), limit or 1.0) / 3
    for group, name in enumerate(records[-1].operations):
        colour, dashes = look[name]
        axes.plot(steps, np.maximum(values[:, group], low), color=colour, ls=dashes, lw=1.0, marker="o", ms=2)
    drawing.log_axis(axes, low, float(values.max()) * 3, 6)
    if limit:
        axes.axhline(limit, color=ink.muted, lw=1, ls=(0, (5, 4)))
        axes.text(0.01, limit, "pruned below", transform=axes.get_yaxis_transform(), va="center", size="small",
                  color=ink.muted, bbox={"fc": ink.paper, "ec": "none", "pad": 1})  # fmt: skip
    axes.set_ylabel("norm of a group\n(log scale)")
    axes.grid(True)
    drawing.step_axis(axes, steps, most)


def _legend(axes: Axes, record: Architecture, columns: int) -> None:
    ink = drawing.ink()
    lines = [Line2D([], [], color=c, ls=d, lw=2, label=name) for name, (c, d) in looks(record).items()]
    lines.append(Line2D([], [], color=ink.faint, lw=0.5, label="pruned"))
    axes.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(len(lines), columns))


def figure(records: list[Architecture], *, sheet: Sheet | None = None, about: str = "") -> Plate:
    """The cells at the last of some records of one search, and the norms at all of them."""
    sheet = sheet or Sheet.of("text")
    last = records[-1]
    kinds = list(dict.fromkeys(last.kinds))
    gone = int((last.kept == 0).sum())
    rule = f"norm at most {number(last.threshold)}" if last.read_off == "all" else "all but the largest of an edge"
    caption = (f"{about} {gone} of {len(last.kept)} operations ({percent(gone / len(last.kept))}) pruned: {rule}, over "
               "all tensors and cells that share it. Lines are as wide as their norm is large; a node sums what "
               "reaches it, and a cell gives its nodes side by side.")  # fmt: skip

    def draw(page: Any) -> None:
        heights = [*(1.0 for _ in kinds), 0.75]
        panels = page.subplots(len(heights), 1, height_ratios=heights)
        for axes, kind in zip(panels, kinds, strict=False):
            cell(axes, last, kind)
        _legend(panels[len(kinds) - 1], last, 3 if sheet.narrow else 6)
        norms(panels[-1], records, sheet.ticks)
        panels[-1].set_title("Norms over training")

    share = 0.6 if sheet.narrow else 0.42  # of the width, a kind of cell
    return drawn(sheet, 0.35 + share * len(kinds), caption.strip(), draw)


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """The architecture at a checkpoint, the last one if none is named."""
    for read_off in ("all", "one"):
        keys = [k for k in run.keys("architecture") if run.meta(k)["read_off"] == read_off]
        records = sorted((run.read(k) for k in keys), key=lambda record: record.step)
        records = [r for r in records if choice.step is None or r.step <= choice.step]
        if records and choice.step in (None, records[-1].step):
            return figure(records, sheet=sheet, about=about_run(run))
    at = f" at step {choice.step}" if choice.step is not None else ""
    raise ProblemError(f"run '{run.info.name}' has no architecture{at}; read it off with `landscape derive {run.root}`")
