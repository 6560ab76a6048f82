"""Points of a surface per second against plain forward passes over the same data, and against other tools.

  landscape bench surface
  landscape bench surface digits_mlp --points 51

A forward pass is one evaluation of the loss on all data in one batch without gradients, the unit of every point; ours
measures the accuracy too. It is timed in a process of its own, as PyTorch does it; `here` is the same beside our
surfaces, where freed memory stays with the process: less time on large batches, whose pages are not faulted in again.
Both networks have relu. Each tool gets the data in one batch, as fast as it can be fed;
`point by point` is our own evaluation without anything that the plane gives away. What choosing a way costs is in the
first row, spread over a 51 x 51 surface. The second table is by the clock on two cores: ours on two ranks of one
thread, which it starts itself, the others with two threads. The third is the bound of arithmetic: products and
transcendental functions that no way can spare, beside what a point takes. The last is the adaptive grid against the
full one: its points, and its error relative to the range of the loss. Other tools (pip install loss-landscapes,
landscaper; the latter asks for numpy 1, but its surfaces run with 2) are rows where they can be imported.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from landscape.geometry.directions import Plane
    from landscape.loss.problem import Problem

    from ._tables import Row, Table

POINTS = {"digits_mlp": 51, "lenet": 9}  # an axis: with other tools a point costs the same however many there are
FINER = {"lenet": 3}  # times as many intervals for ours, which prepares a surface once
TARGETS = {"digits_mlp": 0.5, "lenet": 0.2}  # forward passes a point
TIMES = {"digits_mlp": 2.0, "lenet": 3.5}  # as many points a second as the best other tool
CORES = 2
FORWARD = "forward"  # the tool of a worker that times the plain forward pass
FULL = 51 * 51
FINE, TOLERANCE = 201, 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"default: {' '.join(POINTS)}")
    parser.add_argument("--points", type=_common.positive, metavar="N",
                        help="grid points an axis (default: 51; lenet 9)")  # fmt: skip
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tool", help=argparse.SUPPRESS)


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    columns = {
        "problem": "", "weights": ",d", "samples": ",d", "forward pass, ms": ".2f", "here, ms": ".2f", "surface by": "",
        "points": ",d", "ms a point": ".3f", "points a second": ",.0f", "forward passes a point": ".2f",
        "target": ".1f", "relative difference": ".1e",
    }  # fmt: skip
    yield Table("A random plane", columns, _rows(args, len(columns)), "Relative difference: to point by point.")
    columns = {"problem": "", "surface by": "", "points": ",d", "points a second": ",.0f", "ours / theirs": ".1f",
               "target": ".1f"}  # fmt: skip
    yield Table(f"By the clock on {CORES} cores", columns, _clocked(args, len(columns)), "The best of three.")
    columns = {"problem": "", "work": "", "products, MFLOP": ",.2f", "exp, log, tanh": ",d", "least ms": ".3f",
               "ms": ".3f", "share": ".2f", "least, forward passes": ".2f"}  # fmt: skip
    yield Table(
        "What a point must compute", columns, _least(args, len(columns)),
        "Least: the products at the speed of a large one here, and the functions at that of exp in cache, one thread; "
        "the rest is passes over memory and calls. A point measures the accuracy too. No way is below the last column.",
    )  # fmt: skip
    adaptive = {"problem": "", "grid": "", "tolerance": ".3f", "share measured": ".3f", "largest error": ".4f",
                "estimated on points held out": ".4f", "points held out": ",d"}  # fmt: skip
    yield Table("The adaptive grid against the full one", adaptive, _adaptive(args, len(adaptive)))


def _rows(args: argparse.Namespace, cells: int) -> Iterator[Row]:
    from . import _subjects

    for name in args.problems or POINTS:
        problem = _built(name, args)
        if isinstance(problem, str):
            yield (f"{name}: {problem}", *[None] * (cells - 1))
        else:
            yield from _rows_of(name, _subjects.joined(problem), args, cells)


def _points(name: str, args: argparse.Namespace) -> tuple[int, int]:
    """Points an axis, and into how many intervals ours divides one."""
    if args.points or args.quick:
        return args.points or 3, 1
    return POINTS.get(name, 5), FINER.get(name, 1)


def _built(name: str, args: argparse.Namespace) -> Problem | str:
    """The problem with relu, or the sentence that says why it cannot be had here."""
    from landscape.errors import LandscapeError

    from . import _subjects

    subject = _subjects.SUBJECTS.get(name)
    if subject is None or name not in POINTS:
        return _subjects.built(name, args)
    subject = dataclasses.replace(subject, settings={**subject.settings, "activation": "relu"})
    try:
        problem = subject.build(name, quick=args.quick, seed=args.seed)
        problem.test_batches = []  # a forward pass is one over the training data, and other tools take no other
        return problem
    except LandscapeError as error:
        return str(error)


def _rows_of(name: str, problem: Problem, args: argparse.Namespace, cells: int) -> Iterator[Row]:
    """Each surface in turn with the same forward pass, so that a slow spell of the machine meets all of them."""
    import numpy as np

    from landscape.geometry.meter import Way

    from . import _launching, _planes, _timing
    from ._case import Case

    points, finer = _points(name, args)
    plane, fine = _plane(problem, finer * (points - 1) + 1, args)
    axis = fine[::finer]
    chosen, choosing = _timing.timed(partial(_chosen, problem, plane, axis))
    case = Case(problem)
    works: dict[str, Callable[[], Any]] = {
        "forward": partial(_forward, problem),
        f"landscape, {chosen}": partial(_surface, problem, plane, fine, chosen),
        "landscape, point by point": partial(_surface, problem, plane, axis, Way()),
    }
    ours, plain = list(works)[1:]
    failures = {}
    for tool, run in _planes.TOOLS.items():
        try:
            run(case, 2)
            works[tool] = partial(run, case, points)
        except Exception as error:  # not installed, or whatever it raises
            failures[tool] = f"{tool}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    times = _timing.interleaved(works, args.repeats)
    found, wanted = works[ours]().loss[::finer, ::finer], works[plain]().loss
    difference = float(np.nanmax(np.abs(found - wanted) / np.abs(wanted)))
    here = times.pop("forward").median
    alone = ["surface", name, "--seed", args.seed, "--repeats", args.repeats, "--tool", FORWARD]
    unit = here if args.quick else _launching.on_ranks(1, alone)["seconds"]
    for what, timing in times.items():
        mine = what == ours
        count = len(fine if mine else axis) ** 2
        seconds = timing.median / count + (choosing / FULL if mine else 0.0)
        yield (
            name, problem.size, problem.samples, 1e3 * unit, 1e3 * here, what, count, 1e3 * seconds, 1 / seconds,
            seconds / unit, TARGETS.get(name) if mine else None, difference if mine else None,
        )  # fmt: skip
    for failure in failures.values():
        yield (name, problem.size, problem.samples, 1e3 * unit, 1e3 * here, failure, *[None] * (cells - 6))


# ---------------------------------------------------------------------- by the clock


def work(args: argparse.Namespace, comm: Any) -> None:
    """On every rank: the seconds of a whole surface, the way being known; or those of another tool, in a process that
    nothing of ours has touched."""
    from landscape.errors import EnvironmentProblem
    from landscape.geometry.surface import surface

    from . import _planes, _subjects, _timing
    from ._case import Case
    from ._launching import answer

    (name,) = args.problems
    problem = _built(name, args)
    assert not isinstance(problem, str)
    problem = _subjects.joined(problem)
    if args.tool == FORWARD:
        plain = {FORWARD: partial(_forward, problem)}
        answer(args.worker, comm.rank, {"seconds": _timing.interleaved(plain, 3 * args.repeats)[FORWARD].median})
        return
    if args.tool:
        run = partial(_planes.TOOLS[args.tool], Case(problem), args.points)
        try:
            answer(args.worker, comm.rank, {"seconds": _best(run)})
        except ImportError as error:
            raise EnvironmentProblem(f"{args.tool} is not installed ({error})") from error
        return
    plane, axis = _plane(problem, args.points, args)
    way = _chosen(problem, plane, axis, comm)
    answer(args.worker, comm.rank, {"way": str(way), "seconds": _best(
        lambda: surface(problem, plane, axis, axis, comm, way=way), comm.barrier
    )})  # fmt: skip


def _best(run: Callable[[], Any], barrier: Callable[[], Any] = lambda: None) -> float:
    """Seconds by the clock, the least of three."""
    taken = []
    for _ in range(3):
        barrier()
        begin = time.perf_counter()
        run()
        barrier()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def _clocked(args: argparse.Namespace, cells: int) -> Iterator[Row]:
    from landscape.errors import LandscapeError

    from . import _planes
    from ._launching import on_ranks

    for name in args.problems or POINTS:
        problem = _built(name, args)
        if isinstance(problem, str):
            yield (f"{name}: {problem}", *[None] * (cells - 1))
            continue
        points, finer = _points(name, args)
        given = ["--seed", args.seed, *(["--quick"] if args.quick else [])]
        count = (finer * (points - 1) + 1) ** 2
        words = ["surface", name, "--points", points, *given]
        try:
            found = on_ranks(CORES, ["surface", name, "--points", finer * (points - 1) + 1, *given])
        except LandscapeError as error:
            yield (f"{name}: {error}", *[None] * (cells - 1))
            continue
        ours = count / found["seconds"]
        yield name, f"landscape on {CORES} ranks, {found['way']}", count, ours, None, None
        for tool in _planes.TOOLS:
            try:
                theirs = points**2 / on_ranks(1, [*words, "--threads", CORES, "--tool", tool])["seconds"]
            except LandscapeError as error:  # not installed, or whatever it raises
                yield (name, f"{tool}: {str(error).rpartition('ended with code ')[2]}", *[None] * (cells - 2))
                continue
            yield name, f"{tool}, {CORES} threads", points**2, theirs, ours / theirs, TIMES.get(name)


def _plane(problem: Problem, points: int, args: argparse.Namespace) -> tuple[Plane, Any]:
    import numpy as np

    from landscape.geometry.directions import random_plane

    plane = random_plane(problem, problem.weights(), seed=args.seed)
    return plane, np.linspace(-1.0, 1.0, points) * plane.info["scale"]


def _chosen(problem: Problem, plane: Plane, axis: Any, comm: Any = None) -> Any:
    from landscape.distributed.parallel import Comm
    from landscape.geometry.quickest import quickest

    return quickest(problem, plane.origin, plane.directions, axis[[-1, -1]], FULL, comm or Comm())[0]


def _surface(problem: Problem, plane: Plane, axis: Any, way: Any, tolerance: float | None = None) -> Any:
    from landscape.distributed.parallel import Comm
    from landscape.geometry.surface import surface

    return surface(problem, plane, axis, axis, Comm(), way=way, tolerance=tolerance)


def _forward(problem: Problem) -> float:
    import torch

    with torch.no_grad():
        return float(problem.objective(problem.batches[0])[0])


def _least(args: argparse.Namespace, cells: int) -> Iterator[Row]:
    """The bound of arithmetic beside what a forward pass and a point of the way that is chosen take, in CPU time."""
    import numpy as np

    from landscape.geometry.meter import PlaneMeter

    from . import _roofline, _subjects

    for name in args.problems or POINTS:
        problem = _built(name, args)
        if isinstance(problem, str):
            yield (f"{name}: {problem}", *[None] * (cells - 1))
            continue
        problem = _subjects.joined(problem)
        plane, axis = _plane(problem, 3, args)
        way = _chosen(problem, plane, axis)
        meter = PlaneMeter(problem, plane.origin, plane.directions, way)
        places = np.linspace(axis[[0, 0]], axis[[-1, 0]], max(way.points, 4))  # of one row of a grid
        meter.measure(places)  # what is computed once for all points
        works = {
            "forward pass": _roofline.Work(partial(_forward, problem), 1),
            f"a point, {way}": _roofline.Work(partial(meter.measure, places), len(places)),
        }
        yield from ((name, *row) for row in _roofline.rows(works, args.repeats))


def _adaptive(args: argparse.Namespace, cells: int) -> Iterator[Row]:
    """A trained digits network: the full grid is measured for once."""
    import numpy as np

    from . import _subjects

    problem = _built("digits_mlp", args)
    if isinstance(problem, str):
        yield (f"digits_mlp: {problem}", *[None] * (cells - 1))
        return
    problem = _subjects.joined(problem)
    _subjects.descend(problem, 0, 20 if args.quick else 400, args.seed)
    plane, axis = _plane(problem, 41 if args.quick else FINE, args)
    way = _chosen(problem, plane, axis)
    whole, found = (_surface(problem, plane, axis, way, tolerance) for tolerance in (None, TOLERANCE))
    error = float(np.nanmax(np.abs(found.loss - whole.loss)) / np.ptp(whole.loss[np.isfinite(whole.loss)]))
    share = 1.0 if found.measured is None else float(found.measured.mean())
    yield (
        "digits_mlp", f"{len(axis)} x {len(axis)}", TOLERANCE, share, error, found.meta["held_out_error"],
        found.meta["held_out"],
    )  # fmt: skip
