"""More units in layers, as a state dict: copies of old ones that share the old out-weights, new ones, residual layers.

At zero displacement and zero new out-weights the network's function is what it was. Moves and out-weights are written
in the coordinates of the small network. The wide tensors are differentiable in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..loss.added import Insertion, part_of_residual
from .embedding import Change, Cut, Widening
from .units import Layer

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Additions:
    """What one layer gets; rows of theta are weights and, where there is one, the bias.

    Args:
        split: (s,) units that become two, theta + move and theta - move, half of the out-weights each.
        moves: (s, inputs).
        fresh_in: (q, inputs) theta of new units.
        fresh_out: (q, entries) their out-weights: of every reader (readers' rows, places, taps), flat.
        layer_in: (r, entries) theta of the units of a new layer, on the layer's activations; r may be 0.
        layer_out: (units, r) their out-weights.
        place: the module of the activation behind which the new layer goes.
    """

    split: Tensor
    moves: Tensor
    fresh_in: Tensor
    fresh_out: Tensor
    layer_in: Tensor
    layer_out: Tensor
    place: str = ""


def readers(model: nn.Module, layer: Layer) -> list[Cut]:
    """Where the units of a layer are read, but for residual layers that they pass through."""
    return [cut for cut in layer.read if part_of_residual(model, cut.tensor.rpartition(".")[0]) != "0"]


def out_entries(model: nn.Module, layer: Layer) -> int:
    """Out-weights of one unit."""
    return sum(model.get_parameter(cut.tensor).numel() // layer.units for cut in readers(model, layer))


def widened(
    model: nn.Module, layers: Sequence[Layer], additions: Mapping[str, Additions]
) -> tuple[dict[str, Tensor], list[Change]]:
    """(state dict of the wider network, how the tensors of the small one stand in it).

    Args:
        layers: of `units.layers_of`, with those that pass through residual layers.
        additions: by layer.
    """
    small = {name: t.detach() for name, t in model.state_dict().items()}
    state = dict(small)
    maps: dict[str, Widening] = {}
    for layer in (layer for layer in layers if layer.name in additions):
        grown = additions[layer.name]
        maps[layer.name] = _map(layer, grown)
        if len(grown.layer_in):
            state |= _new_layer(small[f"{layer.name}.weight"], grown)
    changes: list[Change] = [w for w in maps.values() if len(w.sources) > len(small[f"{w.layer}.weight"])]
    placed = {name: _with_new_layer(w, additions[name]) for name, w in maps.items()}
    for name, widening in placed.items():
        state = widening.produce(state)
        state |= _normed(model, widening, state) | _own(name, state, additions[name])
    rows = {cut.tensor: w.sources for w in placed.values() for cut in w.produced}
    for layer in (layer for layer in layers if layer.name in placed):
        state, fresh = placed[layer.name].share(state), additions[layer.name].fresh_out
        for cut in readers(model, layer):
            shape = small[cut.tensor].shape
            part, fresh = fresh.tensor_split([shape.numel() // layer.units], dim=1)
            if len(part):
                columns = _columns(part.reshape(len(part), shape[0], cut.after, *shape[2:]), rows.get(cut.tensor))
                old = state[cut.tensor][:, : -columns.shape[1]]
                state[cut.tensor] = torch.cat([old, columns], dim=1)
    new = {name: list(t.shape) for name, t in state.items() if name not in small}
    return state, [*changes, Insertion(new)] if new else changes


def _map(layer: Layer, grown: Additions) -> Widening:
    """Old units, then the second copies of those that split, then new ones."""
    sources = [*range(layer.units), *grown.split.tolist(), *[-1] * len(grown.fresh_in)]
    return layer.widening(sources, [1.0 if s < 0 else 1 / sources.count(s) for s in sources])


def _new_layer(weight: Tensor, grown: Additions) -> dict[str, Tensor]:
    """Tensors of a residual layer on the units of a weight: linear, or 3 x 3 and 1 x 1 convolutions."""
    taps = [1] * (weight.ndim - 2)
    return {
        f"{grown.place}.1.inner.0.weight": grown.layer_in[:, :-1].reshape(
            len(grown.layer_in), len(weight), *(3 * tap for tap in taps)),
        f"{grown.place}.1.inner.0.bias": grown.layer_in[:, -1],
        f"{grown.place}.1.inner.2.weight": grown.layer_out.reshape(*grown.layer_out.shape, *taps),
    }  # fmt: skip


def _with_new_layer(widening: Widening, grown: Additions) -> Widening:
    """The new residual layer reads and makes the units too."""
    if not len(grown.layer_in):
        return widening
    read, produced = (Cut(f"{grown.place}.1.inner.{number}.weight", axis) for number, axis in ((0, 1), (2, 0)))
    return replace(widening, produced=[*widening.produced, produced], read=[*widening.read, read])


def _normed(model: nn.Module, widening: Widening, state: State) -> dict[str, Tensor]:
    """New units pass a BatchNorm as they are, variance + eps = 1; copies have all that the old have."""
    count, found = sum(source < 0 for source in widening.sources), {}
    for cut in widening.produced if count else ():
        owner, _, leaf = cut.tensor.rpartition(".")
        module = dict(model.named_modules()).get(owner)  # a residual layer that comes in is not there yet
        if isinstance(module, nn.modules.batchnorm._NormBase):
            value = {"weight": 1.0, "running_var": 1 - module.eps}.get(leaf, 0.0)
            old = state[cut.tensor][:-count]
            found[cut.tensor] = torch.cat([old, old.new_full((count,), value)])
    return found


def _own(layer: str, state: State, grown: Additions) -> dict[str, Tensor]:
    """The layer's rows: copies moved apart, new ones."""
    weight, bias = state[f"{layer}.weight"], state.get(f"{layer}.bias")
    new = torch.arange(len(weight) - len(grown.fresh_in), len(weight), device=weight.device)
    second = torch.arange(len(weight) - len(new) - len(grown.split), len(weight) - len(new), device=weight.device)

    def moved(rows: Tensor, moves: Tensor, fresh: Tensor) -> Tensor:
        moves, fresh = (part.reshape(-1, *rows.shape[1:]) for part in (moves, fresh))
        return rows.index_add(0, grown.split, moves).index_add(0, second, -moves).index_add(0, new, fresh)

    entries = weight[0].numel()  # the bias stands behind them
    found = {f"{layer}.weight": moved(weight, grown.moves[:, :entries], grown.fresh_in[:, :entries])}
    return found if bias is None else found | {
        f"{layer}.bias": moved(bias, grown.moves[:, entries:], grown.fresh_in[:, entries:])
    }  # fmt: skip


def _columns(fresh: Tensor, rows: Sequence[int] | None) -> Tensor:
    """Out-weights (q, readers, places, ...) as columns (rows, q * places, ...) of a reader; new rows read nothing.

    Args:
        rows: the reader's old row of each of its rows, -1: new; None where it does not grow.
    """
    if rows is not None:
        index = torch.tensor(rows, device=fresh.device)
        known = (index >= 0).to(fresh.dtype).view(1, -1, *[1] * (fresh.ndim - 2))
        fresh = fresh.index_select(1, index.clamp_min(0)) * known
    return fresh.transpose(0, 1).flatten(1, 2)
