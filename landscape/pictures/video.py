"""Videos, rendered in parallel: what moves is drawn over a static picture, each process encodes a part of the frames.

    scene = video.load(run)                                  # or video.Scene(info, surface, trajectory, spectra, ...)
    video.render(scene, "run.mp4", width=1920, height=1080)  # mp4 (H.264), webm (VP9) or gif, by the file's extension
    video.render(scene, "run.mp4", film="relief")            # in three dimensions
    video.render([one, two], "two.mp4", film="comparison")   # side by side
    video.render(path, "path.mp4", film="path")              # along a path between two minima
    video.poster(scene, "run.png", step=500)                 # one frame

A file appears under its name only when it is complete. A film is a file of landscape/pictures/films/.
"""

from __future__ import annotations

import contextlib
import errno
import math
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from .. import plugins
from ..errors import EnvironmentProblem, LandscapeError, UsageError
from . import encoding
from .encoding import FORMATS, Format, publishing
from .films._stage import Stage, check_size
from .motion import PACES
from .scales import Array
from .scene import PLANES, Scene, load, together

__all__ = ["PACES", "PLANES", "Rendered", "Scene", "films", "frame_count", "load", "poster", "render", "together"]
FILMS = "landscape.pictures.films"
WORTH = 60  # frames of one process: starting another takes about as long as drawing so many


@dataclass(frozen=True)
class Rendered:
    """A finished video file."""

    path: Path
    frames: int
    fps: float
    width: int
    height: int
    bytes: int
    processes: int

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


@dataclass(frozen=True)
class Shot:
    """All that a process needs to draw any frame: every one sets up the same picture."""

    film: str
    scene: Any
    times: Array  # (frame,)
    width: int
    height: int
    dark: bool

    def open(self) -> Stage:
        stage: Stage = plugins.load(FILMS, self.film).Film(
            self.scene, self.times, width=self.width, height=self.height, dark=self.dark
        )
        return stage


def films() -> list[str]:
    """Names of the films there are."""
    return plugins.names(FILMS)


def frame_count(out: str | os.PathLike[str], fps: float | None, seconds: float) -> tuple[int, float]:
    """Frames and frames per second of a video file: a gif's delays are whole hundredths of a second.

    Raises:
        UsageError: another extension than .mp4, .webm or .gif, or a length that is none.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"'{out}' must end in {', '.join(FORMATS)}: the extension decides the format")
    rate = FORMATS[suffix].fps if fps is None else fps
    if not (math.isfinite(rate) and 1 <= rate <= 120):
        raise UsageError(f"frames per second must lie between 1 and 120, got {rate:g}")
    if not (math.isfinite(seconds) and 0 < seconds <= 600):
        raise UsageError(f"a video lasts more than 0 and at most 600 seconds, got {seconds:g}")
    if suffix == ".gif":
        rate = 100 / max(2, round(100 / rate))  # viewers slow a delay of 1/100 s down
    return max(1, round(rate * seconds)), rate


def render(
    scene: Any,
    out: str | os.PathLike[str],
    *,
    film: str = "plane",
    width: int = 1280,
    height: int = 720,
    fps: float | None = None,
    seconds: float = 12.0,
    pace: str = "checkpoints",
    dark: bool = False,
    processes: int | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> Rendered:
    """Draw and encode a video; `on_frame(done, total)` is called after every frame.

    `scene` is what the film shows: a `Scene`, several of them, or a `Path`. `processes` is by default one a core, and
    one for short videos; their number changes nothing in what is seen.

    Raises:
        UsageError: extension, size, rate, length or pace cannot be.
        EnvironmentProblem: the directory is not writable, or there is no encoder.
    """
    target = Path(out)
    frames, rate = frame_count(target, fps, seconds)
    check_size(width, height)
    shot = Shot(film, scene, plugins.load(FILMS, film).times(scene, frames, pace), width, height, dark)
    form = FORMATS[target.suffix.lower()]
    count = min(processes or max(1, min(_cores(), frames // WORTH)), frames)
    borders = np.linspace(0, frames, count + 1).round().astype(int).tolist()
    with publishing(target) as part:
        pieces = [part.with_name(f"{k:03d}{form.segment}") for k in range(count)]
        parts = list(zip(pieces, borders[:-1], borders[1:], strict=True))
        with contextlib.closing(_in_parallel(shot, parts, form, rate) if count > 1 else
                                _segment(shot, *parts[0], form, rate, _cores())) as progress:  # fmt: skip
            for done, _ in enumerate(progress, start=1):
                if on_frame:
                    on_frame(done, frames)
        encoding.join(pieces, form, part)
    return Rendered(target, frames, rate, width, height, target.stat().st_size, count)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _segment(
    shot: Shot, path: Path, start: int, stop: int, form: Format, fps: float, threads: int
) -> Generator[None, None, None]:
    """Draw and encode frames start to stop - 1 into a file of their own; yields after each."""
    stage = shot.open()
    with contextlib.closing(encoding.writer(path, form, shot.width, shot.height, fps, threads)) as send:
        send.send(None)
        for i in range(start, stop):
            pixels = stage.frame(i)
            try:
                send.send(pixels)
            except OSError as error:
                raise OSError(errno.EPIPE, "the encoder ended early") from error
            yield


Part = tuple[Path, int, int]


def _in_parallel(shot: Shot, parts: list[Part], form: Format, fps: float) -> Generator[None, None, None]:
    """The segments, each by a fresh process; yields after each frame of any of them."""
    fresh = multiprocessing.get_context("spawn")  # forked children of an MPI process would share its connections
    workers, ends = [], []
    try:
        for part in parts:
            ours, theirs = fresh.Pipe(duplex=False)
            workers.append(fresh.Process(target=_work, args=(theirs, shot, *part, form, fps), daemon=True))
            workers[-1].start()
            theirs.close()
            ends.append(ours)
        yield from _listen(ends)
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
                worker.join()


def _listen(ends: list[Connection]) -> Iterator[None]:
    """One item a drawn frame until all processes have said that they are done.

    Raises:
        Exception: whatever one of them has met.
    """
    waiting = set(ends)
    while waiting:
        for end in wait(list(waiting)):
            assert isinstance(end, Connection)
            try:
                message = end.recv()
            except EOFError:
                raise EnvironmentProblem("a process that draws ended early, perhaps for lack of memory") from None
            if isinstance(message, BaseException):
                raise message
            if message is None:
                waiting.discard(end)
            else:
                yield


def _work(end: Connection, shot: Shot, path: Path, start: int, stop: int, form: Format, fps: float) -> None:
    """What a process does: draw, and tell after each frame; a parent that is gone ends it with a broken pipe."""
    try:
        for _ in _segment(shot, path, start, stop, form, fps, threads=1):
            end.send(True)
        end.send(None)
    except (LandscapeError, OSError, ValueError) as error:
        with contextlib.suppress(OSError):  # nobody listens
            end.send(error)


def poster(
    scene: Scene, out: str | os.PathLike[str], *, step: float | None = None, film: str = "plane", width: int = 1280,
    height: int = 720, dark: bool = False,
) -> Path:  # fmt: skip
    """One frame as a PNG: of the last checkpoint, or of a step (of a path: a t) of your choice.

    Raises:
        UsageError: the file does not end in .png, or the step lies outside the video.
    """
    target = Path(out)
    if target.suffix.lower() != ".png":
        raise UsageError(f"'{target}' must end in .png: a poster is one picture")
    times = plugins.load(FILMS, film).times(scene, 60, "steps")
    if step is not None and not times[0] <= step <= times[-1]:
        raise UsageError(f"step {step:g} lies outside the trajectory: {times[0]:g} to {times[-1]:g}")
    shown = np.append(times, times[-1] if step is None else step)  # a video's axes
    stage = Shot(film, scene, shown, width, height, dark).open()
    with publishing(target) as part:
        stage.save(part, len(times))
    return target
