"""Work of tensors traced once for each form of its inputs, rewritten, and replayed as plain tensor operations.

    replay = Replay(work)
    values = replay(vectors, entering, batch)       # work(vectors, entering, batch), equal to rounding

What a trace saves are the calls of modules, modes and transforms between two kernels, which are most of the time of a
small network. What the rewriting saves are passes over memory: whatever nobody else reads is overwritten, a maximum
over windows comes before the relu (both are monotone, so they commute), and where a window's maximum is all that is
wanted of a first layer, that layer's outputs are kept window by window (`windows`) and only the maximum is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from ..engine.tape import written
from ..loss.batches import Batch, tensors
from . import kernels

Work = Callable[[Tensor, list[Tensor], Batch], Tensor]
Window = tuple[int, int]  # rows, columns

aten = torch.ops.aten
_IN_PLACE: dict[Any, Any] = {
    aten.relu.default: aten.relu_.default, aten.tanh.default: aten.tanh_.default, aten.exp.default: aten.exp_.default,
    aten.sigmoid.default: aten.sigmoid_.default, aten.log.default: aten.log_.default,
    aten.add.Tensor: aten.add_.Tensor, aten.sub.Tensor: aten.sub_.Tensor, aten.mul.Tensor: aten.mul_.Tensor,
}  # fmt: skip
_SAME_MEMORY = {aten.view.default, aten._unsafe_view.default, aten.transpose.int, aten.permute.default,
                aten.unsqueeze.default, aten.squeeze.dim, aten.t.default}  # fmt: skip
_MAYBE_SAME = {aten.contiguous.default, aten.reshape.default, aten._to_copy.default, aten.expand.default}


class Replay:
    """Traces of one function, made as forms of inputs turn up; `windows` are those of the first one.

    `entering` belongs to the call and is overwritten. Of an entry with a window its maximum over windows is handed in.

    Raises (when it is traced):
        RuntimeError: the work depends on values.
    """

    def __init__(self, work: Work, vectors: Tensor, entering: Sequence[Tensor], batch: Batch) -> None:
        self._work = work
        graph, self.windows = self._traced(vectors, entering, batch)
        given = [x if w is None else by_window(x, w)[0] for x, w in zip(entering, self.windows, strict=True)]
        self._graphs = {_form(vectors, given, batch): graph}

    def __call__(self, vectors: Tensor, entering: Sequence[Tensor], batch: Batch) -> Tensor:
        form = _form(vectors, entering, batch)
        if form not in self._graphs:
            whole = [x if w is None else _undone(x, w) for x, w in zip(entering, self.windows, strict=True)]
            self._graphs[form], windows = self._traced(vectors, whole, batch)
            if windows != self.windows:
                raise RuntimeError("the work is another one for another number of samples")
        found: Tensor = self._graphs[form](vectors, *entering, *tensors(batch))
        return found

    def _traced(
        self, vectors: Tensor, entering: Sequence[Tensor], batch: Batch
    ) -> tuple[GraphModule, list[Window | None]]:
        """The graph, rewritten, and the windows of what enters."""
        leaves, spec = pytree.tree_flatten(batch)

        def function(*given: Any) -> Tensor:
            values = iter(given[1 + len(entering) :])
            own = [next(values) if isinstance(x, Tensor) else x for x in leaves]
            return self._work(given[0], list(given[1 : 1 + len(entering)]), pytree.tree_unflatten(own, spec))

        traced = written(function, [vectors, *entering, *[x for x in leaves if isinstance(x, Tensor)]])
        graph = traced.graph
        graph.eliminate_dead_code()
        places = [node for node in graph.nodes if node.op == "placeholder"][1 : 1 + len(entering)]
        _maxima_first(graph)
        _once(graph)
        _equal_as_numbers(graph)
        windows = [_window(place, entry.shape) for place, entry in zip(places, entering, strict=True)]
        for place, window in zip(places, windows, strict=True):
            if window is not None:
                _known(place)
        _overwritten(graph, places)
        graph.eliminate_dead_code()
        traced.recompile()
        return traced, windows


def _form(vectors: Tensor, entering: Sequence[Tensor], batch: Batch) -> Any:
    """What a trace belongs to."""
    leaves, spec = pytree.tree_flatten(batch)
    shapes = [(x.shape, x.stride(), x.dtype) if isinstance(x, Tensor) else repr(x) for x in leaves]
    return tuple(vectors.shape), *[tuple(x.shape) for x in entering], *shapes, repr(spec)


def by_window(outputs: Tensor, window: Window) -> Tensor:
    """Outputs (..., height, width) as (rows * columns, ..., height / rows, width / columns): a window's k-th place in
    the k-th part; what is left over at the right and below belongs to no window."""
    rows, columns = window
    high, wide = outputs.shape[-2] // rows * rows, outputs.shape[-1] // columns * columns
    return torch.stack([
        outputs[..., i:high:rows, j:wide:columns] for i in range(rows) for j in range(columns)
    ])  # fmt: skip


def laid_out(products: Tensor, window: Window | None) -> Tensor:
    """Products (1 + k, ...) of a layer as a replay with that window wants them."""
    return products if window is None else by_window(products, window).transpose(0, 1).contiguous()


def _undone(maxima: Tensor, window: Window) -> Tensor:
    """Zeros of a form that has these maxima over windows: enough to trace with."""
    return maxima.new_zeros(*maxima.shape[:-2], maxima.shape[-2] * window[0], maxima.shape[-1] * window[1])


def _maxima_first(graph: Graph) -> None:
    """max_pool(relu(x)) = relu(max_pool(x)), with fewer values for the relu; and the pool that is quick on a CPU."""
    for node in list(graph.nodes):
        if node.target is not aten.max_pool2d_with_indices.default or not _only_values(node):
            continue
        (values,) = node.users
        (entering, *options) = node.args
        relu = entering if entering.target is aten.relu.default and len(entering.users) == 1 else None
        with graph.inserting_before(values):
            pool = graph.call_function(kernels.pooled, (relu.args[0] if relu else entering, *options))
            pool.meta = dict(values.meta)
            after = graph.call_function(aten.relu.default, (pool,)) if relu else pool
            after.meta = dict(values.meta)
        values.replace_all_uses_with(after)
    graph.eliminate_dead_code()


def _only_values(node: Node) -> bool:
    """Whether nobody reads the places of the maxima."""
    return len(node.users) == 1 and bool(next(iter(node.users)).args[1] == 0)


def _window(place: Node, shape: Sequence[int]) -> Window | None:
    """The window whose maximum is all that is read of an input."""
    if len(place.users) != 1:
        return None
    (user,) = place.users
    options: list[Any] = list(user.args[1:])
    if user.target is not kernels.pooled or not kernels.tiles(*options):
        return None
    rows, columns = kernels.pair(options[0])
    return (rows, columns) if shape[-2] >= rows and shape[-1] >= columns else None


def _known(place: Node) -> None:
    """An input whose maximum over windows is handed in instead."""
    (pool,) = place.users
    pool.replace_all_uses_with(place)
    place.meta = dict(pool.meta)


def _once(graph: Graph) -> None:
    """What changes nothing is left out, and what is computed twice is computed once."""
    seen: dict[Any, Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        same = _unchanged(node) or seen.setdefault((node.target, repr(node.args), repr(node.kwargs)), node)
        if same is not node:
            node.replace_all_uses_with(same)
    graph.eliminate_dead_code()


def _unchanged(node: Node) -> Node | None:
    """The value that an operation hands on as it is."""
    first = node.args[0] if node.args and isinstance(node.args[0], Node) else None
    if first is None:
        return None
    if node.target is aten.transpose.int and first.target is aten.transpose.int and node.args[1:] == first.args[1:]:
        before = first.args[0]
        return before if isinstance(before, Node) else None
    idle = (node.target is aten.mul.Scalar and node.args[1] == 1) or node.target is aten.expand.default
    return first if idle and _like(first, node) else None


def _equal_as_numbers(graph: Graph) -> None:
    """Comparisons that are wanted in the dtype of what is compared are made in it."""
    for node in list(graph.nodes):
        if node.target is not aten._to_copy.default or set(node.kwargs) != {"dtype"}:
            continue
        (compared,) = node.args
        if compared.target is not aten.eq.Tensor or len(compared.users) > 1:
            continue
        dtypes = [x.meta["form"][1] for x in compared.args]
        if dtypes == 2 * [node.kwargs["dtype"]] and _like(compared.args[0], node):
            node.target, node.args, node.kwargs = kernels.equal, compared.args, {}
    graph.eliminate_dead_code()


def _overwritten(graph: Graph, own: Sequence[Node]) -> None:
    """Elementwise operations write where their input lies, where that is as large, nobody's, and read by no other."""
    for node in graph.nodes:
        if node.op != "call_function" or node.target not in _IN_PLACE:
            continue
        if node.target is aten.add.Tensor and len(node.args) == 2 and not node.kwargs and not _writable(node, own):
            node.args = (node.args[1], node.args[0])  # the other term may be free
            if not _writable(node, own):
                node.args = (node.args[1], node.args[0])
        if _writable(node, own):
            node.target = _IN_PLACE[node.target]


def _writable(node: Node, own: Sequence[Node]) -> bool:
    first = node.args[0]
    return isinstance(first, Node) and _like(first, node) and _nobodys(first, own)


def _like(first: Node, node: Node) -> bool:
    return "form" in node.meta and first.meta.get("form") == node.meta["form"]


def _nobodys(node: Node, own: Sequence[Node]) -> bool:
    """Whether a value's memory is read once, and belongs neither to an input nor to a constant."""
    if len(node.users) != 1:
        return False
    if node.target in _SAME_MEMORY:
        return isinstance(node.args[0], Node) and _nobodys(node.args[0], own)
    if node.op == "placeholder":
        return node in own
    if node.target in (kernels.pooled, kernels.equal):
        return True
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    returned = node.target._schema.returns
    return len(returned) == 1 and returned[0].alias_info is None and node.target not in _MAYBE_SAME
