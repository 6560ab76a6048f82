"""The extreme eigenvalues in order with their error bars, largest on the left, smallest on the right."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ...readings import quadrature
from ...records import Eigenpairs
from .. import drawing
from ..scales import Array, number
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, about_run, all_of, at_step, drawn, nearest_step


def draw(axes: Axes, pairs: Eigenpairs) -> None:
    ink = drawing.ink()
    top, low = len(pairs.values), len(pairs.lowest_values)
    at, behind = np.arange(1, top + 1), top + 1 + low - np.arange(low)
    for x, values, bounds, colour, label in (
        (at, pairs.values, pairs.residuals, ink.blue, "largest"),
        (behind, pairs.lowest_values, pairs.lowest_residuals, ink.orange, "smallest"),
    ):
        if len(values):
            u = quadrature.to_asinh(values)
            bars = np.stack([u - quadrature.to_asinh(values - bounds), quadrature.to_asinh(values + bounds) - u])
            axes.errorbar(x, u, np.nan_to_num(bars), fmt="o", color=colour, ms=4, lw=1, capsize=2.5, label=label)
    every: Array = quadrature.to_asinh(np.concatenate([pairs.values, pairs.lowest_values, [0.0]]))
    low_u, high_u = float(every.min()) - 0.7, float(every.max()) + 0.7
    axes.set_ylim(low_u, high_u)
    drawing.lambda_axis(axes.yaxis, low_u, high_u, pairs.operator)
    shown = [i for i in at if i == 1 or i % max(1, -(-top // 8)) == 0]
    ends = [int(b) for k, b in enumerate(behind) if k in (0, low - 1)]
    names = [*map(str, shown), *["n" if k == 0 else f"n−{low - 1}" for k in range(len(ends))]]
    axes.set_xticks(np.array([*shown, *ends], dtype=np.float64), names)
    axes.set_xlim(0.3, top + low + 1.7)
    axes.set_xlabel("index (1: largest, n: smallest)")
    axes.axhline(0, color=ink.faint, lw=0.8)
    axes.grid(True, axis="y")
    axes.legend(loc="upper right")
    axes.set_title(f"Extreme eigenvalues at step {pairs.step:,}")


def figure(pairs: Eigenpairs, *, sheet: Sheet | None = None, about: str = "") -> Plate:
    sheet = sheet or Sheet.of("text")
    every = np.concatenate([pairs.residuals, pairs.lowest_residuals])
    caption = (
        f"{about} {len(pairs.values)} largest and {len(pairs.lowest_values)} smallest of {pairs.size:,} eigenvalues; "
        f"bars: residuals, at most {number(float(np.nanmax(every, initial=0.0)))}. The axis is linear below 0.001 "
        "and logarithmic above."
    ).strip()
    return drawn(sheet, 0.75 if sheet.narrow else 0.5, caption, lambda page: draw(page.subplots(), pairs))


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the step that is asked for, or the latest."""
    step = nearest_step(run, "eigenpairs", choice)
    return figure(at_step(all_of(run, "eigenpairs", choice.operator), step), sheet=sheet, about=about_run(run))
