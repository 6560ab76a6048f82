"""Cost of exact Hessian products in gradients of the same data, graph building included.

  landscape bench hvp
  landscape bench hvp digits_mlp lenet --widths 1 4 10

`rebuilt` is plain reverse over reverse, every vector building every graph anew, as most tools do it; `kept` multiplies
graphs that were built beforehand and are all in memory. One gradient is the faster of the batches as they come and of
all data in one batch. FLOPs are counted by torch.utils.flop_counter (matrix products and convolutions); memory is the
peak above what was resident before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from landscape.problem import Problem

    from ._tables import Row, Table

TARGETS = {"digits_mlp": 0.6, "lenet": 1.7, "resnet20": 2.7, "gpt": 2.2}  # gradients a product, blocks of up to 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"default: {' '.join(TARGETS)}")
    parser.add_argument("--widths", type=_common.positive, nargs="+", default=[1, 4, 10], metavar="B",
                        help="vectors a block (default: 1 4 10)")  # fmt: skip


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    columns = {
        "problem": "", "weights": ",d", "samples": ",d", "block": "d", "gradient, ms": ".2f", "product, ms": ".2f",
        "product / gradient": ".2f", "target": ".1f", "rebuilt": ".2f", "kept": ".2f", "FLOPs": ".2f",
        "FLOPs rebuilt": ".2f", "FLOPs kept": ".2f", "memory, MB": ".1f", "gradient's, MB": ".1f",
        "first call, s": ".2f", "relative difference": ".1e",
    }  # fmt: skip
    yield Table("One exact Hessian product", columns, _rows(args, len(columns)))


def _rows(args: argparse.Namespace, cells: int) -> Iterator[Row]:
    from . import _subjects

    for name in args.problems or TARGETS:
        problem = _subjects.built(name, args)
        if isinstance(problem, str):
            yield (f"{name}: {problem}", *[None] * (cells - 1))
            continue
        yield from (_row(name, problem, width, args) for width in args.widths)


def _row(name: str, problem: Problem, width: int, args: argparse.Namespace) -> Row:
    import torch

    from landscape.curvature import operator_at
    from landscape.parallel import Comm

    from . import _subjects, _timing

    theta = problem.weights()
    curvature = operator_at(problem, theta, Comm())
    block = torch.randn(problem.size, width, generator=torch.Generator().manual_seed(args.seed)).to(theta)
    rebuilt, kept = _subjects.recomputed(problem, theta), _subjects.kept(problem, theta)
    whole = _subjects.joined(problem)
    works: dict[str, Callable[[], Any]] = {
        "gradient": partial(_subjects.gradient, problem, theta), "whole": partial(_subjects.gradient, whole, theta),
        "ours": partial(curvature.matvec, block), "rebuilt": partial(rebuilt, block), "kept": partial(kept, block),
    }  # fmt: skip
    times = _timing.interleaved(works, args.repeats)
    unit = min(times["gradient"].median, times["whole"].median)
    cost = {what: times[what].median / width for what in ("ours", "rebuilt", "kept")}
    flops = {what: _flops(works[what]) for what in ("gradient", "ours", "rebuilt", "kept")}
    shares = {what: (flops[what] / width / flops["gradient"] or None) for what in ("ours", "rebuilt", "kept")}
    exact = rebuilt(block)
    difference = float((curvature.matvec(block) - exact).norm() / exact.norm())
    del kept, works["kept"]
    memory = {what: _timing.peak_bytes(works[what]) for what in ("gradient", "ours")}
    megabytes = {what: None if found is None else found / 1e6 for what, found in memory.items()}
    return (
        name, problem.size, problem.samples, width, 1e3 * unit, 1e3 * cost["ours"], cost["ours"] / unit,
        TARGETS.get(name), cost["rebuilt"] / unit, cost["kept"] / unit, shares["ours"], shares["rebuilt"],
        shares["kept"], megabytes["ours"], megabytes["gradient"], times["ours"].first, difference,
    )  # fmt: skip


def _flops(work: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
