"""Render a video: a run's path on the loss surface beside its spectrum, several runs side by side, or a path.

  landscape video runs/adam --out adam.mp4
  landscape video runs/adam --out adam.webm --view 3d --size 1920x1080 --dark
  landscape video runs/adam runs/sgd --out both.mp4      on one plane after `landscape trajectory runs/adam runs/sgd`
  landscape video runs/adam --path sgd --out between.mp4
  landscape video runs/adam --out adam.gif --plane eigen --seconds 6 --poster adam.png

It shows what `landscape spectrum`, `landscape surface`, `landscape trajectory` and `landscape path --spectrum` have
stored. It starts a process a core by itself; under mpirun -n N rank 0 renders and the others have nothing to do.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any

from landscape.errors import Stopped, UsageError

from . import _common

VIEWS = {"2d": "plane", "3d": "relief"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="directory of the run; two to four are compared")
    parser.add_argument("--out", required=True, metavar="FILE",
                        help="file to write: .mp4 (H.264), .webm (VP9) or .gif")  # fmt: skip
    group = parser.add_argument_group("what is shown")
    group.add_argument("--view", choices=sorted(VIEWS), default="2d",
                       help="the surface as a map, or as a relief under a camera that turns slowly (default: 2d)")
    group.add_argument("--path", metavar="NAME",
                       help="a path of the run instead: its key, or the other run's name")  # fmt: skip
    group.add_argument("--plane", metavar="NAME", help="as its record is called: pca, eigen, eigen.1.3, ... (default: "
                       "the first of pca, eigen and random with a path; of several runs a plane that holds all)")
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
                       help="pixels, such as 1920x1080 or 3840x2160 (default: 1280x720)")  # fmt: skip
    group.add_argument("--dark", action="store_true", help="light on dark")
    group.add_argument("--fps", type=float, help="frames per second (default: 30, for a gif 12.5)")
    group.add_argument("--seconds", type=float, default=12.0, help="length (default: 12)")
    group.add_argument("--poster", metavar="FILE.png", help="also write the last frame as a picture")
    group.add_argument("--processes", type=_common.positive, metavar="N", help="default: one a core, one if short")


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
    from landscape.distributed.parallel import world

    return render(args) if world().rank == 0 else 0


def render(args: argparse.Namespace) -> int:
    import time

    from landscape.distributed.parallel import Comm
    from landscape.distributed.progress import Progress
    from landscape.pictures import video
    from landscape.stores.run_directory import Run

    frames, _ = video.frame_count(args.out, args.fps, args.seconds)  # a wrong extension is said before all reading
    film, scene, about = _scene(args)
    width, height = args.size
    run = Run(args.runs[0])  # its status says how far the video is, where it may be written to
    progress = Progress("video", frames, Comm(), unit="frames", run=run if os.access(run.root, os.W_OK) else None)
    started = time.monotonic()
    try:
        done = video.render(
            scene, args.out, film=film, width=width, height=height, fps=args.fps, seconds=args.seconds, pace=args.pace,
            dark=args.dark, processes=args.processes, on_frame=lambda i, total: progress.update(i),
        )  # fmt: skip
    except BaseException as error:
        progress.close("stopped" if isinstance(error, Stopped) else "failed")
        raise
    progress.update(frames)
    progress.close()
    print(
        f"{done.path}: {done.frames} frames, {done.seconds:.1f} s at {done.fps:g} a second, "
        f"{done.width}x{done.height}, {done.bytes / 1e6:.2f} MB ({about}), rendered at "
        f"{done.frames / (time.monotonic() - started):.0f} frames a second by {done.processes} process(es)"
    )
    if args.poster:
        print(video.poster(scene, args.poster, film=film, width=width, height=height, dark=args.dark))
    return 0


def _scene(args: argparse.Namespace) -> tuple[str, Any, str]:
    """The film's name, what it shows, and that in words.

    Raises:
        UsageError: options that do not go together.
    """
    from landscape.pictures import paper, video
    from landscape.readings.smoothing import Width
    from landscape.stores.run_directory import Run

    runs = [Run(path) for path in args.runs]
    if args.path is not None:
        if len(runs) > 1 or args.view != "2d":
            raise UsageError("--path is a video of one run's path to another: name one RUN and no --view")
        path = paper.path_of(runs[0], args.path)
        return "path", path, f"{path.shape} path to {path.run_b}, {len(path.spectra)} spectra"
    scenes = [video.load(run, plane=args.plane, operator=args.operator, origin=args.step) for run in runs]
    if args.width is not None:
        scenes = [dataclasses.replace(scene, width=Width(args.width)) for scene in scenes]
    spectra = sum(len(scene.spectra) for scene in scenes)
    about = f"{scenes[0].surface.plane} plane, {spectra} spectra"
    if len(scenes) > 1 and args.plane is None:
        scenes = video.together(runs, scenes)
    if len(scenes) == 1:
        return VIEWS[args.view], scenes[0], about
    if args.view != "2d":
        raise UsageError("runs are compared on their maps: leave --view out, or name one RUN")
    return "comparison", scenes, f"{about} of {len(scenes)} runs"
