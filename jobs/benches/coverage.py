"""How often the 95 % intervals hold the truth, over many seeds, and how wide they are.

  landscape bench coverage
  landscape bench coverage --seeds 200 --steps 1000

A cell is the share of seeds whose interval holds the exact value, and the mean half width: relative for trace and norm,
in shares of all eigenvalues for the rest. The truth is the digits network's dense float64 Hessian, and a synthetic
spectrum.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from ._tables import Row, Table

PLANS = ((5, 40, 5), (4, 50, 4), (4, 50, 1), (8, 50, 4))  # probes, iterations, block
HUTCHPP = (30, 60, 120)  # products of `landscape trace`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=50, help="seeds (default: 50)")
    parser.add_argument("--steps", type=_common.natural, nargs="*", default=[145, 1000],
                        help="Adam steps of the digits network before measuring (default: 145 1000)")  # fmt: skip


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    for name, exact in _spectra_of(args):
        yield Table(
            f"{name}, {args.seeds} seeds",
            {"interval": ""} | {f"{p} x {m}, block {b}": " " for p, m, b in _plans(args)}, _rows(exact, args),
        )  # fmt: skip
        yield Table(
            f"{name}, trace by Hutch++, {args.seeds} seeds",
            {"products": "d", "holds": ".2f", "half width, %": ".2g"}, _traces(exact, args),
        )  # fmt: skip


def _plans(args: argparse.Namespace) -> tuple[tuple[int, int, int], ...]:
    return PLANS[:2] if args.quick else PLANS


def _spectra_of(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    from . import _spectra, _subjects

    if args.quick:
        args.steps, args.seeds = args.steps[:1], min(args.seeds, 10)
    problem, done = _subjects.SUBJECTS["digits_mlp"].build("digits_mlp", quick=args.quick, seed=args.seed), 0
    for steps in sorted(args.steps):
        done = _subjects.descend(problem, done, steps, args.seed)
        yield f"digits_mlp after {steps} steps", _spectra.dense_eigenvalues(problem)
    size = 600 if args.quick else 3000
    yield f"synthetic, {size:,} eigenvalues", _spectra.synthetic(size)


def _rows(exact: Any, args: argparse.Namespace) -> Iterator[Row]:
    from . import _coverage

    seeds = range(args.seed, args.seed + args.seeds)
    plans = [_coverage.measure(exact, seeds, probes=p, iterations=m, block=b) for p, m, b in _plans(args)]
    for what in plans[0]:
        yield (what, *(f"{row[what][0]:.2f}, ± {100 * row[what][1]:.2g} %" for row in plans))


def _traces(exact: Any, args: argparse.Namespace) -> Iterator[Row]:
    from . import _coverage

    seeds = range(args.seed, args.seed + args.seeds)
    for products in HUTCHPP:
        covered, half = _coverage.measure_hutchpp(exact, seeds, products)
        yield products, covered, 100 * half
