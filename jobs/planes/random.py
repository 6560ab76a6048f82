"""Two random directions, normalised per filter or per layer."""

from __future__ import annotations

import argparse
from typing import Any

from .. import _planes


def add_arguments(parser: Any) -> None:
    parser.add_argument("--normalise", choices=("filter", "layer"), default="filter",
                        help="random directions, to the weights' norm (default: filter)")  # fmt: skip


def variant(args: argparse.Namespace) -> str:
    return "" if args.normalise == "filter" else str(args.normalise)


def plane(request: _planes.Request, variant: str) -> Any:
    from landscape.geometry.directions import random_plane

    args = request.args
    return random_plane(
        request.problem, request.vector, seed=args.seed, step=request.origin.step, normalise=args.normalise,
        variant=variant,
    )  # fmt: skip
