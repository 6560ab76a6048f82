"""A path between two minima: loss, accuracy and sharpness under a cursor, and the density changing along t."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...errors import ProblemError
from ...readings.following import on_path
from ...records import Eigenpairs, Path
from .. import drawing
from ..motion import Flow, clock, tops_at
from ..scales import Array, number, percent
from ._panels import Cursors, Density, curve_range
from ._stage import Stage

CARDS = ((0.455, "position t"), (0.585, "training loss"), (0.715, "above the chord"), (0.875, "sharpness λ max"))


def times(scene: Path, frames: int, pace: str) -> Array:
    """The t that every frame shows."""
    return clock(scene.t, frames, pace)


class Film(Stage):
    """`frame(i)` shows the path at t = times[i]; measured at its points, marked as interpolated between them."""

    def __init__(
        self, scene: Path, t: ArrayLike, *, width: int = 1280, height: int = 720, dark: bool = False
    ) -> None:
        if not scene.spectra:
            raise ProblemError(
                f"the path between {scene.run_a} and {scene.run_b} has no spectra; "
                "compute them with `landscape path A B --spectrum`"
            )
        self.scene, self.t = scene, np.asarray(t, dtype=np.float64)
        self.flow = Flow(scene.t, scene.spectra)
        chosen = [self.flow.at(float(x)) for x in self.t]
        seen: dict[float, Any] = {}
        self.frames = [seen.setdefault(float(x), measure) for x, (measure, _) in zip(self.t, chosen, strict=True)]
        self.between = [around for _, around in chosen]
        pairs: Sequence[Eigenpairs | None] = scene.eigenpairs or [None] * len(scene.t)
        self.tops = [(float(x), e.values) for x, e in zip(scene.t, pairs, strict=True) if e is not None]
        self.branches = on_path(scene)
        self.sharpness = np.array([drawing.top_eigenvalue(s, e) for s, e in zip(scene.spectra, pairs, strict=True)])
        self.chord = (1 - scene.t) * scene.loss[0] + scene.t * scene.loss[-1]
        super().__init__(width, height, dark=dark)

    def build(self) -> None:
        p = self.scene
        aligned = ", units aligned" if p.aligned else ""
        self.heading(f"{p.run_a} to {p.run_b}", (
            f"{p.shape} path{aligned}, {len(p.t)} points, length {number(p.length)} units of weight",
            f"step {p.step_a:,} of {p.run_a}, step {p.step_b:,} of {p.run_b}",
        ))  # fmt: skip
        self.values, self.notes = self.cards(CARDS)
        self.notes[2].set_text(f"barrier {number(p.barrier)}")
        self.animate(*self.values, words=self.notes[:2])
        self._density()
        self._curves()

    def _density(self) -> None:
        p, ink = self.scene, self.ink
        axes = self.axes(0.585, 0.09, 0.39, 0.70)
        held = [s.nodes for s in p.spectra] + [values for _, values in self.tops]
        self.density = Density(self, axes, p.spectra[0].operator, [self.frames], held, colours=[ink.blue],
                               sticks=[ink.orange], grey=self.flow.measures[0])  # fmt: skip
        count = max((len(values) for _, values in self.tops), default=0)
        matched = "followed by vector" if self.branches is not None else "matched by rank"
        ticks = f"    ticks: {count} largest, {matched}" if count else ""
        drawing.head(axes, "Eigenvalue density", f"grey: {p.run_a}{ticks}")

    def ticks(self, t: float) -> Array:
        """The largest eigenvalues at t: followed by their vectors through crossings where the path knows them."""
        if self.branches is None:
            return tops_at(self.tops, t)
        place = float(np.interp(t, self.scene.t, np.arange(len(self.scene.t))))
        return np.array(sorted(self.branches.at(place).values(), reverse=True))

    def _curves(self) -> None:
        p, ink = self.scene, self.ink
        accurate = p.accuracy is not None
        heights = (0.36, 0.125, 0.125) if accurate else (0.50, 0.17)
        bottoms = (0.43, 0.26, 0.09) if accurate else (0.30, 0.09)
        panels = [self.axes(0.068, y, 0.40, h) for y, h in zip(bottoms, heights, strict=True)]
        loss, sharp = panels[0], panels[-1]
        self._losses(loss)
        sharp.plot(p.t, self.sharpness, color=ink.orange, lw=1.8)
        curve_range(sharp, self.sharpness, log=False)
        sharp.set_ylabel("λ max\n(loss / weight²)", size=9)
        self.curves = [(loss, ink.blue, p.loss), (sharp, ink.orange, self.sharpness)]
        if p.accuracy is not None:
            self._accuracies(panels[1])
            self.curves.insert(1, (panels[1], ink.green, p.accuracy))
        for axes in panels:
            axes.set_xlim(p.t[0], p.t[-1])
            axes.grid(True)
            axes.yaxis.set_label_coords(-0.095, 0.5)
            axes.tick_params(labelbottom=axes is sharp)
        sharp.set_xlabel("position t on the path (share of its length)")
        self.cursors = Cursors(self, [(axes, colour) for axes, colour, _ in self.curves])

    def _losses(self, axes: Any) -> None:
        p, ink = self.scene, self.ink
        axes.plot(p.t, p.loss, color=ink.blue, lw=1.8, label="training loss")
        others = ((p.test_loss, ink.blue, "--", "test loss"), (p.straight_loss, ink.orange, "-", "straight line"),
                  (p.unaligned_loss, ink.purple, "-.", "straight, not aligned"))  # fmt: skip
        shown = [p.loss]
        for values, colour, style, label in others:
            if values is not None:
                axes.plot(p.t, values, color=colour, lw=1.2, ls=style, label=label)
                shown.append(values)
        axes.plot(p.t, self.chord, color=ink.faint, lw=1.0, ls=":", label="chord")
        curve_range(axes, 1.2 * np.concatenate(shown), log=False)  # room for the legend
        axes.legend(loc="upper right", ncols=3, fontsize=9)
        axes.set_ylabel("loss", size=9)
        axes.set_title("Along the path")

    def _accuracies(self, axes: Any) -> None:
        p, ink = self.scene, self.ink
        held = []
        for values, style in ((p.accuracy, "-"), (p.test_accuracy, "--")):
            if values is not None:
                axes.plot(p.t, values, color=ink.green, lw=1.6, ls=style)
                held.append(values)
        low = float(np.nanmin(held))
        axes.set_ylim(low - 0.08 * (1 - low) - 1e-3, 1.0)
        axes.set_ylabel("accuracy\n(dashed: test)" if len(held) > 1 else "accuracy", size=9)

    def move(self, i: int) -> None:
        p, t = self.scene, float(self.t[i])
        first, last = self.between[i]
        about = "" if first == last else "≈ "
        loss, chord, sharp = (float(np.interp(t, p.t, c)) for c in (p.loss, self.chord, self.sharpness))
        rise = (loss - chord) / p.barrier if p.barrier > 0 else 0.0
        for text, value in zip(self.values, (f"{t:.3f}", about + number(loss), about + number(loss - chord),
                                             about + number(sharp)), strict=True):  # fmt: skip
            text.set_text(value)
        note = f"point {first + 1} of {len(p.t)}" if first == last else "interpolated"
        self.notes[0].set_text(note)
        self.notes[0].set_color(self.ink.muted if first == last else self.ink.orange)
        self.notes[1].set_text(f"{percent(max(rise, 0.0))} of the barrier" if p.barrier > 0 else "no barrier")
        self.density.move(i, [self.ticks(t)])
        word = f"t = {p.t[first]:.3f}" if first == last else f"interpolated\n{p.t[first]:.3f}–{p.t[last]:.3f}"
        self.density.when.set_text(word)
        self.density.when.set_color(self.ink.muted if first == last else self.ink.orange)
        self.cursors.move(t, [float(np.interp(t, p.t, values)) for _, _, values in self.curves])
