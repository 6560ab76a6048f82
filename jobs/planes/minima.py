"""Three minima: the checkpoint and those of two other runs."""

from __future__ import annotations

import argparse
from typing import Any

from landscape.errors import UsageError

from .. import _planes

READS = ("--with",)


def variant(args: argparse.Namespace) -> str:
    if len(args.others) != 2:
        raise UsageError("--plane minima needs two other minima: --with RUN_B RUN_C (or RUN_B@STEP)")
    return ".".join(_planes.other_names(args.others))


def plane(request: _planes.Request, variant: str) -> Any:
    from landscape.directions import minima_plane

    names = [request.store.name, *(name for name, _ in request.others)]
    second, third = (request.problem.vector_from(checkpoints[-1].state()) for _, checkpoints in request.others)
    return minima_plane(
        request.vector, second, third, names=names, step=request.origin.step, variant=variant
    )  # fmt: skip
