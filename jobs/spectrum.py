"""Compute spectral densities and extreme eigenpairs of the Hessian or another operator at a run's checkpoints.

  landscape spectrum runs/adam --top 10 --probes 4 --iterations 50
  mpirun -n 4 landscape spectrum runs/adam --checkpoints 0,100,200 --dtype float64
  landscape spectrum runs/adam --operator preconditioned
  landscape spectrum runs/adam --weights '0.*'
  landscape spectrum runs/adam --samples 512 --halves

Ranks share the data; the numbers do not depend on how many there are. A finished checkpoint is on disk at once and is
skipped when the job is started again.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from landscape.errors import ProblemError

from . import _common, _halves

Work = list[tuple[Any, list[Any]]]  # (problem restricted to a block of weights, checkpoints to compute)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    _common.add_checkpoints(parser)
    group = _common.add_spectrum(parser)
    _halves.add_arguments(parser)
    group.add_argument("--no-vectors", action="store_true", help="keep no eigenvectors: saves disk, no eigen plane")
    block = group.add_mutually_exclusive_group()
    block.add_argument("--weights", metavar="PATTERN", action="append", default=[],
                       help="only the block of these weights, e.g. '0.*' or '*.bias'; repeat for more")  # fmt: skip
    block.add_argument("--per-layer", action="store_true", help="the block of every layer in turn")
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape.checkpoints import of_run
    from landscape.curvature import check_operator
    from landscape.parallel import world
    from landscape.stores.run_directory import Run

    comm = world()
    with comm.together():
        store = Run(args.run)
        check_operator(args.operator)
        checkpoints = of_run(store, args.checkpoints)
    problem, decided = _common.open_problem(store, args, comm)
    decided |= _common.spectrum_options(args)
    with comm.together():
        blocks = _blocks(args, problem)
        todo = [
            [c.step for c in checkpoints if args.overwrite or not _finished(store, _name(args, b), c.step, decided)]
            for b in blocks
        ]
    todo = comm.broadcast(todo)  # rank 0's view of the disk counts
    work = [(b, [c for c in checkpoints if c.step in steps]) for b, steps in zip(blocks, todo, strict=True)]
    refused = _compute(args, store, comm, work, len(checkpoints) * len(blocks), decided)
    _halves.compute(args, store, comm, blocks, checkpoints, decided)
    if comm.rank == 0:
        for block in blocks:
            print(_summary(store, _name(args, block), [c.step for c in checkpoints]))
    if refused:
        text = f"{len(refused)} of {len(checkpoints)} checkpoints were skipped. {refused[0]}"
        raise _common.everywhere(ProblemError(text))
    return 0


def _blocks(args: argparse.Namespace, problem: Any) -> list[Any]:
    """The problem itself, or restricted to the weights that are asked for."""
    if args.per_layer:
        return [problem.restricted(layer) for layer in problem.layers()]
    return [problem.restricted(*args.weights)] if args.weights else [problem]


def _name(args: argparse.Namespace, problem: Any) -> str:
    from landscape.combination import named

    return named(args.operator, problem.block)


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
    args: argparse.Namespace, store: Any, comm: Any, work: Work, total: int, decided: dict[str, Any]
) -> list[str]:  # fmt: skip
    from landscape.evidence import evidence
    from landscape.progress import Progress
    from landscape.spectrum import spectra

    done = total - sum(len(missing) for _, missing in work)
    progress = Progress("spectrum", total, comm, unit="checkpoints", run=store, skipped=done)
    if done:
        progress.note(f"resume: {done} of {total} checkpoints found in {store.root}")
    refused: list[str] = []
    expected = 4 + args.probes * args.iterations

    def on_matvecs(step: int, matvecs: int) -> None:
        progress.update(counter.done + min(0.95, matvecs / expected), step=step, matvecs=matvecs)

    with _common.counting(total, "checkpoints", done, progress) as counter:
        options = _common.spectrum_options(args) | {"on_matvecs": on_matvecs, "seed": args.seed}
        for problem, missing in work:
            ready = _ready(args.operator, problem, missing, comm, progress.note, total // len(work))
            counter.total = progress.total = counter.total - len(missing) + len(ready)
            usable = _common.usable(ready, comm, progress.note, refused)
            for spectrum, eigenpairs in spectra(problem, usable, comm, **options):
                made = evidence(comm.size, settings=decided)
                if args.no_vectors:
                    eigenpairs = dataclasses.replace(eigenpairs, vectors=None)
                for record in (eigenpairs, spectrum) if comm.rank == 0 else ():
                    store.write(dataclasses.replace(record, meta=made | record.meta))
                counter.done += 1
                expected = spectrum.meta["matvecs"]
                sharpness = float(eigenpairs.values[0]) if len(eigenpairs.values) else float("nan")
                progress.update(counter.done, step=spectrum.step, sharpness=sharpness)
    return list(dict.fromkeys(refused))


def _ready(
    operator: str, problem: Any, checkpoints: Sequence[Any], comm: Any, note: Callable[[str], None], asked: int
) -> list[Any]:
    """The checkpoints that hold what the operator needs: an optimizer has no second moments before its first step.

    Raises:
        ProblemError: none of the `asked` ones does.
    """
    from landscape.curvature import check_checkpoint

    ready: list[Any] = []
    reasons: list[str] = []
    with comm.together():
        for checkpoint in checkpoints:
            try:
                check_checkpoint(operator, problem, checkpoint)
                ready.append(checkpoint)
            except ProblemError as error:
                reasons.append(str(error))
        if reasons and len(reasons) == asked:
            raise ProblemError(reasons[0])
    for reason in reasons:
        note(f"skipped: {reason}")
    steps = comm.broadcast([c.step for c in ready])
    return [c for c in checkpoints if c.step in steps]


def _summary(store: Any, operator: str, steps: Sequence[int]) -> str:
    from landscape.smoothing import automatic
    from landscape.stores.run_directory import eigenpairs_key, spectrum_key

    found = [s for s in steps if store.has(eigenpairs_key(operator, s))]
    tops = [(s, store.read(eigenpairs_key(operator, s)).values) for s in dict.fromkeys(found[:1] + found[-1:])]
    shown = ", ".join(f"{values[0]:.4g} at step {step}" for step, values in tops if len(values))
    last = _bounds(store, operator, found[-1]) + _halves.summary(store, operator, found) if found else ""
    have = [store.read(spectrum_key(operator, s)) for s in found if store.has(spectrum_key(operator, s))]
    last += f"; drawn with kernels of width {automatic(have).text} in asinh(eigenvalue/0.001)" if have else ""
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
