"""Products until the largest eigenpairs have a wanted residual, beside ARPACK on the same product.

  landscape bench eigenpairs
  landscape bench eigenpairs digits_mlp lenet

The wanted residual is relative to the norm of the operator (its largest |eigenvalue|). ARPACK (scipy's eigsh) is given
the loosest of its tolerances that reaches the same residual, which nobody knows beforehand; our products include the
check that no pair is missed. With its default tolerance it asks for machine precision, which float32 products may never
give: it runs on the smallest problems alone, and every run of it ends after ten times our products. `unchecked` is ours
without the check (`landscape spectrum --eigenpairs --missed 1`): the best that polynomials in the operator make of a
random start, and a multiple eigenvalue counts once, as it does with ARPACK. All multiply by the strategy that was
chosen. Residuals are measured by one more product, errors against the dense float64 Hessian where that is small enough.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from landscape.loss.problem import Problem

    from ._case import Pairs
    from ._tables import Row, Table

    Array = NDArray[np.float64]

# problem: Adam steps before, and the wanted (pairs, residual, most products)
PLANS: dict[str, tuple[tuple[int, ...], tuple[tuple[int, float, int | None], ...]]] = {
    "digits_mlp": ((145, 200, 1000), ((2, 1e-4, None), (10, 1e-4, 32), (20, 1e-4, None), (20, 1e-6, None))),
    "lenet": ((100,), ((5, 1e-3, 16),)),
    "resnet20": ((50,), ((5, 1e-3, None),)),
    "gpt": ((50,), ((5, 1e-3, None),)),
}
PATIENCE = 10  # times our products that ARPACK may take
ARPACK_TOLERANCES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"default: {' '.join(PLANS)}")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    columns = {
        "problem": "", "pairs": "d", "residual wanted": ".0e", "method": "", "products": "d", "target": "d",
        "worst residual": ".1e", "worst bound told": ".1e", "worst error": ".1e", "bounds hold": "", "CPU s": ".2f",
    }  # fmt: skip
    note = (
        "Ours goes on until a random vector leaves less than 1 % of probability that a pair, or another copy of one, "
        "is missing; unchecked it stops at the residual, as ARPACK does."
    )
    yield Table("Largest eigenpairs, float32; residuals, bounds and errors over the norm", columns, _rows(args), note)


def _rows(args: argparse.Namespace) -> Iterator[Row]:
    from . import _spectra, _subjects

    for name in args.problems or PLANS:
        problem = _subjects.built(name, args)
        if isinstance(problem, str):
            yield (f"{name}: {problem}", *[None] * 10)
            continue
        done = 0
        all_steps, wanted = PLANS.get(name, ((0,), ((5, 1e-3, None),)))
        for steps in all_steps[:1] if args.quick else all_steps:
            done = _subjects.descend(problem, done, 5 if args.quick and name != "digits_mlp" else steps, args.seed, 32)
            exact = _spectra.dense_eigenvalues(problem) if problem.size <= _spectra.DENSE_LIMIT else None
            for pairs, residual, aim in wanted[:2] if args.quick else wanted:
                yield from _compare(f"{name} after {done} steps", problem, exact, pairs, residual, aim, args.seed)


def _compare(
    name: str, problem: Problem, exact: Array | None, count: int, residual: float, aim: int | None, seed: int
) -> Iterator[Row]:
    import numpy as np
    import torch

    from landscape.distributed.parallel import Comm
    from landscape.engine.curvature import operator_at
    from landscape.engine.products import Products

    from ._case import worst_residual
    from ._spectra import top_pairs
    from ._timing import timed

    products = Products(block=1, expected=5 * count)
    curvature = operator_at(problem, problem.weights(), Comm(), products=products)
    most = 0  # products of ARPACK

    def ours(missed: float | None = None) -> Pairs:
        nonlocal most
        found = top_pairs(problem, count, residual, seed, products, missed)
        most = PATIENCE * found.products
        return found

    methods: dict[str, Callable[[], Pairs | None]] = {
        "unchecked": lambda: ours(1.0),
        "ours": ours,
        "ARPACK": lambda: _arpack_at(curvature.matvec, problem, count, residual, seed, most),
    }
    if exact is not None:
        methods["ARPACK, default"] = lambda: arpack(curvature.matvec, problem, count, 0.0, seed, most)
    eps = float(torch.finfo(problem.dtype).eps)
    for method, find in methods.items():
        found, seconds = timed(find)
        if found is None:
            yield name, count, residual, f"{method}: not within {most} products", *[None] * 6, seconds
            continue
        norm = float(np.abs(found.values).max())
        worst = worst_residual(curvature.matvec, found)
        error = None if exact is None else np.abs(found.values - exact[::-1][: len(found.values)])
        told = None if found.bounds is None else float(found.bounds.max()) / norm
        holds = None
        if error is not None and found.bounds is not None:  # rounding of the product itself comes on top of a bound
            holds = bool((error <= found.bounds + 8 * eps * norm).all())
        largest = None if error is None else float(error.max()) / norm
        target = aim if method in ("ours", "unchecked") else None
        yield (
            name, count, residual, method, found.products, target, worst / norm, told, largest, holds, seconds,
        )  # fmt: skip


class _TooMany(Exception):
    """More products than allowed."""


def arpack(
    matvec: Callable[[Tensor], Tensor], problem: Problem, count: int, tolerance: float, seed: int, most: int
) -> Pairs | None:
    """scipy's eigsh for the `count` largest, counting its products; None where `most` do not suffice."""
    import numpy as np
    import torch
    from scipy.sparse.linalg import LinearOperator, eigsh

    from ._case import sorted_pairs

    products = 0

    def multiply(v: Array) -> Array:
        nonlocal products
        products += 1
        if products > most:
            raise _TooMany
        block = torch.from_numpy(np.ascontiguousarray(v.reshape(-1, 1))).to(problem.dtype)
        found: Array = matvec(block)[:, 0].numpy()
        return found

    operator = LinearOperator((problem.size,) * 2, matvec=multiply, dtype=np.float32)
    start = np.random.default_rng(seed).normal(size=problem.size).astype(np.float32)
    try:
        values, vectors = eigsh(operator, count, which="LA", tol=tolerance, v0=start)
    except _TooMany:
        return None
    return sorted_pairs(values, vectors.T, products)


def _arpack_at(
    matvec: Callable[[Tensor], Tensor], problem: Problem, count: int, residual: float, seed: int, most: int
) -> Pairs | None:
    """ARPACK at the loosest tolerance whose worst residual is the wanted one; None where `most` do not suffice."""
    import numpy as np

    from ._case import worst_residual

    for tolerance in ARPACK_TOLERANCES:
        found = arpack(matvec, problem, count, tolerance, seed, most)
        if found is None or worst_residual(matvec, found) <= residual * np.abs(found.values).max():
            return found
    return None
