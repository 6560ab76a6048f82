"""Where the units of a network sit: which layers produce and which read them, and a copy of it without some.

Read from the traced graph (`symmetries`): the factors of every tensor that are exchangeable units.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..loss.attention import HasHeads, axis_of, head_blocks, open_attention
from ..loss.fitting import CONVOLUTIONS, PRODUCERS, replace, resize
from ..loss.problem import Problem
from .symmetries import Symmetries

Masks = list[Tensor]  # one a group of units: True where the unit goes


@dataclass(frozen=True)
class Place:
    """One factor of a tensor: its position among all factors, its group, and what the tensor does with the unit."""

    at: int
    group: int
    role: str  # 'out': the layer produces the unit; 'in': it reads it; 'through': one channel to one channel


class Wiring:
    """Which layers produce and which read every unit of a model."""

    def __init__(self, model: nn.Module, symmetries: Symmetries) -> None:
        self.model, self.symmetries = model, symmetries
        self._heads = {  # tensor -> (module, numbers around its heads)
            f"{name}.{tensor}" if name else tensor: (name, block)
            for name, module in model.named_modules()
            for tensor, block in head_blocks(module).items()
        }
        self._attention: dict[str, int] = {}  # module of attention heads -> their group
        shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
        self._places = {name: self._of(name, shapes[name]) for name in symmetries.factors}
        self.fixed = {  # groups in tensors of which it is not known what they do
            place.group for places in self._places.values() for place in places if place.role == "unknown"
        }

    def _of(self, name: str, shape: tuple[int, ...]) -> list[Place]:
        module, _, leaf = name.rpartition(".")
        owner = self.model.get_submodule(module)
        groups = owner.groups if isinstance(owner, CONVOLUTIONS) else 1
        found, dim, left, done, before = [], -1, 1, 1, 1
        for at, (size, group) in enumerate(self.symmetries.factors[name]):
            while left == 1:
                dim, done = dim + 1, 1
                left = shape[dim]
            through = dim == 0 and done < groups
            if group is not None:
                role = self._role_by_heads(name, shape, dim, before, (size, group))
                found.append(Place(at, group, role or self._role(owner, leaf, dim, len(shape), through)))
            left, done, before = left // size, done * size, before * size
        return found

    def _role_by_heads(self, name: str, shape: tuple[int, ...], dim: int, before: int, factor: tuple[int, int]) -> str:
        """The role of a factor on the axis of attention heads; '' elsewhere."""
        module, (ahead, heads, _after) = self._heads.get(name, ("", (-1, 0, 0)))
        if ahead < 0 or dim != axis_of(shape, ahead) or before < ahead:
            return ""
        if (before, factor[0]) != (ahead, heads):
            return "unknown"  # a place within a head: fewer of them would scale the scores anew
        self._attention[module] = factor[1]
        return "along" if len(shape) == 1 else "out" if dim == 0 else "in"

    @staticmethod
    def _role(owner: nn.Module, leaf: str, dim: int, dims: int, through: bool) -> str:
        if dims == 1:
            return "along"  # a bias, a normalisation's scale or statistics
        if not isinstance(owner, PRODUCERS) or leaf != "weight" or dim > 1:
            return "unknown"
        return "in" if dim == 1 else "through" if through else "out"

    def places(self, name: str, role: str) -> list[Place]:
        return [place for place in self._places.get(name, ()) if place.role == role]

    def blocks(self, name: str, tensor: Tensor) -> Tensor:
        """A view with one dimension a factor."""
        return tensor.view([size for size, _group in self.symmetries.factors[name]])

    def dead(self, threshold: float) -> Masks:
        """Units all of whose producers' weights lie within the threshold of zero; some layer must produce them."""
        alive: list[Tensor | None] = [None] * len(self.symmetries.sizes)
        for name, tensor in self.model.named_parameters():
            for place in self.places(name, "out"):
                rows = self.blocks(name, tensor.detach()).movedim(place.at, 0)
                mine = (rows.reshape(len(rows), -1).abs() > threshold).any(dim=1).cpu()
                known = alive[place.group]
                alive[place.group] = mine if known is None else known | mine
        masks = []
        for group, (size, known) in enumerate(zip(self.symmetries.sizes, alive, strict=True)):
            some = known is not None and group not in self.fixed
            mask = ~known if some and known is not None else torch.zeros(size, dtype=torch.bool)
            if mask.all():
                mask[0] = False  # a layer of no units would be no network
            masks.append(mask)
        return masks

    # ------------------------------------------------------------------ constants

    def movable(self, exact: Problem, dead: Masks) -> Masks:
        """The dead units whose constant can go into the biases of all layers that read it."""
        going = [mask.clone() for mask in dead]
        for name, (value, constant) in self._inputs(exact).items():
            layer = exact.model.get_submodule(name)
            fits = constant & ((value == 0) if self._padded(layer) else torch.ones_like(constant))
            for place, mask in self._entries(f"{name}.weight", layer, dead):
                stays = (mask & ~fits).view(self._sizes_in(f"{name}.weight", layer)).movedim(place.at, 0)
                going[place.group] &= ~stays.reshape(len(stays), -1).any(dim=1)
        return going

    @staticmethod
    def _padded(layer: nn.Module) -> bool:
        return isinstance(layer, CONVOLUTIONS) and (isinstance(layer.padding, str) or any(layer.padding))

    def _sizes_in(self, name: str, layer: nn.Module) -> list[int]:
        return [size for size, _group in self._factors_in(name, layer)]

    def _factors_in(self, name: str, layer: nn.Module) -> list[tuple[int, int | None]]:
        """Factors of the axis of a layer's inputs: of its weight's second axis; the groups of a convolution before."""
        weight = layer.get_parameter("weight")
        factors, groups = self.symmetries.factors[name], layer.groups if isinstance(layer, CONVOLUTIONS) else 1
        first = _take(factors, groups)
        outputs = _take(factors, weight.shape[0])
        return factors[:first] + factors[outputs : outputs + _take(factors[outputs:], weight.shape[1])]

    def _entries(self, name: str, layer: nn.Module, masks: Masks) -> list[tuple[Place, Tensor]]:
        """For each factor of a layer's input axis that is a group: which entries of the axis belong to its units."""
        if name not in self.symmetries.factors:
            return []
        factors = self._factors_in(name, layer)
        sizes = [size for size, _group in factors]
        found = []
        for at, (_size, group) in enumerate(factors):
            if group is not None:
                shape = [1] * len(sizes)
                shape[at] = sizes[at]
                found.append((Place(at, group, "in"), masks[group].view(shape).expand(sizes).reshape(-1)))
        return found

    @torch.no_grad()
    def _inputs(self, exact: Problem) -> dict[str, tuple[Tensor, Tensor]]:
        """layer -> (value, whether it is constant) of every entry of its input axis, over samples and places."""
        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def watch(name: str) -> Callable[..., None]:
            def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                x = inputs[0] if isinstance(module, nn.Linear) else inputs[0].movedim(1, -1)
                rows = x.reshape(-1, x.shape[-1])
                low, high = rows.amin(dim=0).cpu(), rows.amax(dim=0).cpu()
                constant = high - low <= 1e-12 * torch.maximum(high.abs(), low.abs())
                if name in seen:  # a layer that is used twice must read the same constant each time
                    constant = constant & seen[name][1] & (low == seen[name][0])
                seen[name] = (low, constant)

            return look

        model = copy.deepcopy(exact.model)
        open_attention(model)  # torch's own does not call its last layer
        exact = exact.with_model(model)
        layers = {n: m for n, m in model.named_modules() if isinstance(m, PRODUCERS)}
        for name, module in layers.items():
            module.register_forward_pre_hook(watch(name))
        exact.outcome(exact.weights(), exact.batches[0])
        return seen

    # ------------------------------------------------------------------ cutting

    def cut(self, problem: Problem, going: Masks) -> Problem:
        """The problem with a model of its own from which these units are gone, constants moved into biases."""
        model = copy.deepcopy(problem.model)
        reading = self._inputs(problem.first_batch())
        shifts = {name: self._shift(model.get_submodule(name), name, values[0], going)
                  for name, values in reading.items()}  # fmt: skip
        keep = [(~mask).nonzero().squeeze(1) for mask in going]
        if any(going[group].any() for group in self._attention.values()):
            open_attention(model)
        parts: dict[int, nn.Parameter] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            if name in self.symmetries.factors:
                replace(model, name, self._kept(name, tensor, keep), tensor, parts)
        for name, shift in shifts.items():
            if shift is not None:
                self._add(model, name, shift, keep)
        for name, module in model.named_modules():
            resize(module, self._groups_left(name, module, keep))
            if name in self._attention and isinstance(module, HasHeads):
                module.heads = len(keep[self._attention[name]])
        return problem.with_model(model)

    def _shift(self, layer: nn.Module, name: str, value: Tensor, going: Masks) -> Tensor | None:
        """What the units that go add to the outputs (all of them) of a layer that reads them; None for nothing."""
        entries = self._entries(f"{name}.weight", layer, going)
        gone = torch.zeros(len(value), dtype=torch.bool)
        for _place, mask in entries:
            gone |= mask
        if not bool((value[gone] != 0).any()):
            return None
        weight = layer.get_parameter("weight").detach()
        groups = layer.groups if isinstance(layer, CONVOLUTIONS) else 1
        taps = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).sum(dim=-1)  # (group, out, in)
        constant = torch.where(gone, value, 0).to(weight).view(groups, -1, 1)
        return (taps @ constant).reshape(-1)

    def _kept(self, name: str, tensor: Tensor, keep: Sequence[Tensor]) -> Tensor:
        factors = self.symmetries.factors[name]
        blocks = tensor.detach().reshape([size for size, _group in factors])
        for at, (_size, group) in enumerate(factors):
            if group is not None:
                blocks = blocks.index_select(at, keep[group].to(tensor.device))
        shape, rest = [], list(zip(factors, blocks.shape, strict=True))
        for length in tensor.shape:
            taken = _take([f for f, _new in rest], length)
            shape.append(math.prod(new for _f, new in rest[:taken]))
            rest = rest[taken:]
        return blocks.reshape(shape)

    def _add(self, model: nn.Module, name: str, shift: Tensor, keep: Sequence[Tensor]) -> None:
        layer = model.get_submodule(name)
        weight, factors = layer.get_parameter("weight"), self.symmetries.factors[f"{name}.weight"]
        outputs = factors[: _take(factors, len(shift))]
        blocks = shift.reshape([size for size, _group in outputs] or [len(shift)])
        for at, (_size, group) in enumerate(outputs):
            if group is not None:
                blocks = blocks.index_select(at, keep[group].to(shift.device))
        with torch.no_grad():
            if layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device))
            layer.get_parameter("bias").add_(blocks.reshape(-1))

    def _groups_left(self, name: str, module: nn.Module, keep: Sequence[Tensor]) -> int:
        """Groups of a convolution after the cut."""
        factors = self.symmetries.factors.get(f"{name}.weight")
        if not isinstance(module, CONVOLUTIONS) or factors is None:
            return getattr(module, "groups", 1) if isinstance(module, CONVOLUTIONS) else 1
        first = _take(factors, module.groups)
        return math.prod(size if group is None else len(keep[group]) for size, group in factors[:first])

    def removed(self, going: Masks) -> dict[str, int]:
        found: dict[str, int] = {}
        pairs = ((name.rpartition(".")[0], p.group) for name in self._places for p in self.places(name, "out"))
        for layer, group in dict.fromkeys(pairs):  # query, key and value of a head are one unit of their layer
            count = int(going[group].sum())
            if count:
                found[layer] = found.get(layer, 0) + count
        return found


def _take(factors: Sequence[tuple[int, int | None]], length: int) -> int:
    """How many of the factors, from the left, make an axis of this length."""
    taken, product = 0, 1
    while product < length:
        product *= factors[taken][0]
        taken += 1
    return taken
