"""Evaluate the loss on a grid of a plane: leading eigenvectors, principal components of the path, or random.

  landscape surface runs/adam --plane pca --points 51
  mpirun -n 4 landscape surface runs/adam --plane eigen --points 51
  landscape surface runs/adam --plane pca --points 201 --tolerance 0.01

Points are dealt over ranks. The eigenvector plane needs `landscape spectrum` first. With --tolerance only as many
points are measured as an interpolation needs, a tenth of 201 x 201 or so. A killed job keeps its blocks of points.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from landscape.errors import ProblemError

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--plane", choices=("eigen", "pca", "random"), default="pca", help="default: pca")
    parser.add_argument("--points", type=_common.positive, default=51, help="grid points an axis (default: 51)")
    parser.add_argument("--tolerance", type=_share, metavar="T",
                        help="interpolate to this share of the loss's range, 0.01 say (default: measure every point)")
    parser.add_argument("--batch-norm", choices=("frozen", "recomputed"), default="frozen",
                        help="statistics away from the origin: its own, or recomputed at every point (default: frozen)")
    parser.add_argument("--step", type=_common.natural, help="checkpoint at the origin (default: the last one)")
    parser.add_argument("--half-width", type=float, metavar="W",
                        help="grid from -W to W on both axes (default: holds the path)")  # fmt: skip
    parser.add_argument("--margin", type=float, default=0.25, help="share added around the path (default: 0.25)")
    parser.add_argument("--operator", default="hessian", help="whose eigenvectors span the eigen plane")
    _common.add_checkpoints(parser)
    _common.add_problem(parser)
    _common.add_computing(parser)


def _share(text: str) -> float:
    """A number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"must be a share between 0 and 1, got '{text}'")
    return number


def run(args: argparse.Namespace) -> int:
    from landscape.checkpoints import of_run
    from landscape.parallel import world
    from landscape.progress import Progress
    from landscape.stores.run_directory import Run, surface_key

    comm = world()
    with comm.together():
        store = Run(args.run)
        checkpoints = of_run(store, args.checkpoints)
    problem, decided = _common.open_problem(store, args, comm)
    usable = list(_common.usable(checkpoints, comm, Progress("surface", 0, comm).note))
    origin = _origin(args, store, checkpoints, usable)
    decided |= {"plane": args.plane, "points": args.points, "half_width": args.half_width, "margin": args.margin,
                "operator": args.operator if args.plane == "eigen" else None,
                "tolerance": args.tolerance, "batch_norm": args.batch_norm,
                "checkpoints": [c.step for c in usable]}  # fmt: skip
    key = surface_key(args.plane, origin.step)
    with comm.together():
        finished = _common.finished(store, key, decided, args.overwrite or _unfinished(store, key))
    if not comm.broadcast(finished):
        _compute(args, store, problem, comm, usable, origin, decided)
    if comm.rank == 0:
        print(_summary(store, key))
    return 0


def _unfinished(store: Any, key: str) -> bool:
    """Whether the record is the first picture of a job that has not come to its end."""
    return bool(store.has(key) and store.meta(key)["meta"].get("partial"))


def _origin(args: argparse.Namespace, store: Any, checkpoints: list[Any], usable: list[Any]) -> Any:
    from landscape.checkpoints import Checkpoint

    if args.step is None:
        if not usable:
            raise _common.everywhere(ProblemError(f"no checkpoint of '{store.root}' has finite weights"))
        return usable[-1]
    steps = [c.step for c in checkpoints]
    if args.step not in steps:
        listed = ", ".join(map(str, steps))
        raise _common.everywhere(ProblemError(f"'{store.root}' has no checkpoint at step {args.step}, only {listed}"))
    return Checkpoint(store, args.step)


def _plane(args: argparse.Namespace, store: Any, problem: Any, usable: list[Any], origin: Any) -> Any:
    from landscape import directions
    from landscape.stores.run_directory import eigenpairs_key

    if args.plane == "pca":
        path = [c for c in usable if c.step <= origin.step]
        vectors = directions.Vectors(lambda i: problem.vector_from(path[i].state()), len(path))
        return directions.pca_plane(vectors, step=origin.step)
    vector = problem.vector_from(origin.state())
    if args.plane == "random":
        return directions.random_plane(problem, vector, seed=args.seed, step=origin.step)
    key = eigenpairs_key(args.operator, origin.step)
    pairs = store.read(key, large=True) if store.has(key) else None
    if pairs is None or pairs.vectors is None:
        raise ProblemError(
            f"'{store.root}' has no {args.operator} eigenvectors at step {origin.step}; compute them first: "
            f"landscape spectrum {store.root} --checkpoints {origin.step}"
        )
    vectors = _embedded(pairs.vectors, problem, pairs.meta.get("weights"))
    return directions.eigen_plane(vector, vectors, pairs.values, pairs.residuals, step=origin.step)


def _embedded(vectors: Any, problem: Any, weights: list[str] | None) -> Any:
    """Vectors of a block of weights with zeros for all others; vectors of all weights as they are."""
    import numpy as np

    if weights is None:
        return vectors
    inside = [np.full(place.stop - place.start, name in weights) for name, _, place in problem.named_slices()]
    full = np.zeros((len(vectors), problem.size), dtype=vectors.dtype)
    full[:, np.concatenate(inside)] = vectors
    return full


def _compute(
    args: argparse.Namespace, store: Any, problem: Any, comm: Any, usable: list[Any], origin: Any, decided: Any
) -> None:
    from landscape.evidence import evidence
    from landscape.progress import Progress
    from landscape.stores.run_directory import surface_key
    from landscape.surface import grid, surface
    from landscape.trajectory import coordinates

    with comm.together():
        origin.load_into(problem)
        plane = _plane(args, store, problem, usable, origin) if comm.rank == 0 else None
    plane = comm.broadcast(plane)
    u, v = _axes(args, grid, plane, coordinates(problem, plane, usable, comm))
    key = surface_key(args.plane, origin.step)
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
            store.write(dataclasses.replace(record, meta=evidence(comm.size, settings=decided) | record.meta))

        record = surface(
            problem, plane, u, v, comm, tolerance=args.tolerance, batch_norm=args.batch_norm, done=done,
            on_block=on_block, on_picture=write,
        )  # fmt: skip
        if comm.rank == 0:
            write(record)
        progress.update(total)


def _axes(args: argparse.Namespace, grid: Any, plane: Any, path: Any) -> Any:
    import numpy as np

    if args.half_width is not None:
        line = np.linspace(-args.half_width, args.half_width, args.points)
        return line, line.copy()
    return grid(plane, path, args.points, args.margin)


def _summary(store: Any, key: str) -> str:
    import numpy as np

    record = store.read(key)
    low, high = np.nanmin(record.loss), np.nanmax(record.loss)
    captured = record.meta.get("captured")
    share = f", holds {100 * captured:.3g} % of the path" if captured is not None else ""
    rows, columns = record.loss.shape
    measured = "" if record.measured is None else f" ({int(record.measured.sum()):,} of {rows * columns:,} measured)"
    return (
        f"{store.root}: {record.plane} surface at step {record.step}, {rows} x {columns} points{measured}, "
        f"loss {low:.4g} to {high:.4g}, {record.meta.get('centre_loss', float('nan')):.4g} at the centre{share}"
    )
