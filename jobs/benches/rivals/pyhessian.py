"""PyHessian: one batch with its graph kept, power iteration, stochastic Lanczos."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from .._case import Case, Estimate, Pairs, by_columns, pooled, sorted_pairs

MODULE, DISTRIBUTION = "pyhessian", "pyhessian"
EFFORTS: tuple[dict[str, Any], ...] = ({}, *({"maxIter": n, "tol": 0.0} for n in (25, 50, 100, 200)))


def _engine(case: Case) -> Any:
    pyhessian = importlib.import_module("pyhessian")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # backward(create_graph=True) warns of a leak
        return pyhessian.hessian(case.model(), case.loss, data=case.batch, cuda=False)


def _flat(tensors: Any) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def product(case: Case) -> Callable[[Tensor], Tensor]:
    engine, utils = _engine(case), importlib.import_module("pyhessian.utils")
    sizes = [p.numel() for p in engine.params]

    def column(v: Tensor) -> Tensor:
        pieces = [x.view_as(p) for x, p in zip(v.split(sizes), engine.params, strict=True)]
        return _flat(utils.hessian_vector_product(engine.gradsH, engine.params, pieces))

    return by_columns(column)


@contextlib.contextmanager
def _counting() -> Iterator[list[int]]:
    """Counts the products between: a list of one number."""
    module, spent = importlib.import_module("pyhessian.hessian"), [0]
    original = module.hessian_vector_product

    def counted(*arguments: Any) -> Any:
        spent[0] += 1
        return original(*arguments)

    with mock.patch.object(module, "hessian_vector_product", counted):
        yield spent


def top(case: Case, count: int, seed: int, **effort: Any) -> Pairs:
    torch.manual_seed(seed)
    engine = _engine(case)
    with _counting() as spent:
        values, vectors = engine.eigenvalues(top_n=count, **effort)
    return sorted_pairs(values, torch.stack([_flat(v) for v in vectors]), spent[0])


def slq(case: Case, probes: int, iterations: int, seed: int) -> Estimate:
    torch.manual_seed(seed)
    nodes, weights = _engine(case).density(iter=iterations, n_v=probes)
    return pooled(nodes, weights, None, probes * iterations)
