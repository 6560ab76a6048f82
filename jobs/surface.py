"""Evaluate the loss on a grid of a plane: eigenvectors, principal components of the path, random, and others.

  landscape surface runs/adam --plane pca --points 51
  mpirun -n 4 landscape surface runs/adam --plane eigen --points 51
  landscape surface runs/adam --plane eigen --pair 1,-1 --operator preconditioned
  landscape surface runs/adam --plane pca --with runs/sgd runs/muon
  landscape surface runs/adam --plane pca --points 201 --tolerance 0.01

Points are dealt over ranks. The eigenvector plane needs `landscape spectrum` first. With --tolerance only as many
points are measured as an interpolation needs, a tenth of 201 x 201 or so. A killed job keeps its blocks of points.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from landscape.errors import ProblemError

from . import _common, _planes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    _planes.add_arguments(parser)
    parser.add_argument("--points", type=_common.positive, default=51, help="grid points an axis (default: 51)")
    parser.add_argument("--tolerance", metavar="T",
                        type=_common.number_that("a share between 0 and 1", lambda share: 0 < share < 1),
                        help="interpolate to this share of the loss's range, 0.01 say (default: measure every point)")
    parser.add_argument("--batch-norm", choices=("frozen", "recomputed"), default="frozen",
                        help="statistics away from the origin: its own, or recomputed at every point, which takes some "
                             "two plain passes a point (default: frozen)")  # fmt: skip
    parser.add_argument("--step", type=_common.natural, help="checkpoint at the origin (default: the last one)")
    parser.add_argument("--half-width", type=float, metavar="W",
                        help="grid from -W to W on both axes (default: holds the path)")  # fmt: skip
    parser.add_argument("--margin", type=float, default=0.25, help="share added around the path (default: 0.25)")
    _common.add_checkpoints(parser)
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world
    from landscape.distributed.progress import Progress
    from landscape.loss.checkpoints import of_run
    from landscape.records import surface_key
    from landscape.stores.run_directory import Run

    comm = world()
    with comm.together():
        _planes.check(args)
        store = Run(args.run)
        checkpoints = of_run(store, args.checkpoints)
    problem, decided = _common.open_problem(store, args, comm)
    usable = list(_common.usable(checkpoints, comm, Progress("surface", 0, comm).note))
    origin = _origin(args, store, checkpoints, usable)
    usable, embedded = _common.at_width_of(origin, usable, comm, Progress("surface", 0, comm).note)
    with comm.together():
        others = _planes.other_runs(args, lambda found: [c for c in found if _common.not_finite(c) is None])
    decided |= {"plane": args.plane, "points": args.points, "half_width": args.half_width, "margin": args.margin,
                "operator": args.operator if args.plane == "eigen" else None,
                "tolerance": args.tolerance, "batch_norm": args.batch_norm,
                "checkpoints": [c.step for c in usable],
                "others": [[name, [c.step for c in found]] for name, found in others]}  # fmt: skip
    request = _planes.Request(args, store, problem, usable, origin, others)
    key = surface_key(_planes.name_of(args), origin.step)
    with comm.together():
        finished = _common.finished(store, key, decided, args.overwrite or _unfinished(store, key))
    if not comm.broadcast(finished):
        _compute(request, comm, key, decided, {"embedded": embedded} if embedded else {})
    _add_model(store, key, problem, origin, comm)
    if comm.rank == 0:
        print(_summary(store, key))
    return 0


def _unfinished(store: Any, key: str) -> bool:
    """Whether the record is the first picture of a job that has not come to its end."""
    return bool(store.has(key) and store.meta(key)["meta"].get("partial"))


def _origin(args: argparse.Namespace, store: Any, checkpoints: list[Any], usable: list[Any]) -> Any:
    from landscape.loss.checkpoints import Checkpoint

    if args.step is None:
        if not usable:
            raise _common.everywhere(ProblemError(f"no checkpoint of '{store.root}' has finite weights"))
        return usable[-1]
    steps = [c.step for c in checkpoints]
    if args.step not in steps:
        listed = ", ".join(map(str, steps))
        raise _common.everywhere(ProblemError(f"'{store.root}' has no checkpoint at step {args.step}, only {listed}"))
    return Checkpoint(store, args.step)


def _compute(request: _planes.Request, comm: Any, key: str, decided: Any, told: dict[str, str]) -> None:
    from landscape.distributed.progress import Progress
    from landscape.evidence import evidence
    from landscape.geometry.surface import grid, surface

    args, store, problem = request.args, request.store, request.problem
    with comm.together():
        request.origin.load_into(problem)
        plane = _planes.make(request) if comm.rank == 0 else None
    plane = comm.broadcast(plane)
    u, v = _axes(args, grid, plane, _path(request, plane, comm))
    parts = _common.Parts(store, key, decided, plane.directions, u, v)
    done = parts.read() if not args.overwrite else {}
    total = len(u) * len(v)
    safe = sum(len(block["index"]) for block in done.values() if "index" in block)
    progress = Progress("surface", total, comm, unit="points", run=store, skipped=safe)
    with _common.counting(total, "points", safe, progress) as counter:

        def on_block(number: int, block: Any) -> None:
            parts.write(number, block)
            counter.done = min(counter.done + comm.size * len(block["index"]), total)  # others are about as fast
            progress.update(counter.done)

        def write(record: Any) -> None:
            meta = evidence(comm.size, settings=decided) | record.meta | told
            store.write(dataclasses.replace(record, meta=meta))

        record = surface(
            problem, plane, u, v, comm, tolerance=args.tolerance, batch_norm=args.batch_norm, done=done,
            on_block=on_block, on_picture=write,
        )  # fmt: skip
        if comm.rank == 0:
            write(record)
        progress.update(total)


def _path(request: _planes.Request, plane: Any, comm: Any) -> Any:
    """(u, v) of all that the grid should hold: the checkpoints of the run, those of the others, three minima."""
    import numpy as np

    from landscape.geometry.trajectory import coordinates

    checkpoints = [*request.usable, *(c for _name, found in request.others for c in found)]
    corners = plane.info.get("corners")
    if corners is not None:  # the minima themselves; the way there would dwarf them
        return np.array([place for _name, *place in corners], dtype=np.float64)
    return coordinates(request.problem, plane, checkpoints, comm)[:, :2]


def _add_model(store: Any, key: str, problem: Any, origin: Any, comm: Any) -> None:
    """Put the derivatives at the origin beside a surface that lacks them, such as one of an older version."""
    from landscape.geometry.derivatives import with_derivatives

    with comm.together():
        missing = comm.rank == 0 and "quadratic" not in store.meta(key)["meta"]
    if not comm.broadcast(missing):
        return
    with comm.together():
        origin.load_into(problem)
        record = store.read(key, large=True) if comm.rank == 0 else None
    record = with_derivatives(comm.broadcast(record), problem, comm)
    if comm.rank == 0:
        store.write(record)


def _axes(args: argparse.Namespace, grid: Any, plane: Any, path: Any) -> Any:
    import numpy as np

    if args.half_width is not None:
        line = np.linspace(-args.half_width, args.half_width, args.points)
        return line, np.zeros(1) if args.line else line.copy()
    u, v = grid(plane, path, args.points, args.margin)
    return u, np.zeros(1) if args.line else v


def _summary(store: Any, key: str) -> str:
    import numpy as np

    record = store.read(key)
    low, high = np.nanmin(record.loss), np.nanmax(record.loss)
    captured = record.meta.get("captured")
    share = f", holds {100 * captured:.3g} % of the path" if captured is not None else ""
    rows, columns = record.loss.shape
    measured = "" if record.measured is None else f" ({int(record.measured.sum()):,} of {rows * columns:,} measured)"
    held = "; ".join([share, *_readings(record)])
    return (
        f"{store.root}: {record.plane} surface at step {record.step}, {rows} x {columns} points{measured}, "
        f"loss {low:.4g} to {high:.4g}, {record.meta.get('centre_loss', float('nan')):.4g} at the centre{held}"
    )


def _readings(record: Any) -> list[str]:
    """Where the quadratic model holds, and what minima and passes the grid shows."""
    from landscape.readings.quadratic import Quadratic, agreement
    from landscape.readings.topology import topology

    model, reason = Quadratic.of(record), record.meta["quadratic"].get("reason")
    if model is None:
        holds = f"no quadratic model: {reason or 'its derivatives are not finite'}"
    else:
        holds = f"the quadratic model {agreement(record, model).words}"
    return [holds, topology(record).words]
