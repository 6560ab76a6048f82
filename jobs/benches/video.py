"""Frames a second of the videos: drawn by one process, and rendered and encoded by all cores.

  landscape bench video
  landscape bench video --films plane relief --sizes 1920x1080 3840x2160

The scene is as large as a real one (25 checkpoints, 41 x 41 points, densities of 4 x 40 nodes), made of formulas: how
long a frame takes does not depend on its numbers. `drawn` is the drawing of one process alone, in CPU seconds.
`rendered` is a whole file by the clock, starting the processes included; `CPU, ms` is what a frame costs all of them,
so that cores / CPU is the rate that an idle machine can reach. The file is as long as --seconds says.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from landscape.pictures.scene import Scene

    from ._tables import Row, Table

CHECKPOINTS, POINTS, NODES = 25, 41, (4, 40)
SIZES = ("1280x720", "1920x1080", "3840x2160")
TARGETS = {("plane", "1280x720", ".mp4"): 45.0, ("plane", "1920x1080", ".mp4"): 20.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--films", nargs="+", default=["plane", "relief", "comparison", "path"], metavar="FILM",
                        help="default: all of them")  # fmt: skip
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="WxH", help=f"default: {' '.join(SIZES)}")
    parser.add_argument("--formats", nargs="+", choices=(".mp4", ".webm", ".gif"), default=[".mp4", ".webm", ".gif"],
                        help="default: all; other than mp4 for the smallest size only")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=10.0, help="of video (default: 10)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    columns = {
        "film": "", "size": "", "format": "", "frames": "d", "drawn / CPU s": ".0f", "processes": "d",
        "rendered / s": ".1f", "target": ".0f", "CPU, ms / frame": ".0f", "cores / CPU": ".1f", "file, MB": ".2f",
    }  # fmt: skip
    note = "mp4 is H.264 (crf 20, veryfast), webm VP9 (crf 30), gif one palette at 12.5 frames a second."
    yield Table("Videos", columns, _rows(args), note)


def _rows(args: argparse.Namespace) -> Iterator[Row]:
    seconds = 1.0 if args.quick else args.seconds
    sizes = args.sizes[:1] if args.quick else args.sizes
    for film in args.films:
        shown = _shown(film)
        for size in sizes:
            for suffix in args.formats if film == "plane" and size == sizes[0] else args.formats[:1]:
                yield _row(film, shown, size, suffix, seconds)


def _row(film: str, shown: Any, size: str, suffix: str, seconds: float) -> Row:
    from landscape import plugins
    from landscape.pictures import video

    width, height = (int(n) for n in size.split("x"))
    times = plugins.load("landscape.pictures.films", film).times(shown, 60, "checkpoints")
    stage = video.Shot(film, shown, times, width, height, False).open()
    stage.frame(0)
    began = time.process_time()
    for i in range(10, 50):
        stage.frame(i)
    drawn = 40 / (time.process_time() - began)
    del stage
    with tempfile.TemporaryDirectory() as folder:
        wall, spent = time.perf_counter(), _cpu()
        done = video.render(shown, Path(folder) / f"film{suffix}", film=film, width=width, height=height,
                            seconds=seconds)  # fmt: skip
        wall, spent = time.perf_counter() - wall, _cpu() - spent
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    target = TARGETS.get((film, size, suffix))
    return (film, size, suffix, done.frames, drawn, done.processes, done.frames / wall, target,
            1e3 * spent / done.frames, cores * done.frames / spent, done.bytes / 1e6)  # fmt: skip


def _cpu() -> float:
    """CPU seconds of this process and of those it has waited for: drawers and encoders."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _shown(film: str) -> Any:
    """What a film shows: a scene, two of them, or a path."""
    if film == "comparison":
        return [_scene("one", 0), _scene("two", 1)]
    return _path() if film == "path" else _scene("one", 0)


def _spectra(seed: int) -> tuple[list[Any], list[Any]]:
    from landscape.records import Eigenpairs, Spectrum

    generator = np.random.default_rng(seed)
    spectra, pairs = [], []
    for step in range(CHECKPOINTS):
        bulk = generator.normal(0, 0.02, NODES)
        bulk[:, :10] = np.geomspace(0.1, 2, 10) * (1 + 0.02 * step)
        weights = np.full(NODES, 1 / NODES[1])
        spectra.append(Spectrum(25 * step, "hessian", 2410, bulk, weights, weights, np.zeros(NODES)))
        top = np.sort(bulk[0])[::-1][:10]
        pairs.append(Eigenpairs(25 * step, "hessian", 2410, top, np.zeros(10), -top[:2], np.zeros(2)))
    return spectra, pairs


def _scene(name: str, seed: int) -> Scene:
    from landscape.pictures.scene import Scene
    from landscape.records import RunInfo, Surface, Trajectory

    steps = 25 * np.arange(CHECKPOINTS)
    line = np.linspace(-4, 14, POINTS)
    u, v = 12 * np.exp(-steps / 200), 4 * np.exp(-steps / 100) * np.cos(steps / 150)

    def loss(u: Any, v: Any) -> Any:
        return 0.05 + 2 * (1 - np.exp(-((u / 9) ** 2) - (v / 4) ** 2))

    surface = Surface(600, "pca", ["principal component 1", "principal component 2"], line, line / 2.5,
                      loss(line, (line / 2.5)[:, None]))  # fmt: skip
    away = np.hypot(u, v)
    path = Trajectory(600, "pca", steps, u, v, 0.1 * away, away, 1.1 * loss(u, v), loss(u, v))
    info = RunInfo(name, "formulas", {}, "SGD", {"lr": 0.1, "momentum": 0.9}, 25, 2410, seed, "")
    spectra, pairs = _spectra(seed)
    metrics = {"step": np.arange(601.0), "loss": np.interp(np.arange(601), steps, path.loss)}
    return Scene(info, surface, path, spectra, pairs, metrics)


def _path() -> Any:
    from landscape.records import Path as PathRecord

    t = np.linspace(0, 1, CHECKPOINTS)
    loss = 0.05 + 0.35 * np.sin(np.pi * t) ** 2
    spectra, pairs = _spectra(0)
    return PathRecord("one", "two", 600, 600, "linear", 22.0, t, loss, 0.35, accuracy=1 - loss / 5, spectra=spectra,
                      eigenpairs=pairs)  # fmt: skip
