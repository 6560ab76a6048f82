"""Eigenvalues of a game's Jacobian and the size of its cross blocks, by ARPACK on products (Lehoucq et al. 1998).

Rank 0 runs ARPACK; the others compute their share of every product that it asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, svds

from ..krylov.probes import probe
from .jacobian import Jacobian

T = TypeVar("T")
Array = NDArray[np.float64]
DENSE = 300  # of so small a Jacobian all eigenvalues are computed
ENDS = {"LM": "modulus", "SR": "lowest real part", "LR": "largest real part"}
NEAR = 1e-5  # eigenvalues closer than this, relative to the largest, found twice, are one


@dataclass(frozen=True)
class Eigenvalues:
    """Of largest modulus first: values (k,) complex, residuals norm(J y - lambda y) / norm(y), and norm of y's part.

    `shares` (player, k) is the squared length of the eigenvector in each player's weights.
    """

    values: NDArray[np.complex128]
    residuals: Array
    shares: Array
    missed: list[str]  # ends of the spectrum where ARPACK gave up


class _Asked:
    """The Jacobian's products as numpy functions on rank 0, which the other ranks serve."""

    def __init__(self, jacobian: Jacobian) -> None:
        self.jacobian, self.products = jacobian, 0

    def product(self, block: Array, transposed: bool = False) -> Array:
        block = np.asarray(block, dtype=np.float64).reshape(self.jacobian.size, -1)
        self.jacobian.comm.broadcast((block, transposed))
        return self._computed(block, transposed)

    def _computed(self, block: Array, transposed: bool) -> Array:
        self.products += block.shape[1]
        apply = self.jacobian.transposed if transposed else self.jacobian.product
        found: Array = apply(torch.from_numpy(block)).cpu().numpy()
        return found

    def serve(self) -> None:
        while (request := self.jacobian.comm.broadcast(None)) is not None:
            self._computed(*request)


def on_rank_0(jacobian: Jacobian, work: Callable[[_Asked], T]) -> tuple[T, int]:
    """What `work` returns on rank 0, on every rank, and the products it took; all ranks call it together.

    Raises:
        Exception: what work or a product raised, on every rank.
    """
    comm, asked = jacobian.comm, _Asked(jacobian)
    found: Any = None
    if comm.rank:
        asked.serve()
    failure: Exception | None = None
    if comm.rank == 0:
        try:
            found = work(asked)
        except Exception as error:
            if getattr(error, "everywhere", False):  # a product's: every rank raises it by itself
                raise
            failure = error
        comm.broadcast(None)
    with comm.together():
        if failure is not None:
            raise failure
    return comm.broadcast((found, asked.products))


def eigenvalues(jacobian: Jacobian, count: int = 5, seed: int = 0, tolerance: float | None = None) -> Eigenvalues:
    """`count` eigenvalues each of largest modulus, lowest and largest real part; all of them where J is small.

    Args:
        tolerance: ARPACK's, relative; by default 1e-3 in float32 and 1e-10 in float64; residuals say what came of it.
    """
    tolerance = tolerance or (1e-10 if jacobian.vector.dtype == torch.float64 else 1e-3)
    return on_rank_0(jacobian, lambda asked: _eigenvalues(asked, count, seed, tolerance))[0]


def _eigenvalues(asked: _Asked, count: int, seed: int, tolerance: float) -> Eigenvalues:
    size = asked.jacobian.size
    missed: list[str] = []
    if size <= max(DENSE, count + 2):
        values, vectors = np.linalg.eig(asked.product(np.eye(size)))
    else:
        values, vectors = np.empty(0, complex), np.empty((size, 0), complex)
        operator = LinearOperator((size, size), matvec=lambda v: asked.product(v)[:, 0], dtype=np.float64)
        start = probe(0, size, seed).double().numpy()
        for which, end in ENDS.items():
            try:
                found = eigs(operator, k=count, which=which, v0=start, ncv=min(size, max(3 * count, 40)),
                             maxiter=20, tol=tolerance)  # fmt: skip
            except ArpackNoConvergence as error:
                missed.append(end)
                found = error.eigenvalues, error.eigenvectors
            values, vectors = np.append(values, found[0]), np.append(vectors, found[1], axis=1)
        chosen = _distinct(values)
        values, vectors = values[chosen], vectors[:, chosen]
    order = np.lexsort((-values.imag, -np.abs(values).round(12)))
    values, vectors = values[order], vectors[:, order] / np.linalg.norm(vectors[:, order], axis=0)
    return Eigenvalues(values, _residuals(asked, values, vectors), _shares(asked.jacobian, vectors), missed)


def _distinct(values: NDArray[np.complex128]) -> list[int]:
    """Numbers of the values without those that another end of the spectrum found before."""
    kept: list[int] = []
    scale = np.abs(values).max(initial=0)
    for i, value in enumerate(values):
        if all(abs(value - values[j]) > NEAR * scale for j in kept):
            kept.append(i)
    return kept


def _residuals(asked: _Asked, values: NDArray[np.complex128], vectors: NDArray[np.complex128]) -> Array:
    if not len(values):
        return np.empty(0)
    moved = asked.product(np.concatenate([vectors.real, vectors.imag], axis=1))  # (size, 2k)
    image = moved[:, : len(values)] + 1j * moved[:, len(values) :]
    found: Array = np.linalg.norm(image - values * vectors, axis=0)
    return found


def _shares(jacobian: Jacobian, vectors: NDArray[np.complex128]) -> Array:
    masks = [jacobian.owned(p).cpu().numpy() for p in jacobian.game.players]
    return np.array([np.square(np.abs(vectors[mask])).sum(axis=0) for mask in masks])


def cross_norms(jacobian: Jacobian, seed: int = 0) -> dict[tuple[str, str], float]:
    """The spectral norm of every block d2 L_p / dtheta_p dtheta_q of two different players p, q."""
    pairs = [(p, q) for p in jacobian.game.players for q in jacobian.game.players if p != q]
    return on_rank_0(jacobian, lambda asked: {(p, q): _norm(asked, p, q, seed) for p, q in pairs})[0]


def _norm(asked: _Asked, row: str, column: str, seed: int) -> float:
    rows, columns = (asked.jacobian.owned(p).cpu().numpy() for p in (row, column))

    def restricted(v: Array, inside: NDArray[np.bool_], outside: NDArray[np.bool_], transposed: bool) -> Array:
        full = np.zeros((len(inside), 1 if v.ndim == 1 else v.shape[1]))
        full[inside] = v.reshape(inside.sum(), -1)
        return asked.product(full, transposed)[outside]

    shape = int(rows.sum()), int(columns.sum())
    if min(shape) < 4:
        return float(np.linalg.norm(restricted(np.eye(shape[1]), columns, rows, False), 2))
    operator = LinearOperator(
        shape, dtype=np.float64, matvec=lambda v: restricted(v, columns, rows, False)[:, 0],
        rmatvec=lambda u: restricted(u, rows, columns, True)[:, 0],
    )  # fmt: skip
    start = probe(1, min(shape), seed).double().numpy()
    return float(svds(operator, k=1, tol=1e-3, v0=start, return_singular_vectors=False)[0])
