"""The path at its true loss over the raised surface, seen from a camera that turns slowly, beside the spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import drawing
from ..drawing import MARKER
from ..relief import ARC, Relief, middle
from . import plane

times = plane.times


class Film(plane.Film):
    """The film of the plane with its map in three dimensions and a small map in the corner."""

    def _surface(self) -> None:
        scene = self.scene
        axes = self.axes(0.012, 0.055, 0.447, 0.735)
        self.relief = Relief(axes, scene.surface, scene.trajectory, self.scale)
        self.animate(*self.relief.parts)
        head: Any = self.axes(0.068, 0.09, 0.384, 0.70)
        head.set_axis_off()
        drawing.surface_head(head, scene.surface, scene.trajectory)
        note = "white: path at its true loss (faint: hidden); orange: down to the surface; axes in units of weight"
        self.figure.text(0.03, 0.028, note, size=8.5, color=self.ink.muted)
        drawing.draw_loss_bar(self.figure, self.scale, cax=self.axes(0.459, 0.09, 0.010, 0.70))
        self._inset()
        count = len(self.moments)
        turned = np.linspace(-0.5, 0.5, count) if count > 1 else np.zeros(1)
        self.azimuths = middle(self.relief.facing) + ARC * turned
        self.corners = np.column_stack([scene.trajectory.u, scene.trajectory.v, scene.trajectory.loss])

    def _inset(self) -> None:
        scene = self.scene
        axes = self.axes(0.372, 0.645, 0.075, 0.135)
        drawing.draw_surface(axes, scene.surface, self.scale)
        axes.plot(scene.trajectory.u, scene.trajectory.v, color="white", lw=1.0)
        axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
        (self.here,) = axes.plot([], [], "o", ms=5, mfc=MARKER, mec="white", mew=1)
        self.animate(self.here)

    def _move_surface(self, i: int) -> None:
        m = self.moments[i]
        self.relief.turn(float(self.azimuths[i]))
        walked = np.vstack([self.corners[: m.passed], [m.u, m.v, m.loss]])
        self.relief.walk(walked[:, 0], walked[:, 1], walked[:, 2], m.passed)
        self.here.set_data([m.u], [m.v])
