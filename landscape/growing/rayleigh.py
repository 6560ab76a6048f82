"""Smallest eigenvalues of all splitting matrices by descent on Rayleigh quotients (Wang, Li, Wu, Chandra & Liu 2019).

As published, to compare with; `extremes.lanczos` on the same products is faster and more exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .splitting import Splitting


def rayleigh_descent(
    splittings: Sequence[Splitting], *, epochs: int = 10, lr: float = 1e-3, momentum: float = 0.9,
    alpha: float = 0.9, decay: float = 0.2, decay_every: int = 2, seed: int = 0,
) -> dict[str, tuple[Tensor, Tensor]]:  # fmt: skip
    """Smallest eigenvalues (units,) and their vectors (units, inputs), unit rows, by layer; no residuals are known.

    It minimises R_i = v_i . S_i v_i / v_i . v_i by RMSprop on mini-batches, as published (their defaults).

    The gradient is 2 (S v |v|^2 - v v.Sv) / |v|^4; rows are normalised after every step. The value is the mean of R
    over the last epoch, the vector the normalised mean of that epoch's.

    Args:
        splittings: one a mini-batch of an epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.rand(v.shape, generator=generator, dtype=torch.float64).to(v)
             for name, v in splittings[0].like().items()}  # fmt: skip
    rows = {name: nn.Parameter(0.2 * v - 0.1) for name, v in drawn.items()}
    optimizer = torch.optim.RMSprop(list(rows.values()), lr, alpha, momentum=momentum)
    means = {name: (torch.zeros(len(v)).to(v), torch.zeros_like(v.detach())) for name, v in rows.items()}
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * decay ** (epoch // decay_every)
        for splitting in splittings:
            products = splitting.product({name: v.detach() for name, v in rows.items()})
            for name, v in rows.items():
                x, sx = v.detach(), products[name]
                norm, energy = x.square().sum(1, keepdim=True), (x * sx).sum(1, keepdim=True)
                v.grad = 2 * (sx * norm - x * energy) / norm.square()
                if epoch == epochs - 1:
                    means[name] = (means[name][0] + (energy / norm).squeeze(1) / len(splittings), means[name][1] + x)
            optimizer.step()
            with torch.no_grad():
                for v in rows.values():
                    v.div_(v.norm(dim=1, keepdim=True))
    return {name: (value, total / total.norm(dim=1, keepdim=True)) for name, (value, total) in means.items()}
