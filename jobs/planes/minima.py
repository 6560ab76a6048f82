"""Three minima: the checkpoint and those of two other runs, as they were trained or with their units permuted."""

from __future__ import annotations

import argparse
from typing import Any

from landscape.errors import UsageError

from .. import _aligning, _planes

READS = ("--with", "--align")
SEEDS = 5  # descents tried


def add_arguments(parser: Any) -> None:
    parser.add_argument("--align", action="store_true",
                        help="of the minima plane: permute the other runs' units onto this one's first")  # fmt: skip


def variant(args: argparse.Namespace) -> str:
    if len(args.others) != 2:
        raise UsageError("--plane minima needs two other minima: --with RUN_B RUN_C (or RUN_B@STEP)")
    return ".".join([*_planes.other_names(args.others), *(["aligned"] if args.align else [])])


def plane(request: _planes.Request, variant: str) -> Any:
    from landscape.geometry.directions import minima_plane

    names = [request.store.name, *(name for name, _ in request.others)]
    states = [checkpoints[-1].state() for _, checkpoints in request.others]
    alignment = []
    if request.args.align:
        own = request.origin.state()
        for number, state in enumerate(states):
            states[number], told = _aligning.aligned(
                request.problem, own, state, seeds=SEEDS, seed=request.args.seed
            )
            alignment.append({"run": names[1 + number], **told})
    second, third = (request.problem.vector_from(state) for state in states)
    made = minima_plane(request.vector, second, third, names=names, step=request.origin.step, variant=variant)
    if alignment:
        made.info["alignment"] = alignment
    return made
