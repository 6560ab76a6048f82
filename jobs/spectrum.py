"""Compute spectral densities and extreme eigenpairs of the Hessian at a run's checkpoints.

  landscape spectrum runs/adam --top 10 --probes 4 --iterations 50
  mpirun -n 4 landscape spectrum runs/adam --checkpoints 0,100,200 --dtype float64

Ranks share the data; the numbers do not depend on how many there are. A finished checkpoint is on disk at once and is
skipped when the job is started again.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from landscape.errors import ProblemError

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    _common.add_checkpoints(parser)
    group = _common.add_spectrum(parser)
    group.add_argument("--no-vectors", action="store_true", help="keep no eigenvectors: saves disk, no eigen plane")
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape import plugins
    from landscape.checkpoints import of_run
    from landscape.parallel import world
    from landscape.stores.run_directory import Run

    comm = world()
    with comm.together():
        store = Run(args.run)
        plugins.load("landscape.operators", args.operator)
        checkpoints = of_run(store, args.checkpoints)
    problem, decided = _common.open_problem(store, args, comm)
    decided |= _common.spectrum_options(args)
    with comm.together():
        steps = [c.step for c in checkpoints if args.overwrite or not _finished(store, args.operator, c.step, decided)]
    steps = comm.broadcast(steps)  # rank 0's view of the disk counts
    missing = [c for c in checkpoints if c.step in steps]
    refused = _compute(args, store, problem, comm, missing, len(checkpoints), decided)
    if comm.rank == 0:
        print(_summary(store, args.operator, [c.step for c in checkpoints]))
    if refused:
        text = f"{len(refused)} of {len(checkpoints)} checkpoints were skipped. {refused[0]}"
        raise _common.everywhere(ProblemError(text))
    return 0


def _finished(store: Any, operator: str, step: int, decided: dict[str, Any]) -> bool:
    from landscape.evidence import check_settings
    from landscape.stores.run_directory import eigenpairs_key, spectrum_key

    keys = (spectrum_key(operator, step), eigenpairs_key(operator, step))
    if not all(store.has(key) for key in keys):
        return False
    what = f"the {operator} spectrum of '{store.root}' at step {step}"
    check_settings(what, store.meta(keys[0])["meta"].get("settings"), decided)
    return True


def _compute(
    args: argparse.Namespace, store: Any, problem: Any, comm: Any, missing: Sequence[Any], total: int,
    decided: dict[str, Any],
) -> list[str]:  # fmt: skip
    from landscape.evidence import evidence
    from landscape.progress import Progress
    from landscape.spectrum import spectra

    done = total - len(missing)
    progress = Progress("spectrum", total, comm, unit="checkpoints", run=store, skipped=done)
    if done:
        progress.note(f"resume: {done} of {total} checkpoints found in {store.root}")
    refused: list[str] = []
    expected = 4 + args.probes * args.iterations

    def on_matvecs(step: int, matvecs: int) -> None:
        progress.update(counter.done + min(0.95, matvecs / expected), step=step, matvecs=matvecs)

    with _common.counting(total, "checkpoints", done, progress) as counter:
        usable = _common.usable(missing, comm, progress.note, refused)
        options = _common.spectrum_options(args)
        for spectrum, eigenpairs in spectra(problem, usable, comm, on_matvecs=on_matvecs, seed=args.seed, **options):
            made = evidence(comm.size, settings=decided)
            if args.no_vectors:
                eigenpairs = dataclasses.replace(eigenpairs, vectors=None)
            for record in (eigenpairs, spectrum) if comm.rank == 0 else ():
                store.write(dataclasses.replace(record, meta=made | record.meta))
            counter.done += 1
            expected = spectrum.meta["matvecs"]
            sharpness = float(eigenpairs.values[0]) if len(eigenpairs.values) else float("nan")
            progress.update(counter.done, step=spectrum.step, sharpness=sharpness)
    return refused


def _summary(store: Any, operator: str, steps: Sequence[int]) -> str:
    from landscape.stores.run_directory import eigenpairs_key

    found = [s for s in steps if store.has(eigenpairs_key(operator, s))]
    tops = [(s, store.read(eigenpairs_key(operator, s)).values) for s in (found[:1] + found[-1:])]
    shown = ", ".join(f"{values[0]:.4g} at step {step}" for step, values in tops if len(values))
    last = _bounds(store, operator, found[-1]) if found else ""
    return f"{store.root}: {len(found)} {operator} spectra" + (f"; sharpness {shown}" if shown else "") + last


def _bounds(store: Any, operator: str, step: int) -> str:
    """Trace and signs at the last step, each with its 95 % interval."""
    from landscape import bounds
    from landscape.stores.run_directory import spectrum_key

    if not store.has(spectrum_key(operator, step)):
        return ""
    spectrum = store.read(spectrum_key(operator, step))
    trace, level = bounds.trace(spectrum), 3 * bounds.noise_level(spectrum)
    share = bounds.signs(spectrum, level).negative
    return (
        f"; at step {step} trace {trace.value:.4g} ± {trace.half:.2g} (95 %), "
        f"{100 * share.low:.2g} to {100 * share.high:.2g} % of eigenvalues below -{level:.1g}"
    )
