"""hessian-eigenthings: double backward rebuilt for every vector, Lanczos, stochastic Lanczos quadrature."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from .._case import Case, Estimate, Pairs, by_columns, pooled, sorted_pairs

MODULE, DISTRIBUTION = "hessian_eigenthings", "hessian-eigenthings"
EFFORTS: tuple[dict[str, Any], ...] = (
    {}, *({"max_iter": n} for n in (25, 30, 35, 40, 50)),
    *({"max_iter": n, "reorthogonalize": True} for n in (75, 100)),
)  # fmt: skip


def _operator(case: Case) -> Any:
    module = importlib.import_module("hessian_eigenthings.operators.hessian")
    return module.HessianOperator(case.model(), [case.batch], lambda model, batch: case.loss(model(batch[0]), batch[1]))


def product(case: Case) -> Callable[[Tensor], Tensor]:
    return by_columns(_operator(case).matvec)


def top(case: Case, count: int, seed: int, **effort: Any) -> Pairs:
    lanczos = importlib.import_module("hessian_eigenthings.algorithms.lanczos").lanczos
    found = lanczos(_operator(case), k=count, which="LA", seed=seed, **effort)
    return sorted_pairs(found.eigenvalues, found.eigenvectors, found.iterations, found.residuals)


def slq(case: Case, probes: int, iterations: int, seed: int) -> Estimate:
    density = importlib.import_module("hessian_eigenthings.algorithms.spectral_density").spectral_density
    found = density(_operator(case), num_runs=probes, lanczos_steps=iterations, seed=seed)
    curve = (np.asarray(found.grid), np.asarray(found.density))
    return pooled(found.raw_eigenvalues, found.raw_weights, curve, probes * iterations)
