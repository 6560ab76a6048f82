"""Compute spectral densities and extreme eigenpairs of the Hessian or another operator at a run's checkpoints.

  landscape spectrum runs/adam --top 10 --probes 4 --iterations 50
  mpirun -n 4 landscape spectrum runs/adam --checkpoints 0,100,200 --dtype float64
  landscape spectrum runs/adam --operator preconditioned
  landscape spectrum runs/adam --weights '0.*'
  landscape spectrum runs/adam --eigenpairs --top 5
  landscape spectrum runs/adam --samples 512 --halves

Groups of ranks take checkpoints as they get free, the ranks of a group share the data, and the numbers do not depend on
how many there are; the job prints its plan. A finished checkpoint is on disk at once and is skipped when the job is
started again; inside a checkpoint it goes on from the last state saved.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from landscape.errors import ProblemError, UsageError

from . import _common, _grid, _halves

Records = tuple[Any, ...]  # of a checkpoint: eigenpairs, then the spectrum unless only eigenpairs are asked for
Work = list[tuple[Any, list[Any]]]  # (problem restricted to a block of weights, checkpoints to compute)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    _common.add_checkpoints(parser)
    group = _common.add_spectrum(parser)
    _halves.add_arguments(parser)
    group.add_argument("--no-vectors", action="store_true", help="keep no eigenvectors: saves disk, no eigen plane")
    group.add_argument("--eigenpairs", action="store_true",
                       help="eigenpairs alone, no density: about 30 products for ten (tolerance: 1e-4)")  # fmt: skip
    group.add_argument("--missed", metavar="P",
                       type=_common.number_that("a probability above 0, at most 1", lambda p: 0 < p <= 1),
                       help="with --eigenpairs: stop when one is missing with at most this probability; 1 leaves the "
                       "check out (default: 0.01)")  # fmt: skip
    group.add_argument("--save-every", type=float, metavar="SECONDS", default=300.0,
                       help="seconds between two states saved inside a checkpoint (default: 300)")  # fmt: skip
    block = group.add_mutually_exclusive_group()
    block.add_argument("--weights", metavar="PATTERN", action="append", default=[],
                       help="only the block of these weights, e.g. '0.*' or '*.bias'; repeat for more")  # fmt: skip
    block.add_argument("--per-layer", action="store_true", help="the block of every layer in turn")
    _common.add_problem(parser)
    _common.add_computing(parser)
    _grid.add_arguments(parser)


def run(args: argparse.Namespace, comm: Any = None) -> int:
    """Compute with the ranks of `comm` (all ranks of the job)."""
    from landscape.distributed.parallel import world

    comm = comm or world()
    store, checkpoints = _common.open_checkpoints(args, comm)
    problem, decided = _common.open_problem(store, args, comm)
    with comm.together():
        decided |= _options(args)
        blocks = _blocks(args, problem)
        todo = [
            [c.step for c in checkpoints if args.overwrite or not _finished(store, args, b, c.step, decided)]
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
    from landscape.engine.combination import named

    return named(args.operator, problem.block)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """What decides the numbers: of `spectrum_at`, or with --eigenpairs of `eigenpairs_at`."""
    options = _common.spectrum_options(args)
    if not args.eigenpairs:
        if args.missed is not None:
            raise UsageError("--missed is for --eigenpairs: with a density the check costs three products")
        return options
    tolerance = 1e-4 if args.tolerance is None else args.tolerance
    asked = {} if args.missed is None else {"missed": args.missed}
    return {name: options[name] for name in ("operator", "top", "bottom")} | {"tolerance": tolerance} | asked


def _keys(args: argparse.Namespace, problem: Any, step: int) -> list[str]:
    """The records of a checkpoint, the one that is written last first."""
    from landscape.records import eigenpairs_key, spectrum_key

    operator = _name(args, problem)
    pairs = eigenpairs_key(operator, step)
    return [pairs] if args.eigenpairs else [spectrum_key(operator, step), pairs]


def _finished(store: Any, args: argparse.Namespace, problem: Any, step: int, decided: dict[str, Any]) -> bool:
    from landscape.evidence import check_settings

    keys = _keys(args, problem, step)
    if not all(store.has(key) for key in keys):
        return False
    operator = _name(args, problem)
    what = f"the {operator} spectrum of '{store.root}' at step {step}"
    check_settings(what, store.meta(keys[0])["meta"].get("settings"), decided)
    return True


def _compute(
    args: argparse.Namespace, store: Any, comm: Any, work: Work, total: int, decided: dict[str, Any]
) -> list[str]:  # fmt: skip
    """Spectra of all checkpoints that lack them; returns why some were refused."""
    from landscape.distributed.progress import Progress
    from landscape.distributed.tasks import Tasks

    done = total - sum(len(missing) for _, missing in work)
    progress = Progress("spectrum", total, comm, unit="checkpoints", run=store, skipped=done)
    if done:
        progress.note(f"resume: {done} of {total} checkpoints found in {store.root}")
    with _common.counting(total, "checkpoints", done, progress) as counter:
        ready = [
            (number, checkpoint) for number, (problem, missing) in enumerate(work)
            for checkpoint in _ready(args.operator, problem, missing, comm, progress.note, total // len(work))
        ]  # fmt: skip
        counter.total = progress.total = done + len(ready)
        if not ready:
            return []
        plan = _grid.planned(args, [problem for problem, _ in work], comm, len(ready), progress)
        tasks = Tasks(ready, comm, plan.groups)

        def update(share: float = 0.0, **numbers: Any) -> None:
            counter.done = done + tasks.finished()
            progress.update(min(counter.done + share, counter.total), **numbers)

        job = _Job(args, store, tasks, plan, decided, progress.note, update)
        for made in job.records(work):
            if tasks.group.rank == 0:
                _keep(store, made, args, {"settings": decided, "plan": plan.as_dict()}, comm.size)
        tasks.close(update)  # other groups may still be at work
        refused = list(job.refused)
        for reason in dict.fromkeys(r for found in comm.gather(job.refused) for r in found if r not in job.refused):
            progress.note(f"warning: {reason}")
            refused.append(reason)
    return list(dict.fromkeys(refused))


class _Job:
    """What this rank's group of ranks computes: the records of every checkpoint that it draws."""

    def __init__(
        self, args: argparse.Namespace, store: Any, tasks: Any, plan: Any, decided: dict[str, Any],
        note: Callable[[str], None], update: Callable[..., None],
    ) -> None:  # fmt: skip
        self.args, self.store, self.tasks, self.group, self.plan = args, store, tasks, tasks.group, plan
        self.decided, self.note, self.update = decided, note, update
        self.refused: list[str] = []
        self.expected = 5 * args.top if args.eigenpairs else args.probes * args.iterations

    def records(self, work: Work) -> Iterator[Records]:
        """The records of each checkpoint, the one to be written last at the end, with what the group sent for it."""
        from landscape.engine.checks import told
        from landscape.engine.spectrum import eigenpairs, spectra

        free = self.plan.memory - self.plan.basis_bytes - self.plan.other_bytes
        turns = self.plan.rounds
        options = _options(self.args) | {
            "seed": self.args.seed, "on_matvecs": self._on_matvecs,
            "products": _common.products_of(self.args, self.expected, turns, self.note, free, self.plan.block),
        }
        compute: Any = eigenpairs if self.args.eigenpairs else spectra
        if not self.args.eigenpairs:
            options["block"] = self.plan.block
        for number, drawn in groupby(self.tasks, key=lambda task: task[0]):
            problem = work[number][0]
            usable = _common.usable((checkpoint for _, checkpoint in drawn), self.group, self.note, self.refused)
            before = self.group.traffic.copy()
            for result in compute(problem, usable, self.group, keeper_at=self._keeper(problem), **options):
                records = (result,) if self.args.eigenpairs else result[::-1]
                sent, before = self.group.traffic.since(before).a_product(), self.group.traffic.copy()
                pairs = records[0]
                self.expected = pairs.meta["matvecs"]
                if "self_check" in pairs.meta:
                    self.note(f"self-check: {told(pairs.meta['self_check'])}")
                place = {"layer": number} if self.args.per_layer else {}  # in the order of the model
                yield tuple(dataclasses.replace(r, meta=r.meta | {"traffic": sent} | place) for r in records)
                if self.group.rank == 0:
                    sharpness = float(pairs.values[0]) if len(pairs.values) else float("nan")
                    self.update(1.0, step=pairs.step, sharpness=sharpness)

    def _on_matvecs(self, step: int, matvecs: int) -> None:
        if self.group.rank == 0:
            self.update(min(0.95, matvecs / self.expected), step=step, matvecs=matvecs)

    def _keeper(self, problem: Any) -> Callable[[int], Any]:
        """What saves the state inside a checkpoint, by its step."""
        from landscape.cli import deferring
        from landscape.engine.saving import Keeper
        from landscape.stores.states import States

        def keeper(step: int) -> Keeper:
            saved = States(self.store, _keys(self.args, problem, step)[0], self.group)
            return Keeper(self.group, saved, self.args.save_every, deferring, self.note, self.decided)

        return keeper


def _keep(store: Any, made: Records, args: argparse.Namespace, numbers: dict[str, Any], ranks: int) -> None:
    from landscape.evidence import evidence
    from landscape.readings.stability import threshold

    pairs, *others = made
    if args.no_vectors:
        pairs = dataclasses.replace(pairs, vectors=None)
    for record in (pairs, *others):
        slope = record.meta.get("gradient", {}).get("norm")
        limit = dataclasses.asdict(threshold(store.info, record.operator, record.step, slope))
        meta = evidence(ranks, **numbers, threshold=limit) | record.meta
        store.write(dataclasses.replace(record, meta=meta))


def _ready(
    operator: str, problem: Any, checkpoints: Sequence[Any], comm: Any, note: Callable[[str], None], asked: int
) -> list[Any]:
    """The checkpoints that hold what the operator needs: an optimizer has no second moments before its first step.

    Raises:
        ProblemError: none of the `asked` ones does.
    """
    from landscape.engine.curvature import check_checkpoint

    ready: list[Any] = []
    reasons: list[str] = []
    with comm.together():
        for checkpoint in checkpoints:
            try:
                checkpoint.fit(problem)
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
    from landscape.readings.smoothing import automatic
    from landscape.records import eigenpairs_key, spectrum_key

    found = [s for s in steps if store.has(eigenpairs_key(operator, s))]
    tops = [(s, store.read(eigenpairs_key(operator, s)).values) for s in dict.fromkeys(found[:1] + found[-1:])]
    shown = ", ".join(f"{values[0]:.4g} at step {step}" for step, values in tops if len(values))
    last = _bounds(store, operator, found[-1]) + _halves.summary(store, operator, found) if found else ""
    last += _doubts(store, operator, found)
    have = [store.read(spectrum_key(operator, s)) for s in found if store.has(spectrum_key(operator, s))]
    last += f"; drawn with kernels of width {automatic(have).text} in asinh(eigenvalue/0.001)" if have else ""
    return f"{store.root}: {len(found)} {operator} spectra" + (f"; sharpness {shown}" if shown else "") + last


def _doubts(store: Any, operator: str, steps: Sequence[int]) -> str:
    """What the eigenpairs of the last step lack, and at how many steps any lack something."""
    from landscape.readings.completeness import doubts
    from landscape.records import eigenpairs_key

    told = {step: text for step in steps if (text := doubts(store.read(eigenpairs_key(operator, step))))}
    others = f", and so at {len(told) - 1} other steps" if len(told) > 1 else ""
    return f"; warning: at step {max(told)} {told[max(told)]}{others}" if told else ""


def _bounds(store: Any, operator: str, step: int) -> str:
    """Trace and signs at the last step, each with its 95 % interval."""
    from landscape.readings import bounds
    from landscape.readings.shares import in_percent
    from landscape.records import spectrum_key

    if not store.has(spectrum_key(operator, step)):
        return ""
    spectrum = store.read(spectrum_key(operator, step))
    trace, level = bounds.trace(spectrum), 3 * bounds.noise_level(spectrum)
    share = bounds.signs(spectrum, level).negative
    low, high = in_percent(share.low), in_percent(share.high)
    return (
        f"; at step {step} trace {trace.value:.4g} ± {trace.half:.2g} (95 %), "
        f"{low if low == high else f'{low} to {high}'} % of eigenvalues below -{level:.1g}"
    )
