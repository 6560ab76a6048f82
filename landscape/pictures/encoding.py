"""Video files: a segment a process, joined without encoding again, and published whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EnvironmentProblem, ResourceError, UsageError

COLOURS = (  # say which colours these are, or players guess
    "-vf", "scale=out_color_matrix=bt709:out_range=tv",
    "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
)  # fmt: skip
H264 = ("-crf", "20", "-preset", "veryfast", *COLOURS)
VP9 = ("-crf", "30", "-b:v", "0", "-deadline", "good", "-cpu-used", "6", "-row-mt", "1", *COLOURS)
EXACT = ("-qp", "0", "-preset", "ultrafast")  # lossless: a gif's colours are chosen when it is whole
# Every moving colour is in the first frame, so its palette serves all frames and none is kept in memory.
PALETTE = (
    "-filter_complex",
    "[0:v]split[a][b];[a]trim=end_frame=1,palettegen[p];[b][p]paletteuse=dither=none:diff_mode=rectangle",
    "-loop", "0",
)  # fmt: skip


@dataclass(frozen=True)
class Format:
    """How the segments of a file are encoded and how they are joined."""

    codec: str
    pixels: str
    options: tuple[str, ...]
    join: tuple[str, ...]
    fps: float  # frames per second where none are asked for
    segment: str  # extension of a segment


COPY = ("-c", "copy")
FORMATS = {
    ".mp4": Format("libx264", "yuv420p", H264, (*COPY, "-movflags", "+faststart"), 30.0, ".mp4"),
    ".webm": Format("libvpx-vp9", "yuv420p", VP9, COPY, 30.0, ".webm"),
    ".gif": Format("libx264rgb", "rgb24", EXACT, PALETTE, 12.5, ".mkv"),
}


def encoder() -> str:
    """The ffmpeg program that imageio-ffmpeg brings.

    Raises:
        EnvironmentProblem: there is none.
    """
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise EnvironmentProblem("no video encoder found; install one with `pip install imageio-ffmpeg`") from error


def writer(path: Path, form: Format, width: int, height: int, fps: float, threads: int) -> Generator[None, Any, None]:
    """A generator that takes RGBA frames and pipes them to an encoder, which runs beside this process."""
    encoder()
    import imageio_ffmpeg

    frames: Generator[None, Any, None] = imageio_ffmpeg.write_frames(
        str(path), (width, height), pix_fmt_in="rgba", pix_fmt_out=form.pixels, fps=fps, codec=form.codec,
        quality=None, macro_block_size=2, ffmpeg_log_level="error",
        output_params=["-threads", str(threads), *form.options],
    )  # fmt: skip
    return frames


def join(segments: Sequence[Path], form: Format, out: Path) -> None:
    """One file of consecutive segments; H.264 and VP9 are copied packet by packet, bit for bit.

    Raises:
        EnvironmentProblem: the encoder refuses.
    """
    listing = out.with_suffix(".txt")
    listing.write_text("".join(f"file '{path.name}'\n" for path in segments), encoding="utf-8")
    words = [encoder(), "-v", "error", "-nostdin", "-y", "-f", "concat", "-safe", "0", "-i", listing.name, *form.join]
    done = subprocess.run([*words, out.name], cwd=out.parent, capture_output=True, text=True, check=False)
    if done.returncode or not out.exists() or not out.stat().st_size:
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, "No space left on device")
        raise EnvironmentProblem(f"the encoder wrote nothing: {done.stderr.strip()[-300:] or 'it gave no reason'}")


@contextlib.contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """A file in a hidden folder beside the target, moved to its name when the block ends well; the folder goes."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise UsageError(f"'{target}' is a directory; name a file")
        room = Path(tempfile.mkdtemp(prefix=f".{target.stem}-", dir=target.parent)).absolute()
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {target}: {(error.strerror or str(error)).lower()}. Choose a directory that you may write to"
        ) from error
    part = room / f"whole{target.suffix.lower()}"
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
        shutil.rmtree(room, ignore_errors=True)
