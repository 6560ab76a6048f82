"""Memory a rank: the Krylov basis by its bytes, and the peak of a whole density run.

  landscape bench memory
  landscape bench memory --size 1000000 --iterations 49 --ranks 1 2 4

m counts all vectors that are stored: those multiplied, and the block that waits to be, of which residuals are made and
a search that goes on. The operator is diagonal, so that the basis is all there is; what products of a network need is
in `landscape bench hvp`. It starts `mpirun -n P landscape bench memory` for every P itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from ._tables import Row, Table

BLOCK = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=_common.positive, default=1_000_000, help="weights (default: 1000000)")
    parser.add_argument("--iterations", type=_common.positive, default=49,
                        help="of blocks of 4 (default: 49; 200 vectors with the block that waits)")  # fmt: skip
    parser.add_argument("--ranks", type=_common.positive, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.size, args.iterations = min(args.size, 100_000), min(args.iterations, 10)
    columns = {
        "weights": ",d", "products": "d", "vectors": "d", "ranks": "d", "basis a rank, MB": ".1f",
        "4 m n / P, MB": ".1f", "basis vectors held": "d", "peak above start, MB": ".1f", "peak / basis": ".2f",
    }  # fmt: skip
    note = "The largest of all ranks; peak resident memory of the run, gathering the eigenvectors included."
    yield Table("Memory of a density of a diagonal operator, float32", columns, _rows(args), note)


def _rows(args: argparse.Namespace) -> Iterator[Row]:
    from ._launching import on_ranks

    vectors = BLOCK * (args.iterations + 1)
    for ranks in args.ranks:
        words = ["memory", "--size", args.size, "--iterations", args.iterations, "--seed", args.seed]
        found = on_ranks(ranks, [*words, "--threads", args.threads])
        peak = found["peak"]
        yield (
            args.size, BLOCK * args.iterations, vectors, ranks, found["basis"] / 1e6,
            4 * vectors * args.size / ranks / 1e6, found["held"],
            None if peak is None else peak / 1e6, None if peak is None else peak / found["basis"],
        )  # fmt: skip


def work(args: argparse.Namespace, comm: Any) -> None:
    """Run on this communicator; rank 0 writes the largest numbers of all ranks."""
    import torch

    from landscape.engine.spectrum import spectrum_at

    from . import _spectra, _timing
    from ._launching import answer

    problem = _spectra.diagonal_problem(_spectra.synthetic(args.size, few=10)).to(dtype=torch.float32)
    bases: list[tuple[int, int]] = [(0, 0)]
    theta = problem.weights()
    known = _timing.reset_peak() is not None
    before = _timing.peak_resident() or 0
    spectrum_at(
        problem, theta, comm, iterations=args.iterations, seed=args.seed, check=False, tolerance=1.0,
        on_matvecs=lambda matvecs: bases.append(_held()) if matvecs == BLOCK else None,
    )  # fmt: skip
    peak = (_timing.peak_resident() or 0) - before if known else None
    found = comm.gather((*max(bases), peak))
    basis, held, highest = (max(values) if None not in values else None for values in zip(*found, strict=True))
    answer(args.worker, comm.rank, {"basis": basis, "held": held, "peak": highest})


def _held() -> tuple[int, int]:
    """Bytes and vectors of the largest Krylov basis that is alive: measured, not computed from its shape."""
    import gc

    from landscape.krylov.lanczos import BlockLanczos

    spaces = [found for found in gc.get_objects() if isinstance(found, BlockLanczos)]
    return max(((space.basis.nbytes, len(space.basis)) for space in spaces), default=(0, 0))
