"""Any two eigenvectors of any operator whose eigenpairs are stored."""

from __future__ import annotations

import argparse
from typing import Any

from landscape.records import operator_key

from .. import _planes

READS = ("--pair", "--operator")


def variant(args: argparse.Namespace) -> str:
    """'' for the two leading eigenvectors of the Hessian; 'low' numbers count from the smallest."""
    operator = "" if args.operator == "hessian" else operator_key(args.operator)
    numbers = "" if args.pair in (None, (1, 2)) else ".".join(f"low{-i}" if i < 0 else str(i) for i in args.pair)
    return ".".join(part for part in (operator, numbers) if part)


def plane(request: _planes.Request, variant: str) -> Any:
    from landscape.geometry.directions import eigen_plane

    found = _planes.eigenvectors(request)
    first, second = (found.row(number) for number in request.args.pair or (1, 2))
    return eigen_plane(
        request.vector, found.vectors, found.values, found.residuals, pair=(first, second), numbers=found.numbers,
        operator=request.args.operator, scale=found.scale, step=request.origin.step, variant=variant,
    )  # fmt: skip
