"""Two to four runs side by side on one clock: their planes on one colour scale, densities and curves on common axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ...errors import UsageError
from ...readings import smoothing
from .. import drawing
from ..motion import Moment, Track, clock
from ..scales import Array, LossScale, number, percent
from ..scene import Scene
from ._panels import Cursors, Density, Map, curve_range
from ._stage import Stage, optimizer_line, shortened

MOST = 4


def times(scene: Sequence[Scene], frames: int, pace: str) -> Array:
    """The step that every frame shows, over the checkpoints of all runs; a run that has ended stays at its end."""
    return clock(sorted({int(s) for one in scene for s in one.trajectory.steps}), frames, pace)


class Film(Stage):
    """`frame(i)` draws all runs at `steps[i]`."""

    def __init__(
        self, scene: Sequence[Scene], steps: ArrayLike, *, width: int = 1280, height: int = 720, dark: bool = False
    ) -> None:
        if not 2 <= len(scene) <= MOST:
            raise UsageError(f"a comparison shows 2 to {MOST} runs, got {len(scene)}")
        operators = {one.spectra[0].operator for one in scene}
        if len(operators) > 1:
            raise UsageError(f"runs are compared by one operator, got {', '.join(sorted(operators))}")
        kernel = scene[0].width or smoothing.automatic([s for one in scene for s in one.spectra])
        self.scenes = [dataclasses.replace(one, width=kernel) for one in scene]
        self.steps = np.asarray(steps, dtype=np.float64)
        self.tracks = [Track(one) for one in self.scenes]
        self.moments = [self._moments(track) for track in self.tracks]
        super().__init__(width, height, dark=dark)

    def _moments(self, track: Track) -> list[Moment]:
        """Of one run; beyond its ends it stands still."""
        found: dict[float, Moment] = {}
        inside = np.clip(self.steps, track.steps[0], track.steps[-1])
        for s in inside:
            if float(s) not in found:
                found[float(s)] = track.at(float(s))
        return [found[float(s)] for s in inside]

    def build(self) -> None:
        first = self.scenes[0].info
        problems = sorted({one.info.problem for one in self.scenes})
        names = [one.info.name for one in self.scenes]
        common = len({id(one.surface) for one in self.scenes}) == 1
        where = "all runs on one plane" if common else "each run on its own plane"
        self.heading(f"{', '.join(names[:-1])} and {names[-1]}", (
            f"{', '.join(problems)}, {first.size:,} weights; one loss scale, {where}, axes in units of weight",
            "densities on one axis with one kernel width; ticks: largest eigenvalues, one row a run",
        ), 120)  # fmt: skip
        self.values, self.notes = self.cards(((0.875, "step"),))
        self.animate(*self.values, words=self.notes)
        self.scale = LossScale.of(np.concatenate([s.surface.loss.ravel() for s in self.scenes]))
        self._maps()
        self._density()
        self._curves()

    def _maps(self) -> None:
        count = len(self.scenes)
        left, right, gap = 0.055, 0.915, 0.05
        width = (right - left - gap * (count - 1)) / count
        self.maps, self.facts = [], []
        most = int(38 * width / 0.27)
        for k, (scene, colour) in enumerate(zip(self.scenes, self.ink.series, strict=False)):
            x = left + k * (width + gap)
            axes = self.axes(x, 0.485, width, 0.265)
            self.maps.append(Map(self, axes, scene.surface, scene.trajectory, self.scale, colour))
            axes.set_title("")
            for word in axes.texts:
                if word.get_text().startswith("holds"):
                    word.set_text("")
            names = [label.partition(",")[0].partition(" (")[0] for label in scene.surface.labels]
            axes.set_xlabel(names[0], size=9)
            axes.set_ylabel(names[1], size=9)
            name = shortened(scene.info.name, most)
            self.figure.text(x, 0.826, name, size=11, weight="bold", color=colour, va="center")
            line = shortened(optimizer_line(scene.info.optimizer, scene.info.settings), int(1.25 * most))
            self.figure.text(x, 0.797, line, size=8.5, color=self.ink.muted, va="center")
            self.facts.append(self.figure.text(x, 0.767, "", size=8.5, va="center"))
        drawing.draw_loss_bar(self.figure, self.scale, cax=self.axes(0.925, 0.485, 0.010, 0.265))
        self.animate(words=self.facts)

    def _density(self) -> None:
        series = self.ink.series[: len(self.scenes)]
        measures = []
        for moments in self.moments:
            seen: dict[int, tuple[Array, Array, Array]] = {}
            measures.append([seen.setdefault(id(m), (m.nodes, m.weights, m.widths)) for m in moments])
        held = [s.nodes for one in self.scenes for s in one.spectra]
        held += [e.values for one in self.scenes for e in one.eigenpairs]
        axes = self.axes(0.075, 0.09, 0.40, 0.27)
        self.density = Density(self, axes, self.scenes[0].spectra[0].operator, measures, held, colours=series,
                               sticks=series)  # fmt: skip
        drawing.head(axes, "Eigenvalue density")

    def _curves(self) -> None:
        self.losses = self.axes(0.585, 0.245, 0.39, 0.115)
        self.sharps = self.axes(0.585, 0.09, 0.39, 0.115, sharex=self.losses)
        for scene, track, colour in zip(self.scenes, self.tracks, self.ink.series, strict=False):
            self.losses.plot(scene.trajectory.steps, scene.trajectory.loss, color=colour, lw=1.8)
            self.sharps.plot(track.sharp_steps, track.sharpness, color=colour, lw=1.8)
        curve_range(self.losses, np.concatenate([s.trajectory.loss for s in self.scenes]), log=self.scale.log)
        curve_range(self.sharps, np.concatenate([t.sharpness for t in self.tracks]), log=False)
        self.losses.set_title("Training loss of all samples, and sharpness")
        self.losses.set_ylabel("loss\n(log scale)" if self.scale.log else "loss", size=9)
        self.sharps.set_ylabel("λ max\n(loss / weight²)", size=9)
        drawing.step_axis(self.sharps, sorted({int(s) for t in self.tracks for s in t.steps}))
        self.losses.tick_params(labelbottom=False)
        self.losses.set_xlabel("")
        for axes in (self.losses, self.sharps):
            axes.yaxis.set_label_coords(-0.095, 0.5)
            axes.grid(True)
        colours = self.ink.series[: len(self.scenes)]
        self.cursors = Cursors(self, [(axes, c) for axes in (self.losses, self.sharps) for c in colours])

    def move(self, i: int) -> None:
        now = [moments[i] for moments in self.moments]
        step = float(self.steps[i])
        self.values[0].set_text(f"{step:,.0f}")
        moving = [m for m in now if m.step == step]
        between = any(m.between for m in moving)
        self.notes[0].set_text("interpolated" if between else "checkpoint")
        self.notes[0].set_color(self.ink.orange if between else self.ink.muted)
        for m, map_, fact in zip(now, self.maps, self.facts, strict=True):
            map_.move(m)
            about = "≈ " if m.between else ""
            ended = "" if m.step == step else f"ended at {m.step:,.0f}: " if m.step < step else "not begun: "
            fact.set_text(f"{ended}loss {about}{number(m.loss)}, off-plane {about}{percent(m.off_plane)}, "
                          f"λ {'' if m.measured else '≈ '}{number(m.sharpness)}")  # fmt: skip
        self.density.move(i, [m.tops for m in now])
        self.density.when.set_text("" if all(m.measured for m in now) else "interpolated")
        self.density.when.set_color(self.ink.orange)
        values = [m.loss for m in now] + [m.sharpness for m in now]
        self.cursors.move(step, values, [m.step for m in now] * 2)
