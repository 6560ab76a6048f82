"""The path moving on the contours of the loss, the spectrum of the same step, loss and sharpness curves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ...readings import stability
from .. import drawing
from ..motion import Moment, Track, clock
from ..scales import Array, LossScale, number, percent
from ..scene import Scene
from ._panels import Cursors, Density, Map, curve_range
from ._stage import Stage, optimizer_line

CARDS = ((0.455, "step"), (0.625, "training loss"), (0.74, "off-plane share"), (0.875, "sharpness λ max"))


def times(scene: Scene, frames: int, pace: str) -> Array:
    """The step that every frame shows."""
    return clock(scene.trajectory.steps, frames, pace)


class Film(Stage):
    """`frame(i)` draws the moment of `steps[i]` over the static background."""

    def __init__(
        self, scene: Scene, steps: ArrayLike, *, width: int = 1280, height: int = 720, dark: bool = False
    ) -> None:
        self.scene, self.track = scene, Track(scene)
        seen: dict[float, Moment] = {}
        at = [float(s) for s in np.asarray(steps)]
        self.moments = [seen.setdefault(s, self.track.at(s)) if s not in seen else seen[s] for s in at]
        super().__init__(width, height, dark=dark)

    def build(self) -> None:
        self._header()
        self.scale = LossScale.of(self.scene.surface.loss)
        self._surface()
        self._density()
        self._curves()

    def move(self, i: int) -> None:
        moment = self.moments[i]
        self._move_header(moment)
        self._move_surface(i)
        self.density.move(i, [moment.tops])
        self.density.say(moment)
        self.cursors.move(moment.step, (moment.loss, moment.sharpness))

    # -- parts: each is set up once and moved for every frame

    def _header(self) -> None:
        info = self.scene.info
        self.heading(info.name, (optimizer_line(info.optimizer, info.settings),
                                 f"{info.problem}, {info.size:,} weights"))  # fmt: skip
        self.values, self.notes = self.cards(CARDS)
        limit = stability.threshold(info)
        self.notes[3].set_text(f"{limit.formula} = {number(limit.value)}" if limit.value is not None else "")
        self.notes[2].set_text("hidden by the plane")
        self.animate(*self.values, words=self.notes[:2])

    def _move_header(self, m: Moment) -> None:
        about = "≈ " if m.between else ""
        steps = len(self.scene.trajectory.steps)
        texts = (f"{m.step:,.0f}", about + number(m.loss), about + percent(m.off_plane), number(m.sharpness))
        guess = "" if m.measured else "≈ "
        for text, value in zip(self.values, (*texts[:3], guess + texts[3]), strict=True):
            text.set_text(value)
        note = f"interpolated {m.between[0]:,}–{m.between[1]:,}" if m.between else f"checkpoint {m.passed} of {steps}"
        self.notes[0].set_text(note if len(note) <= 28 else "interpolated")
        self.notes[0].set_color(self.ink.orange if m.between else self.ink.muted)
        self.notes[1].set_text("interpolated" if m.between else "all samples")

    def _surface(self) -> None:
        axes = self.axes(0.068, 0.09, 0.384, 0.70)
        self.map = Map(self, axes, self.scene.surface, self.scene.trajectory, self.scale)
        drawing.draw_loss_bar(self.figure, self.scale, cax=self.axes(0.459, 0.09, 0.010, 0.70))

    def _move_surface(self, i: int) -> None:
        self.map.move(self.moments[i])

    def _density(self) -> None:
        spectra, pairs = self.scene.spectra, self.scene.eigenpairs
        count = max((len(e.values) for e in pairs), default=0)
        seen: dict[int, tuple[Array, Array, Array]] = {}
        measures = [seen.setdefault(id(m), (m.nodes, m.weights, m.widths)) for m in self.moments]
        axes = self.axes(0.585, 0.50, 0.39, 0.29)
        self.density = Density(
            self, axes, spectra[0].operator, [measures], [s.nodes for s in spectra] + [e.values for e in pairs],
            colours=[self.ink.blue], sticks=[self.ink.orange], grey=self.track.measures[0],
        )  # fmt: skip
        ticks = f"    ticks: {count} largest" if count else ""
        drawing.head(axes, "Eigenvalue density", f"grey: step {spectra[0].step:,}{ticks}")
        axes.yaxis.set_label_coords(-0.117, 0.5)

    def _curves(self) -> None:
        t, track, ink = self.scene.trajectory, self.track, self.ink
        self.losses = self.axes(0.585, 0.255, 0.39, 0.125)
        self.sharps = self.axes(0.585, 0.09, 0.39, 0.125, sharex=self.losses)
        logged = self.scene.metrics.get("loss", np.empty(0))
        if len(logged):
            self.losses.plot(self.scene.metrics["step"], logged, color=ink.blue, lw=0.7, alpha=0.3)
        self.losses.plot(t.steps, t.loss, color=ink.blue, lw=1.8)
        curve_range(self.losses, np.concatenate([t.loss, logged]), log=self.scale.log)
        self.losses.set_title("Training")
        self.losses.set_ylabel("loss\n(log scale)" if self.scale.log else "loss", size=9)
        self.sharps.plot(track.sharp_steps, track.sharpness, color=ink.orange, lw=1.8)
        limit = stability.threshold(self.scene.info)
        edge = limit.value if limit.value is not None and limit.value < 2 * np.nanmax(track.sharpness) else None
        if edge is not None:
            self.sharps.axhline(edge, color=ink.muted, lw=1, ls=(0, (5, 4)))
            self.sharps.text(0.995, edge, limit.formula, transform=self.sharps.get_yaxis_transform(), ha="right",
                             va="bottom", size=9, color=ink.muted)  # fmt: skip
        curve_range(self.sharps, np.append(track.sharpness, 1.12 * edge if edge is not None else 0.0), log=False)
        self.sharps.set_ylabel("λ max\n(loss / weight²)", size=9)
        drawing.step_axis(self.sharps, track.steps)
        self.losses.tick_params(labelbottom=False)
        self.losses.set_xlabel("")
        for axes in (self.losses, self.sharps):
            axes.yaxis.set_label_coords(-0.095, 0.5)
            axes.grid(True)
        self.cursors = Cursors(self, [(self.losses, ink.blue), (self.sharps, ink.orange)])
