"""Cost of exact Hessian products in gradients of the same data, graph building included.

  landscape bench hvp
  landscape bench hvp digits_mlp lenet --widths 1 4 10 --checkpoints 100

Ours is what a job of so many checkpoints gets: strategy and rows a batch are chosen (and compiled) before, timed
apart. `product` holds its share of building the graphs, which a job does once where they are kept; `built anew` builds
them for every block. The target is for the best of the widths. `plain, rebuilt` is reverse over reverse, every vector
building every graph anew, as most tools do it; `plain, kept` multiplies graphs that were built beforehand and are all
in memory. One gradient is the faster of the batches as they come and of all data in one batch. FLOPs are counted by
torch.utils.flop_counter (matrix products and convolutions; not inside compiled code); memory is the peak above what was
resident before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from landscape.loss.problem import Problem

    from ._choosing import Chosen
    from ._tables import Row, Table
    from ._timing import Timing

TARGETS = {"digits_mlp": 0.6, "lenet": 1.7, "resnet20": 2.7, "gpt": 2.2}  # gradients a product, blocks of up to 10
JOBS = {"digits_mlp": 100, "resnet20": 3}  # checkpoints of a job that takes long enough for a trace; else one
CHECKPOINT = 200  # products at each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"default: {' '.join(TARGETS)}")
    parser.add_argument("--widths", type=_common.positive, nargs="+", default=[1, 4, 10], metavar="B",
                        help="vectors a block (default: 1 4 10)")  # fmt: skip
    parser.add_argument("--checkpoints", type=_common.positive, metavar="N",
                        help="of the job that is chosen for (default: 1; digits_mlp 100, resnet20 3)")  # fmt: skip


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    columns = {
        "problem": "", "weights": ",d", "samples": ",d", "gradient, ms": ".2f", "block": "d", "chosen": "",
        "rows a batch": ",d", "choosing, s": ".1f", "product, ms": ".2f", "product / gradient": ".2f",
        "target": ".1f", "built anew": ".2f", "plain, rebuilt": ".2f", "plain, kept": ".2f", "FLOPs": ".2f",
        "FLOPs rebuilt": ".2f", "FLOPs kept": ".2f", "memory, MB": ".1f", "gradient's, MB": ".1f",
        "relative difference": ".1e",
    }  # fmt: skip
    note = f"A job builds what it keeps once a checkpoint of {CHECKPOINT} products."
    yield Table("One exact Hessian product", columns, _rows(args, len(columns)), note)


def _rows(args: argparse.Namespace, cells: int) -> Iterator[Row]:
    from . import _subjects

    for name in args.problems or TARGETS:
        problem = _subjects.built(name, args)
        if isinstance(problem, str):
            yield (f"{name}: {problem}", *[None] * (cells - 1))
        else:
            yield from _rows_of(name, problem, args)


def _rows_of(name: str, problem: Problem, args: argparse.Namespace) -> Iterator[Row]:
    """One row a block width; all are timed in turn with the same references."""
    from landscape.distributed.parallel import Comm

    from . import _choosing, _subjects, _timing

    theta, job = problem.weights(), args.checkpoints or (1 if args.quick else JOBS.get(name, 1))
    whole, one = _subjects.joined(problem), _block(problem, 1, args.seed)
    works: dict[str, Callable[[], Any]] = {
        "gradient": partial(_subjects.gradient, problem, theta), "whole": partial(_subjects.gradient, whole, theta),
        "rebuilt": partial(_subjects.recomputed(problem, theta), one),
        "kept": partial(_subjects.kept(problem, theta), one),
    }  # fmt: skip
    ours: dict[int, Chosen] = {}
    for width in args.widths:
        ours[width] = _choosing.hessian(problem, theta, Comm(), block=width, expected=CHECKPOINT, checkpoints=job)
        works[f"anew {width}"] = partial(_anew, ours[width], _block(problem, width, args.seed))
        works[f"again {width}"] = partial(ours[width].operator.matvec, _block(problem, width, args.seed))
    times = _timing.interleaved(works, args.repeats)
    exact = works["rebuilt"]()
    flops = {what: _flops(works[what]) for what in ("gradient", "rebuilt", "kept")}
    del works["kept"]  # and its graphs
    for chosen in ours.values():
        chosen.operator.forget()
    memory = _megabytes(works["gradient"])
    unit = min(times["gradient"].median, times["whole"].median)
    costs = {width: _in_a_job(width, times) for width in ours}
    best = min(costs, key=costs.__getitem__)
    for width, chosen in ours.items():
        again = works[f"again {width}"]
        peak = _megabytes(again)  # graphs that are kept are built in it
        difference = float((chosen.operator.matvec(one) - exact).norm() / exact.norm())
        share = _flops_in_a_job(width, chosen, works) / flops["gradient"]
        chosen.operator.forget()
        yield (
            name, problem.size, problem.samples, 1e3 * unit, width, chosen.label,
            chosen.rows, chosen.seconds, 1e3 * costs[width], costs[width] / unit,
            TARGETS.get(name) if width == best else None, times[f"anew {width}"].median / width / unit,
            times["rebuilt"].median / unit, times["kept"].median / unit, share or None,
            flops["rebuilt"] / flops["gradient"], flops["kept"] / flops["gradient"], peak, memory, difference,
        )  # fmt: skip


def _block(problem: Problem, width: int, seed: int) -> Any:
    import torch

    return torch.randn(problem.size, width, generator=torch.Generator().manual_seed(seed)).to(problem.weights())


def _anew(chosen: Chosen, block: Any) -> Any:
    """A block product that builds what it needs."""
    chosen.operator.forget()
    return chosen.operator.matvec(block)


def _in_a_job(width: int, times: dict[str, Timing]) -> float:
    """Seconds a product with a vector: the first block of a checkpoint builds, the others do not have to."""
    blocks = -(-CHECKPOINT // width)
    first, later = times[f"anew {width}"].median, times[f"again {width}"].median
    return (max(first, later) + (blocks - 1) * later) / (blocks * width)


def _flops_in_a_job(width: int, chosen: Chosen, works: dict[str, Callable[[], Any]]) -> float:
    if chosen.strategy == "compiled":
        return 0.0  # its code does not pass the counter
    blocks = -(-CHECKPOINT // width)
    return (_flops(works[f"anew {width}"]) + (blocks - 1) * _flops(works[f"again {width}"])) / (blocks * width)


def _flops(work: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _megabytes(work: Callable[[], Any]) -> float | None:
    from . import _timing

    found = _timing.peak_bytes(work)
    return None if found is None else found / 1e6
