"""Loss of every step and of the checkpoints, and the sharpness with the optimizer's threshold of stability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ...errors import ProblemError
from ...readings import stability
from ...records import Eigenpairs, RunInfo
from .. import drawing
from ..scales import Array, number
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, about_run, all_of, drawn

METRICS = (("loss", "mini-batch loss"), ("test_loss", "test loss"))


def losses(axes: Axes, metrics: Mapping[str, Array]) -> None:
    """The logged losses over the step: mini-batches thin, with their running median."""
    ink = drawing.ink()
    steps, logged = metrics["step"], metrics["loss"]
    axes.plot(steps, logged, color=ink.blue, lw=0.6, alpha=0.35, label="a mini-batch")
    width = max(1, len(logged) // 30)
    if width > 1:
        middle = [float(np.nanmedian(logged[max(0, i - width) : i + width + 1])) for i in range(len(logged))]
        axes.plot(steps, middle, color=ink.blue, lw=1.5, label=f"median of {2 * width + 1}")
    positive = logged[np.isfinite(logged) & (logged > 0)]
    if len(positive) == np.isfinite(logged).sum() and len(positive):
        drawing.log_axis(axes, float(positive.min()) / 1.2, float(positive.max()) * 1.2, 4)
        axes.set_ylabel("training loss\n(log scale)")
    else:
        axes.set_ylabel("training loss")
    axes.legend(loc="upper right")
    axes.grid(True)


def sharpness(axes: Axes, pairs: list[Eigenpairs], info: RunInfo) -> None:
    """Largest eigenvalue of each checkpoint; the threshold where it is near enough to be on the axis."""
    ink = drawing.ink()
    steps = np.array([e.step for e in pairs])
    tops = np.array([e.values[0] for e in pairs])
    axes.errorbar(steps, tops, [e.residuals[0] for e in pairs], color=ink.orange, lw=1.4, marker="o", ms=2.5, capsize=2)
    limit = stability.threshold(info)
    if limit.value is not None and limit.value < 2 * float(np.nanmax(tops)):
        axes.axhline(limit.value, color=ink.muted, lw=1, ls=(0, (5, 4)))
        axes.text(0.99, limit.value, limit.formula, transform=axes.get_yaxis_transform(), ha="right", va="bottom",
                  size="small", color=ink.muted)  # fmt: skip
    axes.set_ylim(min(0.0, float(np.nanmin(tops))), None)
    axes.set_ylabel("λ max\n(loss / weight²)")
    axes.grid(True)


def draw(page: Any, metrics: Mapping[str, Array], pairs: list[Eigenpairs], info: RunInfo, most: int) -> None:
    pairs = [e for e in pairs if len(e.values)]
    panels = np.atleast_1d(page.subplots(2 if pairs else 1, 1, sharex=True, squeeze=True))
    losses(panels[0], metrics)
    panels[0].set_title(f"Training of {info.name}")
    if pairs:
        sharpness(panels[1], pairs, info)
    drawing.step_axis(panels[-1], metrics["step"], most)


def figure(metrics: Mapping[str, Array], pairs: list[Eigenpairs], info: RunInfo, *, sheet: Sheet | None = None,
           about: str = "") -> Plate:  # fmt: skip
    sheet = sheet or Sheet.of("text")
    limit = stability.threshold(info)
    edge = f" {limit.formula} = {number(limit.value)}: threshold of stability." if limit.value is not None else ""
    bounds = [float(e.residuals[0]) for e in pairs if len(e.residuals)]
    sharp = f" Sharpness at {len(bounds)} checkpoints, residual bounds at most {number(max(bounds))}." if bounds else ""
    return drawn(sheet, 0.9 if sheet.narrow else 0.55, f"{about}{sharp}{edge if bounds else ''}".strip(),
                 lambda page: draw(page, metrics, pairs, info, sheet.ticks))  # fmt: skip


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """The whole training."""
    metrics = run.metrics()
    if "loss" not in metrics or not len(metrics["loss"]):
        raise ProblemError(f"run '{run.info.name}' has logged no loss; give `recorder.step(loss=...)` one")
    return figure(metrics, all_of(run, "eigenpairs", choice.operator), run.info, sheet=sheet, about=about_run(run))
