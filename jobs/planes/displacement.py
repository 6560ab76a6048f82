"""The way back to the first checkpoint and an eigenvector."""

from __future__ import annotations

import argparse
from typing import Any

from landscape.errors import ProblemError
from landscape.records import operator_key

from .. import _common, _planes

READS = ("--operator",)


def add_arguments(parser: Any) -> None:
    parser.add_argument("--from", dest="start", type=_common.natural, metavar="STEP",
                        help="of the displacement plane: what axis 1 points to (default: the first)")  # fmt: skip


def variant(args: argparse.Namespace) -> str:
    operator = "" if args.operator == "hessian" else operator_key(args.operator)
    i = args.eigenvector
    number = "" if i == 1 else f"low{-i}" if i < 0 else str(i)
    start = "" if args.start is None else f"from{args.start}"
    return ".".join(part for part in (operator, number, start) if part)


def plane(request: _planes.Request, variant: str) -> Any:
    from landscape.geometry.directions import displacement_plane

    start = request.args.start
    wanted = request.usable[:1] if start is None else [c for c in request.usable if c.step == start]
    if not wanted:
        raise ProblemError(f"'{request.store.root}' has no usable checkpoint at step {start}")
    found, number = _planes.eigenvectors(request), request.args.eigenvector
    return displacement_plane(
        request.vector, request.problem.vector_from(wanted[0].state()), found.in_weights(number),
        found.values[found.row(number)], number=number, step=request.origin.step, start_step=wanted[0].step,
        variant=variant,
    )  # fmt: skip
