"""Trajectory videos: the path moving on the loss surface, the spectrum of the same step, loss and sharpness curves.

    scene = video.load(run)                                  # or video.Scene(info, surface, trajectory, spectra, ...)
    video.render(scene, "run.mp4", width=1920, height=1080)  # H.264 mp4 or gif, by the file's extension
    video.poster(scene, "run.png", step=500)                 # one frame

A file appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import EnvironmentProblem, ResourceError, UsageError
from .film import Film, check_size
from .motion import PACES, PLANES, Scene, clock, load

__all__ = ["PACES", "PLANES", "Film", "Rendered", "Scene", "load", "poster", "render"]
MP4 = (
    "-crf", "20", "-preset", "veryfast", "-movflags", "+faststart",
    "-vf", "scale=out_color_matrix=bt709:out_range=tv",  # say which colours these are, or players guess
    "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
)  # fmt: skip
# Every moving colour is in the first frame, so its palette serves all frames and none is kept in memory.
GIF = (
    "-filter_complex",
    "[0:v]split[a][b];[a]trim=end_frame=1,palettegen[p];[b][p]paletteuse=dither=none:diff_mode=rectangle",
    "-loop", "0",
)  # fmt: skip
# extension -> codec, pixel format, options, default frames per second
FORMATS = {".mp4": ("libx264", "yuv420p", MP4, 30.0), ".gif": ("gif", "pal8", GIF, 12.5)}


@dataclass(frozen=True)
class Rendered:
    """A finished video file."""

    path: Path
    frames: int
    fps: float
    width: int
    height: int
    bytes: int

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


def frame_count(out: str | os.PathLike[str], fps: float | None, seconds: float) -> tuple[int, float]:
    """Frames and frames per second of a video file: a gif's delays are whole hundredths of a second.

    Raises:
        UsageError: another extension than .mp4 or .gif, or a length that is none.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"'{out}' must end in {' or '.join(FORMATS)}: the extension decides the format")
    rate = FORMATS[suffix][3] if fps is None else fps
    if not (math.isfinite(rate) and 1 <= rate <= 120):
        raise UsageError(f"frames per second must lie between 1 and 120, got {rate:g}")
    if not (math.isfinite(seconds) and 0 < seconds <= 600):
        raise UsageError(f"a video lasts more than 0 and at most 600 seconds, got {seconds:g}")
    if suffix == ".gif":
        rate = 100 / max(2, round(100 / rate))  # viewers slow a delay of 1/100 s down
    return max(1, round(rate * seconds)), rate


def render(
    scene: Scene,
    out: str | os.PathLike[str],
    *,
    width: int = 1280,
    height: int = 720,
    fps: float | None = None,
    seconds: float = 12.0,
    pace: str = "checkpoints",
    on_frame: Callable[[int, int], None] | None = None,
) -> Rendered:
    """Draw and encode a video; `on_frame(done, total)` is called after every frame.

    Raises:
        UsageError: extension, size, rate, length or pace cannot be.
        EnvironmentProblem: the directory is not writable, or there is no encoder.
    """
    target = Path(out)
    frames, rate = frame_count(target, fps, seconds)
    check_size(width, height)
    steps = clock(scene.trajectory.steps, frames, pace)
    with publishing(target) as part:
        film = Film(scene, steps, width=width, height=height)
        with contextlib.closing(_encoder(part, width, height, rate)) as encoder:
            encoder.send(None)
            for i in range(frames):
                encoder.send(film.frame(i))
                if on_frame:
                    on_frame(i + 1, frames)
        if not part.stat().st_size:
            raise EnvironmentProblem(f"the encoder wrote nothing to {target}; see its messages above")
    return Rendered(target, frames, rate, width, height, target.stat().st_size)


def poster(
    scene: Scene, out: str | os.PathLike[str], *, step: int | None = None, width: int = 1280, height: int = 720
) -> Path:
    """One frame as a PNG: of the last checkpoint, or of a step of your choice.

    Raises:
        UsageError: the file does not end in .png, or the step lies outside the trajectory.
    """
    target = Path(out)
    steps = scene.trajectory.steps
    if target.suffix.lower() != ".png":
        raise UsageError(f"'{target}' must end in .png: a poster is one picture")
    if step is not None and not steps[0] <= step <= steps[-1]:
        raise UsageError(f"step {step} lies outside the trajectory: {steps[0]} to {steps[-1]}")
    film = Film(scene, [*steps, steps[-1] if step is None else step], width=width, height=height)  # a video's axes
    with publishing(target) as part:
        film.save(part, len(steps))
    return target


def _encoder(path: Path, width: int, height: int, fps: float) -> Generator[None, Any, None]:
    """A generator that takes RGBA frames and pipes them to the encoder, which runs beside this process."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise EnvironmentProblem("no video encoder found; install one with `pip install imageio-ffmpeg`") from error
    codec, pixels, options, _ = FORMATS[path.suffix.lower()]
    frames: Generator[None, Any, None] = imageio_ffmpeg.write_frames(
        str(path), (width, height), pix_fmt_in="rgba", pix_fmt_out=pixels, fps=fps, codec=codec, quality=None,
        macro_block_size=2, ffmpeg_log_level="error", output_params=list(options),
    )  # fmt: skip
    return frames


@contextlib.contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """A hidden file beside the target that takes its name when the block ends well, and is removed otherwise."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise UsageError(f"'{target}' is a directory; name a file")
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {target}: {(error.strerror or str(error)).lower()}. Choose a directory that you may write to"
        ) from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        os.replace(part, target)
    except OSError as error:  # the encoder's end of the pipe closes when the disk is full
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EPIPE):
            raise ResourceError(
                f"no space left writing {target}, or the encoder ended early; nothing half-written remains"
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)
