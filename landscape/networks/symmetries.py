"""Permutations of hidden units that leave a network's function as it is, read from its traced graph.

`torch.export` writes the model and its loss as a graph of tensor operations; the axes of every weight follow it
(`axis_rules`). Nothing is known about architectures: residual adds share one permutation, a flatten makes blocks,
because the operations say so.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import map_arg

from ..loss.problem import Problem
from . import axis_rules
from .axes import Axes, Factor, fresh, pin, resolve, unify

Permutations = list[Tensor]  # one a group: entry i says which unit of the old order comes to place i


@dataclass(frozen=True)
class Symmetries:
    """The groups of exchangeable units, and where they sit in every tensor of the state dict."""

    sizes: list[int]  # (group,) units
    factors: dict[str, list[tuple[int, int | None]]]  # tensor -> (size, group or None) of its factors, slowest first
    unpermuted: list[str]  # layers of trained weights no unit of which may be permuted
    obstacles: list[str]  # what hindered: operations without a rule, or why the model could not be traced

    def identity(self) -> Permutations:
        return [torch.arange(size) for size in self.sizes]

    def permute(self, state: Mapping[str, Tensor], permutations: Permutations) -> dict[str, Tensor]:
        """The state dict with all units in their new order; a network of the same function."""
        return {name: self._permuted(name, tensor, permutations) for name, tensor in state.items()}

    def _permuted(self, name: str, tensor: Tensor, permutations: Permutations) -> Tensor:
        if name not in self.factors:
            return tensor
        blocks = self.blocks(name, tensor)
        for dim, (_size, group) in enumerate(self.factors[name]):
            if group is not None:
                blocks = blocks.index_select(dim, permutations[group].to(tensor.device))
        return blocks.reshape(tensor.shape)

    def blocks(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor with one dimension a factor."""
        return tensor.reshape([size for size, _group in self.factors[name]])


def symmetries_of(problem: Problem) -> Symmetries:
    """Trace a problem's model and loss on its first batch and find what may be permuted.

    A model that cannot be traced has no symmetries here; `obstacles` says why.
    """
    batch = problem.batches[0]
    names = [n for n, _shape, _slice in problem.named_slices()]
    try:
        program = torch.export.export(problem.objective, (batch,), strict=False)
    except Exception as error:  # whatever a user's forward raises while it is traced, and torch's own refusals
        reason = f"the model cannot be traced ({type(error).__name__}: {str(error).strip().splitlines()[0][:200]})"
        return Symmetries([], {}, problem.layers(), [reason])
    axes, obstacles = _follow(program)
    _tie(problem.model, axes)
    return _collect(problem.model, axes, names, obstacles)


def _follow(program: Any) -> tuple[dict[str, Axes], list[str]]:
    """Axes of every weight and buffer after all operations of the graph, by name; operations without a rule."""
    owners = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    known: dict[str, Axes] = {}
    values: dict[Any, Any] = {}
    obstacles: dict[str, None] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            mine = owners.get(node.name)
            values[node] = _axes_of(node, pinned=mine is None)
            if mine is not None:
                known[mine.removeprefix("model.")] = values[node]
        elif node.op == "call_function":
            values[node] = _apply(node, values, obstacles)
        elif node.op == "output":
            _pin_all(axes for n in node.all_input_nodes for axes in _each(values[n]))
    return known, list(obstacles)


def _axes_of(node: Any, pinned: bool) -> Axes:
    value = node.meta.get("val")
    return fresh(value.shape, pinned) if isinstance(value, Tensor) else []


def _apply(node: Any, values: Mapping[Any, Any], obstacles: dict[str, None]) -> Any:
    """Axes of a node's output (a list of them for several outputs); without a rule all that it touches is pinned."""
    if node.target is operator.getitem:
        return values[node.args[0]][node.args[1]]
    value = node.meta.get("val")
    several = isinstance(value, (tuple, list))
    shapes = [tuple(v.shape) if isinstance(v, Tensor) else () for v in (value if several else [value])]
    named = [n for n in node.all_input_nodes if n not in list(_nodes(node.args))]  # a rule sees no keywords
    found = None if named else axis_rules.outcome(node.target, map_arg(list(node.args), values.__getitem__), shapes)
    if found is None:
        touched = [axes for n in node.all_input_nodes for axes in _each(values[n])]
        if any(not f.pinned for axes in touched for axis in axes for f in resolve(axis)) and not _is_loss(node):
            obstacles[str(node.target)] = None
        _pin_all(touched)
        found = [fresh(shape, pinned=True) for shape in shapes]
    return found if several else found[0]


def _is_loss(node: Any) -> bool:
    """Losses pin the outputs they compare; that is no obstacle but the meaning of an output."""
    return "loss" in str(node.target)


def _nodes(arguments: Any) -> Iterable[Any]:
    found: list[Any] = []
    map_arg(arguments, found.append)
    return found


def _each(value: Any) -> list[Axes]:
    """The axes of one tensor, or of each of several."""
    return value if value and isinstance(value[0], list) else [value]


def _pin_all(several: Iterable[Axes]) -> None:
    for axes in several:
        for axis in axes:
            pin(axis)


def _tie(model: nn.Module, axes: Mapping[str, Axes]) -> None:
    """A tensor that the state dict holds under two names is permuted once."""
    first: dict[tuple[int, torch.Size], str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in axes and tensor.numel():
            twin = first.setdefault((tensor.data_ptr(), tensor.shape), name)
            for one, two in zip(axes[twin], axes[name], strict=True):
                unify(one, two)


def _collect(model: nn.Module, axes: Mapping[str, Axes], names: Sequence[str], obstacles: list[str]) -> Symmetries:
    groups: dict[Factor, int] = {}
    factors: dict[str, list[tuple[int, int | None]]] = {}
    state = model.state_dict()
    for name in (n for n in state if n in axes):
        flat = [f for axis in axes[name] for f in resolve(axis)]
        numbers = [None if f.pinned else groups.setdefault(f, len(groups)) for f in flat]
        if any(number is not None for number in numbers):
            factors[name] = [(f.size, number) for f, number in zip(flat, numbers, strict=True)]
    moving = {_owner(n) for n in factors}
    still = dict.fromkeys(_owner(n) for n in names if _owner(n) not in moving)
    return Symmetries([f.size for f in groups], factors, list(still), obstacles)


def _owner(name: str) -> str:
    """The module of a weight; a weight of the outermost module stands for itself."""
    return name.rpartition(".")[0] or name
