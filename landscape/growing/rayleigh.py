"""Smallest eigenpairs of all splitting matrices at once, without building one.

The splitting matrix of neuron i is S_i = E[ dL/dphi_i phi''(z_i) h h^T ] (Liu, Wu & Wang 2019), h with 1 appended where
the layer has a bias. With two vectors a neuron and the forward pass phi(z_i) + c_i^2 phi''(z_i) (y_i . h) (v_i . h),
c_i the factor of a frozen BatchNorm, the gradient by y_i at y = 0 is S_i v_i: all neurons of all layers in one backward
(Wang, Li, Wu, Chandra & Liu 2019). Two solvers on that product: the published Rayleigh-quotient descent, and Lanczos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .chains import Chain, chains_of, frozen, hidden_of, norm_factor, per_unit, running, second_derivative, theta_map

Loss = Callable[[], Tensor]  # mean loss at the model's present weights, with its graph
Vectors = dict[str, Tensor]  # layer -> (units, inputs)


@dataclass(frozen=True)
class Pairs:
    """Smallest eigenpairs of a layer's splitting matrices; residuals are norms of S v - lam v (NaN: not known)."""

    values: Tensor  # (units,)
    vectors: Tensor  # (units, inputs), unit rows
    residuals: Tensor  # (units,)


class SplittingProduct:
    """S_i v_i of all neurons of all hidden layers: one forward and one backward.

    Raises:
        ProblemError: no layer of the model can grow.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.chains = model, chains_of(model)
        self.hidden = {h.name: h for h in hidden_of(self.chains)}
        self.products = 0  # done so far

    def start(self, draw: Callable[..., Tensor], generator: torch.Generator) -> Vectors:
        """Vectors (units, inputs) of every layer by `draw` (torch.rand, torch.randn)."""
        found = {}
        for name, h in self.hidden.items():
            drawn = draw(h.units, h.inputs, generator=generator, dtype=torch.float64)
            found[name] = drawn.to(h.producer.weight)
        return found

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
) -> dict[str, Pairs]:  # fmt: skip
    """Minimise R_i = v_i . S_i v_i / v_i . v_i by RMSprop on mini-batches, as published (their defaults).

    The gradient is 2 (S v |v|^2 - v v.Sv) / |v|^4; rows are normalised after every step. The value is the mean of R
    over the last epoch, the vector the normalised mean of that epoch's.

    Args:
        losses: one a mini-batch of an epoch.
    """
    with torch.no_grad():
        vectors = product.start(torch.rand, torch.Generator().manual_seed(seed))
        rows = {name: nn.Parameter(0.2 * v - 0.1) for name, v in vectors.items()}
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
    return {name: Pairs(value, total / total.norm(dim=1, keepdim=True), torch.full_like(value, torch.nan))
            for name, (value, total) in means.items()}  # fmt: skip


def lanczos(product: SplittingProduct, loss: Loss, *, matvecs: int = 20, seed: int = 0) -> dict[str, Pairs]:
    """Lanczos of all neurons side by side on one product an iteration, with full re-orthogonalisation.

    After k = min(matvecs, inputs) products a row's smallest Ritz value lies above its smallest eigenvalue, and an
    eigenvalue lies within the residual of it.
    """
    generator = torch.Generator().manual_seed(seed)
    solvers = {name: _Rows(start, matvecs) for name, start in product.start(torch.randn, generator).items()}
    while open_ := {name: s for name, s in solvers.items() if not s.done}:
        products = product({name: s.basis[-1] for name, s in open_.items()}, loss)
        for name, solver in open_.items():
            solver.take(products[name], generator)
    return {name: solver.smallest() for name, solver in solvers.items()}


class _Rows:
    """Lanczos of the rows of one layer, each with its own matrix."""

    def __init__(self, start: Tensor, matvecs: int) -> None:
        self.basis = [start / start.norm(dim=1, keepdim=True)]  # each (units, inputs)
        self.wanted = min(matvecs, start.shape[1])
        self.alpha: list[Tensor] = []  # (units,)
        self.beta: list[Tensor] = []
        self.scale = torch.zeros(len(start), dtype=start.dtype, device=start.device)

    @property
    def done(self) -> bool:
        return len(self.alpha) == self.wanted

    def take(self, product: Tensor, generator: torch.Generator) -> None:
        """Go on by the product of the last basis vectors; a row whose space is invariant goes on with a random one."""
        self.alpha.append((self.basis[-1] * product).sum(1))
        rest = self._orthogonal(product)
        beta = rest.norm(dim=1)
        self.scale = torch.maximum(self.scale, product.norm(dim=1))
        if len(self.alpha) < product.shape[1]:  # else the basis spans everything and nothing is left
            over = beta <= 100 * torch.finfo(beta.dtype).eps * self.scale
            fresh = torch.randn(rest.shape, generator=generator, dtype=torch.float64).to(rest)
            rest = torch.where(over[:, None], self._orthogonal(fresh), rest)
            beta = torch.where(over, 0.0, beta)
        else:
            beta = torch.zeros_like(beta)
        self.beta.append(beta)
        if not self.done:
            self.basis.append(rest / rest.norm(dim=1, keepdim=True))

    def _orthogonal(self, rows: Tensor) -> Tensor:
        basis = torch.stack(self.basis)  # (k, units, inputs)
        for _ in range(2):  # twice is enough (Kahan; Parlett 1980)
            rows = rows - torch.einsum("kud,ku->ud", basis, torch.einsum("kud,ud->ku", basis, rows))
        return rows

    def smallest(self) -> Pairs:
        diagonal, off = torch.stack(self.alpha, 1).double(), torch.stack(self.beta, 1).double()  # (units, k)
        projected = torch.diag_embed(diagonal)
        if off.shape[1] > 1:
            projected = projected + torch.diag_embed(off[:, :-1], 1) + torch.diag_embed(off[:, :-1], -1)
        values, mixes = torch.linalg.eigh(projected)
        basis = torch.stack(self.basis)
        mix = mixes[:, :, 0].to(basis)
        residuals = (off[:, -1] * mixes[:, -1, 0].abs()).to(basis)
        return Pairs(values[:, 0].to(basis), torch.einsum("kud,uk->ud", basis, mix), residuals)
