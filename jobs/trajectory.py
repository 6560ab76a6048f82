"""Project a run's checkpoints onto the plane of a surface, with their distance from it and their true loss.

  landscape trajectory runs/adam --plane pca
  mpirun -n 4 landscape trajectory runs/adam

Needs `landscape surface` first; without --plane every surface of the run gets its trajectory.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from landscape.errors import ProblemError

from . import _common

PLANES = ("eigen", "pca", "random")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--plane", choices=PLANES, help="default: every plane with a surface")
    parser.add_argument("--step", type=_common.natural, help="origin of the surface (default: the last that exists)")
    _common.add_checkpoints(parser)
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape.checkpoints import of_run
    from landscape.parallel import world
    from landscape.progress import Progress
    from landscape.stores.run_directory import Run

    comm = world()
    with comm.together():
        store = Run(args.run)
        surfaces = _surfaces(args, store)
        checkpoints = of_run(store, args.checkpoints)
    surfaces = comm.broadcast(surfaces)  # rank 0's view of the disk counts; a rank that failed would not get here
    _follow_surface(args, store, surfaces)
    problem, decided = _common.open_problem(store, args, comm)
    usable = list(_common.usable(checkpoints, comm, Progress("trajectory", 0, comm).note))
    decided |= {"checkpoints": [c.step for c in usable]}
    for plane, step in surfaces:
        _one(args, store, problem, comm, usable, plane, step, decided)
    return 0


def _surfaces(args: argparse.Namespace, store: Any) -> list[tuple[str, int]]:
    """(plane, step) of the surfaces to draw on."""
    found = []
    for plane in [args.plane] if args.plane else PLANES:
        steps = store.steps("surface", plane)
        steps = [s for s in steps if args.step is None or s == args.step]
        found += [(plane, steps[-1])] if steps else []
    if not found:
        plane = args.plane or "pca"
        where = "" if args.step is None else f" at step {args.step}"
        raise ProblemError(
            f"'{store.root}' has no {args.plane + ' ' if args.plane else ''}surface{where}; compute one first: "
            f"landscape surface {store.root} --plane {plane}"
        )
    return found


def _follow_surface(args: argparse.Namespace, store: Any, surfaces: list[tuple[str, int]]) -> None:
    """Evaluate on the samples of the surface unless told otherwise: their losses are compared."""
    from landscape.stores.run_directory import surface_key

    settings = store.meta(surface_key(*surfaces[0]))["meta"].get("settings") or {}
    if args.samples is None and settings.get("samples") is not None:
        args.samples, args.seed = settings["samples"], settings.get("seed", args.seed)


def _one(
    args: argparse.Namespace, store: Any, problem: Any, comm: Any, usable: list[Any], plane_name: str, step: int,
    decided: dict[str, Any],
) -> None:  # fmt: skip
    from landscape.checkpoints import Checkpoint
    from landscape.directions import from_surface
    from landscape.evidence import evidence
    from landscape.progress import Progress
    from landscape.stores.run_directory import surface_key, trajectory_key
    from landscape.trajectory import trajectory

    key = trajectory_key(plane_name, step)
    with comm.together():
        surface_meta = store.meta(surface_key(plane_name, step))["meta"]
        settings = {**decided, "surface": surface_meta.get("created")}
        finished = _common.finished(store, key, settings, args.overwrite)
    if not comm.broadcast(finished):
        with comm.together():
            Checkpoint(store, step).load_into(problem)
            plane = from_surface(store.read(surface_key(plane_name, step), large=True)) if comm.rank == 0 else None
        plane = comm.broadcast(plane)
        progress = Progress("trajectory", len(usable), comm, unit="checkpoints", run=store)
        with _common.counting(len(usable), "checkpoints", 0, progress) as counter:
            record = trajectory(problem, plane, usable, comm,
                                on_checkpoint=lambda n: progress.update(min(n * comm.size, len(usable))))  # fmt: skip
            if comm.rank == 0:
                store.write(dataclasses.replace(record, meta=evidence(comm.size, settings=settings) | record.meta))
            counter.done = len(usable)
    if comm.rank == 0:
        print(_summary(store, store.read(key)))


def _summary(store: Any, record: Any) -> str:
    share = record.meta.get("in_plane_share")
    held = "" if share is None else f", {100 * share:.3g} % of it in the plane"
    return (
        f"{store.root}: trajectory of {len(record.steps)} checkpoints on the {record.plane} plane{held}, "
        f"up to {record.off_plane.max():.3g} off it"
    )
