"""Matrices of low rank W = U S V^T: the bases of a step, truncation, and the tangent space (Schotthöfer et al. 2022).

One step of dynamical low-rank training, with the gradient G = dL/dW at W:

    K = U S,  L = V S^T          K1 = K - lr G V,   L1 = L - lr G^T U
    Uh = qr [K1, U],  Vh = qr [L1, V]               Uh (Uh^T U) S (V^T Vh) Vh^T = W exactly
    S1 = (Uh^T U) S (V^T Vh) - lr Uh^T G Vh
    S1 = P diag(sigma) Q^T,  W1 = Uh P_r diag(sigma_r) (Vh Q_r)^T

With plain descent Uh S1 Vh^T = W - lr Uh Uh^T G Vh Vh^T. torch.linalg.svd returns Q^T, whose rows are the singular
vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """W = u s v^T (m, n); the columns of u (m, r) and v (n, r) are orthonormal, s (r, r) is any matrix."""

    u: Tensor
    s: Tensor
    v: Tensor

    @property
    def rank(self) -> int:
        return self.s.shape[0]

    @property
    def left(self) -> Tensor:
        """K = U S, (m, r)."""
        return self.u @ self.s

    @property
    def right(self) -> Tensor:
        """L = V S^T, (n, r)."""
        return self.v @ self.s.T

    def matrix(self) -> Tensor:
        """W, (m, n)."""
        return self.left @ self.v.T

    def core(self, u: Tensor, v: Tensor) -> Tensor:
        """W in other bases u (m, k), v (n, k): (u^T U) S (V^T v), (k, k)."""
        return (u.T @ self.u) @ self.s @ (self.v.T @ v)

    def weights(self) -> int:
        """Numbers that K and V hold together: r (m + n)."""
        return self.rank * (len(self.u) + len(self.v))


Blocks = Sequence[tuple[slice, Factors]]  # parts of a flat vector that are matrices of low rank


def nearest(matrix: Tensor, rank: int) -> Factors:
    """The nearest matrix of a rank (Eckart & Young 1936), with s = diag(sigma), largest first.

    Raises:
        ValueError: a rank that a matrix (m, n) cannot have.
    """
    if not 1 <= rank <= min(matrix.shape):
        raise ValueError(f"rank must lie between 1 and {min(matrix.shape)}, got {rank}")
    u, sigma, vt = torch.linalg.svd(matrix, full_matrices=False)
    return Factors(u[:, :rank].contiguous(), torch.diag(sigma[:rank]), vt[:rank].T.contiguous())


def drawn(like: Factors) -> Factors:
    """Random orthonormal u and v of another's shapes, with s = sqrt(m / 2r) 1: entries of variance 1/(2n)."""
    u, v = (orthonormal(torch.randn_like(basis)) for basis in (like.u, like.v))
    return Factors(u, (len(u) / (2 * like.rank)) ** 0.5 * torch.eye(like.rank).to(like.s), v)


def orthonormal(*blocks: Tensor) -> Tensor:
    """An orthonormal basis (m, k) whose span holds every column of the blocks (m, k_i), k = min(m, sum k_i).

    By Householder reflections: orthonormal even where columns are dependent, tiny or zero.
    """
    basis: Tensor = torch.linalg.qr(torch.cat(blocks, dim=1)).Q
    return basis


def tails(sigma: Tensor) -> Tensor:
    """sqrt(sum_{i >= r} sigma_i^2) / |sigma| for r = 0 ... k, (k + 1,) float64: what rank r leaves out."""
    squares = torch.cat([sigma.double().square(), sigma.new_zeros(1, dtype=torch.float64)])
    left_out = squares.flip(0).cumsum(0).flip(0)
    return (left_out / left_out[0].clamp(min=1e-300)).sqrt()


def rank_within(sigma: Tensor, tau: float, least: int = 1, most: int | None = None) -> int:
    """The smallest rank that leaves out at most tau |sigma|, held between `least` and `most`."""
    rank = int((tails(sigma) > tau).sum())
    return max(min(rank, len(sigma) if most is None else most), min(least, len(sigma)))


def truncated(u: Tensor, core: Tensor, v: Tensor, tau: float, least: int = 1, most: int | None = None) -> Factors:
    """u core v^T with the smallest rank for which the relative error is at most tau, held between `least` and `most`.

    The error is exactly the tail of the singular values, for u (m, k) and v (n, k) are orthonormal.
    """
    p, sigma, qt = _decomposed(core)
    rank = rank_within(sigma, tau, least, most)
    return Factors(u @ p[:, :rank], torch.diag(sigma[:rank]), v @ qt[:rank].T)


def _decomposed(core: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P, sigma, Q^T; in float64 where LAPACK's divide and conquer fails in single precision, as it may."""
    try:
        p, sigma, qt = torch.linalg.svd(core)
    except RuntimeError:  # LinAlgError is one
        p, sigma, qt = (part.to(core.dtype) for part in torch.linalg.svd(core.double()))
    return p, sigma, qt


# ---------------------------------------------------------------------- the tangent space


def tangent_part(factors: Factors, matrix: Tensor) -> Tensor:
    """P_T Z = U U^T Z + Z V V^T - U U^T Z V V^T: Z (m, n) in the tangent space of the matrices of this rank at W."""
    left = factors.u @ (factors.u.T @ matrix)
    return left + ((matrix - left) @ factors.v) @ factors.v.T


def tangent_dimension(shape: tuple[int, int], rank: int) -> int:
    """r (m + n - r): the dimension of that space."""
    return rank * (sum(shape) - rank)


def tangent_share(vector: Tensor, layers: Blocks) -> float:
    """|P_T v| / |v| of a flat vector (size,): P_T is the identity outside of the blocks of low rank."""
    projected = vector.clone()
    for part, factors in layers:
        block = vector[part].reshape(len(factors.u), len(factors.v)).to(factors.u.dtype)
        projected[part] = tangent_part(factors, block).reshape(-1).to(vector.dtype)
    return float(projected.norm() / vector.norm())


def tangent_share_by_chance(size: int, layers: Blocks) -> float:
    """sqrt(dim T / size): what a random direction has, up to fluctuations."""
    lost = sum(len(f.u) * len(f.v) - tangent_dimension((len(f.u), len(f.v)), f.rank) for _, f in layers)
    return math.sqrt((size - lost) / size)
