"""Smallest eigenpairs of all splitting matrices at once, without building one.

The splitting matrix of neuron i is S_i = E[ dL/dphi_i phi''(z_i) h h^T ] (Liu, Wu & Wang 2019), h with 1 appended where
the layer has a bias. With two vectors a neuron and the forward pass phi(z_i) + c_i^2 phi''(z_i) (y_i . h) (v_i . h),
c_i the factor of a frozen BatchNorm, the gradient by y_i at y = 0 is S_i v_i: all neurons of all layers in one backward
(Wang, Li, Wu, Chandra & Liu 2019). The published Rayleigh-quotient descent goes by it, and `extremes.lanczos` may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .chains import Chain, chains_of, frozen, hidden_of, norm_factor, per_unit, running, second_derivative, theta_map
from .extremes import Vectors

Loss = Callable[[], Tensor]  # mean loss at the model's present weights, with its graph


class SplittingProduct:
    """S_i v_i of all neurons of all hidden layers: one forward and one backward.

    Raises:
        ProblemError: no layer of the model can grow.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.chains = model, chains_of(model)
        self.hidden = {h.name: h for h in hidden_of(self.chains)}
        self.products = 0  # done so far

    def like(self) -> Vectors:
        """Zeros (units, inputs) of every layer: the shape, precision and device of what a product takes."""
        return {name: h.producer.weight.new_zeros(h.units, h.inputs) for name, h in self.hidden.items()}

    def __call__(self, vectors: Vectors, loss: Loss) -> Vectors:
        """S_i v_i for rows v_i; `loss` is of the batch or of all data."""
        asides = {name: torch.zeros_like(v, requires_grad=True) for name, v in vectors.items()}

        def run(chain: Chain, x: Tensor) -> Tensor:
            ends = {h.activation: h for h in chain.hidden if h.name in vectors}
            starts = {h.at: h.name for h in ends.values()}
            reads: dict[str, Tensor] = {}
            for at, module in enumerate(chain.modules):
                if at in starts:
                    reads[starts[at]] = x.detach()
                z, x = x, frozen(module, x)
                if at in ends:
                    h = ends[at]
                    bend = second_derivative(module, z)
                    if h.norm is not None:
                        bend = bend * per_unit(norm_factor(chain.modules[h.norm]).square(), bend)
                    along = bend * theta_map(h.producer, reads[h.name], vectors[h.name])
                    x = x + along * theta_map(h.producer, reads[h.name], asides[h.name])
            return x

        self.products += 1
        with running(self.chains, run), torch.enable_grad():
            found = torch.autograd.grad(loss(), list(asides.values()))
        return dict(zip(asides, found, strict=True))


def rayleigh_descent(
    product: SplittingProduct, losses: Sequence[Loss], *, epochs: int = 10, lr: float = 1e-3, momentum: float = 0.9,
    alpha: float = 0.9, decay: float = 0.2, decay_every: int = 2, seed: int = 0,
) -> dict[str, tuple[Tensor, Tensor]]:  # fmt: skip
    """Smallest eigenvalues (units,) and their vectors (units, inputs), unit rows, by layer; no residuals are known.

    It minimises R_i = v_i . S_i v_i / v_i . v_i by RMSprop on mini-batches, as published (their defaults).

    The gradient is 2 (S v |v|^2 - v v.Sv) / |v|^4; rows are normalised after every step. The value is the mean of R
    over the last epoch, the vector the normalised mean of that epoch's.

    Args:
        losses: one a mini-batch of an epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.rand(v.shape, generator=generator, dtype=torch.float64).to(v)
             for name, v in product.like().items()}  # fmt: skip
    rows = {name: nn.Parameter(0.2 * v - 0.1) for name, v in drawn.items()}
    optimizer = torch.optim.RMSprop(list(rows.values()), lr, alpha, momentum=momentum)
    means = {name: (torch.zeros(len(v)).to(v), torch.zeros_like(v.detach())) for name, v in rows.items()}
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * decay ** (epoch // decay_every)
        for loss in losses:
            products = product({name: v.detach() for name, v in rows.items()}, loss)
            for name, v in rows.items():
                x, sx = v.detach(), products[name]
                norm, energy = x.square().sum(1, keepdim=True), (x * sx).sum(1, keepdim=True)
                v.grad = 2 * (sx * norm - x * energy) / norm.square()
                if epoch == epochs - 1:
                    means[name] = (means[name][0] + (energy / norm).squeeze(1) / len(losses), means[name][1] + x)
            optimizer.step()
            with torch.no_grad():
                for v in rows.values():
                    v.div_(v.norm(dim=1, keepdim=True))
    return {name: (value, total / total.norm(dim=1, keepdim=True)) for name, (value, total) in means.items()}
