"""Follow a path between the minima of two runs: loss, accuracy, barrier and, when asked, spectra and eigenvectors.

  landscape path runs/adam runs/sgd --points 21
  mpirun -n 4 landscape path runs/adam runs/sgd --kind bezier --align --points 21 --spectrum --groups 2

The result belongs to the first run, whose problem is evaluated. A curve is trained first and is a record of its own;
--align first permutes the units of B, which leaves its function as it is. Everything finished is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any

from landscape import plugins

from . import _aligning, _common, _grid

TRAINING = ("bends", "train_steps", "rate", "batch_size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN_A", help="run at t = 0")
    parser.add_argument("run_b", metavar="RUN_B", help="run at t = 1")
    parser.add_argument("--points", type=_common.positive, default=21, help="points from A to B (default: 21)")
    parser.add_argument("--step-a", type=_common.natural, help="checkpoint of A (default: the last one)")
    parser.add_argument("--step-b", type=_common.natural, help="checkpoint of B (default: the last one)")
    parser.add_argument("--kind", default="linear", choices=plugins.names("landscape.geometry.curves"),
                        help="of curve, a file of landscape/geometry/curves/ (default: linear)")  # fmt: skip
    parser.add_argument("--align", action="store_true", help="permute the units of B onto those of A first")
    parser.add_argument("--align-seeds", type=_common.positive, default=5, help="descents tried (default: 5)")
    parser.add_argument("--spectrum", action="store_true", help="also the density and eigenvalues at every point")
    group = parser.add_argument_group("training of a curve")
    group.add_argument("--bends", type=_common.positive, help="trained points between A and B (default: by kind)")
    group.add_argument("--train-steps", type=_common.positive, default=1000, help="steps (default: 1000)")
    group.add_argument("--rate", type=float, default=0.1, help="learning rate (default: 0.1)")
    group.add_argument("--batch-size", type=_common.natural, help="samples a mini-batch; 0: all (default: 64)")
    _common.add_spectrum(parser, probes=2, iterations=40)
    _grid.add_arguments(parser)
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world
    from landscape.distributed.progress import Progress
    from landscape.geometry.curve import kind_module
    from landscape.geometry.path import compare_models
    from landscape.loss.checkpoints import of_run
    from landscape.records import path_key
    from landscape.stores.run_directory import Run

    comm = world()
    with comm.together():
        curved = bool(kind_module(args.kind).BENDS)
        stores = Run(args.run), Run(args.run_b)
        ends = [of_run(store, "last" if step is None else str(step))[-1]
                for store, step in zip(stores, (args.step_a, args.step_b), strict=True)]  # fmt: skip
        ends, embedded = _one_width(ends)
        compare_models(ends[0].state(), ends[1].state(), args.run, args.run_b)
    problem, decided = _common.open_problem(stores[0], args, comm)
    if not _same_problem(*(store.info for store in stores)):
        Progress("path", 0, comm).note(f"warning: the runs have different problems; losses are those of {args.run}")
    name_b = os.path.relpath(stores[1].root.resolve(), stores[0].root.resolve().parent).replace(os.sep, "/")
    decided |= {"step_a": ends[0].step, "step_b": ends[1].step, "run_b": name_b}
    if args.align:
        decided["align_seeds"] = args.align_seeds
    if curved:
        decided |= {"kind": args.kind} | {name: getattr(args, name) for name in TRAINING}
    trained_by = dict(decided)
    decided["points"] = args.points
    if args.spectrum:
        decided |= _common.spectrum_options(args)
    if embedded:
        Progress("path", 0, comm).note(embedded)
    job = _Job(args, stores[0], problem, comm, ends, name_b, decided, trained_by)
    key = path_key(name_b, args.kind, args.align)
    with comm.together():
        finished = _common.finished(stores[0], key, decided, args.overwrite)
        if finished and args.spectrum:
            finished = bool(stores[0].meta(key).get("spectra_values"))  # losses alone are there already
    if not comm.broadcast(finished):
        job.compute(key, curved)
    if comm.rank == 0:
        print(_summary(stores[0].read(key)))
    return 0


def _one_width(ends: list[Any]) -> tuple[list[Any], str]:
    """Both ends in the weights of the wider one where they are networks of one run that grew in between."""
    from landscape.growing.embedding import at_width_of

    if ends[0].run.root.resolve() != ends[1].run.root.resolve():
        return ends, ""
    later = max(ends, key=lambda end: end.step)
    found, embedded = at_width_of(later, ends)
    return found, f"the network of step {min(end.step for end in ends)} is embedded by copying units" * bool(embedded)


def _same_problem(a: Any, b: Any) -> bool:
    return (a.problem, a.problem_settings) == (b.problem, b.problem_settings)


@dataclasses.dataclass
class _Job:
    """What the steps of one path share."""

    args: argparse.Namespace
    store: Any
    problem: Any
    comm: Any
    ends: list[Any]
    name_b: str
    decided: dict[str, Any]
    trained_by: dict[str, Any]

    def compute(self, key: str, curved: bool) -> None:
        from landscape.geometry.curve import straight

        with self.comm.together():
            self.ends[0].load_into(self.problem)
            states = [end.state() for end in self.ends]
            a, b = (self.problem.vector_from(state) for state in states)
        curve, beside, meta = straight(a, b), {}, {}
        if self.args.align:
            beside["unaligned_loss"] = curve
            permuted, meta["alignment"] = self.aligned(*states)
            curve = straight(a, self.problem.vector_from(permuted))
        if curved:
            beside["straight_loss"] = curve
            curve = self.trained(curve)
            self.problem.load(states[0])
        self.measure(key, curve, beside, meta)

    def named(self) -> dict[str, Any]:
        return {"run_a": self.store.name, "run_b": self.name_b, "step_a": self.ends[0].step,
                "step_b": self.ends[1].step, "aligned": self.args.align}  # fmt: skip

    def aligned(self, state_a: Any, state_b: Any) -> tuple[Any, dict[str, Any]]:
        """B's state with its units in the order of A's, and what that did; worked out on rank 0."""
        from landscape.distributed.progress import Progress

        with self.comm.together():
            found = None
            if self.comm.rank == 0:
                found = _aligning.aligned(
                    self.problem, state_a, state_b, seeds=self.args.align_seeds, seed=self.args.seed
                )
        permuted, told = self.comm.broadcast(found)
        _aligning.warn(told, Progress("path", 0, self.comm).note)
        return permuted, told

    def trained(self, line: Any) -> Any:
        """The curve asked for between the ends of a line: from its record, its last state, or from scratch."""
        import torch

        from landscape.distributed.progress import Progress
        from landscape.evidence import evidence
        from landscape.geometry.curve import Curve
        from landscape.geometry.curve_training import train_curve
        from landscape.records import Curve as CurveRecord
        from landscape.records import curve_key

        args, comm, store = self.args, self.comm, self.store
        key = curve_key(self.name_b, args.kind, args.align)
        with comm.together():
            ready = comm.rank == 0 and _common.finished(store, key, self.trained_by, args.overwrite)
            points = store.read(key, large=True).points if ready else None
        points = comm.broadcast(points)
        if points is not None:
            return Curve(args.kind, torch.from_numpy(points))
        parts = _common.Parts(store, key, self.trained_by)
        states = {} if args.overwrite else parts.read()
        progress = Progress("path", args.train_steps, comm, unit="training steps", run=store)
        with _common.counting(args.train_steps, "training steps", 0, progress) as counter:

            def on_state(state: Any) -> None:
                if comm.rank == 0:
                    parts.write(0, state)
                counter.done = len(state["losses"])
                progress.update(counter.done)

            curve, losses = train_curve(
                self.problem, line.points[0], line.points[-1], args.kind, comm, bends=args.bends,
                steps=args.train_steps, rate=args.rate, batch_size=args.batch_size, seed=args.seed,
                begin=states.get(0), on_state=on_state,
            )  # fmt: skip
            if comm.rank == 0:
                store.write(CurveRecord(
                    shape=args.kind, losses=losses, points=curve.points.numpy(), **self.named(),
                    meta=evidence(comm.size, settings=self.trained_by),
                ))  # fmt: skip
        return curve

    def measure(self, key: str, curve: Any, beside: dict[str, Any], meta: dict[str, Any]) -> None:
        import numpy as np

        from landscape.distributed.progress import Progress
        from landscape.engine.spectrum import spectrum_at
        from landscape.evidence import evidence
        from landscape.geometry.path import follow

        args, comm = self.args, self.comm
        parts = _common.Parts(self.store, key, self.decided)
        done = parts.read() if not args.overwrite else {}
        progress = Progress("path", args.points, comm, unit="points", run=self.store)
        options, groups, free = _common.spectrum_options(args), 1, None
        if args.spectrum:  # the ends are computed by all ranks together, the points between by groups
            plan = _grid.planned(args, [self.problem], comm, max(args.points - 2, 1), progress)
            options, groups = options | {"block": plan.block}, plan.groups
            free = plan.memory - plan.basis_bytes - plan.other_bytes
        products: dict[int, Any] = {}  # by the number of ranks that share a point

        def spectrum(vector: Any, index: int, ranks: Any) -> Any:
            if ranks.size not in products:
                products[ranks.size] = _common.products_of(
                    args, args.probes * args.iterations, args.points, progress.note, free, options["block"]
                )
            return spectrum_at(self.problem, vector, ranks, step=index, check=index == 0, seed=args.seed,
                               products=products[ranks.size], **options)  # fmt: skip

        with _common.counting(args.points, "points", 0, progress) as counter:
            finished = comm.counter()

            def on_point(index: int, arrays: Any) -> None:
                parts.write(index, arrays)
                if args.spectrum == ("spectrum/json" in arrays):
                    finished.add()
                    counter.done = finished.value()
                    progress.update(counter.done)

            record = follow(
                self.problem, curve, np.linspace(0, 1, args.points), comm, beside=beside,
                spectrum_at=spectrum if args.spectrum else None, done=done, on_point=on_point, groups=groups,
                **self.named(),
            )  # fmt: skip
            if comm.rank == 0:
                given = evidence(comm.size, settings=self.decided) | record.meta | meta
                self.store.write(dataclasses.replace(record, meta=given))
            finished.close()
            progress.update(args.points)


def _summary(record: Any) -> str:
    spectra = f", {len(record.spectra)} spectra" if record.spectra else ""
    where = record.meta.get("barrier_t")
    text = f"{record.run_a} to {record.run_b}: {len(record.t)} points{spectra}, barrier {record.barrier:.4g}"
    text += f" at t = {where:.2g}" if where is not None else ""
    for name, what in (("straight", "straight line"), ("unaligned", "unaligned line")):
        if f"{name}_barrier" in record.meta:
            told = (record.meta[f"{name}_{x}"] for x in ("barrier", "length"))
            text += f" ({what}: {' at length '.join(f'{x:.4g}' for x in told if x is not None)})"
    return f"{text}, {'distance' if record.shape == 'linear' else f'{record.shape} length'} {record.length:.4g}"
