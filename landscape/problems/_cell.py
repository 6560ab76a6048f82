"""A network of searchable cells: every edge carries the plain sum of its operations (DARTS' cells, Liu et al. 2019).

What leaves one place by one operation for all its targets is one stacked layer, so that a step costs few calls; each
target's part of it is a group of weights. Without parameters of its own an operation is weighed by a learnable scale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import UsageError

Targets = tuple[int, ...]  # places of a cell: 0 and 1 are its inputs, nodes count from 2
Plan = dict[int, dict[str, Targets]]  # source -> operation -> where it leads


def _average(stride: int) -> nn.Module:
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


_POOLS: dict[str, Callable[[int], nn.Module]] = {
    "maxpool": lambda stride: nn.MaxPool2d(3, stride, padding=1), "avgpool": _average
}  # fmt: skip
_CONVOLUTIONS = {"conv1": (1, 1), "conv3": (3, 1), "conv5": (5, 1), "dil3": (3, 2), "dil5": (5, 2)}  # size, dilation
OPERATIONS = ("none", "skip", *_POOLS, *_CONVOLUTIONS)


@dataclass(frozen=True)
class Style:
    """`searching`: normalisation without weights, and scales; else weights in it, and no scales.

    `scaled`: convolutions have a scale too. Without one their output does not depend on the size of their weights.
    """

    channels: int
    searching: bool
    scaled: bool = False


def group_name(kind: str, source: int, target: int, operation: str) -> str:
    return f"{kind}.{source}-{target}.{operation}"


class Stacked(nn.Module):
    """One operation from one source to several targets: (samples, C, h, w) -> (samples, targets, C, h', w')."""

    def __init__(self, kind: str, source: int, targets: Targets, name: str, stride: int, style: Style) -> None:
        super().__init__()
        self.targets, self.channels = targets, style.channels
        self.groups = tuple(group_name(kind, source, target, name) for target in targets)
        self.stride, self.zero = stride, name == "none"
        self.pool = _POOLS[name](stride) if name in _POOLS else None
        self.convolution = None
        weighed = style.searching and (style.scaled or name not in _CONVOLUTIONS)
        self.scale = nn.Parameter(torch.ones(len(targets))) if weighed else None
        if name in _CONVOLUTIONS:
            size, dilation = _CONVOLUTIONS[name]
            out, around = len(targets) * style.channels, dilation * (size // 2)
            self.convolution = nn.Conv2d(style.channels, out, size, stride, around, dilation, bias=False)
            self.norm: nn.Module = nn.BatchNorm2d(out, affine=not style.searching)
        else:
            self.norm = nn.BatchNorm2d(style.channels, affine=not style.searching) if self.pool else nn.Identity()

    def forward(self, x: Tensor, positive: Tensor) -> Tensor:
        """x as it is, and relu(x), which convolutions read."""
        if self.convolution is not None:
            found: Tensor = self.norm(self.convolution(positive)).unflatten(1, (len(self.targets), self.channels))
            return found if self.scale is None else found * self.scale.view(-1, 1, 1, 1)
        y = self.norm(self.pool(x)) if self.pool is not None else x[:, :, :: self.stride, :: self.stride]
        if self.scale is None:
            return y[:, None].expand(-1, len(self.targets), -1, -1, -1)
        if self.zero:  # its scale has a gradient, of zeros, at the price of a sum
            return (self.scale * 0).view(-1, 1, 1, 1).expand(len(y), -1, *y.shape[1:])
        return y[:, None] * self.scale.view(-1, 1, 1, 1)

    def operation_parts(self) -> dict[str, tuple[int, tuple[str, ...], int]]:
        """tensor -> (before, group of each target, after)."""
        found = {"scale": (1, self.groups, 1)} if self.scale is not None else {}
        if self.convolution is not None:
            found["convolution.weight"] = (1, self.groups, self.convolution.weight[: self.channels].numel())
        return found

    def places(self) -> Iterator[tuple[str, int]]:
        """Tensors with a part a target, and how many entries along the first axis that part has."""
        if self.convolution is not None:
            yield "convolution.weight", self.channels
            yield from ((f"norm.{n}", self.channels) for n, t in self.norm.state_dict().items() if t.ndim)
        if self.scale is not None:
            yield "scale", 1


class Cell(nn.Module):
    """Two inputs, nodes that sum what reaches them, all nodes side by side: -> (samples, nodes C, h, w)."""

    def __init__(
        self, kind: str, plan: Plan, nodes: int, widths: tuple[int, int], halve_first: bool, style: Style
    ) -> None:
        super().__init__()
        self.kind, self.nodes, self.channels = kind, nodes, style.channels
        self.stride = 2 if kind == "reduce" else 1
        affine = not style.searching
        self.first = _preprocess(widths[0], style.channels, 2 if halve_first else 1, affine)
        self.second = _preprocess(widths[1], style.channels, 1, affine)
        self.sources = nn.ModuleDict({
            str(source): nn.ModuleDict({
                name: Stacked(kind, source, targets, name, self.stride if source < 2 else 1, style)
                for name, targets in operations.items() if targets
            })
            for source, operations in plan.items()
        })  # fmt: skip

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        values = [self.first(before), self.second(last)]
        sums: dict[int, Tensor] = {}
        for source in range(self.nodes + 2):
            if source >= 2:
                values.append(sums[source] if source in sums else self._nothing(values[1]))
            if str(source) in self.sources:
                self._send(cast(nn.ModuleDict, self.sources[str(source)]), values[source], sums)
        return torch.cat(values[2:], dim=1)

    @staticmethod
    def _send(operations: nn.ModuleDict, x: Tensor, sums: dict[int, Tensor]) -> None:
        """Add what the operations make of x to the sums of their targets."""
        positive = torch.relu(x)
        same: dict[Targets, Tensor] = {}
        for operation in operations.values():
            y, targets = operation(x, positive), cast(Stacked, operation).targets
            same[targets] = same[targets] + y if targets in same else y
        for targets, y in same.items():
            for target, one in zip(targets, y.unbind(1), strict=True):
                sums[target] = sums[target] + one if target in sums else one

    def _nothing(self, like: Tensor) -> Tensor:
        """What a node without any operation holds."""
        return torch.zeros_like(like[:, :, :: self.stride, :: self.stride])


def _preprocess(width: int, channels: int, stride: int, affine: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(width, channels, 1, stride, bias=False), nn.BatchNorm2d(channels, affine=affine)
    )


class CellNetwork(nn.Module):
    """A stem of stride 2, cells one after the other, the mean over the image, a linear layer."""

    def __init__(
        self, kinds: tuple[str, ...], plans: dict[str, Plan], nodes: int, style: Style, classes: int = 10
    ) -> None:
        super().__init__()
        self.nodes, channels = nodes, style.channels
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels))
        widths, cells = [channels, channels], []
        for i, kind in enumerate(kinds):
            halve_first = i > 0 and kinds[i - 1] == "reduce"
            cells.append(Cell(kind, plans[kind], nodes, (widths[-2], widths[-1]), halve_first, style))
            widths.append(nodes * channels)
        self.cells = nn.ModuleList(cells)
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        before = last = self.stem(images)
        for cell in self.cells:
            before, last = last, cell(before, last)
        logits: Tensor = self.classifier(last.mean((2, 3)))
        return logits


    def operations(self) -> Iterator[tuple[str, Stacked]]:
        """The stacked layers by their names."""
        for name, module in self.named_modules():
            if isinstance(module, Stacked):
                yield name, module


@torch.no_grad()
def inherit(smaller: CellNetwork, larger: CellNetwork) -> None:
    """Give a network the weights and statistics of one that has all its operations, in the same form."""
    state, known = larger.state_dict(), dict(larger.operations())
    for name, module in smaller.operations():
        for tensor, width in module.places():
            rows = [t * width + k for t in map(known[name].targets.index, module.targets) for k in range(width)]
            state[f"{name}.{tensor}"] = state[f"{name}.{tensor}"][rows]
    wanted = smaller.state_dict()
    smaller.load_state_dict({name: state[name] for name in wanted})


@torch.no_grad()
def silence(model: CellNetwork, groups: Collection[str]) -> None:
    """Let the operations of some groups give exactly zero: their weights, and means of what is zero."""
    for _name, module in model.operations():
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        for tensor, width in module.places():
            if not tensor.endswith(("weight", "bias", "running_mean", "scale")):
                continue
            for i, group in enumerate(module.groups):
                if group in groups:
                    own[tensor][i * width : (i + 1) * width] = 0


# ---------------------------------------------------------------------- genotypes: JSON


def whole(kinds: tuple[str, ...], nodes: int, operations: tuple[str, ...]) -> dict[str, list[list[Any]]]:
    """Every operation on every edge: kind of cell -> [source, target, operation], node j reading all places before."""
    edges = [[source, target, name] for target in range(2, nodes + 2) for source in range(target)
             for name in operations]  # fmt: skip
    return {kind: edges for kind in dict.fromkeys(kinds)}


def plans_of(genotype: dict[str, list[list[Any]]], nodes: int) -> dict[str, Plan]:
    """Where every operation leads.

    Raises:
        UsageError: an edge that a cell of so many nodes has not, an unknown operation, or one named twice.
    """
    plans: dict[str, Plan] = {}
    for kind, edges in genotype.items():
        plan: Plan = {}
        for edge in edges:
            if len(edge) != 3 or edge[2] not in OPERATIONS:
                raise UsageError(f"the genotype's entry {edge} must be [source, target, operation], the operation one "
                                 f"of {', '.join(OPERATIONS)}")  # fmt: skip
            source, target, name = edge
            if not 0 <= source < target < nodes + 2 or target < 2:
                raise UsageError(f"the genotype's edge {source} -> {target} is none of a cell of {nodes} nodes, which "
                                 f"are 2 to {nodes + 1}")  # fmt: skip
            known = plan.setdefault(source, {}).get(name, ())
            if target in known:
                raise UsageError(f"the genotype names {edge} twice")
            plan[source][name] = tuple(sorted((*known, target)))
        plans[kind] = plan
    return plans
