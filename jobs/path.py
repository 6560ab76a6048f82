"""Follow the straight path between the minima of two runs: loss, accuracy, barrier and, when asked, the spectrum.

  landscape path runs/adam runs/sgd --points 21
  mpirun -n 4 landscape path runs/adam runs/sgd --points 21 --spectrum

The result belongs to the first run, whose problem is evaluated. Points are dealt over ranks; finished ones are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN_A", help="run at t = 0")
    parser.add_argument("run_b", metavar="RUN_B", help="run at t = 1")
    parser.add_argument("--points", type=_common.positive, default=21, help="points from A to B (default: 21)")
    parser.add_argument("--step-a", type=_common.natural, help="checkpoint of A (default: the last one)")
    parser.add_argument("--step-b", type=_common.natural, help="checkpoint of B (default: the last one)")
    parser.add_argument("--spectrum", action="store_true", help="also the density and eigenvalues at every point")
    _common.add_spectrum(parser, probes=2, iterations=40)
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape.checkpoints import of_run
    from landscape.parallel import world
    from landscape.path import compare_models
    from landscape.progress import Progress
    from landscape.stores.run_directory import Run, path_key

    comm = world()
    with comm.together():
        stores = Run(args.run), Run(args.run_b)
        ends = [of_run(store, "last" if step is None else str(step))[-1]
                for store, step in zip(stores, (args.step_a, args.step_b), strict=True)]  # fmt: skip
        compare_models(ends[0].state(), ends[1].state(), args.run, args.run_b)
    problem, decided = _common.open_problem(stores[0], args, comm)
    if not _same_problem(*(store.info for store in stores)):
        Progress("path", 0, comm).note(f"warning: the runs have different problems; losses are those of {args.run}")
    name_b = os.path.relpath(stores[1].root.resolve(), stores[0].root.resolve().parent).replace(os.sep, "/")
    decided |= {"points": args.points, "step_a": ends[0].step, "step_b": ends[1].step, "run_b": name_b}
    if args.spectrum:
        decided |= _common.spectrum_options(args)
    key = path_key(name_b, "linear")
    with comm.together():
        finished = _common.finished(stores[0], key, decided, args.overwrite)
        if finished and args.spectrum:
            finished = bool(stores[0].meta(key).get("spectra_values"))  # losses alone are there already
    if not comm.broadcast(finished):
        _compute(args, stores[0], problem, comm, ends, name_b, decided)
    if comm.rank == 0:
        print(_summary(stores[0].read(key)))
    return 0


def _same_problem(a: Any, b: Any) -> bool:
    return (a.problem, a.problem_settings) == (b.problem, b.problem_settings)


def _compute(
    args: argparse.Namespace, store: Any, problem: Any, comm: Any, ends: list[Any], name_b: str, decided: dict[str, Any]
) -> None:
    import numpy as np

    from landscape.evidence import evidence
    from landscape.path import straight_path
    from landscape.progress import Progress
    from landscape.spectrum import spectrum_at
    from landscape.stores.run_directory import path_key

    with comm.together():
        ends[0].load_into(problem)
        vectors = [problem.vector_from(end.state()) for end in ends]
    parts = _common.Parts(store, path_key(name_b, "linear"), decided)
    done = parts.read() if not args.overwrite else {}
    progress = Progress("path", args.points, comm, unit="points", run=store)
    products = _common.products_of(args, args.probes * args.iterations, args.points, progress.note)
    options = _common.spectrum_options(args) | {"products": products}

    def spectrum(vector: Any, index: int) -> Any:
        found = spectrum_at(problem, vector, comm, step=index, check=index == 0, seed=args.seed, **options)
        return found[0], dataclasses.replace(found[1], vectors=None)

    with _common.counting(args.points, "points", 0, progress) as counter:

        def on_point(index: int, arrays: Any) -> None:
            parts.write(index, arrays)
            if args.spectrum == ("spectrum/json" in arrays):
                counter.done = index + 1
                progress.update(counter.done)

        record = straight_path(
            problem, vectors[0], vectors[1], np.linspace(0, 1, args.points), comm,
            spectrum_at=spectrum if args.spectrum else None, done=done, on_point=on_point,
            run_a=store.name, run_b=name_b, step_a=ends[0].step, step_b=ends[1].step,
        )  # fmt: skip
        if comm.rank == 0:
            store.write(dataclasses.replace(record, meta=evidence(comm.size, settings=decided) | record.meta))
        progress.update(args.points)


def _summary(record: Any) -> str:
    spectra = f", {len(record.spectra)} spectra" if record.spectra else ""
    where = record.meta.get("barrier_t")
    return (
        f"{record.run_a} to {record.run_b}: {len(record.t)} points{spectra}, barrier {record.barrier:.4g}"
        + (f" at t = {where:.2g}" if where is not None else "")
        + f", distance {record.length:.4g}"
    )
