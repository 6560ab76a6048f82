"""The discrete architecture of a searched network of cells: which operations are left, and the network of those alone.

An operation is pruned when the norm of its group, over all tensors and cells that it is tied across, is within the
threshold. All survivors stay (several on an edge, or none); `one_per_edge` keeps the largest of each edge only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError
from ..groupings._base import group_norms, parts_of
from ..loss.problem import Problem
from ..problems._cell import CellNetwork, inherit, silence
from ..records import Architecture

_EXACT = 1e-8  # largest relative change of the outputs, in float64, that is rounding


@dataclass(frozen=True)
class Derived:
    """The network of the operations that are left, with the weights it had among the others."""

    problem: Problem
    genotype: dict[str, list[list[Any]]]
    before: int  # weights
    zeroed: float  # largest relative change of the outputs by silencing what is pruned, in float64
    change: float  # the same by leaving it out

    @property
    def after(self) -> int:
        return self.problem.size


def architecture(
    problem: Problem, step: int, threshold: float, one_per_edge: bool = False, meta: Mapping[str, Any] | None = None
) -> Architecture:
    """Norms of the operations' groups at the model's present weights, and which are kept.

    Raises:
        ProblemError: the model is no network of cells, or one in its final form, in which not every operation is a
            group.
    """
    model = _network(problem)
    found = group_norms(parts_of(model, "operations"), problem.state())
    without = {group for _name, module in model.operations() for group in module.groups} - set(found.names)
    if without:
        raise ProblemError(f"{min(without)} has no weights to tell its importance; search with form=search")
    split = [_edge(name) for name in found.names]
    norms = found.norms.numpy()
    kept = (norms > threshold).astype("int64")
    if one_per_edge:
        best: dict[tuple[str, int, int], int] = {}
        for i, (kind, source, target, operation) in enumerate(split):
            known = best.get((kind, source, target))
            if kept[i] and operation != "none" and (known is None or norms[i] > norms[known]):
                best[kind, source, target] = i
        kept[:] = 0
        kept[list(best.values())] = 1
    places = torch.tensor([[source, target] for _, source, target, _ in split]).numpy()
    return Architecture(
        step=step, read_off="one" if one_per_edge else "all", threshold=threshold, nodes=model.nodes,
        kinds=[kind for kind, *_ in split], operations=[operation for *_, operation in split],
        source=places[:, 0], target=places[:, 1], norms=norms, sizes=found.sizes.numpy(), kept=kept,
        meta=dict(meta or {}),
    )  # fmt: skip


def _edge(name: str) -> tuple[str, int, int, str]:
    kind, edge, operation = name.split(".")
    source, target = edge.split("-")
    return kind, int(source), int(target), operation


def _network(problem: Problem) -> CellNetwork:
    if not isinstance(problem.model, CellNetwork):
        raise ProblemError(f"'{problem.name}' is no network of cells; search with the problem digits_cell")
    return problem.model


def genotype(record: Architecture) -> dict[str, list[list[Any]]]:
    """What is kept, as JSON: kind of cell -> [source, target, operation]; 'none' does nothing and is left out."""
    found: dict[str, list[list[Any]]] = {kind: [] for kind in record.kinds}
    for i in range(len(record.kinds)):
        if record.kept[i] and record.operations[i] != "none":
            found[record.kinds[i]].append([int(record.source[i]), int(record.target[i]), record.operations[i]])
    return found


def derive(problem: Problem, record: Architecture, build: Callable[[Mapping[str, Any]], Problem]) -> Derived:
    """The network of what is kept, with the weights that it has in the searched one; its outputs are compared.

    Args:
        build: the problem again, with these settings in place of the old ones.

    Raises:
        ProblemError: its outputs are not those of the searched network with the pruned operations at zero.
    """
    model = _network(problem)
    found = genotype(record)
    smaller = build({"genotype": found}).to(dtype=problem.dtype)
    inherit(_network(smaller), model)
    silent = copy.deepcopy(model)
    names = zip(record.kinds, record.source, record.target, record.operations, record.kept, strict=True)
    silence(silent, {f"{k}.{s}-{t}.{o}" for k, s, t, o, kept in names if not kept})
    wanted, masked, left = (_outputs(p) for p in (problem, problem.with_model(silent), smaller))
    change = _difference(left, masked)
    if not change < _EXACT:
        raise ProblemError(f"the derived network's outputs differ by {change:.1e} from the searched one's without what "
                           "was pruned; is a setting of the problem not the searched run's?")  # fmt: skip
    return Derived(smaller, found, problem.size, _difference(masked, wanted), change)


@torch.no_grad()
def _outputs(problem: Problem) -> Tensor:
    exact = problem.to(dtype=torch.float64)
    return torch.cat([exact.outcome(exact.weights(), batch)[1] for batch in exact.batches])


def _difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-300))
