"""The linear map v -> A v traced once into plain tensor operations, for all checkpoints and batches of one shape.

Weights, buffers and data are inputs of the trace. What does not depend on the vectors is computed once for a batch at
given weights, and the rest, vectorised over a block, is all that a product costs: 2 gradients a vector in deep nets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, functionalize, vmap
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from ..loss.problem import Problem

Form = Callable[[Tensor, Any], Callable[[Tensor], Tensor]]  # (weights (size,), batch) -> (v (size,) -> A v)
Parts = tuple[GraphModule, GraphModule]  # (inputs -> what is kept, (kept, block (b, size)) -> (b, size))


class _Held(nn.Module):
    """The model with some work on it, so that `functional_call` hands its buffers in as inputs."""

    def __init__(self, objective: nn.Module, work: Callable[..., Tensor]) -> None:
        super().__init__()
        self.objective, self.work = objective, work

    def forward(self, *arguments: Any) -> Tensor:
        return self.work(*arguments)


class Traces:
    """Traces of one operator's form on a problem, made as shapes turn up.

    Raises (when a product is taken):
        RuntimeError: the computation depends on values, or has no forward mode.
    """

    def __init__(self, problem: Problem, form: Form) -> None:
        self.problem, self.form = problem, form
        self._parts: dict[Any, Parts] = {}

    def at(self, vector: Tensor, batch: Any) -> TracedProduct:
        """block (size, b) -> (size, b); what does not depend on the block is computed at its first call."""
        return TracedProduct(self, vector, batch)

    def inputs(self, vector: Tensor, batch: Any) -> tuple[list[Any], Any, list[str]]:
        leaves, spec = pytree.tree_flatten(batch)
        buffers = dict(self.problem.objective.named_buffers())
        return [vector, *buffers.values(), *leaves], spec, list(buffers)

    def parts(self, vector: Tensor, batch: Any, block: Tensor) -> Parts:
        inputs, spec, names = self.inputs(vector, batch)
        shapes = [(tuple(t.shape), t.stride(), t.dtype) if isinstance(t, Tensor) else t for t in (*inputs, block)]
        # Weights outside of the block are no inputs: a trace belongs to their values.
        fixed = [(id(p), p._version) for p in self.problem.objective.parameters()] if self.problem.block else []
        key = repr((shapes, spec, fixed))
        if key not in self._parts:

            def work(theta: Tensor, data: Any, columns: Tensor) -> Tensor:
                found: Tensor = vmap(self.form(theta, data))(columns)
                return found

            held = _Held(self.problem.objective, work)

            def function(*given: Any) -> Tensor:
                theta, values, columns = given[0], given[1:-1], given[-1]
                own = {f"objective.{n}": v for n, v in zip(names, values[: len(names)], strict=True)}
                data = pytree.tree_unflatten(values[len(names) :], spec)
                found: Tensor = functional_call(held, own, (theta, data, columns))
                return found

            with torch.enable_grad():
                self._parts[key] = divided(make_fx(functionalize(function))(*inputs, block))
        return self._parts[key]


class TracedProduct:
    """The product of one batch at given weights, with what it keeps between blocks."""

    def __init__(self, traces: Traces, vector: Tensor, batch: Any) -> None:
        self._traces, self._vector, self._batch = traces, vector, batch
        self._kept: dict[int, tuple[GraphModule, tuple[Any, ...]]] = {}

    def __call__(self, block: Tensor) -> Tensor:
        width = block.shape[1]
        with torch.no_grad():
            rows = block.T.contiguous()  # (b, size)
            if width not in self._kept:
                before, after = self._traces.parts(self._vector, self._batch, rows)
                self._kept[width] = after, before(*self._traces.inputs(self._vector, self._batch)[0])
            after, values = self._kept[width]
            found: Tensor = after(*values, rows)
        return found.T

    @property
    def held(self) -> float:
        """Bytes that are kept for the batch beyond the weights and the data themselves."""
        own = {t.untyped_storage().data_ptr() for t in self._traces.inputs(self._vector, self._batch)[0]
               if isinstance(t, Tensor)}  # fmt: skip
        seen: dict[int, int] = {}
        for _, values in self._kept.values():
            for value in values:
                if isinstance(value, Tensor):
                    storage = value.untyped_storage()
                    seen[storage.data_ptr()] = storage.nbytes()
        return float(sum(size for place, size in seen.items() if place not in own))


def divided(traced: GraphModule) -> Parts:
    """A trace in two: what the last input does not reach, and what it does."""
    nodes = list(traced.graph.nodes)
    places = [n for n in nodes if n.op == "placeholder"]
    reached: set[Node] = {places[-1]}
    for node in nodes:
        if any(n in reached for n in node.all_input_nodes):
            reached.add(node)
    output = next(n for n in nodes if n.op == "output")
    reached.add(output)
    border = [n for n in nodes if n not in reached and any(user in reached for user in n.users)]
    before, after = Graph(), Graph()
    first: dict[Node, Node] = {}
    second: dict[Node, Node] = {n: after.placeholder(n.name) for n in border}
    for node in nodes:
        if node not in reached:
            first[node] = before.node_copy(node, first.__getitem__)
        else:
            second[node] = after.node_copy(node, second.__getitem__)
    before.output(tuple(first[n] for n in border))
    for graph in (before, after):
        graph.eliminate_dead_code()
    return GraphModule(traced, before), GraphModule(traced, after)
