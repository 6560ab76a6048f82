"""Evaluate the loss on the grid of three directions: leading eigenvectors, principal components, or random.

  landscape volume runs/adam --plane pca --points 21
  mpirun -n 4 landscape volume runs/adam --plane eigen --points 21

Points are dealt over ranks in blocks, and the checkpoints are projected into the volume. The eigenvector volume needs
`landscape spectrum` first. A killed job keeps its blocks.
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
    parser.add_argument("--points", type=_common.positive, default=21, help="grid points an axis (default: 21)")
    parser.add_argument("--step", type=_common.natural, help="checkpoint at the origin (default: the last one)")
    parser.add_argument("--half-width", type=float, metavar="W",
                        help="grid from -W to W on all axes (default: holds the path)")  # fmt: skip
    parser.add_argument("--margin", type=float, default=0.25, help="share added around the path (default: 0.25)")
    _common.add_checkpoints(parser)
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world
    from landscape.distributed.progress import Progress
    from landscape.loss.checkpoints import of_run
    from landscape.records import volume_key
    from landscape.stores.run_directory import Run

    comm = world()
    with comm.together():
        store = Run(args.run)
        checkpoints = of_run(store, args.checkpoints)
        asked = None if args.step is None else of_run(store, str(args.step))[0]
    problem, decided = _common.open_problem(store, args, comm)
    usable = list(_common.usable(checkpoints, comm, Progress("volume", 0, comm).note))
    if asked is None and not usable:
        raise _common.everywhere(ProblemError(f"no checkpoint of '{store.root}' has finite weights"))
    origin = usable[-1] if asked is None else asked
    usable, embedded = _common.at_width_of(origin, usable, comm, Progress("volume", 0, comm).note)
    decided |= {"plane": args.plane, "points": args.points, "half_width": args.half_width, "margin": args.margin,
                "checkpoints": [c.step for c in usable]}  # fmt: skip
    key = volume_key(args.plane, origin.step)
    with comm.together():
        finished = _common.finished(store, key, decided, args.overwrite)
    if not comm.broadcast(finished):
        _compute(args, store, problem, comm, usable, origin, decided, {"embedded": embedded} if embedded else {})
    if comm.rank == 0:
        print(_summary(store, key))
    return 0


def _space(args: argparse.Namespace, store: Any, problem: Any, usable: list[Any], origin: Any) -> Any:
    from landscape.geometry import space
    from landscape.geometry.directions import Vectors
    from landscape.records import eigenpairs_key

    if args.plane == "pca":
        path = [c for c in usable if c.step <= origin.step]
        return space.pca_space(
            Vectors(lambda i: problem.vector_from(path[i].state()), len(path)), step=origin.step
        )  # fmt: skip
    vector = problem.vector_from(origin.state())
    if args.plane == "random":
        return space.random_space(problem, vector, seed=args.seed, step=origin.step)
    key = eigenpairs_key("hessian", origin.step)
    pairs = store.read(key, large=True) if store.has(key) else None
    if pairs is None or pairs.vectors is None:
        raise ProblemError(
            f"'{store.root}' has no hessian eigenvectors at step {origin.step}; compute them first: "
            f"landscape spectrum {store.root} --checkpoints {origin.step}"
        )
    count = len(pairs.values)  # the rows behind belong to the smallest eigenvalues
    return space.eigen_space(vector, pairs.vectors[:count], pairs.values, pairs.residuals, step=origin.step)


def _compute(
    args: argparse.Namespace, store: Any, problem: Any, comm: Any, usable: list[Any], origin: Any, decided: Any,
    told: dict[str, str],
) -> None:  # fmt: skip
    from landscape.distributed.progress import Progress
    from landscape.evidence import evidence
    from landscape.geometry.volume import coordinates, volume
    from landscape.records import volume_key

    with comm.together():
        origin.load_into(problem)
        space = _space(args, store, problem, usable, origin) if comm.rank == 0 else None
    space = comm.broadcast(space)
    u, v, w = _axes(args, space, coordinates(problem, space, usable, comm)[:, :3])
    key = volume_key(args.plane, origin.step)
    parts = _common.Parts(store, key, decided, space.directions, u, v, w)
    done = parts.read() if not args.overwrite else {}
    total = len(u) * len(v) * len(w)
    safe = sum(len(block["index"]) for block in done.values() if "index" in block)
    progress = Progress("volume", total, comm, unit="points", run=store, skipped=safe)
    with _common.counting(total, "points", safe, progress) as counter:

        def on_block(number: int, block: Any) -> None:
            parts.write(number, block)
            counter.done = min(counter.done + comm.size * len(block["index"]), total)  # others are about as fast
            progress.update(counter.done)

        record = volume(problem, space, u, v, w, comm, checkpoints=usable, done=done, on_block=on_block)
        if comm.rank == 0:
            meta = evidence(comm.size, settings=decided) | record.meta | told
            store.write(dataclasses.replace(record, meta=meta))
        progress.update(total)


def _axes(args: argparse.Namespace, space: Any, path: Any) -> Any:
    import numpy as np

    from landscape.errors import UsageError
    from landscape.geometry.volume import axes

    if args.half_width is None:
        return axes(space, path, args.points, args.margin)
    if not 0 < args.half_width < float("inf") or args.points < 3:
        raise _common.everywhere(
            UsageError(f"a grid needs a positive --half-width and 3 points, got {args.half_width} and {args.points}")
        )
    return (np.linspace(-args.half_width, args.half_width, args.points),) * 3


def _summary(store: Any, key: str) -> str:
    import numpy as np

    record = store.read(key)
    low, high = np.nanmin(record.loss), np.nanmax(record.loss)
    share = record.meta.get("in_volume_share")
    held = f", holds {100 * share:.3g} % of the path" if share is not None else ""
    return (
        f"{store.root}: {record.plane} volume at step {record.step}, {' x '.join(map(str, record.loss.shape))} points, "
        f"loss {low:.4g} to {high:.4g}, {record.meta.get('centre_loss', float('nan')):.4g} at the centre{held}"
    )
