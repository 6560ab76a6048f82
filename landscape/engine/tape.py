"""The tensor operations of one call written down as a graph, after all transforms, without in-place ones.

    graph, found = written(function, inputs)        # found is function(*inputs); graph computes it from other inputs

`torch.fx.experimental.proxy_tensor.make_fx` does more, but loads a symbolic algebra of a second for it and takes a
millisecond an operation; here shapes are numbers, and a call is written down in about the time that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_BY_VALUE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.nondeterministic_seeded}


def written(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> GraphModule:
    """The graph of function(*inputs); tensors that are no inputs become constants of it.

    A node's `meta["form"]` is the (shape, dtype) of its tensor.

    Raises:
        RuntimeError: the work depends on values or on chance, or writes on what it does not own.
    """
    tape = _Tape(inputs)
    with tape:
        found = function(*inputs)
    tape.graph.output(tape.node_of(found))
    return GraphModule(tape.constants, tape.graph)


class _Tape(TorchDispatchMode):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's mode has no annotations
        self.graph, self.constants = Graph(), nn.Module()
        self._nodes: dict[int, Node] = {}
        self._seen: list[Tensor] = []  # alive, so that no other tensor gets one's id
        self._changed: dict[int, int] = {}  # storage -> the tensor through which it was written on
        for number, value in enumerate(inputs):
            self._note(value, self.graph.placeholder(f"input_{number}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so would load the compiler

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _BY_VALUE & set(func.tags):
            raise RuntimeError(f"the work depends on values or on chance ({func})")
        given = pytree.tree_map_only(Tensor, self.node_of, (tuple(args), kwargs))
        writes = func._schema.is_mutable
        target = _functional(func) if writes else func
        node = self.graph.call_function(target, *given)
        found = func(*args, **kwargs)
        if writes:
            if found is not args[0] or self._nodes[id(found)].op in ("placeholder", "get_attr"):
                raise RuntimeError(f"the work writes on what it does not own ({func})")
            self._changed[found.untyped_storage().data_ptr()] = id(found)
        if isinstance(found, Tensor):
            self._note(found, node)
        else:
            for number, value in enumerate(found):
                self._note(value, self.graph.call_function(_item, (node, number)))
        return found

    def _note(self, value: Any, node: Node) -> None:
        if isinstance(value, Tensor):
            node.meta["form"] = tuple(value.shape), value.dtype
            self._nodes[id(value)] = node
            self._seen.append(value)

    def node_of(self, value: Tensor) -> Node:
        """The node of a tensor, a new constant where it is not known."""
        if id(value) not in self._nodes:
            name = f"constant_{len(self._seen)}"
            self.constants.register_buffer(name, value)
            self._note(value, self.graph.get_attr(name))
        if self._changed.get(value.untyped_storage().data_ptr(), id(value)) != id(value):
            raise RuntimeError("the work reads what was written over through another tensor")
        return self._nodes[id(value)]


def _item(values: Sequence[Any], number: int) -> Any:
    return values[number]


def _functional(func: Any) -> Any:
    """relu for relu_: the same work in memory of its own."""
    name = func._schema.name.partition("::")[2]
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.endswith("_") else None
    if packet is None or func._overloadname not in packet.overloads():
        raise RuntimeError(f"the work writes on what it does not own ({func})")
    return getattr(packet, func._overloadname)
