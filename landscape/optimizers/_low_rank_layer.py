"""A layer while it is trained in factors: its products forward, and the gradients of K, L and S."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..networks.factored import Layer, flat, matrix_of, through_columns, through_rows
from ..networks.lowrank import Factors, nearest

Pass = tuple[Tensor, Tensor]  # inputs of a layer, and the loss's gradient by its outputs


class LowRankLayer:
    """A layer with W = U S V^T, which its module's weight always holds too.

    `k` (m, r) = U S, `l` (n, r) = V S^T and `s` are what optimizers move. `bases` are those in which `s` stands.
    """

    def __init__(self, name: str, module: Layer, rank: int, most: int) -> None:
        self.name, self.module, self.weight, self.most = name, module, module.weight, most
        self.passes: list[Pass] = []
        self.set(nearest(matrix_of(module), rank))
        self.bases = self.factors.u, self.factors.v
        self.k, self.l, self.s = (nn.Parameter(f.clone()) for f in (
            self.factors.left, self.factors.right, self.factors.s))  # fmt: skip

    @torch.no_grad()
    def set(self, factors: Factors) -> None:
        """Take factors; the dense weight becomes their product. `bases` stay those of `s`."""
        self.factors = Factors(*(f.contiguous() for f in (factors.u, factors.s, factors.v)))  # as a file gives it back
        self.weight.copy_(factors.matrix().reshape(self.weight.shape))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.factors.u), len(self.factors.v)

    def used_by(self, module: nn.Module) -> bool:
        """Whether the module has our weight now, to be trained: not one handed in, not one that is held."""
        return module.weight is self.weight and self.weight.requires_grad

    # ------------------------------------------------------------------ forward

    def forward_basis(self, inputs: Tensor) -> Tensor:
        """x W^T + b as (x V) K^T + b, whose one backward pass gives the gradients of K and of L."""
        if not self.used_by(self.module):
            return through_rows(self.module, inputs, self.module.weight.flatten(1)) + self._bias()
        product: Tensor = _Product.apply(inputs, self.k, self.l, self)  # type: ignore[no-untyped-call]  # torch's apply has no annotations
        return product + self._bias()

    def forward_core(self, inputs: Tensor) -> Tensor:
        """((x V) S^T) U^T + b in the bases of `s`: gradients by `s`."""
        if not self.used_by(self.module):
            return through_rows(self.module, inputs, self.module.weight.flatten(1)) + self._bias()
        u, v = self.bases
        features = through_columns(self.module, through_rows(self.module, inputs, v.T), self.s)
        return through_columns(self.module, features, u) + self._bias()

    def _bias(self) -> Tensor | float:
        bias = self.module.bias
        if bias is None:
            return 0.0
        return bias[:, None, None] if isinstance(self.module, nn.Conv2d) else bias

    # ------------------------------------------------------------------ gradients

    @torch.no_grad()
    def core_gradient(self) -> Tensor:
        """u^T G v (k, k) in the bases of `s`, from the inputs and output gradients of the pass at the same W."""
        u, v = self.bases
        found = self.s.new_zeros(self.s.shape)
        for inputs, slopes in self.passes:
            features = flat(self.module, through_rows(self.module, inputs, v.T))  # (points, k)
            found += (flat(self.module, slopes) @ u).T @ features
        return found


class _Product(torch.autograd.Function):
    """x V K^T; backward gives G V to K, G^T U to L and G^T-products to x, by one pass.

    The rows' product keeps a graph of its own, so that strides, padding and dilation are torch's.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, k: Tensor, l: Tensor, layer: LowRankLayer) -> Tensor:  # noqa: E741
        with torch.enable_grad():
            held = inputs.detach().requires_grad_(ctx.needs_input_grad[0])
            rows = layer.factors.v.T.detach().requires_grad_()
            features = through_rows(layer.module, held, rows)
        ctx.layer, ctx.inside = layer, (held, rows, features)
        return through_columns(layer.module, features.detach(), k)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        (slopes,) = outer
        layer, (held, rows, features) = ctx.layer, ctx.inside
        module, factors = layer.module, layer.factors
        layer.passes.append((held.detach(), slopes))
        by_k = flat(module, slopes).T @ flat(module, features.detach())  # (m, r) = G V
        inner = through_columns(module, slopes, factors.u.T)  # of (points, r): the gradient by what U receives
        (by_rows,) = torch.autograd.grad(features, rows, inner, retain_graph=ctx.needs_input_grad[0])  # (r, n)
        if not ctx.needs_input_grad[0]:
            return None, by_k, by_rows.T, None
        (by_inputs,) = torch.autograd.grad(features, held, through_columns(module, inner, factors.s.T))
        return by_inputs, by_k, by_rows.T, None
