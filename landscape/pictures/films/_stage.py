"""What all films share: fixed axes drawn once, then only what moves is drawn again (blitting)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ...errors import UsageError
from .. import drawing

INCHES = 7.2  # height of the picture: sizes in points are chosen for it and scale with the pixels


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


class Stage:
    """A figure with fixed axes; a film builds its panels in `build` and moves them in `move(i)`."""

    def __init__(self, width: int, height: int, *, dark: bool = False) -> None:
        check_size(width, height)
        self.moving: list[Artist] = []  # drawn again in every frame
        self.words: list[Text] = []  # drawn again where a word has changed: text takes most of a frame's time
        self._shown: list[str] = []
        with drawing.theme(dark=dark) as self.ink:
            self.figure = Figure(figsize=(width * INCHES / height, INCHES), dpi=height / INCHES)
            agg: Any = FigureCanvasAgg  # matplotlib gives it no types
            self.canvas = agg(self.figure)
            self.build()
            self.canvas.draw()
        self._static = self._background = self.canvas.copy_from_bbox(self.figure.bbox)

    def build(self) -> None:
        """Set up everything that stands still."""
        raise NotImplementedError

    def move(self, i: int) -> None:
        """Bring everything that moves to frame i."""
        raise NotImplementedError

    def frame(self, i: int) -> memoryview:
        """RGBA bytes (height, width, 4) of one frame; valid until the next call."""
        self.move(i)
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

    # -- tools of the films

    def axes(self, left: float, bottom: float, width: float, height: float, **kwargs: Any) -> Axes:
        return self.figure.add_axes((left, bottom, width, height), **kwargs)

    def animate(self, *artists: Any, words: Sequence[Text] = ()) -> None:
        for artist in (*artists, *words):
            artist.set_animated(True)
        self.moving.extend(artists)
        self.words.extend(words)

    def heading(self, title: str, lines: Sequence[str], most: int = 66) -> None:
        """Name of what is shown at the top left, quiet lines below it, and the rule under the header."""
        self.figure.text(0.03, 0.972, shortened(title, max(38, most // 2)), size=15, weight="bold", va="top")
        for y, line in zip((0.927, 0.897), lines, strict=False):
            self.figure.text(0.03, y, shortened(line, most), size=10, color=self.ink.muted, va="top")
        self.figure.add_artist(Line2D([0.03, 0.975], [0.868, 0.868], color=self.ink.grid, lw=1))

    def cards(self, places: Sequence[tuple[float, str]]) -> tuple[list[Text], list[Text]]:
        """Key numbers of the header at these places with these labels: the texts of their values and notes."""
        values, notes, put = [], [], self.figure.text
        for x, label in places:
            put(x, 0.97, label, size=9.5, color=self.ink.muted, va="top")
            values.append(put(x, 0.944, "", size=15, weight="bold", va="top"))
            notes.append(put(x, 0.901, "", size=9, color=self.ink.muted, va="top"))
        return values, notes


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
