"""A small GPT that predicts the next byte of Python's own source: 470,528 weights as it comes.

Pre-norm blocks as in GPT-2 (Radford et al. 2019). Settings width=320 layers=8 make 10,048,640 weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..loss.objective import convex
from ..loss.problem import Problem
from ._layers import set_seed
from ._text import BYTES, standard_library


def build(
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    context: int = 64,
    tied: bool = False,
    samples: int = 2000,
    test_samples: int = 500,
    seed: int | None = None,
    batch_size: int = 32,
) -> Problem:
    """A causal transformer with cross-entropy over the bytes of the running Python's standard library.

    The text depends on the version of Python: the problem's name carries its digest, and so does every record.
    A sample is a sequence; all are equally long, so the mean over sequences is the mean over bytes.

    Args:
        width: of the residual stream; a multiple of `heads`.
        layers: transformer blocks.
        heads: attention heads.
        context: bytes that are read to predict the following ones.
        tied: the embedding is also the last layer.
        samples: training sequences, spread evenly over nine of ten files.
        test_samples: test sequences out of every tenth file; 0 for none.
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        batch_size: sequences a batch of the curvature jobs; it changes no number.
    """
    if min(width, layers, heads, context) < 1 or width % heads:
        raise UsageError(
            f"width, layers, heads and context must be at least 1 and width a multiple of heads, "
            f"got {width}, {layers}, {heads} and {context}"
        )
    train, test, digest = standard_library(context, samples, test_samples)
    set_seed(seed)
    model = GPT(BYTES, context, width, layers, heads, tied)
    name = f"gpt on Python source {digest}"
    return Problem(model, next_token_loss, train, batch_size=batch_size, test_data=test, name=name)


@convex
def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (samples, context, vocabulary) at targets (samples, context)."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class GPT(nn.Module):
    """Tokens (samples, context) -> logits of the next ones (samples, context, vocabulary)."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int, tied: bool = False) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:  # what adds to the residual stream starts smaller: it is added 2 * layers times
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * layers) if name.endswith("out.weight") else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        logits: Tensor = self.head(self.norm(self.blocks(self.token(tokens) + self.position(places))))
        return logits


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): (samples, context, width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def head_blocks(self) -> dict[str, tuple[int, int]]:
        """Where the heads lie in the weights: tensor -> (before, after), seen as (before, heads, after)."""
        width = self.attention_out.out_features
        size = self.attention_out.in_features // self.heads
        return {"attention_in.weight": (3, size * width), "attention_in.bias": (3, size),
                "attention_out.weight": (width, size)}  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        split = self.attention_in(self.attention_norm(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (samples, heads, context, width / heads)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp_out(nn.functional.gelu(self.mlp_in(self.mlp_norm(x))))
        return out
