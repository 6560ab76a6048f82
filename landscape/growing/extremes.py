"""Smallest and largest eigenpairs of many small symmetric matrices at once, from products with a vector of each.

The matrices are those of the units of a network's layers: one product multiplies all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Vectors = dict[str, Tensor]  # layer -> (k, d) one vector a unit: its row of the weight, flat, and its bias


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest eigenpair of every matrix of a layer; vectors have length 1."""

    low: Tensor  # (k,)
    low_vectors: Tensor  # (k, d)
    high: Tensor
    high_vectors: Tensor
    residuals: Tensor  # (2, k) norm of S v - lambda v, of the smallest and of the largest


def lanczos(
    product: Callable[[Vectors], Vectors], like: Mapping[str, Tensor], products: int = 24, seed: int = 0
) -> dict[str, Extremes]:
    """By layer, all units of all layers at once: `products` products, every basis orthogonalised in full.

    An eigenvalue lies within the residual of each; exact to rounding for units with at most as many weights.

    Args:
        product: S_i v_i of the units of the layers that it is given.
        like: (k, d) by layer, whose shape, precision and device the vectors have.
    """
    runs = {name: _Run(shape, products, seed) for name, shape in like.items()}
    while going := {name: run for name, run in runs.items() if not run.complete}:
        found = product({name: run.basis[-1] for name, run in going.items()})
        for name, run in going.items():
            run.take(found[name])
    return {name: run.extremes() for name, run in runs.items()}


class _Run:
    """A Lanczos recurrence for each unit of a layer."""

    def __init__(self, like: Tensor, products: int, seed: int) -> None:
        self.d = like.shape[1]
        self.steps = min(products, self.d)
        self._generator = torch.Generator().manual_seed(seed)
        self.basis: list[Tensor] = []  # (k, d) each
        self.alpha: list[Tensor] = []  # (k,)
        self.beta: list[Tensor] = []
        self._scale = like.new_zeros(len(like))  # (k,) what is small is small against it
        start = self._random(like)
        self.basis.append(start / start.norm(dim=1, keepdim=True))

    def _random(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator, dtype=torch.float64).to(like)

    @property
    def complete(self) -> bool:
        return len(self.alpha) == self.steps

    def take(self, image: Tensor) -> None:
        """The next step, given S v of the last basis vectors."""
        self.alpha.append((self.basis[-1] * image).sum(dim=1))
        self._scale = torch.maximum(self._scale, image.norm(dim=1))
        rest = self._outside(image)
        beta = rest.norm(dim=1)
        if self.complete:
            self.beta.append(torch.zeros_like(beta) if self.steps == self.d else beta)
            return
        ended = beta <= 100 * torch.finfo(image.dtype).eps * self._scale  # an invariant space: go on outside of it
        if ended.any():
            rest = torch.where(ended[:, None], self._outside(self._random(image)), rest)
        self.beta.append(torch.where(ended, 0, beta))
        self.basis.append(nn.functional.normalize(rest, dim=1, eps=torch.finfo(image.dtype).tiny))

    def _outside(self, vectors: Tensor) -> Tensor:
        basis = torch.stack(self.basis)  # (steps, k, d)
        for _ in range(2):  # twice is enough (Kahan; Parlett 1980)
            vectors = vectors - torch.einsum("skd,sk->kd", basis, torch.einsum("skd,kd->sk", basis, vectors))
        return vectors

    def extremes(self) -> Extremes:
        alpha, beta = torch.stack(self.alpha, dim=1), torch.stack(self.beta, dim=1)  # (k, steps)
        small = torch.diag_embed(alpha.double())
        small = small + torch.diag_embed(beta[:, :-1].double(), 1) + torch.diag_embed(beta[:, :-1].double(), -1)
        values, ritz = (part.to(alpha) for part in torch.linalg.eigh(small))
        basis = torch.stack(self.basis, dim=1)  # (k, steps, d)
        ends = (ritz[:, :, 0], ritz[:, :, -1])
        low, high = (nn.functional.normalize(torch.einsum("ks,ksd->kd", end, basis), dim=1) for end in ends)
        residuals = torch.stack([(beta[:, -1] * end[:, -1]).abs() for end in ends])
        return Extremes(values[:, 0], low, values[:, -1], high, residuals)
