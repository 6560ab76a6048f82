"""The gradient at the checkpoint and an eigenvector."""

from __future__ import annotations

import argparse
from typing import Any

from landscape.records import operator_key

from .. import _planes

READS = ("--operator",)


def add_arguments(parser: Any) -> None:
    parser.add_argument("--eigenvector", type=_planes.number, default=1, metavar="I",
                        help="of the gradient and displacement planes, -1 the smallest (default: 1)")  # fmt: skip


def variant(args: argparse.Namespace) -> str:
    operator = "" if args.operator == "hessian" else operator_key(args.operator)
    i = args.eigenvector
    return ".".join(part for part in (operator, "" if i == 1 else f"low{-i}" if i < 0 else str(i)) if part)


def plane(request: _planes.Request, variant: str) -> Any:
    from landscape.geometry.directions import gradient_plane

    found, number = _planes.eigenvectors(request), request.args.eigenvector
    return gradient_plane(
        request.problem, request.vector, found.in_weights(number), found.values[found.row(number)], number=number,
        step=request.origin.step, variant=variant,
    )  # fmt: skip
