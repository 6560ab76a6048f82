"""Project checkpoints onto the plane of a surface, with their distance from it, true loss and gradient.

  landscape trajectory runs/adam --plane pca
  mpirun -n 4 landscape trajectory runs/adam
  landscape trajectory runs/adam runs/sgd runs/muon --plane pca

Needs `landscape surface` first; without --plane every surface of the run gets its trajectory. Other runs of the same
model are drawn on the planes of the first, each with distances and losses of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from landscape.errors import ProblemError, UsageError

from . import _common, _planes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run whose surfaces are drawn on")
    parser.add_argument("others", metavar="OTHER", nargs="*", help="other runs of the same model")
    parser.add_argument("--plane", help="a kind such as pca, or a name such as eigen.1.3 (default: all with a surface)")
    parser.add_argument("--no-gradients", action="store_true", help="leave the gradient's share in the plane out")
    parser.add_argument("--step", type=_common.natural, help="origin of the surface (default: the last that exists)")
    _common.add_checkpoints(parser)
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world
    from landscape.distributed.progress import Progress
    from landscape.loss.checkpoints import of_run
    from landscape.stores.run_directory import Run

    comm = world()
    with comm.together():
        store = Run(args.run)
        surfaces = _surfaces(args, store)
        checkpoints, guests = of_run(store, args.checkpoints), _guests(args)
    surfaces = comm.broadcast(surfaces)  # rank 0's view of the disk counts; a rank that failed would not get here
    _follow_surface(args, store, surfaces)
    problem, decided = _common.open_problem(store, args, comm)
    decided |= {"gradients": not args.no_gradients}
    note = Progress("trajectory", 0, comm).note
    found = {"": list(_common.usable(checkpoints, comm, note))}
    for name, others in guests.items():
        found[name] = list(_common.usable(others, comm, note))
    for plane, step in surfaces:
        for name, usable in found.items():
            own = decided | {"checkpoints": [c.step for c in usable]}
            _one(args, store, problem, comm, usable, (plane, step, name), own)
    return 0


def _guests(args: argparse.Namespace) -> dict[str, Any]:
    """Checkpoints of the other runs, by name.

    Raises:
        UsageError: two runs of one name, which would overwrite each other.
    """
    from landscape.loss.checkpoints import of_run
    from landscape.stores.run_directory import Run

    found: dict[str, Any] = {}
    for place in args.others:
        run = Run(place)
        if run.name in found:
            raise UsageError(f"two of the other runs are called '{run.name}'; rename one directory")
        found[run.name] = of_run(run, args.checkpoints)
    return found


def _surfaces(args: argparse.Namespace, store: Any) -> list[tuple[str, int]]:
    """(plane, step) of the surfaces to draw on: the newest of each plane; lines hold no trajectory."""
    newest: dict[str, int] = {}
    for key in store.keys("surface"):
        plane, _, step = key.removeprefix("surface-").rpartition("-")
        if step.isdigit() and ".line" not in plane and args.step in (None, int(step)):
            newest[plane] = max(newest.get(plane, 0), int(step))
    wanted = args.plane
    if wanted is not None:
        shared = f"{wanted}.{'.'.join(_planes.other_names(args.others))}"
        of_kind = [name for name in newest if name.partition(".")[0] == wanted]
        chosen = next(([name] for name in (shared, wanted) if name in newest), of_kind)
        newest = {name: newest[name] for name in chosen}
    if not newest:
        kind = (wanted or "pca").partition(".")[0]
        where = "" if args.step is None else f" at step {args.step}"
        raise ProblemError(
            f"'{store.root}' has no {wanted + ' ' if wanted else ''}surface{where}; compute one first: "
            f"landscape surface {store.root} --plane {kind}"
        )
    return sorted(newest.items())


def _follow_surface(args: argparse.Namespace, store: Any, surfaces: list[tuple[str, int]]) -> None:
    """Evaluate on the samples of the surface unless told otherwise: their losses are compared."""
    from landscape.records import surface_key

    settings = store.meta(surface_key(*surfaces[0]))["meta"].get("settings") or {}
    if args.samples is None and settings.get("samples") is not None:
        args.samples, args.seed = settings["samples"], settings.get("seed", args.seed)


def _one(
    args: argparse.Namespace, store: Any, problem: Any, comm: Any, usable: list[Any], place: tuple[str, int, str],
    decided: dict[str, Any],
) -> None:  # fmt: skip
    """The record of one run on one plane; `place` is (plane, step of its origin, name of another run or '')."""
    from landscape.distributed.progress import Progress
    from landscape.evidence import evidence
    from landscape.geometry.directions import from_surface
    from landscape.geometry.trajectory import trajectory
    from landscape.loss.checkpoints import Checkpoint
    from landscape.records import guest_key, surface_key, trajectory_key

    plane_name, step, guest = place
    key = guest_key(plane_name, step, guest) if guest else trajectory_key(plane_name, step)
    with comm.together():
        surface_meta = store.meta(surface_key(plane_name, step))["meta"]
        settings = {**decided, "surface": surface_meta.get("created")}
        finished = _common.finished(store, key, settings, args.overwrite)
    if not comm.broadcast(finished):
        with comm.together():
            Checkpoint(store, step).load_into(problem)
            plane = from_surface(store.read(surface_key(plane_name, step), large=True)) if comm.rank == 0 else None
        plane = comm.broadcast(plane)
        note = Progress("trajectory", 0, comm).note
        usable, embedded = _common.at_width_of(Checkpoint(store, step), usable, comm, note)
        progress = Progress("trajectory", len(usable), comm, unit="checkpoints", run=store)
        with _common.counting(len(usable), "checkpoints", 0, progress) as counter:
            record = trajectory(problem, plane, usable, comm, gradients=not args.no_gradients,
                                on_checkpoint=lambda n: progress.update(min(n * comm.size, len(usable))))  # fmt: skip
            if comm.rank == 0:
                record = _of_guest(record, guest) if guest else record
                meta = evidence(comm.size, settings=settings) | record.meta
                store.write(dataclasses.replace(record, meta=meta | ({"embedded": embedded} if embedded else {})))
            counter.done = len(usable)
    if comm.rank == 0:
        print(_summary(store, store.read(key)))


def _of_guest(record: Any, run: str) -> Any:
    from landscape.records import Guest

    return Guest(**{f.name: getattr(record, f.name) for f in dataclasses.fields(record)}, run=run)


def _summary(store: Any, record: Any) -> str:
    import numpy as np

    from landscape.readings import shares

    share, gradient = record.meta.get("in_plane_share"), shares.gradient_share(record)
    held = "" if share is None else f", {100 * share:.3g} % of it in the plane"
    if gradient is not None and np.isfinite(gradient).any():
        held += f" and {shares.in_percent(float(np.nanmedian(gradient)))} % of the gradient (median)"
    whose = f" of {record.run}" if record.kind == "guest" else ""
    return (
        f"{store.root}: trajectory{whose} of {len(record.steps)} checkpoints on the {record.plane} plane{held}, "
        f"up to {record.off_plane.max():.3g} off it"
    )
