"""Cells on their hardware: accuracy against cycles and against energy, the front as a line."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ...errors import ProblemError
from ...readings.fronts import stairs
from ...records import Front
from .. import drawing
from ..scales import Array, number
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, about_run, drawn

_MARKS = ("o", "s", "^", "D")


def panel(axes: Axes, record: Front, costs: Array, label: str) -> None:
    """Every point of a family in its colour, and what its own points reach as a line."""
    ink = drawing.ink()
    accuracy = record.accuracy[record.cells]
    families = np.array(record.families)[record.cells]
    for i, name in enumerate(dict.fromkeys(record.families)):
        mine = families == name
        colour = ink.series[i % 4]
        x, y = stairs(costs[mine], accuracy[mine])
        axes.plot(x, y, color=colour, lw=1.2, drawstyle="steps-post")
        axes.plot(costs[mine], accuracy[mine], _MARKS[i % 4], color=colour, ms=3.5, ls="none", label=name)
    on = record.best == 1
    axes.plot(costs[on], accuracy[on], "o", mfc="none", mec=ink.text, ms=8, ls="none", label="front of all")
    axes.set_xscale("log")
    low, high = costs.min() / 1.3, costs.max() * 1.3
    ticks = [m * 10.0**k for k in range(12) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    axes.set_xticks(ticks, [f"{t:,.0f}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(label)
    axes.grid(True)


def figure(record: Front, *, sheet: Sheet | None = None, about: str = "") -> Plate:
    """Two panels: cycles and energy."""
    sheet = sheet or Sheet.of("text")
    away = int(np.isnan(record.accuracy).sum())
    caption = (f"{about} Every point is a cell on one design of at most {record.area} multipliers and lanes and "
               f"{number(record.most_cycles)} cycles a sample; lines: the best accuracy that a cost buys. "
               f"{away} of {len(record.accuracy)} cells were turned away without a training.")  # fmt: skip

    def draw(page: Any) -> None:
        across = (2, 1) if sheet.narrow else (1, 2)
        left, right = page.subplots(*across, sharey=True).ravel()
        panel(left, record, record.point_cycles, "cycles a sample (log scale)")
        panel(right, record, record.point_energy, "energy a sample, multiplications (log scale)")
        for axes in (left, right) if sheet.narrow else (left,):
            axes.set_ylabel("test accuracy")
        left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    return drawn(sheet, 1.1 if sheet.narrow else 0.45, caption.strip(), draw)


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """The last exploration of a run."""
    keys = sorted(run.keys("front"))
    if not keys:
        raise ProblemError(f"run '{run.info.name}' has no front of cells; `landscape coexplore --out RUN` makes a run "
                           "with one")  # fmt: skip
    record = run.read(keys[-1])
    if not len(record.cells):
        raise ProblemError(f"run '{run.info.name}': no cell of its front was trained")
    return figure(record, sheet=sheet, about=about_run(run))
