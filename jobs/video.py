"""Render a video of a run: its path on the loss surface, the spectrum of the same step, loss and sharpness.

  landscape video runs/adam --out adam.mp4
  landscape video runs/adam --out adam.gif --plane eigen --seconds 6
  landscape video runs/adam --out adam.mp4 --size 1920x1080 --poster adam.png

It shows what `landscape spectrum`, `landscape surface` and `landscape trajectory` have stored, and runs on one
process: under mpirun -n N rank 0 renders and the others have nothing to do.
"""

from __future__ import annotations

import argparse
import dataclasses

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write: .mp4 (H.264) or .gif")
    group = parser.add_argument_group("what is shown")
    group.add_argument("--plane", choices=("pca", "eigen", "random"), help="default: the first of these with a path")
    group.add_argument("--step", type=_common.natural, metavar="ORIGIN",
                       help="checkpoint through which the plane goes (default: the latest)")  # fmt: skip
    group.add_argument("--operator", default="hessian", help="whose spectrum (default: hessian)")
    group.add_argument("--pace", choices=("checkpoints", "steps"), default="checkpoints",
                       help="same time for every interval between checkpoints, or constant steps a second "
                            "(default: checkpoints)")  # fmt: skip
    group.add_argument("--width", type=kernel, metavar="W",
                       help="of the density's kernels in asinh(eigenvalue/0.001), 0.03 to 1 (default: the smallest at "
                            "which half the Lanczos iterations change no density by 5 %%)")  # fmt: skip
    group = parser.add_argument_group("picture")
    group.add_argument("--size", type=size, default=(1280, 720), metavar="WIDTHxHEIGHT",
                       help="pixels (default: 1280x720)")  # fmt: skip
    group.add_argument("--fps", type=float, help="frames per second (default: 30, for a gif 12.5)")
    group.add_argument("--seconds", type=float, default=12.0, help="length (default: 12)")
    group.add_argument("--poster", metavar="FILE.png", help="also write the last frame as a picture")


def kernel(text: str) -> float:
    """A kernel width within the range that the picture can show."""
    try:
        width = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
    if not 0.03 <= width <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0.03 and 1, got {text}")
    return width


def size(text: str) -> tuple[int, int]:
    """'1280x720' as (1280, 720)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' must look like 1280x720")
    return int(width), int(height)


def run(args: argparse.Namespace) -> int:
    from landscape.parallel import world

    return render(args) if world().rank == 0 else 0


def render(args: argparse.Namespace) -> int:
    from landscape import video
    from landscape.parallel import Comm
    from landscape.progress import Progress
    from landscape.smoothing import Width
    from landscape.stores.run_directory import Run

    frames, _ = video.frame_count(args.out, args.fps, args.seconds)  # a wrong extension is said before all reading
    source = Run(args.run)
    scene = video.load(source, plane=args.plane, operator=args.operator, origin=args.step)
    if args.width is not None:
        scene = dataclasses.replace(scene, width=Width(args.width))
    width, height = args.size
    progress = Progress("video", frames, Comm(), unit="frames")
    done = video.render(
        scene, args.out, width=width, height=height, fps=args.fps, seconds=args.seconds, pace=args.pace,
        on_frame=lambda i, total: progress.update(i),
    )  # fmt: skip
    progress.close()
    print(
        f"{done.path}: {done.frames} frames, {done.seconds:.1f} s at {done.fps:g} a second, "
        f"{done.width}x{done.height}, {done.bytes / 1e6:.2f} MB "
        f"({scene.surface.plane} plane, {len(scene.spectra)} spectra)"
    )
    if args.poster:
        print(video.poster(scene, args.poster, width=width, height=height))
    return 0
