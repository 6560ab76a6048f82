"""Operators whose eigenvalues are known, a network's dense Hessian and diagonal problems, and estimates of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.engine.products import Products
from landscape.engine.spectrum import eigenpairs_at, spectrum_at
from landscape.errors import ProblemError
from landscape.loss.problem import Problem
from landscape.readings import bounds, distribution, quadrature
from landscape.records import Spectrum

from ._case import Pairs

Array = NDArray[np.float64]
DENSE_LIMIT = 4000  # weights: the dense float64 matrix takes 8 * size^2 bytes and its eigenvalues size^3 work


def dense_eigenvalues(problem: Problem, operator: str = "hessian") -> Array:
    """All eigenvalues in float64, ascending, of the matrix that products with the identity give.

    Raises:
        ProblemError: more weights than a dense matrix is sensible for.
    """
    if problem.size > DENSE_LIMIT:
        raise ProblemError(
            f"a dense reference takes at most {DENSE_LIMIT:,} weights; this problem has {problem.size:,}. Choose a "
            "smaller one"
        )
    exact = problem.to(dtype=torch.float64)
    matrix = operator_at(exact, exact.weights(), Comm(), operator).matvec(torch.eye(exact.size, dtype=torch.float64))
    values: Array = np.linalg.eigvalsh(((matrix + matrix.T) / 2).numpy())
    return values


def synthetic(size: int, seed: int = 0, few: int | None = None, tail: tuple[float, float] = (-4.0, 1.5)) -> Array:
    """Ascending eigenvalues like a network's: a few outliers, a heavy tail with a negative side, most near zero.

    `few` outliers (default 1 % of the size) and some more at the edge of the bulk; `tail` are mean and standard
    deviation of the logarithms in the tail.
    """
    draw = np.random.default_rng(seed)
    middle = 9 * few if few else 3 * max(size // 100, 4)
    few, many = few or max(size // 100, 4), int(0.3 * size)
    heavy = np.exp(draw.normal(*tail, many)) * np.where(draw.random(many) < 0.25, -1, 1)
    near = draw.normal(0, 1e-4, size - few - middle - many)
    return np.sort(np.concatenate([np.geomspace(2, 40, few), draw.uniform(0.25, 1.9, middle), heavy, near]))


class _Weights(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(size, dtype=torch.float64))


def diagonal_problem(eigenvalues: Array) -> Problem:
    """1/2 sum_i lambda_i w_i^2 in float64, whose Hessian is diagonal.

    Gaussian probes look the same in every orthonormal basis, so that it stands for any matrix of these eigenvalues.
    """

    def batch_loss(model: nn.Module, batch: Any) -> torch.Tensor:
        weights: Any = model.w  # a plain tensor where the problem hands its own weights in
        loss: torch.Tensor = 0.5 * (batch[0] * weights.square()).sum()
        return loss

    diagonal = torch.from_numpy(np.ascontiguousarray(eigenvalues))[None]
    return Problem.from_batch_loss(_Weights(len(eigenvalues)), batch_loss, [diagonal], name="diagonal")


# ---------------------------------------------------------------------- estimates


def density(
    problem: Problem, seed: int, probes: int, iterations: int, block: int = 4, products: Products | None = None
) -> Spectrum:
    """The density alone, by the entry point that everybody calls; `products` remembers a choice made before."""
    return spectrum_at(
        problem, problem.weights(), Comm(), probes=probes, iterations=iterations, block=block, seed=seed, check=False,
        top=0, bottom=0, products=products,
    )[0]  # fmt: skip


def plain(
    problem: Problem, seed: int, probes: int, iterations: int, products: Products | None = None
) -> Spectrum:
    """Stochastic Lanczos quadrature as the textbook has it: independent probes, plain Gauss weights."""
    found = density(problem, seed, probes, iterations, 1, products)
    return dataclasses.replace(found, weights=found.gauss_weights)


def top_pairs(
    problem: Problem, count: int, residual: float, seed: int, products: Products | None = None,
    missed: float | None = None,
) -> Pairs:  # fmt: skip
    """The largest eigenpairs to a residual relative to the norm, with the check that none is missed unless it is 1."""
    pairs = eigenpairs_at(
        problem, problem.weights(), Comm(), top=count, tolerance=residual, seed=seed, check=False, products=products,
        missed=missed,
    )  # fmt: skip
    assert pairs.vectors is not None  # a fresh record holds them
    return Pairs(pairs.values, pairs.vectors, pairs.residuals, int(pairs.meta["matvecs"]))


def distances(spectrum: Spectrum, exact: Array) -> Array:
    """Three Wasserstein-1 distances over the range of the exact spectrum, (3,).

    Of the distribution function, of the rule's nodes as they are, and what sampling alone leaves of the first (see
    `sampling_alone`).
    """
    far = distribution.distance(spectrum, exact), quadrature.wasserstein(spectrum, exact)
    found: Array = np.array([*far, sampling_alone(spectrum, exact)]) / float(exact[-1] - exact[0])
    return found


def sampling_alone(spectrum: Spectrum, exact: Array) -> float:
    """The expected Wasserstein-1 distance of as many probes, were all their moments known: no quadrature error.

    Of n eigenvalues that no converged Ritz value stands for, b probes see F(x) with the variance 2 F (1 - F) / (n + 2)
    / b, and the mean of |F^ - F| is sqrt(2 / pi) of its root (a normal distribution), integrated over x.
    """
    rest, total = exact.copy(), 0.0
    spaces = bounds.spaces(spectrum)
    for known in spaces[0].known:
        rest = np.delete(rest, np.abs(rest - known).argmin())
    n = len(rest)
    if n > 1:
        share = np.arange(1, n) / n
        deviation = np.sqrt(2 / np.pi * 2 * share * (1 - share) / (n + 2) / len(spectrum.nodes))
        total = n / len(exact) * float(deviation @ np.diff(rest))
    return total
