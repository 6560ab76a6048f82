"""Loss with barrier, accuracy, sharpness and density (those that were computed) along a path between two minima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...errors import ProblemError
from ...records import Eigenpairs, Path, Spectrum
from .. import drawing, scales
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, drawn
from .spectrum import density_map


def barrier(axes: Axes, path: Path, *, narrow: bool = False) -> None:
    """Loss along the path, the chord between its ends, and the barrier as the largest height above the chord."""
    ink = drawing.ink()
    axes.plot(path.t, path.loss, color=ink.blue, lw=1.6, marker="o", ms=2.5, label="training loss")
    others = ((path.test_loss, ink.blue, "--", "test loss"), (path.straight_loss, ink.orange, "-", "straight line"),
              (path.unaligned_loss, ink.purple, "-.", "straight line, not aligned"))  # fmt: skip
    for values, colour, style, label in others:
        if values is not None:
            axes.plot(path.t, values, color=colour, lw=1.1, ls=style, label=label)
    chord = (1 - path.t) * path.loss[0] + path.t * path.loss[-1]
    axes.plot(path.t, chord, color=ink.faint, lw=1.0, ls=":", label="chord")
    rise = path.loss - chord
    if np.isfinite(rise).any():
        top = int(np.nanargmax(rise))
        axes.vlines(path.t[top], chord[top], path.loss[top], color=ink.muted, lw=1.2)
    between = "" if narrow else f" between {path.run_a} and {path.run_b}"
    axes.set_title(f"Barrier {scales.number(path.barrier)}{between}")
    axes.set_ylabel("loss")
    axes.set_ylim(top=axes.get_ylim()[1] + (0.35 if narrow else 0.22) * np.ptp(axes.get_ylim()))  # room for the legend
    axes.legend(loc="upper right", ncols=2 if narrow else 3, columnspacing=1.0, handlelength=1.6)
    axes.grid(True)


def sharpness(path: Path) -> list[float]:
    """Largest eigenvalue at each point, from the eigenpairs where there are some."""
    pairs: Sequence[Eigenpairs | None] = path.eigenpairs or [None] * len(path.t)
    spectra: Sequence[Spectrum | None] = path.spectra or [None] * len(path.t)
    return [drawing.top_eigenvalue(s, p) for s, p in zip(spectra, pairs, strict=True)]


def _accuracy(axes: Axes, path: Path) -> None:
    for values, style, label in ((path.accuracy, "-", "training"), (path.test_accuracy, "--", "test")):
        if values is not None:
            axes.plot(path.t, values, color=drawing.ink().green, lw=1.4, ls=style, label=label)
    axes.set_ylabel("accuracy")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))  # room for the legend: accuracy sinks between two minima
    axes.legend(loc="upper center", ncols=2)
    axes.grid(True)


def _sharpness(axes: Axes, path: Path) -> None:
    axes.plot(path.t, sharpness(path), color=drawing.ink().orange, lw=1.4)
    axes.set_ylabel("λ max\n(loss / weight²)")
    axes.grid(True)


def draw(page: Figure, path: Path, *, narrow: bool = False) -> None:
    parts: list[tuple[float, Callable[[Axes, Path], None]]] = [(2.2, partial(barrier, narrow=narrow))]
    if path.accuracy is not None or path.test_accuracy is not None:
        parts.append((1.0, _accuracy))
    if path.eigenpairs or path.spectra:
        parts.append((1.0, _sharpness))
    if path.spectra:
        parts.append((2.4, lambda axes, path: density_map(axes, path.t, path.spectra)))
    panels = np.atleast_1d(page.subplots(len(parts), 1, sharex=True, height_ratios=[height for height, _ in parts]))
    for axes, (_, paint) in zip(panels, parts, strict=True):
        paint(axes, path)
    panels[-1].set_xlabel(f"position t on the {path.shape} path")
    panels[-1].set_xlim(path.t[0], path.t[-1])


def figure(path: Path, *, sheet: Sheet | None = None) -> Plate:
    sheet = sheet or Sheet.of("text")
    aligned = f"; the units of {path.run_b} are permuted onto those of {path.run_a}" if path.aligned else ""
    caption = (
        f"The {path.shape} path from {path.run_a} (step {path.step_a:,}, t = 0) to {path.run_b} (step {path.step_b:,}, "
        f"t = 1), {len(path.t)} points, length {scales.number(path.length)} units of weight{aligned}. Barrier: largest "
        "height of the training loss above the chord. Weights on it are those of the path itself: nothing is projected."
    )
    accurate, sharp = path.accuracy is not None or path.test_accuracy is not None, path.eigenpairs or path.spectra
    panels = 1 + bool(accurate) + bool(sharp)
    aspect = (0.36 + 0.17 * panels + (0.36 if path.spectra else 0)) * (1.6 if sheet.narrow else 0.85)
    return drawn(sheet, aspect, caption, lambda page: draw(page, path, narrow=sheet.narrow))


def chosen(run: Readable, choice: Choice) -> Path:
    """The path record that is asked for, by key or by the other run's name; else the first.

    Raises:
        ProblemError: there is none.
    """
    keys = run.keys("path")
    wanted = [k for k in keys if choice.path is None or k == choice.path or k.endswith(f"-{choice.path}")]
    if not wanted:
        have = f"; there are {', '.join(keys)}" if keys else ""
        which = f" '{choice.path}'" if choice.path else ""
        raise ProblemError(f"run '{run.info.name}' has no path{which}{have}. "
                           f"Compute it with `landscape path {run.root} OTHER_RUN`")  # fmt: skip
    path: Path = run.read(wanted[0])
    return path


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """The path that is asked for, or the first of the run."""
    return figure(chosen(run, choice), sheet=sheet)
