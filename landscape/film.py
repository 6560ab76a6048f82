"""The picture of a trajectory video: set up once with fixed axes, then only what moves is drawn again (blitting)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.text import Text
from numpy.typing import ArrayLike

from . import drawing, quadrature, stability
from .drawing import BLUE, FAINT, FLOOR, MARKER, MUTED, ORANGE
from .errors import UsageError
from .motion import Moment, Scene, Track
from .scales import Array, LossScale, number, percent

INCHES = 7.2  # height of the picture: sizes in points are chosen for it and scale with the pixels
CARDS = ((0.455, "step"), (0.625, "training loss"), (0.74, "off-plane share"), (0.875, "sharpness λ max"))


def check_size(width: int, height: int) -> None:
    """Sizes that the encoder takes (even) and at which the words do not collide.

    Raises:
        UsageError: any other size.
    """
    if width % 2 or height % 2 or width < 640 or height < 360 or not 1.5 <= width / height <= 2.4:
        raise UsageError(
            f"size must be even, at least 640x360 and 1.5 to 2.4 times as wide as high, got {width}x{height}; "
            "1280x720, 1920x1080 and 3840x2160 are good choices"
        )


class Film:
    """One figure with fixed axes; `frame(i)` draws the moment of `steps[i]` over the static background."""

    def __init__(self, scene: Scene, steps: ArrayLike, *, width: int = 1280, height: int = 720) -> None:
        check_size(width, height)
        self.scene, self.track = scene, Track(scene)
        self.moments = [self.track.at(float(s)) for s in np.asarray(steps)]
        self.moving: list[Artist] = []  # drawn again in every frame
        self.words: list[Text] = []  # drawn again where a word has changed: text takes most of a frame's time
        self._shown: list[str] = []
        with drawing.theme():
            self.figure = Figure(figsize=(width * INCHES / height, INCHES), dpi=height / INCHES)
            agg: Any = FigureCanvasAgg  # matplotlib gives it no types
            self.canvas = agg(self.figure)
            self._header()
            self._surface()
            self._density()
            self._curves()
            self.canvas.draw()
        self._static = self._background = self.canvas.copy_from_bbox(self.figure.bbox)

    def frame(self, i: int) -> memoryview:
        """RGBA bytes (height, width, 4) of one frame; valid until the next call."""
        moment = self.moments[i]
        self._move_header(moment)
        self._move_surface(moment)
        self._move_density(moment, self._densities[i])
        self._move_curves(moment)
        renderer = self.canvas.get_renderer()
        if self._shown != [word.get_text() for word in self.words]:
            self.canvas.restore_region(self._static)
            for word in self.words:
                word.draw(renderer)
            self._background = self.canvas.copy_from_bbox(self.figure.bbox)
            self._shown = [word.get_text() for word in self.words]
        self.canvas.restore_region(self._background)
        for artist in self.moving:
            artist.draw(renderer)
        pixels: memoryview = self.canvas.buffer_rgba()
        return pixels

    def save(self, path: Path, i: int) -> None:
        """One frame as a PNG file."""
        imsave(path, np.asarray(self.frame(i)), format="png", dpi=self.figure.dpi)

    # -- parts: each is set up once and moved for every frame

    def _axes(self, left: float, bottom: float, width: float, height: float, **kwargs: Any) -> Axes:
        return self.figure.add_axes((left, bottom, width, height), **kwargs)

    def _animate(self, *artists: Any, words: Sequence[Text] = ()) -> None:
        for artist in (*artists, *words):
            artist.set_animated(True)
        self.moving.extend(artists)
        self.words.extend(words)

    def _header(self) -> None:
        info = self.scene.info
        put = self.figure.text
        put(0.03, 0.972, shortened(info.name, 38), size=15, weight="bold", va="top")
        put(0.03, 0.927, shortened(optimizer_line(info.optimizer, info.settings), 66), size=10, color=MUTED, va="top")
        put(0.03, 0.897, shortened(f"{info.problem}, {info.size:,} weights", 66), size=10, color=MUTED, va="top")
        self.values: list[Text] = []
        self.notes: list[Text] = []
        for x, label in CARDS:
            put(x, 0.97, label, size=9.5, color=MUTED, va="top")
            self.values.append(put(x, 0.944, "", size=15, weight="bold", va="top"))
            self.notes.append(put(x, 0.901, "", size=9, color=MUTED, va="top"))
        self.figure.add_artist(Line2D([0.03, 0.975], [0.868, 0.868], color=drawing.GRID, lw=1))
        limit = stability.threshold(info)
        self.notes[3].set_text(f"{limit.formula} = {number(limit.value)}" if limit.value is not None else "")
        self.notes[2].set_text("hidden by the plane")
        self._animate(*self.values, words=self.notes[:2])

    def _move_header(self, m: Moment) -> None:
        about = "≈ " if m.between else ""
        steps = len(self.scene.trajectory.steps)
        texts = (f"{m.step:,.0f}", about + number(m.loss), about + percent(m.off_plane), number(m.sharpness))
        guess = "" if m.measured else "≈ "
        for text, value in zip(self.values, (*texts[:3], guess + texts[3]), strict=True):
            text.set_text(value)
        note = f"interpolated {m.between[0]:,}–{m.between[1]:,}" if m.between else f"checkpoint {m.passed} of {steps}"
        self.notes[0].set_text(note if len(note) <= 28 else "interpolated")
        self.notes[0].set_color(ORANGE if m.between else MUTED)
        self.notes[1].set_text("interpolated" if m.between else "all samples")

    def _surface(self) -> None:
        scene, trajectory = self.scene, self.scene.trajectory
        self.map = self._axes(0.068, 0.09, 0.384, 0.70)
        self.scale = LossScale.of(scene.surface.loss)
        drawing.draw_surface(self.map, scene.surface, self.scale)
        drawing.draw_loss_bar(self.figure, self.scale, cax=self._axes(0.459, 0.09, 0.010, 0.70))
        drawing.draw_ends(self.map, trajectory)
        self.map.locator_params(nbins=7)
        drawing.surface_head(self.map, scene.surface, trajectory)
        self.corners = np.column_stack([trajectory.u, trajectory.v])  # (checkpoint, 2)
        self.colours = self.scale.colours(trajectory.loss)
        (self.path,) = self.map.plot([], [], color="white", lw=2.0, path_effects=drawing.outlined(2.0))
        self.dots: Any = self.map.scatter([], [], s=20, edgecolors="white", linewidths=0.8)
        (self.marker,) = self.map.plot([], [], "o", ms=12, mfc=MARKER, mec="white", mew=2, clip_on=False)
        self.outside = self.map.text(0.02, 0.02, "", transform=self.map.transAxes,
                                     color="white", size=9.5, path_effects=drawing.outlined(0.6))  # fmt: skip
        self._animate(self.path, self.dots, self.marker, words=[self.outside])

    def _move_surface(self, m: Moment) -> None:
        here = np.array([m.u, m.v])
        self.path.set_data(*np.vstack([self.corners[: m.passed], here]).T)
        if len(self.corners) <= 80:  # more dots would hide the line
            self.dots.set_offsets(self.corners[: m.passed])
            self.dots.set_facecolor(self.colours[: m.passed])
        low, high = np.transpose([self.map.get_xlim(), self.map.get_ylim()])
        at = np.clip(here, low, high)
        inside = bool((at == here).all())
        self.marker.set_data([at[0]], [at[1]])
        self.marker.set_markerfacecolor(MARKER if inside else "white")
        self.marker.set_markeredgecolor("white" if inside else MARKER)
        self.outside.set_text("" if inside else "outside the computed surface")

    def _density(self) -> None:
        spectra = self.scene.spectra
        values = [s.nodes for s in spectra] + [e.values for e in self.scene.eigenpairs]
        u_range = drawing.lambda_range(values)
        self.grid = np.linspace(*u_range, 500)
        repeated = (drawing.density_of(m.nodes, m.weights, m.widths, self.grid) for m in self.moments)
        self._densities = [np.maximum(d, FLOOR) for d in repeated]  # (frame, grid): the axis must hold all of them
        axes = self.spectrum = self._axes(0.585, 0.50, 0.39, 0.29)
        first = drawing.density_of(*self.track.measures[0], self.grid)
        top = max(float(first.max()), *(float(d.max()) for d in self._densities))
        drawing.density_axes(axes, u_range, top, spectra[0].operator)
        axes.plot(self.grid, np.maximum(first, FLOOR), color=FAINT, lw=1.2)
        drawing.head(axes, "Eigenvalue density", f"grey: step {spectra[0].step:,}" + self._ticks_note())
        self.area: Any = axes.add_patch(Polygon(np.zeros((1, 2)), closed=True, facecolor=BLUE, alpha=0.2, lw=0))
        (self.curve,) = axes.plot([], [], color=BLUE, lw=1.8)
        self.sticks: Any = axes.add_collection(LineCollection([], colors=ORANGE, linewidths=1.4), autolim=False)
        self.when = axes.text(0.015, 0.965, "", transform=axes.transAxes, va="top", size=9.5, color=MUTED)
        self._animate(self.area, self.curve, self.sticks, words=[self.when])

    def _ticks_note(self) -> str:
        count = max((len(e.values) for e in self.scene.eigenpairs), default=0)
        return f"    ticks: {count} largest" if count else ""

    def _move_density(self, m: Moment, density: Array) -> None:
        self.curve.set_data(self.grid, density)
        ends = np.array([[self.grid[-1], FLOOR], [self.grid[0], FLOOR]])
        self.area.set_xy(np.vstack([np.column_stack([self.grid, density]), ends]))
        at = quadrature.to_asinh(m.tops)
        height = FLOOR * (self.spectrum.get_ylim()[1] / FLOOR) ** 0.10
        self.sticks.set_segments([[(u, FLOOR), (u, height)] for u in at])
        first, last = m.spectrum_between
        exact = f"step {first:,}" if m.measured else f"nearest: step {first:,}"
        self.when.set_text(exact if first == last else f"interpolated\n{first:,}–{last:,}")
        self.when.set_color(MUTED if m.measured else ORANGE)

    def _curves(self) -> None:
        t, track = self.scene.trajectory, self.track
        self.losses = self._axes(0.585, 0.255, 0.39, 0.125)
        self.sharps = self._axes(0.585, 0.09, 0.39, 0.125, sharex=self.losses)
        logged = self.scene.metrics.get("loss", np.empty(0))
        if len(logged):
            self.losses.plot(self.scene.metrics["step"], logged, color=BLUE, lw=0.7, alpha=0.3)
        self.losses.plot(t.steps, t.loss, color=BLUE, lw=1.8)
        curve_range(self.losses, np.concatenate([t.loss, logged]), log=self.scale.log)
        self.losses.set_title("Training")
        self.losses.set_ylabel("loss\n(log scale)" if self.scale.log else "loss", size=9)
        self.sharps.plot(track.sharp_steps, track.sharpness, color=ORANGE, lw=1.8)
        limit = stability.threshold(self.scene.info)
        edge = limit.value if limit.value is not None and limit.value < 2 * np.nanmax(track.sharpness) else None
        if edge is not None:
            self.sharps.axhline(edge, color=MUTED, lw=1, ls=(0, (5, 4)))
            self.sharps.text(0.995, edge, limit.formula, transform=self.sharps.get_yaxis_transform(), ha="right",
                             va="bottom", size=9, color=MUTED)  # fmt: skip
        curve_range(self.sharps, np.append(track.sharpness, 1.12 * edge if edge is not None else 0.0), log=False)
        self.sharps.set_ylabel("λ max\n(loss / weight²)", size=9)
        drawing.step_axis(self.sharps, track.steps)
        self.losses.tick_params(labelbottom=False)
        self.losses.set_xlabel("")
        for axes, place in ((self.spectrum, -0.117), (self.losses, -0.095), (self.sharps, -0.095)):
            axes.yaxis.set_label_coords(place, 0.5)
        self.cursors = [axes.axvline(0, color=MUTED, lw=1) for axes in (self.losses, self.sharps)]
        self.points = [axes.plot([], [], "o", ms=7, mfc=colour, mec="white", mew=1.4, clip_on=False)[0]
                       for axes, colour in ((self.losses, BLUE), (self.sharps, ORANGE))]  # fmt: skip
        for axes in (self.losses, self.sharps):
            axes.grid(True)
        self._animate(*self.cursors, *self.points)

    def _move_curves(self, m: Moment) -> None:
        for cursor, point, value in zip(self.cursors, self.points, (m.loss, m.sharpness), strict=True):
            cursor.set_xdata([m.step, m.step])
            point.set_data([m.step], [value])


def curve_range(axes: Axes, values: Array, *, log: bool) -> None:
    """Fix the y range of a curve panel: logarithmic with a margin, or linear from zero."""
    values = values[np.isfinite(values)]
    if log and (values > 0).any():
        values = values[values > 0]
        drawing.log_axis(axes, float(values.min()) / 1.25, float(values.max()) * 1.25, 4)
        return
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    axes.set_ylim(low * 1.1, high * 1.12 if high > 0 else 1.0 if low == 0 else 0.0)


def shortened(text: str, most: int) -> str:
    """Long names end in an ellipsis rather than on top of their neighbour."""
    return text if len(text) <= most else text[: most - 1] + "…"


def optimizer_line(optimizer: str, settings: dict[str, Any]) -> str:
    """'SGD  lr 0.1, momentum 0.9': the settings that are switched on, learning rate first."""
    shown = {k: v for k, v in settings.items() if isinstance(v, (int, float, str, list, tuple)) and v not in (0, "")}
    names = sorted(shown, key=lambda k: (k != "lr", list(shown).index(k)))
    return f"{optimizer}  " + ", ".join(_setting(k, shown[k]) for k in names)


def _setting(name: str, value: Any) -> str:
    if value is True:
        return name
    values: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    return f"{name} " + " ".join(f"{v:g}" if isinstance(v, (int, float)) else str(v) for v in values)
