"""Two principal components of the path up to the checkpoint, of one run or of several."""

from __future__ import annotations

import argparse
from typing import Any

from landscape.errors import UsageError

from .. import _planes

READS = ("--pair", "--with")


def variant(args: argparse.Namespace) -> str:
    numbers = [] if args.pair in (None, (1, 2)) else [str(i) for i in args.pair]
    return ".".join([*_planes.other_names(args.others), *numbers])


def plane(request: _planes.Request, variant: str) -> Any:
    from landscape.geometry.directions import Vectors, pca_plane

    pair = request.args.pair or (1, 2)
    if min(pair) < 1:
        raise UsageError(f"principal components count from the largest: --pair 1,2 or 2,3, not {pair[0]},{pair[1]}")
    own = [c for c in request.usable if c.step <= request.origin.step]
    runs = [checkpoints for _name, checkpoints in request.others] + [own]  # the origin comes last
    paths = [checkpoint for checkpoints in runs for checkpoint in checkpoints]
    problem, slices = request.problem, request.problem.named_slices()
    vectors = Vectors(
        lambda i: problem.vector_from(paths[i].state()), len(paths),
        lambda i, start, stop: paths[i].part(slices, start, stop).to(problem.device, problem.dtype),
    )  # fmt: skip
    return pca_plane(
        vectors, step=request.origin.step, pair=(pair[0] - 1, pair[1] - 1), counts=[len(r) for r in runs],
        variant=variant,
    )  # fmt: skip
