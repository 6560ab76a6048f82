"""What all figures share: paper sizes, the theme, captions, and which records of a run are meant."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ...errors import ProblemError, UsageError
from ...records import Surface, Trajectory
from .. import drawing
from ..scales import number, percent
from ..scene import Readable

# name -> (width in inches, size of the words in points): the column and the text of a two-column paper, a talk
SHEETS = {"column": (3.35, 7.0), "text": (6.75, 8.0), "slide": (12.0, 14.0)}
UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4}


@dataclass(frozen=True)
class Sheet:
    """Size and colours of a figure; a height of None is the figure's own for this width."""

    width: float  # inches
    height: float | None = None  # inches, caption included
    points: float = 8.0
    dark: bool = False
    captioned: bool = True

    @classmethod
    def of(cls, size: str, *, dark: bool = False, captioned: bool = True) -> Sheet:
        """A named sheet, or '120x80mm', '5x3.5in', '12x9cm'.

        Raises:
            UsageError: neither, or too small or large to be read.
        """
        if size in SHEETS:
            width, points = SHEETS[size]
            return cls(width, None, points, dark, captioned)
        found = re.fullmatch(r"([\d.]+)x([\d.]+)(in|cm|mm)", size)
        try:
            width, height = (float(found[k]) * UNITS[found[3]] for k in (1, 2)) if found else (0.0, 0.0)
        except ValueError:
            width, height = 0.0, 0.0
        if not (2.5 <= width <= 40 and 2 <= height <= 40):
            raise UsageError(
                f"size '{size}' must be {', '.join(SHEETS)} or WIDTHxHEIGHT with a unit, such as 120x80mm, at least "
                "2.5 x 2 and at most 40 x 40 inches"
            )
        return cls(width, height, float(np.clip(0.7 * width + 4.2, 6.5, 14)), dark, captioned)

    @property
    def narrow(self) -> bool:
        """Whether two panels do not fit side by side."""
        return self.width * 72 / self.points < 48

    @property
    def ticks(self) -> int:
        """Most ticks that an axis over the whole width takes."""
        return int(np.clip(self.width * 72 / self.points / 6, 4, 9))


@dataclass(frozen=True)
class Plate:
    """A drawn figure and what is said below it."""

    figure: Figure
    caption: str
    dpi: int = 300


@dataclass(frozen=True)
class Choice:
    """Which records of a run: None is the figure's own choice, mostly the latest."""

    step: int | None = None
    plane: str | None = None
    operator: str = "hessian"
    path: str | None = None  # key of a path record, or the other run's name


def drawn(sheet: Sheet, aspect: float, caption: str, draw: Callable[[Figure], None]) -> Plate:
    """Build a figure under the sheet's theme: its panels `aspect` times as high as wide, its caption below them."""
    with drawing.theme(dark=sheet.dark, points=sheet.points) as ink:
        lines = _wrapped(caption, sheet) if sheet.captioned else []
        below = len(lines) * 0.83 * 1.3 * sheet.points / 72 + (0.08 if lines else 0.0)  # inches
        height = sheet.height or aspect * sheet.width + below
        engine = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, rect=(0, below / height, 1, 1 - below / height))
        figure = Figure(figsize=(sheet.width, height), dpi=150, layout=engine)
        draw(figure)
        if lines:
            figure.text(0.05 / sheet.width, 0.05 / height, "\n".join(lines), size="small", va="bottom",
                        linespacing=1.2, color=ink.muted)  # fmt: skip
        figure.draw_without_rendering()  # places everything while the theme holds
    return Plate(figure, caption)


def _wrapped(caption: str, sheet: Sheet) -> list[str]:
    characters = int((sheet.width - 0.1) * 72 / (0.83 * sheet.points) / 0.565)  # DejaVu Sans: mean width of a letter
    return textwrap.wrap(caption.replace(" %", "\N{NO-BREAK SPACE}%"), characters)


# ------------------------------------------------------------------ records of a run


def nearest_step(run: Readable, kind: str, choice: Choice) -> int:
    """Step of the record of this kind and operator: the one asked for, else the latest.

    Raises:
        ProblemError: there is none.
    """
    steps = sorted(run.meta(k)["step"] for k in run.keys(kind) if run.meta(k).get("operator") == choice.operator)
    if choice.step is None and steps:
        return int(steps[-1])
    if choice.step is not None and choice.step in steps:
        return choice.step
    at = f" at step {choice.step}" if choice.step is not None else ""
    have = f"; there are steps {', '.join(map(str, steps))}" if steps else ""
    raise ProblemError(
        f"run '{run.info.name}' has no {choice.operator} {kind}{at}{have}. "
        f"Compute it with `landscape spectrum {run.root} --operator {choice.operator}`"
    )


def all_of(run: Readable, kind: str, operator: str) -> list[Any]:
    """Every record of a kind and an operator, by step."""
    found = [run.read(k) for k in run.keys(kind) if run.meta(k).get("operator") == operator]
    return sorted(found, key=lambda record: record.step)


def at_step(records: list[Any], step: int) -> Any:
    """The record of a step, or None."""
    return next((r for r in records if r.step == step), None)


# ------------------------------------------------------------------ words of captions


def about_run(run: Readable) -> str:
    info = run.info
    return f"Run {info.name}: {info.problem}, {info.size:,} weights, {info.optimizer}."


def about_projection(surface: Surface, trajectory: Trajectory | None) -> str:
    """What the projection hides, in numbers: distance from the plane, and the map's loss beside the true one."""
    plane = {"pca": "principal-component", "eigen": "eigenvector", "random": "random"}.get(surface.plane, surface.plane)
    rows, columns = surface.loss.shape
    text = f"Training loss on the {plane} plane through step {surface.step:,}, {columns} x {rows} points."
    if trajectory is None:
        return text
    with np.errstate(invalid="ignore", divide="ignore"):
        share = trajectory.off_plane / trajectory.distance
        ratio = np.abs(trajectory.surface_loss / trajectory.loss - 1)
    worst = int(np.nanargmax(trajectory.off_plane)) if np.isfinite(trajectory.off_plane).any() else 0
    far = f"{number(float(trajectory.off_plane[worst]))} units of weight ({percent(float(share[worst]))} of its way"
    error = f" Read off the map, the loss of a checkpoint is wrong by up to {percent(float(np.nanmax(ratio)))}." if (
        np.isfinite(ratio).any()) else ""  # fmt: skip
    return (
        f"{text} It holds {percent(drawing.path_share(trajectory))} of the path; the checkpoint farthest from the "
        f"plane, step {int(trajectory.steps[worst]):,}, lies {far} from the origin) away from it.{error}"
    )
