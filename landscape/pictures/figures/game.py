"""A game over training (losses, modes, sharpness of each player) and at one step: Jacobian's eigenvalues, samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ...errors import ProblemError
from ...readings import quadrature
from ...readings.history import MODES, Curve, History, history, leading
from ...records import Array, Game
from .. import drawing
from ..scales import number
from ..scene import Readable
from ._sheet import Choice, Plate, Sheet, about_run, all_of, at_step, drawn

_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
IMAGES = 6  # a side of the grid


def curves(axes: Axes, label: str, found: Mapping[str, Curve], *, log: bool = False) -> None:
    """Curves by player, or one alone in the colour of words."""
    ink = drawing.ink()
    for number_, (name, (steps, values)) in enumerate(found.items()):
        hue = ink.series[number_ % 4] if len(found) > 1 else ink.text
        shown = np.where(np.isfinite(values), values, np.nan)
        axes.plot(steps, shown, color=hue, ls=_DASHES[number_ % 4], lw=1.3, marker="o", ms=2, label=name)
    every = np.concatenate([np.empty(0), *(values for _steps, values in found.values())])
    finite: Array = np.sort(every[np.isfinite(every)])
    if log and len(finite) and finite[0] > 0:
        drawing.log_axis(axes, float(finite[0]) / 1.5, float(finite[-1]) * 1.5, 3)
    if len(found) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=4, borderpad=0.1)
    axes.set_ylabel(label)
    axes.grid(True)


def plane(axes: Axes, record: Game) -> None:
    """Eigenvalues of the Jacobian, both axes asinh, marked by whose weights hold most of the vector."""
    ink = drawing.ink()
    real, imaginary = quadrature.to_asinh(record.real), quadrature.to_asinh(record.imaginary)
    left, right = drawing.lambda_range([record.real])
    least = float(quadrature.to_asinh(0.01))
    low = min(left, -least)
    reach = 1.1 * max(float(np.abs(imaginary).max(initial=0.0)), least)
    axes.axvspan(low, 0.0, color=ink.negative, zorder=0, lw=0)
    axes.axhline(0, color=ink.muted, lw=0.6)
    own = np.argmax(record.shares, axis=0)
    for player, name in enumerate(record.players):
        mine = own == player
        look: dict[str, Any] = {"color": ink.series[player % 4], "marker": "osD^"[player % 4], "ms": 4, "ls": ""}
        axes.plot(real[mine], imaginary[mine], label=name, **look)
    for axis, ends in ((axes.xaxis, (low, right)), (axes.yaxis, (-reach, reach))):
        drawing.lambda_axis(axis, *ends, "hessian", most=4)
    axes.set(xlim=(low, right), ylim=(-reach, reach), xlabel="real part of λ (asinh)", ylabel="imaginary part (asinh)")
    axes.set_title(f"Jacobian at step {record.step:,}")
    axes.legend(loc="upper left", handletextpad=0.2, borderpad=0.1)


def samples(axes: Axes, record: Game) -> None:
    """Points over the real ones, or a grid of images."""
    ink = drawing.ink()
    axes.set_title(f"Samples at step {record.step:,}")
    made, shape = record.samples, record.meta.get("sample_shape")
    assert made is not None
    if isinstance(shape, list) and len(shape) == 2 and np.prod(shape) == made.shape[1]:
        side = min(IMAGES, int(np.sqrt(len(made))))
        tiles = made[: side * side].reshape(side, side, *shape).transpose(0, 2, 1, 3)
        axes.imshow(tiles.reshape(side * shape[0], side * shape[1]), cmap="Greys", interpolation="nearest")
        axes.axis("off")
        return
    for points, hue, size, alpha in ((record.real_samples, ink.faint, 6.0, 0.4), (made, ink.orange, 3.2, 0.9)):
        if points is not None:
            up = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
            axes.plot(points[:, 0], up, ".", color=hue, ms=size, mew=0, alpha=alpha)
    base = record.real_samples if record.real_samples is not None else made
    low, high = float(base.min()), float(base.max())
    room = 0.25 * (high - low) or 1.0
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room), aspect="equal",
             xlabel="first coordinate", ylabel="second coordinate")  # fmt: skip


def figure(past: History, sharpness: Mapping[str, Curve], record: Game | None = None, *, sheet: Sheet | None = None,
           about: str = "") -> Plate:  # fmt: skip
    """Panels over training, and beside them what stands at the step of `record`."""
    sheet = sheet or Sheet.of("text")
    kept = {m: past.metrics[m] for m in (MODES, "hq_share", "inception_score") if m in past.metrics}
    panels: list[tuple[str, Mapping[str, Curve], bool]] = [("loss", past.losses, False)]
    panels += [(m.replace("_", " ").replace("hq", "HQ"), {m: c}, False) for m, c in kept.items()]
    if sharpness:
        panels.append(("λ max\n(loss / weight²)", sharpness, True))
    lower: list[Callable[[Axes, Game], None]] = []
    if record is not None:
        lower += [plane] if len(record.real) else []
        lower += [samples] if record.samples is not None else []

    def draw(page: Any) -> None:
        parts: Any = [page]
        if lower and sheet.narrow:
            parts = page.subfigures(2, 1, height_ratios=(len(panels), 1.9 * len(lower)))
        elif lower:
            parts = page.subfigures(1, 2, width_ratios=(1.35, 1))
        upper = np.atleast_1d(parts[0].subplots(len(panels), 1, sharex=True, squeeze=True))
        for axes, (label, found, log) in zip(upper, panels, strict=True):
            curves(axes, label, found, log=log)
            if record is not None:
                axes.axvline(record.step, color=drawing.MARKER, lw=0.9)
        drawing.step_axis(upper[-1], past.losses[past.players[0]][0], sheet.ticks // (1 if sheet.narrow else 2))
        for axes in upper[:-1]:
            axes.set_xlabel("")
        if lower and record is not None:
            for axes, part in zip(np.atleast_1d(parts[1].subplots(len(lower), 1)), lower, strict=True):
                part(axes, record)

    aspect = 0.3 * len(panels) + 0.6 * len(lower) if sheet.narrow else max(0.62, 0.16 * len(panels))
    return drawn(sheet, aspect, " ".join(filter(None, (about, _told(past, sharpness), _beside(record)))), draw)


def _beside(record: Game | None) -> str:
    """What the colours beside the curves say."""
    if record is None:
        return ""
    words = [f"Orange line: step {record.step:,}."]
    if record.samples is not None and record.real_samples is not None and record.meta.get("sample_shape") is None:
        words.append("Samples: grey real, orange made.")
    if len(record.real):
        words.append("Eigenvalues in loss / weight², marked by the player whose weights hold most of the eigenvector.")
    return " ".join(words)


def _told(past: History, sharpness: Mapping[str, Curve]) -> str:
    words = []
    if (fallen := past.collapse) is not None:
        text = fallen.told(past.total)
        words.append(f"{text[:1].upper()}{text[1:]}.")
    for player, curve in sharpness.items():
        lead = leading(curve, past.curves[MODES]) if MODES in past.curves else None
        if lead is not None:
            words.append(f"Sharpness of the {player} against modes: peak {number(lead.height)} at a lag of "
                         f"{lead.peak:+,.0f} steps, p = {lead.probability:.2g}.")  # fmt: skip
    return " ".join(words)


def _sharpness(run: Readable, players: Sequence[str]) -> dict[str, Curve]:
    found = {}
    for player in players:
        pairs = [e for e in all_of(run, "eigenpairs", f"hessian[{player}.*]") if len(e.values)]
        if pairs:
            found[player] = (np.array([e.step for e in pairs], float), np.array([e.values[0] for e in pairs], float))
    return found


def make(run: Readable, choice: Choice, sheet: Sheet) -> Plate:
    """The game over training and at the step that is asked for, or the latest."""
    records = sorted((run.read(k) for k in run.keys("game")), key=lambda r: r.step)
    past = history(records, run.metrics())
    if past is None or not past.losses:
        raise ProblemError(f"run '{run.info.name}' is no game; train one such as ring_gan and compute its standings "
                           f"with `landscape game {run.root} --spectra`")  # fmt: skip
    record = at_step(records, choice.step) if choice.step is not None else (records[-1] if records else None)
    if record is None and choice.step is not None:
        raise ProblemError(f"run '{run.info.name}' has no standing of the game at step {choice.step}. Compute it with "
                           f"`landscape game {run.root} --checkpoints {choice.step}`")  # fmt: skip
    return figure(past, _sharpness(run, past.players), record, sheet=sheet, about=about_run(run))
