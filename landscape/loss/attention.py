"""Attention heads as units of a network: where they lie in the weights, and an attention that may have any number.

`torch.nn.MultiheadAttention` has as many heads as fill its width; without some of them it is another module, which
is here. Any module takes part that offers `heads` and `head_blocks()`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Blocks = dict[str, tuple[int, int, int]]  # tensor -> (before, heads, after): the three numbers it is seen as


@runtime_checkable
class HasHeads(Protocol):
    """A module of attention heads; the first number around them is that of all it has before, the second after."""

    heads: int

    def head_blocks(self) -> dict[str, tuple[int, int]]: ...


def head_blocks(module: nn.Module) -> Blocks:
    """Where the heads lie in the tensors of a module; nothing in one that has none."""
    if isinstance(module, nn.MultiheadAttention):
        plain = module.bias_k is None and not module.add_zero_attn  # else what all heads attend to has more places
        return head_blocks(Attention(module)) if plain else {}
    if isinstance(module, HasHeads):
        return {name: (before, module.heads, after) for name, (before, after) in module.head_blocks().items()}
    return {}


def axis_of(shape: Sequence[int], before: int) -> int:
    """The axis of a tensor in which its heads lie."""
    return next(d for d in range(len(shape)) if before < math.prod(shape[: d + 1]))


def heads_in(old: Sequence[int], new: Sequence[int], block: tuple[int, int, int]) -> int:
    """How many heads a tensor of a new shape has; the number that it has where that is not whole."""
    before, heads, _after = block
    axis = axis_of(old, before)
    each, rest = divmod(old[axis], heads)
    left = new[axis] / each
    return int(left) if not rest and left >= 1 and left == int(left) else heads


class Attention(nn.Module):
    """`nn.MultiheadAttention` with its names, arguments and outputs, whose heads need not fill its width.

    Args:
        original: gives the weights, which are shared, not copied. It has no bias_k, bias_v or added zeros.
    """

    in_proj_weight: nn.Parameter | None  # query, key and value below one another; None where they are apart
    in_proj_bias: nn.Parameter | None
    q_proj_weight: nn.Parameter
    k_proj_weight: nn.Parameter
    v_proj_weight: nn.Parameter
    out_proj: nn.Linear
    _qkv_same_embed_dim = False  # keeps torch's encoder layers off the kernel that computes the heads from the width

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads: int = original.num_heads
        self.embed_dim, self.dropout = original.embed_dim, original.dropout
        self.batch_first, self.training = original.batch_first, original.training
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"):
            self.register_parameter(name, getattr(original, name))
        self.out_proj = original.out_proj

    @property
    def num_heads(self) -> int:
        return self.heads

    def head_blocks(self) -> dict[str, tuple[int, int]]:
        """tensor -> (before, after), seen as (before, heads, after)."""
        width, size = self.out_proj.weight.shape[0], self.out_proj.weight.shape[1] // self.heads
        found = {"out_proj.weight": (width, size)}
        for name, weight in self.named_parameters(recurse=False):
            before = 3 if name.startswith("in_proj") else 1
            found[name] = (before, weight.numel() // (before * self.heads))
        return found

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(samples, places, width), or as the original's `batch_first` says; `is_causal` only repeats the mask."""
        batched, swap = query.ndim == 3, query.ndim == 3 and not self.batch_first
        given = [x.transpose(0, 1) if swap else x if batched else x[None] for x in (query, key, value)]
        q, k, v = self._project(given)  # each (samples, heads, places, size)
        if key_padding_mask is not None and not batched:
            key_padding_mask = key_padding_mask[None]
        mask = self._mask(attn_mask, key_padding_mask, q)
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            mixed = nn.functional.dropout(weights, self.dropout, self.training) @ v
            weights = weights.mean(dim=1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        else:
            lost = self.dropout if self.training else 0.0
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, mask, lost)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return (out.transpose(0, 1) if swap else out if batched else out[0]), weights

    def _project(self, given: list[Tensor]) -> list[Tensor]:
        if self.in_proj_weight is not None:
            weights: Sequence[Tensor] = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases: Sequence[Tensor | None] = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        made = [nn.functional.linear(x, w, b) for x, w, b in zip(given, weights, biases, strict=True)]
        return [x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in made]

    def _mask(self, attention: Tensor | None, padding: Tensor | None, query: Tensor) -> Tensor | None:
        """What is added to the scores (samples, heads, places, places), of a shape that goes with theirs."""
        masks = []
        if attention is not None:  # (places, places), or one each sample and head
            masks.append(attention.unflatten(0, (-1, self.heads)) if attention.ndim == 3 else attention)
        if padding is not None:
            masks.append(padding[:, None, None, :])
        added = [m if m.is_floating_point() else torch.zeros_like(m, dtype=query.dtype).masked_fill(m, -math.inf)
                 for m in masks]  # fmt: skip
        return added[0] + added[1] if len(added) > 1 else added[0] if added else None


def open_attention(model: nn.Module) -> None:
    """Put `Attention` in the place of every `nn.MultiheadAttention` inside a model; the weights stay the same ones."""
    done: dict[int, Attention] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and isinstance(module, nn.MultiheadAttention) and head_blocks(module):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, done.setdefault(id(module), Attention(module)))
