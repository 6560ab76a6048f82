"""Sampling error bars of `landscape spectrum`: the same operator on disjoint parts of the samples."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from landscape.errors import UsageError

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling error")
    group.add_argument("--error-bars", action="store_true",
                       help="sampling errors of the eigenvalues from up to 16 disjoint parts of the samples: costs one "
                            "product of every eigenvector, a few percent more time")  # fmt: skip
    group.add_argument("--halves", action="store_true",
                       help="these, and the spectra of two disjoint class-balanced halves of the samples, for errors "
                            "of trace and density and the bias of the edges: about twice the time in all")  # fmt: skip


def compute(
    args: argparse.Namespace, store: Any, comm: Any, problems: Sequence[Any], checkpoints: Sequence[Any],
    decided: dict[str, Any],
) -> None:  # fmt: skip
    """One record of kind `halves` for every checkpoint with a spectrum; a finished one, or half, is not made again.

    Raises:
        UsageError: only eigenvalues are asked for, and there are no eigenvectors.
    """
    if not (args.halves or args.error_bars):
        return
    if args.no_vectors and not args.halves:
        raise _common.everywhere(UsageError("--error-bars needs the eigenvectors: leave out --no-vectors, or take "
                                            "--halves, which does without"))  # fmt: skip
    if args.eigenpairs and args.halves:
        raise _common.everywhere(UsageError("--halves compares densities, and --eigenpairs computes none: leave one of "
                                            "them out, or take --error-bars"))  # fmt: skip
    from landscape.distributed.progress import Progress
    from landscape.engine.combination import named

    with comm.together():
        todo = [[c.step for c in checkpoints if _missing(args, store, named(args.operator, p.block), c.step, decided)]
                for p in problems]  # fmt: skip
    todo = comm.broadcast(todo)  # rank 0's view of the disk counts
    total = sum(map(len, todo))
    if not total:
        return
    progress = Progress("halves", total, comm, unit="checkpoints", run=store)
    with _common.counting(total, "checkpoints", 0, progress) as counter:
        for problem, steps in zip(problems, todo, strict=True):
            for checkpoint in (c for c in checkpoints if c.step in steps):
                record = _record(args, store, comm, problem, checkpoint, decided)
                if comm.rank == 0:
                    store.write(record)
                counter.done += 1
                progress.update(counter.done, step=checkpoint.step)


def _missing(args: argparse.Namespace, store: Any, operator: str, step: int, decided: dict[str, Any]) -> bool:
    from landscape.evidence import normalised
    from landscape.records import eigenpairs_key, halves_key

    key = halves_key(operator, step)
    if not store.has(eigenpairs_key(operator, step)):
        return False  # the checkpoint was skipped
    if args.overwrite or not store.has(key):
        return True
    old = store.meta(key)["meta"]
    kinds = {"halves"} if args.halves else {"parts"}
    return old.get("settings") != normalised(decided) or not kinds <= set(old)  # old ones of an older spectrum


def _record(
    args: argparse.Namespace, store: Any, comm: Any, problem: Any, checkpoint: Any, decided: dict[str, Any]
) -> Any:  # fmt: skip
    from landscape.engine.combination import named
    from landscape.engine.halves import halves_at
    from landscape.evidence import evidence
    from landscape.records import eigenpairs_key, halves_key

    name, step = named(args.operator, problem.block), checkpoint.step
    parts = _common.Parts(store, halves_key(name, step), decided)
    with comm.together():
        checkpoint.load_into(problem)
        known = (store.read(eigenpairs_key(name, step), large=True), parts.read()) if comm.rank == 0 else None
    pairs, finished = comm.broadcast(known)

    def keep(number: int, half: dict[str, Any]) -> None:
        if comm.rank == 0:
            parts.write(number, half)

    found = halves_at(
        problem, problem.weights(), comm, spectra=args.halves, vectors=pairs.vectors, seed=args.seed, step=step,
        finished={} if args.overwrite else finished, on_half=keep, checkpoint=checkpoint,
        **_common.spectrum_options(args) | {"top": len(pairs.values), "bottom": len(pairs.lowest_values)},
    )  # fmt: skip
    return dataclasses.replace(found, meta=evidence(comm.size, settings=decided) | found.meta)


def summary(store: Any, operator: str, steps: Sequence[int]) -> str:
    """Sampling errors at the last step that has them."""
    from landscape.readings import sampling
    from landscape.records import eigenpairs_key, halves_key

    with_halves = [s for s in steps if store.has(halves_key(operator, s))]
    if not with_halves:
        return ""
    step = with_halves[-1]
    halves, pairs = store.read(halves_key(operator, step)), store.read(eigenpairs_key(operator, step))
    if not sampling.fits(halves, pairs):
        return ""
    found = sampling.sampling(halves, pairs)
    shift = sampling.shift_text(found.sharpness_shift, float(pairs.values[0])) if len(pairs.values) else ""
    parts = [
        f"sharpness ± {found.sharpness:.2g}" if found.sharpness == found.sharpness else "",
        f"trace ± {found.trace:.2g} (rough)" if found.trace == found.trace else "",
    ]
    text = ", ".join(p for p in parts if p)
    return f"; sampling error of {found.samples:,} samples at step {step}: {text}" + (f"; {shift}" if shift else "")
