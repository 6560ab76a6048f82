"""Zeros, group norms and dead units at a run's checkpoints, and what single weights are worth: w^2 H_ii / 2.

  landscape structure runs/sparse
  mpirun -n 4 landscape structure runs/sparse --saliency 600 --probes 200
  landscape structure runs/sparse --saliency none --threshold 1e-3

A group is a row of a weight matrix (a neuron, a filter); it is dead when all its weights lie within --threshold of
zero. Checkpoints are shared among the ranks; at --saliency all of them share the data of every product with the
Hessian, whose diagonal is Hutchinson's estimate with its standard error, or exact once --probes reaches the number of
weights. Of a low-rank training (dlrt) the record has ranks and singular values and, after `landscape spectrum
--eigenpairs`, the parts of the top eigenvectors along which the ranks stay (--overwrite adds them later). Of a run of
dessilbi it also writes the inverse scale space path: the step at which every weight or filter enters the sparse copy.
What is finished is skipped by the same command, inside the diagonal too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    _common.add_checkpoints(parser)
    group = parser.add_argument_group("structure")
    group.add_argument("--tolerance", type=float, default=1e-6, help="of a small weight (default: 1e-6)")
    group.add_argument("--threshold", type=float, default=1e-4, help="of a dead group's weights, and of those that the "
                       "optimizer's own read-out may set to zero (default: 1e-4)")  # fmt: skip
    group = parser.add_argument_group("saliency")
    group.add_argument("--saliency", default="last", metavar="WHICH", help="checkpoints, or none (default: last)")
    group.add_argument("--operator", default="hessian", help="of landscape/operators (default: hessian)")
    group.add_argument("--probes", type=_common.positive, default=100, help="random signs (default: 100)")
    group.add_argument("--points", type=_common.positive, default=50_000,
                       help="weights kept; of larger networks a sample (default: 50,000)")  # fmt: skip
    group.add_argument("--block", type=_common.positive, default=4, help="probes multiplied at once (default: 4)")
    _common.add_strategy(group)
    _common.add_problem(parser)
    _common.add_computing(parser)


def run(args: argparse.Namespace, comm: Any = None) -> int:
    """Compute with the ranks of `comm` (all ranks of the job)."""
    from landscape.distributed.parallel import world
    from landscape.loss.checkpoints import of_run

    comm = comm or world()
    store, checkpoints = _common.open_checkpoints(args, comm)
    with comm.together():
        weighed = [] if args.saliency == "none" else of_run(store, args.saliency)
    problem, decided = _common.open_problem(store, args, comm)
    _structures(args, store, comm, problem, checkpoints, decided)
    _scale_space(args, store, comm, checkpoints)
    for checkpoint in weighed:
        _saliency(args, store, comm, problem, checkpoint, decided)
    comm.barrier()
    if comm.rank == 0:
        print(_summary(store, [c.step for c in checkpoints], [c.step for c in weighed], args))
    return 0


# ---------------------------------------------------------------------- by checkpoint


def _structures(
    args: argparse.Namespace, store: Any, comm: Any, problem: Any, checkpoints: list[Any], decided: dict[str, Any]
) -> None:
    from landscape.distributed.parallel import Comm
    from landscape.distributed.progress import Progress
    from landscape.networks.symmetries import symmetries_of
    from landscape.records import structure_key

    chosen = {k: decided[k] for k in ("problem", "problem_settings")}
    chosen |= {"tolerance": args.tolerance, "threshold": args.threshold}
    with comm.together():
        todo = [c.step for c in checkpoints
                if not _common.finished(store, structure_key(c.step), chosen, args.overwrite)]  # fmt: skip
    todo = comm.broadcast(todo)
    progress = Progress("structure", len(checkpoints), comm, unit="checkpoints", run=store,
                        skipped=len(checkpoints) - len(todo))  # fmt: skip
    counter = comm.counter()
    with _common.counting(len(checkpoints), "checkpoints", len(checkpoints) - len(todo), progress) as counting:

        def update() -> None:
            counting.done = len(checkpoints) - len(todo) + counter.value()
            progress.update(counting.done)

        with comm.together():
            mine = comm.share([c for c in checkpoints if c.step in todo])
            known: dict[int, Any] = {}  # by size: a network that grew is traced again
            for checkpoint in _common.usable(mine, Comm(), progress.note):
                checkpoint.load_into(problem)
                symmetries = known[problem.size] = known.get(problem.size) or symmetries_of(problem)
                _one(args, store, comm, problem, checkpoint, symmetries, chosen)
                counter.add()
                update()
        update()
    counter.close()


def _one(
    args: argparse.Namespace, store: Any, comm: Any, problem: Any, checkpoint: Any, symmetries: Any,
    chosen: dict[str, Any],
) -> None:  # fmt: skip
    import dataclasses

    from landscape.evidence import evidence
    from landscape.networks.structure import structure

    found = structure(
        problem, checkpoint.step, checkpoint.state(), checkpoint.optimizer_state(), tolerance=args.tolerance,
        threshold=args.threshold, read_out_at=args.threshold, symmetries=symmetries,
        eigenvectors=_eigenvectors(store, checkpoint.step, problem.size),
    )  # fmt: skip
    meta = evidence(comm.size, settings=chosen)
    if symmetries is not None and symmetries.obstacles and not symmetries.sizes:
        meta["obstacle"] = symmetries.obstacles[0]
    store.write(dataclasses.replace(found, meta=meta))


def _eigenvectors(store: Any, step: int, size: int) -> Any:
    """Top eigenvalues and eigenvectors of the Hessian at a step, where a job wrote them."""
    from landscape.records import eigenpairs_key

    key = eigenpairs_key("hessian", step)
    found = store.read(key, large=True) if store.has(key) else None
    if found is None or found.vectors is None or found.size != size or not len(found.values):
        return None
    return found.values, found.vectors[: len(found.values)]


def _scale_space(args: argparse.Namespace, store: Any, comm: Any, checkpoints: list[Any]) -> None:
    """The inverse scale space path, where the optimizer keeps a sparse copy of the weights."""
    import dataclasses

    from landscape.evidence import evidence
    from landscape.networks.scale_space import scale_space
    from landscape.records import scale_space_key

    decided = {"checkpoints": [c.step for c in checkpoints]}
    with comm.together():
        if comm.rank or _common.finished(store, scale_space_key(checkpoints[-1].step), decided, args.overwrite):
            return
        found = scale_space(checkpoints)
        if found is not None:
            store.write(dataclasses.replace(found, meta=evidence(comm.size, settings=decided)))


# ---------------------------------------------------------------------- what weights are worth


def _saliency(
    args: argparse.Namespace, store: Any, comm: Any, problem: Any, checkpoint: Any, decided: dict[str, Any]
) -> None:
    from landscape.distributed.progress import Progress
    from landscape.engine.curvature import operator_at
    from landscape.records import saliency_key

    key = saliency_key(args.operator, checkpoint.step)
    decided = decided | {name: getattr(args, name) for name in ("operator", "probes", "points", "threshold")}
    with comm.together():
        done = comm.rank == 0 and _common.finished(store, key, decided, args.overwrite)
    if comm.broadcast(done):
        return
    with comm.together():
        checkpoint.load_into(problem)
    exact = args.probes >= problem.size
    count = problem.size if exact else args.probes
    blocks = [range(i, min(i + args.block, count)) for i in range(0, count, args.block)]
    progress = Progress("saliency", count, comm, unit="products", run=store)
    products = _common.products_of(args, count, 1, progress.note)
    theta = problem.weights()
    curvature = operator_at(problem, theta, comm, args.operator, checkpoint=checkpoint, seed=args.seed,
                            products=products)  # fmt: skip
    index = _sample(problem.size, args.points, args.seed)
    with _common.counting(count, "products", 0, progress) as counter:
        parts = _common.Parts(store, key, decided, theta.cpu().numpy())
        found = comm.broadcast(sorted(parts.read())) if comm.rank == 0 else comm.broadcast([])
        missing = [number for number in range(len(blocks)) if number not in found]
        pieces = _pieces(args, curvature, problem, theta, [blocks[n] for n in missing], exact)
        for number, piece in zip(missing, pieces, strict=True):
            gathered = comm.collect(piece, problem.size)  # (size, 2) on rank 0
            if gathered is not None:
                parts.write(number, {"sums": gathered[index].numpy()})
            counter.done = blocks[number].stop
            progress.update(counter.done)
        if comm.rank == 0:
            sums = sum(part["sums"] for part in parts.read().values())
            _write(args, store, problem, checkpoint, index, sums, 0 if exact else count, decided, comm.size)


def _pieces(
    args: argparse.Namespace, curvature: Any, problem: Any, theta: Any, blocks: list[range], exact: bool
) -> Iterator[Any]:  # fmt: skip
    """Per block of probes: sums and sums of squares side by side, this rank's rows (part, 2)."""
    import torch

    from landscape.engine import diagonal

    if exact:
        for rows in diagonal.exact(curvature.matvec, theta, blocks, curvature.part):
            yield torch.stack([rows, torch.zeros_like(rows)], dim=1)
        return
    for piece in diagonal.pieces(curvature.matvec, theta, problem.size, blocks, args.seed, curvature.part):
        yield torch.stack([piece.total, piece.square], dim=1)


def _sample(size: int, points: int, seed: int) -> Any:
    """Numbers of the weights that are kept, ascending."""
    import torch

    if size <= points:
        return torch.arange(size)
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:points].sort().values


def _write(
    args: argparse.Namespace, store: Any, problem: Any, checkpoint: Any, index: Any, sums: Any, probes: int,
    decided: dict[str, Any], ranks: int,
) -> None:  # fmt: skip
    import numpy as np
    import torch

    from landscape.engine.diagonal import estimate
    from landscape.evidence import evidence
    from landscape.networks.structure import layers_of, pruned_weights
    from landscape.records import Saliency

    total, square = torch.as_tensor(sums).T
    values, errors = estimate(total, square, probes) if probes else (total, torch.zeros_like(total))
    weights, state = checkpoint.state(), checkpoint.optimizer_state()
    layers = layers_of(name for name, _shape, _slice in problem.named_slices())
    owner = {name: number for number, names in enumerate(layers.values()) for name in names}
    sizes = [(owner[name], part.stop - part.start) for name, _shape, part in problem.named_slices()]
    pruned = pruned_weights(problem, weights, state, args.threshold, args.threshold)
    store.write(Saliency(
        checkpoint.step, args.operator, problem.size, probes, list(layers), index.numpy(),
        problem.weights().cpu().double()[index].numpy(), values.numpy(), errors.numpy(),
        pruned.cpu()[index].numpy().astype(np.int8), np.repeat(*np.array(sizes).T)[index.numpy()],
        evidence(ranks, settings=decided),
    ))  # fmt: skip


def _summary(store: Any, steps: list[int], weighed: list[int], args: argparse.Namespace) -> str:
    from landscape.records import structure_key

    found = [s for s in steps if store.has(structure_key(s))]
    if not found:
        return f"{store.root}: no structures"
    last = store.read(structure_key(found[-1]))
    small, zeros = (f"{100 * last.share(values):.3g} %" for values in (last.small, last.zeros))
    left = f", {last.left:,} of {last.size:,} weights left by pruning" if last.left is not None else ""
    told = f"; saliency at {', '.join(map(str, weighed))}" if weighed else ""
    ranks = ", ".join(f"{name} {rank}" for name, rank in last.ranks.items())
    low = f"; ranks: {ranks}" if ranks else ""
    if last.tangent is not None:
        low += f"; |P_T v| of {len(last.tangent)} top eigenvectors {min(last.tangent):.3f} to {max(last.tangent):.3f}"
    return (
        f"{store.root}: {len(found)} structures; at step {last.step} {small} of the weights <= {last.tolerance:g}, "
        f"{zeros} zero, {int(last.dead.sum())} of {len(last.dead)} groups dead{left}{told}{low}"
    )
