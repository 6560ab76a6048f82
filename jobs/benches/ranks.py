"""Ranks: efficiency on this machine, equal numbers, bytes and messages a product, and what a model makes of it.

  landscape bench ranks
  landscape bench ranks --problem lenet --ranks 1 2 --rounds 5

It starts `mpirun -n P landscape bench ranks` for every P itself. Efficiency is T1 / (P T_P) in wall-clock time of a
block product over all data, after graphs that stay were built, by the best of each round; the rounds go through all P
in turn. Ranks beyond the machine's cores check that numbers are equal; their efficiency means nothing and is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from ._tables import Row, Table

WIDTH = 4  # vectors a block
JOB = 200  # products that the strategy is chosen for: one checkpoint
SCALES = (8, 64, 256, 1024)
FULL_DATA = {"resnet20": 50_000, "lenet": 60_000}  # samples of the data sets that the modelled runs go through


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--problem", default="resnet20", help="timed for efficiency (default: resnet20)")
    parser.add_argument("--ranks", type=_common.positive, nargs="+", default=[1, 2, 3, 4], help="default: 1 2 3 4")
    parser.add_argument("--rounds", type=_common.positive, default=3, help="default: 3")
    parser.add_argument("--bandwidth", type=float, default=12.5, help="GB/s a rank, modelled (default: 12.5)")
    parser.add_argument("--latency", type=float, default=2.0, help="microseconds a message, modelled (default: 2)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    counts = [1, 2] if args.quick else sorted({1, *args.ranks})
    rounds = [{p: _on(p, args) for p in counts} for _ in range(1 if args.quick else args.rounds)]
    first = rounds[0]
    columns = {
        "problem": "", "samples": ",d", "ranks": "d", "chosen": "", "rows a batch": ",d", "block product, ms": ".1f",
        "median, ms": ".1f", "efficiency": ".3f", "target": ".2f", "nodes differ, float32": ".0e",
        "nodes differ, float64": ".0e",
        "eigenvalues differ, float64": ".0e",
    }  # fmt: skip
    yield Table(
        "Data over ranks; numbers compared with one rank's, over the largest", columns, _efficiency(rounds),
        "Limits: 1e-5 in float32 and 1e-12 in float64, on the digits network with 4 probes x 10 iterations.",
    )  # fmt: skip
    columns = {
        "ranks": "d", "collectives a block product": ".1f", "messages": ".1f", "bytes a rank and vector": ",.0f",
        "model": ",.0f", "small sums a block step": ".1f", "their bytes": ",.0f",
    }  # fmt: skip
    note = (
        "One all-gather and one reduce-scatter. Model: 2 (P - 1) / P 4 n bytes for n weights in float32. An all-reduce "
        "would send as much and leave every rank the whole basis."
    )
    yield Table(f"Traffic, digits_mlp of {first[1]['size']:,} weights", columns, _traffic(first), note)
    columns = {
        "problem": "", "samples": ",d", "seconds a block product, one rank": ".1f",
        **{f"P = {p}": ".3f" for p in SCALES}, "target at 1024": ".2f",
    }  # fmt: skip
    note = (
        f"Not measured: T_P = T1 / P + bytes / ({args.bandwidth:g} GB/s) + messages x {args.latency:g} us, nothing "
        f"overlapped, T1 extrapolated from {first[1]['samples']:,} samples on one core of this machine to the whole "
        "data set. A device that computes faster has less to hide communication behind: "
        "the last row has T1 of 10 TFLOP/s a rank instead."
    )
    yield Table("Strong scaling, modelled", columns, _modelled(first, args), note)


def _on(ranks: int, args: argparse.Namespace) -> dict[str, Any]:
    from ._launching import on_ranks

    words = ["ranks", "--problem", args.problem, "--repeats", args.repeats, "--seed", args.seed]
    return on_ranks(ranks, [*words, "--threads", args.threads, *(["--quick"] if args.quick else [])])


def _efficiency(rounds: list[dict[int, dict[str, Any]]]) -> Iterator[Row]:
    one = rounds[0][1]
    alone = min(found[1]["best"] for found in rounds)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for ranks, found in rounds[0].items():
        best = min(each[ranks]["best"] for each in rounds)
        median = statistics.median(each[ranks]["median"] for each in rounds)
        honest = ranks <= cores
        yield (
            one["problem"], one["samples"], ranks, found["strategy"], found["rows"], 1e3 * best if honest else None,
            1e3 * median if honest else None, alone / (ranks * best) if honest else None, 0.9 if ranks == 2 else None,
            *(_apart(found[key], one[key]) for key in ("nodes32", "nodes64", "values64")),
        )  # fmt: skip


def _apart(found: list[float], one: list[float]) -> float:
    """Largest difference of two lists over the largest magnitude; infinite where they are of different length."""
    if len(found) != len(one):
        return float("inf")
    return max(abs(a - b) for a, b in zip(found, one, strict=True)) / max(abs(b) for b in one)


def _traffic(first: dict[int, dict[str, Any]]) -> Iterator[Row]:
    from ._scaling import modelled_bytes

    for ranks, found in first.items():
        sent = found["traffic"]
        yield (
            ranks, sent["collectives"], sent["messages"], sent["bytes"] / WIDTH,
            modelled_bytes(found["size"], ranks, 4), sent["sums"], sent["sum_bytes"],
        )  # fmt: skip


def _modelled(first: dict[int, dict[str, Any]], args: argparse.Namespace) -> Iterator[Row]:
    from ._scaling import modelled_bytes, modelled_efficiency

    one = first[1]
    samples = FULL_DATA.get(args.problem, one["samples"])
    reductions = round(max(found["traffic"]["sums"] for found in first.values()))
    measured = one["best"] * samples / one["samples"]
    device = one["flops"] * samples / one["samples"] / 10e12
    for name, seconds in ((args.problem, measured), (f"{args.problem}, 10 TFLOP/s", device)):
        shares = [
            modelled_efficiency(
                seconds, WIDTH * modelled_bytes(one["timed_size"], p, 4), p, bandwidth=1e9 * args.bandwidth,
                latency=1e-6 * args.latency, reductions=reductions,
            )
            for p in SCALES
        ]  # fmt: skip
        yield (name, samples, seconds, *shares, 0.95)


# ---------------------------------------------------------------------- on every rank


def work(args: argparse.Namespace, comm: Any) -> None:
    """Measure on this communicator; rank 0 writes what it found."""
    from landscape.errors import ProblemError

    from . import _subjects
    from ._launching import answer

    with comm.together():
        problem = _subjects.built(args.problem, args)
        if isinstance(problem, str):
            raise ProblemError(problem)
    found = {**_timed(problem, args, comm), **_counted(args, comm), **_numbers(args, comm)}
    answer(args.worker, comm.rank, {"problem": args.problem, **found})


def _timed(problem: Any, args: argparse.Namespace, comm: Any) -> dict[str, Any]:
    """Wall-clock seconds of a block product on all ranks together, and its FLOPs on this one."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from landscape.engine.curvature import operator_at

    from . import _choosing

    theta = problem.weights()
    chosen = _choosing.hessian(problem, theta, comm, block=WIDTH, expected=JOB)
    curvature = chosen.operator
    part = curvature.part
    block = torch.randn(part.stop - part.start, WIDTH, dtype=problem.dtype)
    with FlopCounterMode(display=False) as counter:
        operator_at(problem, theta, comm).matvec(block)  # by the reference: compiled code passes no counter
    curvature.matvec(block)  # the warm-up, in which graphs are built that stay
    taken = []
    for _ in range(args.repeats):
        comm.barrier()
        begin = time.perf_counter()
        curvature.matvec(block)
        comm.barrier()
        taken.append(time.perf_counter() - begin)
    return {
        "samples": problem.samples, "timed_size": problem.size, "best": min(taken),
        "median": statistics.median(taken), "flops": int(counter.get_total_flops()), "strategy": chosen.label,
        "rows": chosen.rows,
    }  # fmt: skip


def _digits(dtype: str, args: argparse.Namespace) -> Any:
    """The digits network after 30 steps, in enough batches for a dozen ranks."""
    import torch

    from landscape.loss.loading import build_problem

    from . import _subjects

    torch.manual_seed(args.seed)
    problem = build_problem("digits_mlp", {"hidden": 16, "batch_size": 50}).subset(600, args.seed)
    _subjects.descend(problem, 0, 30, args.seed)
    return problem.to(dtype=getattr(torch, dtype))


def _counted(args: argparse.Namespace, comm: Any) -> dict[str, Any]:
    """What this rank sends a block product in a density run, and in the small sums around it."""
    import torch

    from landscape.engine.curvature import operator_at
    from landscape.krylov.lanczos import BlockLanczos
    from landscape.krylov.probes import probes

    problem = _digits("float32", args)
    curvature = operator_at(problem, problem.weights(), comm)
    start = probes(range(WIDTH), problem.size, args.seed, curvature.part).to(torch.float32)
    space = BlockLanczos(curvature.matvec, start, 12 * WIDTH, curvature.reduce)
    before = comm.traffic.copy()
    for _ in range(10):
        space.expand()
    return {"size": problem.size, "traffic": comm.traffic.since(before).a_product()}


def _numbers(args: argparse.Namespace, comm: Any) -> dict[str, Any]:
    """Nodes and eigenvalues of one small run in both precisions."""
    from landscape.engine.spectrum import spectrum_at

    found: dict[str, Any] = {}
    for dtype, bits in (("float32", "32"), ("float64", "64")):
        problem = _digits(dtype, args)
        spectrum, pairs = spectrum_at(
            problem, problem.weights(), comm, iterations=10, top=3, bottom=0, seed=args.seed, check=False,
            tolerance=1e-4,
        )  # fmt: skip
        found |= {f"nodes{bits}": spectrum.nodes[0].tolist(), f"values{bits}": pairs.values.tolist()}
    return found
