"""A network that grew: the map with its path across the growths, and the density before and after one of them.

At eps = 0 and a stationary point a split adds w eig(S_i) to the Hessian for copies of weight w (eig(S_i) / 2 for two
halves) and zeros; the ends of each S_i, which are known before, are marked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ...errors import ProblemError
from ...readings import quadrature, smoothing
from ...records import Eigenpairs, Path, Spectrum, Surface, Trajectory
from .. import drawing
from ..drawing import FLOOR
from ..scales import number
from ..scene import Readable
from . import density, surface
from ._sheet import Choice, Plate, Sheet, about_projection, about_run, all_of, at_step, drawn

Event = dict[str, Any]
MARKED = 12  # predicted eigenvalues, the lowest first


@dataclass(frozen=True)
class Change:
    """A growth with the spectra on its two sides.

    Attributes:
        exact: whether `after` is that of the small network in the weights of the large one, with nothing trained.
    """

    event: Event
    before: Spectrum
    after: Spectrum
    pairs: Eigenpairs | None
    exact: bool

    @property
    def predicted(self) -> list[float]:
        """Ends of what the growth adds to the Hessian, ascending; empty where that is not known."""
        found = self.event.get("eigenvalues")
        return sorted(float(v) for v in found) if isinstance(found, list) else []


def ticks(axes: Axes, predicted: Sequence[float]) -> None:
    """The predicted eigenvalues as dotted lines from the lower edge up."""
    at = quadrature.to_asinh(np.array(predicted[:MARKED]))
    axes.vlines(at, FLOOR, 0.03, color=drawing.ink().green, lw=1.2, ls=(0, (2, 1)), label="predicted by the split")


def figure(
    change: Change, plane: Surface | None, trajectory: Trajectory | None, *, sheet: Sheet | None = None,
    about: str = "",
) -> Plate:  # fmt: skip
    """Both panels, or the densities alone where there is no surface."""
    sheet = sheet or Sheet.of("text")
    width = smoothing.automatic([change.before, change.after])
    sides = [f"{'after' if s is change.after else 'before'}: {s.size:,} weights" for s in (change.after, change.before)]

    def draw(page: Any) -> None:
        panels = [1.0] if plane is None else [1.15, 1.0]
        grid: dict[str, Any] = {"height_ratios": panels} if sheet.narrow else {"width_ratios": panels}
        shape = (len(panels), 1) if sheet.narrow else (1, len(panels))
        axes = np.atleast_1d(page.subplots(*shape, **grid))
        if plane is not None:
            surface.draw(axes[0], plane, trajectory, narrow=True)
            axes[0].locator_params(axis="x", nbins=4)  # half a page wide, with signs and decimals
        density.draw(axes[-1], change.after, change.pairs, change.before, width, 4, sides)
        if change.predicted:
            ticks(axes[-1], change.predicted)
        axes[-1].legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=2, columnspacing=1.0, handlelength=1.2,
                        borderpad=0.1)  # above the curves, which reach everywhere  # fmt: skip
        axes[-1].set_title("Spectrum across a growth", pad=3.2 * sheet.points)

    caption = " ".join(filter(None, [about, about_projection(plane, trajectory) if plane else "", told(change)]))
    aspect = 1.4 if sheet.narrow else 0.43
    return drawn(sheet, aspect if plane is not None else aspect / 2 + 0.2, caption, draw)


def told(change: Change) -> str:
    """What the densities are of, and what was predicted beside what came."""
    event, parts = change.event, []
    if change.exact:
        parts.append(f"Density at step {change.before.step:,}, before a growth (grey), and of the same function in the "
                     "weights of the grown network.")  # fmt: skip
    else:
        parts.append(f"Densities before a growth, step {change.before.step:,} (grey), and after, step "
                     f"{change.after.step:,}.")  # fmt: skip
    lowest = [float(v) for v in change.pairs.lowest_values[:1]] if change.pairs is not None else []
    if lowest and change.predicted:
        parts.append(f"Smallest eigenvalue {number(lowest[0])}, predicted {number(change.predicted[0])}.")
    elif lowest and isinstance(event.get("bound"), float) and math.isfinite(event["bound"]):
        parts.append(f"Smallest eigenvalue {number(lowest[0])}; predicted: at most {number(event['bound'])}.")
    predicted, measured = event.get("predicted"), event.get("measured")
    if isinstance(predicted, float) and isinstance(measured, float):
        parts.append(f"The growth changed the loss by {number(measured)}, predicted {number(predicted)}.")
    return " ".join(parts)


# ------------------------------------------------------------------ records of a run


def changes(run: Readable, operator: str) -> list[Change]:
    """The growths of a run with spectra on both sides, in order."""
    events = [e for e in run.events() if e["event"] == "grow"]
    spectra, pairs = all_of(run, "spectrum", operator), all_of(run, "eigenpairs", operator)
    paths = [run.read(key) for key in run.keys("path")] if operator == "hessian" else []
    found = []
    for number_, event in enumerate(events):
        step = event["step"]
        end = events[number_ + 1]["step"] if number_ + 1 < len(events) else math.inf
        before = [s for s in spectra if s.step < step and (not number_ or s.step >= events[number_ - 1]["step"])]
        later = [s for s in spectra if step <= s.step < end]
        path = _across(paths, before[-1].step, step, end) if before else None
        if path is not None:
            first = path.eigenpairs[0] if path.eigenpairs else None
            found.append(Change(event, before[-1], path.spectra[0], first, True))
        elif before and later:
            found.append(Change(event, before[-1], later[0], at_step(pairs, later[0].step), False))
    return found


def _across(paths: Sequence[Path], before: int, step: int, end: float) -> Path | None:
    """A path of the run to itself that begins at this checkpoint and ends behind this growth alone, with spectra."""
    return next((p for p in paths if p.run_a == p.run_b and p.spectra and p.step_a == before
                 and step <= p.step_b < end), None)  # fmt: skip


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """Of the last growth up to the step that is asked for, one with the exact spectrum after it before others."""
    if not any(e["event"] == "grow" for e in run.events()):
        raise ProblemError(f"run '{run.info.name}' did not grow; train one that does with `landscape train PROBLEM "
                           "--optimizer splitting`")  # fmt: skip
    found = [c for c in changes(run, choice.operator) if choice.step is None or c.event["step"] <= choice.step]
    if not found:
        raise ProblemError(f"run '{run.info.name}' has no {choice.operator} spectra on both sides of a growth. Compute "
                           f"them with `landscape spectrum {run.root} --operator {choice.operator}`")  # fmt: skip
    try:
        plane, trajectory = surface.read(run, choice)
    except ProblemError:
        plane, trajectory = None, None
    chosen = max(found, key=lambda c: (c.exact, c.event["step"]))
    return figure(chosen, plane, trajectory, sheet=sheet, about=about_run(run))
