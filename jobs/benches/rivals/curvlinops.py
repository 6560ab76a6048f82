"""curvlinops: forward over reverse, vectors in one vmap; eigenpairs by its bridge to scipy's ARPACK."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._case import Case, Estimate, Pairs, pooled, sorted_pairs

MODULE, DISTRIBUTION = "curvlinops", "curvlinops-for-pytorch"
BLOCKS = True
EFFORTS: tuple[dict[str, Any], ...] = ({}, *({"tol": t} for t in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)))


class _Loss(nn.Module):
    """The loss as the module with a reduction that it asks for; counts its calls, one a product of one batch."""

    reduction = "mean"

    def __init__(self, loss: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.loss, self.calls = loss, 0

    def forward(self, outputs: Any, targets: Any) -> Tensor:
        self.calls += 1
        return self.loss(outputs, targets)


def _operator(case: Case) -> tuple[Any, _Loss]:
    curvlinops = importlib.import_module("curvlinops")
    model, loss = case.model(), _Loss(case.loss)
    params = [p for p in model.parameters() if p.requires_grad]
    operator = curvlinops.HessianLinearOperator(model, loss, params, [case.batch], check_deterministic=False)
    return operator, loss


def product(case: Case) -> Callable[[Tensor], Tensor]:
    operator, _ = _operator(case)
    return lambda block: operator @ block


def top(case: Case, count: int, seed: int, **effort: Any) -> Pairs:
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator, _ = _operator(case)
    bridge, spent = operator.to_scipy(), [0]

    def counted(v: Any) -> Any:
        spent[0] += 1
        return bridge @ v

    start = np.random.default_rng(seed).normal(size=bridge.shape[0]).astype(bridge.dtype)
    counting = LinearOperator(bridge.shape, matvec=counted, dtype=bridge.dtype)
    values, vectors = eigsh(counting, count, which="LA", v0=start, **effort)
    return sorted_pairs(values, vectors.T, spent[0])


def slq(case: Case, probes: int, iterations: int, seed: int) -> Estimate:
    torch.manual_seed(seed)
    spectrum = importlib.import_module("curvlinops.papyan2020traces.spectrum")
    operator, loss = _operator(case)
    before = loss.calls
    cached = spectrum.LanczosApproximateSpectrumCached(operator, iterations)
    grid, density = cached.approximate_spectrum(num_repeats=probes)
    rules = cached._lanczos_iters
    nodes = torch.stack([values for values, _ in rules])
    weights = torch.stack([vectors[0].square() for _, vectors in rules])
    return pooled(nodes, weights, (np.asarray(grid), np.asarray(density)), loss.calls - before)
