"""A loss surface raised to a relief, with the path at its true loss: orthographic, drawn back to front on plain axes.

A height field seen from one quadrant is hidden correctly when its rows and columns are drawn from the far ones to the
near ones, so no depth buffer is needed; points of the path behind the surface are found by marching to the eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.ticker import MaxNLocator

from ..records import Surface, Trajectory
from . import drawing
from .drawing import MARKER
from .scales import LEVELS, Array, LossScale, viridis

FINE = 110  # cells a side that are drawn: the grid is interpolated linearly, as contour lines are
HEIGHT = 0.85  # of the box; its base is 2 x 2
ELEVATION = 34.0  # degrees
ARC = 44.0  # degrees that the camera turns: never out of its quadrant
LIGHT = np.array([-0.45, 0.35, 0.82])
MARCH = np.linspace(0.02, 2.0, 70)[:, None]  # places on the way to the eye, in units of the box
PIECES = 12  # of a line between two checkpoints


@dataclass(frozen=True)
class Camera:
    """Orthographic view of the box [-1, 1]^2 x [0, HEIGHT] from an azimuth and an elevation in degrees."""

    azimuth: float
    elevation: float = ELEVATION

    @property
    def towards(self) -> Array:
        """Unit vector to the eye."""
        a, e = np.radians([self.azimuth, self.elevation])
        return np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])

    def project(self, x: Any, y: Any, z: Any) -> Array:
        """Page coordinates (..., 2): to the right and up."""
        a, e = np.radians([self.azimuth, self.elevation])
        right = -np.sin(a) * np.asarray(x) + np.cos(a) * np.asarray(y)
        back = np.cos(a) * np.asarray(x) + np.sin(a) * np.asarray(y)
        return np.stack(np.broadcast_arrays(right, np.cos(e) * np.asarray(z) - np.sin(e) * back), axis=-1)


class Field:
    """Heights over the square: a loss on its (log) scale, interpolated linearly; the box holds path and surface."""

    def __init__(self, surface: Surface, trajectory: Trajectory | None, scale: LossScale) -> None:
        self.surface, self.scale = surface, scale
        held = [scale.low, scale.high, *(trajectory.loss if trajectory is not None else ())]
        inside = [v for v in held if np.isfinite(v) and (v > 0 or not scale.log)]
        self.low, self.high = float(min(inside)), float(max(inside))
        self.raw = self.height(surface.loss)  # (row, column)

    def unit(self, u: Any, v: Any) -> tuple[Array, Array]:
        """Coordinates of the plane as places in [-1, 1]."""
        s = self.surface
        return (2 * (np.asarray(u) - s.u[0]) / (s.u[-1] - s.u[0]) - 1,
                2 * (np.asarray(v) - s.v[0]) / (s.v[-1] - s.v[0]) - 1)  # fmt: skip

    def height(self, loss: Any) -> Array:
        """Height of a loss, on the scale's axis; beyond the box it is cut off."""
        f = np.log if self.scale.log else np.asarray
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (f(np.clip(loss, self.low, self.high)) - f(self.low)) / (f(self.high) - f(self.low))
        return np.asarray(HEIGHT * share)

    def at(self, x: Any, y: Any) -> Array:
        """Height over places in [-1, 1]; NaN outside and where the loss is not finite."""
        u = (np.asarray(x) + 1) / 2 * (self.surface.u[-1] - self.surface.u[0]) + self.surface.u[0]
        v = (np.asarray(y) + 1) / 2 * (self.surface.v[-1] - self.surface.v[0]) + self.surface.v[0]
        j, s = _cell(self.surface.u, u)
        i, t = _cell(self.surface.v, v)
        z = self.raw
        value = ((1 - t) * ((1 - s) * z[i, j] + s * z[i, j + 1]) + t * ((1 - s) * z[i + 1, j] + s * z[i + 1, j + 1]))
        outside = (np.abs(x) > 1 + 1e-9) | (np.abs(y) > 1 + 1e-9)
        return np.asarray(np.where(outside, np.nan, value))

    def hidden(self, x: Array, y: Array, z: Array, camera: Camera) -> Any:
        """Which points lie behind the surface: on their way to the eye they pass below it."""
        dx, dy, dz = camera.towards
        with np.errstate(invalid="ignore"):
            above = self.at(x + dx * MARCH, y + dy * MARCH) > z + dz * MARCH + 0.012
        return above.any(axis=0)


def _cell(axis: Array, at: Any) -> tuple[Any, Any]:
    """Index of the cell that holds each place and the share of the way through it."""
    place = np.clip(np.interp(at, axis, np.arange(len(axis))), 0, len(axis) - 1 - 1e-9)
    index = np.minimum(place.astype(int), len(axis) - 2)
    return index, place - index


class Relief:
    """A surface with a path on matplotlib axes; `turn` moves the camera, `walk` the path. Artists are in `parts`."""

    def __init__(self, axes: Axes, surface: Surface, trajectory: Trajectory | None, scale: LossScale) -> None:
        self.axes, self.trajectory = axes, trajectory
        self.field = Field(surface, trajectory, scale)
        self.facing = facing(self.field)
        line = np.linspace(-1, 1, FINE + 1)
        self.x, self.y = np.meshgrid(line, line)
        self.z = self.field.at(self.x, self.y)  # (FINE + 1, FINE + 1)
        self.colours = self._colours(scale)
        axes.set(xlim=(-1.6, 1.6), ylim=(-1.27, 1.57), aspect="equal")
        axes.set_axis_off()
        ink, points = drawing.ink(), rcParams["font.size"]
        self.mesh: Any = QuadMesh(np.zeros((FINE + 1, FINE + 1, 2)), antialiased=False, rasterized=True)
        axes.add_collection(self.mesh, autolim=False)
        self.box = _lines(axes, colors=ink.faint, linewidths=0.8, zorder=0)
        self.ticks = Ticks(axes, self.field, self.facing, [drawing.axis_label(surface, k) for k in (0, 1)], scale)
        self.drops = _lines(axes, colors=MARKER, linewidths=0.9, zorder=3)
        self.behind = _lines(axes, colors="white", linewidths=1.1, alpha=0.4, zorder=3)
        self.path = _lines(axes, colors="white", linewidths=2.0, zorder=4, path_effects=drawing.outlined(2.0))
        (self.dots,) = axes.plot([], [], "o", ms=0.4 * points, mfc="white", mec="#00000090", mew=0.07 * points,
                                 zorder=4)  # fmt: skip
        (self.marker,) = axes.plot([], [], "o", ms=points, mfc=MARKER, mec="white", mew=0.16 * points, zorder=5,
                                   clip_on=False)  # fmt: skip
        self.camera = Camera(middle(self.facing))

    @property
    def parts(self) -> list[Artist]:
        """Everything that moves with the camera, back to front."""
        return [self.box, *self.ticks.parts, self.mesh, self.drops, self.behind, self.path, self.dots, self.marker]

    def _colours(self, scale: LossScale) -> Array:
        """RGBA of each cell (FINE, FINE, 4): the colour step of its loss, shaded by slope; clear where it has none."""
        middle = (self.z[1:, 1:] + self.z[1:, :-1] + self.z[:-1, 1:] + self.z[:-1, :-1]) / 4
        ends = self.field.height([scale.low, scale.high])
        share = np.clip((middle - ends[0]) / (ends[1] - ends[0]), 0, 1 - 1e-9)
        rgba = viridis()((np.floor(np.nan_to_num(share) * LEVELS) + 0.5) / LEVELS)
        step = 2 / FINE
        slope_x = (self.z[:-1, 1:] - self.z[:-1, :-1]) / step
        slope_y = (self.z[1:, :-1] - self.z[:-1, :-1]) / step
        shade = (LIGHT[2] - LIGHT[0] * slope_x - LIGHT[1] * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
        rgba[..., :3] *= np.clip(0.62 + 0.42 * np.nan_to_num(shade), 0.35, 1.0)[..., None]
        rgba[..., 3] = np.isfinite(middle)
        return np.asarray(rgba)

    def turn(self, azimuth: float) -> None:
        """Look from another azimuth of the same quadrant."""
        self.camera = Camera(azimuth)
        far = slice(None, None, 1 if self.facing[0] > 0 else -1), slice(None, None, 1 if self.facing[1] > 0 else -1)
        order = (far[1], far[0])  # rows are v, columns are u; the near ones come last
        page = self.camera.project(self.x, self.y, np.nan_to_num(self.z))
        self.mesh._coordinates = page[order]  # set once, says matplotlib; here it turns
        self.mesh.set_facecolor(self.colours[order].reshape(-1, 4))
        self.box.set_segments(self.camera.project(*p.T) for p in _box(self.facing))
        self.ticks.turn(self.camera)

    def walk(self, u: Array, v: Array, loss: Array, corners: int) -> None:
        """Path through these places at these losses; the first `corners` of them have drop lines to the surface."""
        x, y = self.field.unit(u, v)
        z = self.field.height(loss)
        inside = (np.abs(x) <= 1) & (np.abs(y) <= 1) & np.isfinite(z)
        ground = self.field.at(x, y)
        feet = inside & np.isfinite(ground) & (np.arange(len(x)) < corners)
        tops, lows = self.camera.project(x, y, z), self.camera.project(x, y, ground)
        self.drops.set_segments(np.stack([lows[feet], tops[feet]], axis=1))
        seen = inside & ~self.field.hidden(x, y, z, self.camera) & (np.arange(len(x)) < corners)
        self.dots.set_data(*tops[seen].T)
        fine = np.linspace(0, len(x) - 1, PIECES * (len(x) - 1) + 1) if len(x) > 1 else np.zeros(1)
        place = np.arange(len(x))
        px, py, pz = (np.interp(fine, place, c) for c in (x, y, z))
        with np.errstate(invalid="ignore"):
            drawn = (np.abs(px) <= 1) & (np.abs(py) <= 1) & np.isfinite(pz)
        covered = self.field.hidden(px, py, pz, self.camera)
        points = self.camera.project(px, py, pz)
        self.path.set_segments(_runs(points, drawn & ~covered))
        self.behind.set_segments(_runs(points, drawn & covered))
        self.marker.set_data(*(tops[-1:].T if inside[-1] else np.empty((2, 0))))


def _lines(axes: Axes, **style: Any) -> Any:
    """Line segments that are set later and never change the limits of the axes."""
    return axes.add_collection(LineCollection([], **style), autolim=False)


def _runs(points: Array, shown: Any) -> list[Array]:
    """Consecutive shown points as lines, each reaching on to the next point so that no gap opens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shown, [False]]).astype(int)))
    return [points[a : min(b + 1, len(points))] for a, b in edges.reshape(-1, 2) if min(b + 1, len(points)) - a > 1]


def facing(field: Field) -> tuple[int, int]:
    """Signs of the quadrant to look from: that where the surface is low, so that no ridge hides the valley."""
    z = np.where(np.isfinite(field.raw), field.raw, HEIGHT)
    rows, columns = (n // 2 for n in z.shape)
    return (1 if z[:, -columns:].mean() <= z[:, :columns].mean() else -1,
            1 if z[-rows:].mean() <= z[:rows].mean() else -1)  # fmt: skip


def middle(facing: tuple[int, int]) -> float:
    """Azimuth of a quadrant's diagonal."""
    return float(np.degrees(np.arctan2(facing[1], facing[0])))


def _box(facing: tuple[int, int]) -> list[Array]:
    """Edges of the floor and of the two walls at the back."""
    sx, sy = facing
    floor = [(-sx, -sy), (sx, -sy), (sx, sy), (-sx, sy), (-sx, -sy)]
    walls = [[(sx, -sy, 0), (sx, -sy, HEIGHT), (-sx, -sy, HEIGHT), (-sx, sy, HEIGHT), (-sx, sy, 0)],
             [(-sx, -sy, 0), (-sx, -sy, HEIGHT)]]  # fmt: skip
    return [np.array([(*p, 0) for p in floor], dtype=np.float64), *(np.array(w, dtype=np.float64) for w in walls)]


class Ticks:
    """Numbers and names of the three axes, at the edges of the box that face the eye."""

    def __init__(self, axes: Axes, field: Field, facing: tuple[int, int], labels: list[str], scale: LossScale) -> None:
        self.facing, s = facing, field.surface
        sx, sy = facing
        self.marks: list[tuple[Array, Array, Any]] = []  # point, outward direction in the box, text
        for ends, values, along in ((s.u, self._values(s.u), 0), (s.v, self._values(s.v), 1)):
            for value in values:
                at = 2 * (value - ends[0]) / (ends[-1] - ends[0]) - 1
                point, out = ((at, sy, 0), (0, sy, 0)) if along == 0 else ((sx, at, 0), (sx, 0, 0))
                self._add(axes, point, out, f"{value:g}".replace("-", "−"), 0.14)
        # long names would leave the picture: the short half must do
        names = [label.partition(" (")[0].partition(",")[0] for label in labels]
        self._add(axes, (0, sy, 0), (0, sy, 0), names[0], 0.42)
        self._add(axes, (sx, 0, 0), (sx, 0, 0), names[1], 0.42)
        self.names = [(self.marks[-2][2], np.array([1.0, 0, 0])), (self.marks[-1][2], np.array([0, 1.0, 0]))]
        values, texts = scale.ticks()
        left = (sx, -sy) if Camera(middle(facing)).project(sx, -sy, 0)[0] < 0 else (-sx, sy)
        kept = [k for k, v in enumerate(values) if field.low <= v <= field.high]
        for k in kept[:: max(1, -(-len(kept) // 5))]:
            z = float(field.height(values[k]))
            self._add(axes, (*left, z), (left[0] / 2, left[1] / 2, 0), texts[k], 0.13)
        self._add(axes, (*left, HEIGHT), (0, 0, 1), "loss", 0.13)

    @staticmethod
    def _values(ends: Array) -> list[float]:
        inside = MaxNLocator(4).tick_values(ends[0], ends[-1])
        margin = 0.04 * (ends[-1] - ends[0])
        return [float(v) for v in inside if ends[0] + margin <= v <= ends[-1] - margin]

    def _add(self, axes: Axes, point: Any, out: Any, text: str, gap: float) -> None:
        put = axes.text(0, 0, text, size="small", ha="center", va="center", color=drawing.ink().text, clip_on=False)
        self.marks.append((np.array(point, dtype=np.float64), gap * np.array(out, dtype=np.float64), put))

    @property
    def parts(self) -> list[Artist]:
        return [text for _, _, text in self.marks]

    def turn(self, camera: Camera) -> None:
        for point, out, text in self.marks:
            text.set_position(camera.project(*point) + camera.project(*out))
        for text, edge in self.names:  # names run along their edges
            right, up = camera.project(*edge)
            text.set_rotation(float(np.degrees(np.arctan2(up, right) if right > 0 else np.arctan2(-up, -right))))
