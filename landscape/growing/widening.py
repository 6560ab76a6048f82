"""More units in a layer, in place: copies of old ones that share the old out-weights, new ones, and a residual layer.

At zero displacement and zero new out-weights the network's function is what it was. Layers must be widened from the
last to the first: a layer's own moves and out-weights are written in the coordinates that it had before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..loss.added import Residual, insert, residual
from .chains import Chain, Hidden


@dataclass(frozen=True)
class Additions:
    """What one hidden layer gets; rows of theta are weights and, where there is one, the bias.

    Args:
        split: (s,) units that become two, theta + move and theta - move, half of the out-weights each.
        moves: (s, inputs).
        fresh_in: (q, inputs) theta of new units.
        fresh_out: (readers, q * places, ...) their out-weights, in the shape of the reader's weight.
        layer_in: (r, entries) theta of the units of a new layer, on the hidden layer's activations; r may be 0.
        layer_out: (units, r) their out-weights.
    """

    split: Tensor
    moves: Tensor
    fresh_in: Tensor
    fresh_out: Tensor
    layer_in: Tensor
    layer_out: Tensor


def new_layer(h: Hidden, activation: nn.Module, theta: Tensor, out: Tensor) -> Residual:
    """A residual layer on the activations of a hidden layer: linear, or 3 x 3 and 1 x 1 convolutions."""
    taps = [3, 3] if isinstance(h.producer, nn.Conv2d) else []
    added = residual(activation, [len(theta), h.units, *taps], h.producer.weight)
    first, last = added.inner[0], added.inner[-1]
    assert isinstance(first, (nn.Linear, nn.Conv2d)) and isinstance(last, (nn.Linear, nn.Conv2d))  # noqa: PT018
    _set(first, "weight", theta[:, :-1].reshape(first.weight.shape))
    _set(first, "bias", theta[:, -1])
    _set(last, "weight", out.reshape(last.weight.shape))
    return added


@torch.no_grad()
def widen(chain: Chain, h: Hidden, grown: Additions, readers: Tensor | None) -> Tensor:
    """Widen a hidden layer in place.

    Args:
        readers: (rows,) the unit that each row of the reader was before it was widened itself, -1 for a new one; None
            where it was not.

    Returns:
        (units,) the same for this layer: which unit each of its units was.
    """
    units, split, count = h.units, grown.split, len(grown.fresh_in)
    if len(grown.layer_in):
        owner, key = chain.owners[h.activation]
        activation = chain.modules[h.activation]
        added = new_layer(h, activation, grown.layer_in, grown.layer_out)
        insert(owner, key, added)
        _follow(added, units, split, count)
    for module in chain.modules[h.activation + 1 : h.read_at]:
        if isinstance(module, Residual):
            _follow(module, units, split, count)
    _producer(h, grown)
    if h.norm is not None:
        _norm(chain.modules[h.norm], split, count)
    _reader(h.reader, units, split, grown.fresh_out, readers)
    return torch.cat([torch.arange(units), split.cpu(), torch.full((count,), -1)])


def _producer(h: Hidden, grown: Additions) -> None:
    layer, biased = h.producer, h.producer.bias is not None
    weight, bias = layer.weight.detach().clone(), None if layer.bias is None else layer.bias.detach().clone()
    moves = (grown.moves[:, :-1] if biased else grown.moves).reshape(-1, *weight.shape[1:])
    new = (grown.fresh_in[:, :-1] if biased else grown.fresh_in).reshape(-1, *weight.shape[1:])
    old = weight[grown.split]
    weight[grown.split] = old + moves
    _set(layer, "weight", torch.cat([weight, old - moves, new]))
    if bias is not None:
        old = bias[grown.split]
        bias[grown.split] = old + grown.moves[:, -1]
        _set(layer, "bias", torch.cat([bias, old - grown.moves[:, -1], grown.fresh_in[:, -1]]))


def _norm(module: nn.Module, split: Tensor, count: int) -> None:
    """Copies keep scale, shift and statistics; new units pass as they are: variance + eps = 1."""
    assert isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
    for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0 - module.eps)):
        old = getattr(module, name)
        if old is not None:
            _set(module, name, torch.cat([old.detach(), old.detach()[split], old.new_full((count,), value)]))


def _reader(
    layer: nn.Linear | nn.Conv2d, units: int, split: Tensor, fresh: Tensor, readers: Tensor | None
) -> None:
    weight = layer.weight.detach()
    blocks = weight.reshape(len(weight), units, -1).clone()  # (rows, units, places and taps)
    blocks[:, split] /= 2
    new = fresh.new_zeros(len(weight), *fresh.shape[1:])
    source = torch.arange(len(fresh)) if readers is None else readers
    known = (source >= 0).nonzero().squeeze(1)
    new[known] = fresh[source[known]]
    count = fresh.numel() // (len(fresh) * blocks.shape[2])
    parts = [blocks, blocks[:, split], new.reshape(len(weight), count, blocks.shape[2])]
    _set(layer, "weight", torch.cat(parts, 1).reshape(len(weight), -1, *weight.shape[2:]))


def _follow(residual: Residual, units: int, split: Tensor, count: int) -> None:
    """Let a residual layer read both copies by half, add to both, and leave new units alone."""
    first, last = residual.inner[0], residual.inner[-1]
    assert isinstance(first, (nn.Linear, nn.Conv2d)) and isinstance(last, (nn.Linear, nn.Conv2d))  # noqa: PT018
    per_unit = first.weight.new_zeros(len(first.weight), count, *first.weight.shape[2:])
    _reader(first, units, split, per_unit, None)
    rows = last.weight.detach()
    _set(last, "weight", torch.cat([rows, rows[split], rows.new_zeros(count, *rows.shape[1:])]))


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    """Another tensor for a weight or buffer, and the module's own numbers with it; a weight stays the same object."""
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        old.grad = None
        old.data = value.detach().to(old).clone()
    else:
        setattr(module, name, value)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        module.num_features = len(value)
