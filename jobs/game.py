"""Look at a game of two networks: Jacobian eigenvalues in the complex plane, losses and what the generator makes.

  landscape train ring_gan --optimizer adam --set lr=0.001 --set betas=[0.5,0.999] --steps 3000 --out runs/ring
  landscape game runs/ring
  mpirun -n 2 landscape game runs/ring --spectra
  mpirun -n 4 landscape game runs/ring --checkpoints 0:3000:500 --eigenvalues 20 --dtype float64

The Jacobian is that of every player's gradient of his own loss. With --spectra the Hessian of each player in his own
loss follows at the same checkpoints, as of `landscape spectrum runs/ring --weights 'generator.*'`: the page of games
shows both, and the job says whether a player's sharpness leads or follows the modes that are covered. A finished
checkpoint is on disk at once and is skipped when the job is started again.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from landscape.errors import UsageError

from . import _common, _other


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    _common.add_checkpoints(parser)
    group = parser.add_argument_group("game")
    group.add_argument("--eigenvalues", type=_common.positive, default=5, metavar="K",
                       help="of largest modulus, lowest and largest real part each (default: 5)")  # fmt: skip
    group.add_argument("--tolerance", type=_common.above_zero,
                       help="relative, of an eigenvalue (default: by precision)")  # fmt: skip
    group.add_argument("--no-cross", action="store_true", help="leave the size of the cross blocks out")
    group.add_argument("--kept-samples", type=_common.natural, default=500, metavar="N",
                       help="made samples kept in a record (default: 500)")  # fmt: skip
    group.add_argument("--recompute", action="store_true", help="keep no graphs between products: less memory, slower")
    group = parser.add_argument_group("the players' own spectra")
    group.add_argument("--spectra", action="store_true", help="densities and extreme eigenvalues of each player too")
    group.add_argument("--probes", type=_common.positive, default=2, help="of a density (default: 2)")
    group.add_argument("--iterations", type=_common.positive, default=40, help="of a density (default: 40)")
    group.add_argument("--top", type=_common.positive, default=5, help="largest eigenvalues (default: 5)")
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace) -> int:
    from landscape.distributed.parallel import world

    comm = world()
    store, checkpoints, game, decided = _opened(args, comm)
    with comm.together():
        todo = [c.step for c in checkpoints if not _common.finished(store, _key(c.step), decided, args.overwrite)]
    todo = comm.broadcast(todo)  # rank 0's view of the disk counts
    if todo:
        _compute(args, store, game, [c for c in checkpoints if c.step in todo], len(checkpoints), decided, comm)
    if args.spectra:
        _spectra(args, game, comm)
    if comm.rank == 0:
        for line in _summary(store, [c.step for c in checkpoints]):
            print(line)
    return 0


def _key(step: int) -> str:
    from landscape.records import game_key

    return game_key(step)


def _opened(args: argparse.Namespace, comm: Any) -> tuple[Any, list[Any], Any, dict[str, Any]]:
    from landscape.games.game import Game
    from landscape.loss.checkpoints import of_run
    from landscape.stores.run_directory import Run

    with comm.together():
        store = Run(args.run)
        checkpoints = of_run(store, args.checkpoints)
    problem, decided = _common.open_problem(store, args, comm)
    if not isinstance(problem, Game):
        raise _common.everywhere(UsageError(
            f"'{store.root}' was trained on '{decided['problem']}', which is no game: its build must return a "
            "landscape.games.game.Game, as ring_gan's does"
        ))  # fmt: skip
    if problem.block:
        raise _common.everywhere(UsageError("the Jacobian is of all players: leave --problem-set player=... out"))
    decided |= {"eigenvalues": args.eigenvalues, "tolerance": args.tolerance, "cross": not args.no_cross,
                "kept_samples": args.kept_samples}  # fmt: skip
    return store, checkpoints, problem, decided


def _compute(
    args: argparse.Namespace, store: Any, game: Any, missing: list[Any], total: int, decided: dict[str, Any], comm: Any
) -> None:
    from landscape.distributed.progress import Progress
    from landscape.evidence import evidence
    from landscape.games.standing import standings

    done = total - len(missing)
    progress = Progress("game", total, comm, unit="checkpoints", run=store, skipped=done)
    if done:
        progress.note(f"resume: {done} of {total} checkpoints found in {store.root}")
    options = {"count": args.eigenvalues, "samples": args.kept_samples, "cross": not args.no_cross, "seed": args.seed,
               "keep": not args.recompute, "tolerance": args.tolerance}  # fmt: skip
    with _common.counting(total, "checkpoints", done, progress) as counter:
        for record in standings(game, _common.usable(missing, comm, progress.note), comm, **options):
            with comm.together():
                if comm.rank == 0:
                    meta = evidence(comm.size, settings=decided) | record.meta
                    store.write(dataclasses.replace(record, meta=meta))
            counter.done += 1
            progress.update(counter.done, step=record.step)


def _spectra(args: argparse.Namespace, game: Any, comm: Any) -> None:
    """Of every player's block; vectors are left out, for no plane of a game is spanned by them."""
    common = [args.run, "--checkpoints", args.checkpoints, "--probes", args.probes, "--iterations", args.iterations,
              "--top", args.top, "--seed", args.seed, "--no-vectors",
              *_other.given(args, "problem", "samples", "dtype", "device", "threads"),
              *_other.settings("--problem-set", dict(args.problem_set)),
              *(["--overwrite"] if args.overwrite else [])]  # fmt: skip
    for player in game.players:
        _other.run("spectrum", [*common, "--weights", f"{player}.*"], comm)


def _summary(store: Any, steps: Sequence[int]) -> list[str]:
    found = [store.read(_key(s)) for s in steps if store.has(_key(s))]
    lines = [f"{store.root}: {len(found)} checkpoints of a game of {' and '.join(found[-1].players)}"] if found else []
    for record in dict.fromkeys([r.step for r in found[:1] + found[-1:]]):
        lines.append(_line(next(r for r in found if r.step == record)))
    return lines + _leads(store, found)


def _line(record: Any) -> str:
    losses = ", ".join(f"{p} {value:.4g}" for p, value in zip(record.players, record.losses, strict=True))
    modes = record.metric("modes")
    missed = f"; not converged: {', '.join(record.meta['missed'])}" if record.meta.get("missed") else ""
    turning = max(abs(record.imaginary), default=0.0)
    return (
        f"  step {record.step}: losses {losses}" + (f"; {modes:.0f} modes" if modes is not None else "")
        + f"; eigenvalues of the Jacobian: modulus up to {max(abs(record.eigenvalues), default=0.0):.4g}, real part "
        f"{min(record.real, default=0.0):.4g} to {max(record.real, default=0.0):.4g}, imaginary part up to "
        f"{turning:.4g}{missed}"
    )  # fmt: skip


def _leads(store: Any, found: Sequence[Any]) -> list[str]:
    """What became of the modes, and whether a player's sharpness leads them, by the spectra of his block."""
    import numpy as np

    from landscape.readings.history import MODES, history, leading
    from landscape.records import eigenpairs_key

    past = history(found, {})
    if past is None or past.collapse is None:
        return []
    lines = [f"  {past.collapse.told(past.total)}"]
    for player in past.players:
        keys = {s: eigenpairs_key(f"hessian[{player}.*]", s) for s in map(int, past.curves[MODES][0])}
        have = {s: store.read(key).values for s, key in keys.items() if store.has(key)}
        tops = {s: float(values[0]) for s, values in have.items() if len(values)}
        told = leading((np.array(list(tops)), np.array(list(tops.values()))), past.curves[MODES])
        if told is not None:
            lines.append(f"  {told.told(f'the sharpness of the {player}', 'the number of modes')}")
    return lines
