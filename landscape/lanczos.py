"""Block Lanczos with full re-orthogonalisation and thick restart: products in, Ritz pairs out; knows no network.

Vectors may be sharded: every tensor here holds this rank's rows only, and the two things that need all ranks are
handed in, `matvec` (shard in, shard out) and `reduce` (sum of a small float64 matrix over ranks). Dots accumulate in
float64 over a basis in working precision: an fp32 basis then loses nothing against the fp32 product itself.

Sources: Golub & Underwood 1977 (block Lanczos); Wu & Simon 2000 (thick restart); Giraud, Langou & Rozloznik 2005
(classical Gram-Schmidt twice is enough).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matvec = Callable[[Tensor], Tensor]  # (part, b) -> (part, b)
Reduce = Callable[[Tensor], Tensor]  # small float64 matrix -> its sum over ranks
_ROWS = 1 << 16  # vector entries a dot converts to float64 at once


@dataclass(frozen=True)
class Ritz:
    """Ritz pairs of the projected operator, ascending."""

    values: NDArray[np.float64]  # (m,)
    residuals: NDArray[np.float64]  # (m,) norm(A y - theta y)
    vectors: NDArray[np.float64]  # (m, m) columns: coefficients in the basis


class BlockLanczos:
    """A growing (and restartable) block Krylov space of a symmetric operator.

    Args:
        matvec: product with a block of this rank's rows, (part, b) -> (part, b).
        start: start block (part, b); its columns must be independent. It becomes the first b basis vectors.
        capacity: most basis vectors to hold; memory is capacity * part * itemsize.
        reduce: sums a small float64 tensor over ranks; the identity for one process.
    """

    def __init__(self, matvec: Matvec, start: Tensor, capacity: int, reduce: Reduce = lambda x: x) -> None:
        self.matvec, self.reduce = matvec, reduce
        part, self.block = start.shape
        if capacity < 2 * self.block:
            raise ValueError(f"capacity must be at least two blocks of {self.block}, got {capacity}")
        self.basis = start.new_empty((capacity, part))  # (m, part) rows are orthonormal
        self.projected = np.zeros((capacity, capacity))  # Q A Q^T
        self.filled = 0  # rows of the basis that were multiplied: `projected` is known for them
        self.matvecs = 0
        self.scale = 0.0  # largest |Ritz value| seen: estimates norm(A)
        ahead, _ = self._orthonormalise(start)
        if ahead.shape[1] < self.block:
            raise ValueError(f"the {self.block} start vectors are linearly dependent")
        self.coupling: NDArray[np.float64] = np.zeros((self.block, 0))
        self._append(ahead)

    # ------------------------------------------------------------------ growing

    @property
    def ahead(self) -> int:
        """Columns of the next block; 0 when the space is invariant."""
        return self._ahead

    @property
    def room(self) -> bool:
        """Whether the basis can take another block after the next one."""
        return self.filled + 2 * self._ahead <= len(self.basis)

    def _append(self, block: Tensor) -> None:
        self._ahead = block.shape[1]
        if self._ahead:
            self.basis[self.filled : self.filled + self._ahead] = block.T

    def expand(self) -> None:
        """Multiply the next block and orthogonalise the result: one block product.

        Raises:
            FloatingPointError: the product is not finite.
        """
        start, stop = self.filled, self.filled + self._ahead
        product = self.matvec(self.basis[start:stop].T.contiguous())  # (part, b)
        self.matvecs += self._ahead
        coefficients, rest = self._project_out(product, stop)  # (stop, b)
        if not np.isfinite(coefficients).all():
            raise FloatingPointError("the operator's product is not finite")
        square = coefficients[start:stop]
        coefficients[start:stop] = (square + square.T) / 2
        self.projected[:stop, start:stop] = coefficients
        self.projected[start:stop, :stop] = coefficients.T
        self.filled = stop
        self.scale = max(self.scale, float(np.abs(coefficients).max(initial=0.0)))
        if stop + self._ahead > len(self.basis):
            raise ValueError("the basis is full; restart before expanding")
        block, triangle = self._orthonormalise(rest, stop)  # rest = block @ triangle
        self.coupling = triangle  # (next b, b)
        self._last = slice(start, stop)
        self._append(block)

    def _dot(self, rows: int, block: Tensor) -> NDArray[np.float64]:
        """Q[:rows] @ block in float64, summed over ranks, (rows, b)."""
        total = torch.zeros((rows, block.shape[1]), dtype=torch.float64, device=block.device)
        for first in range(0, block.shape[0], _ROWS):
            piece = slice(first, first + _ROWS)
            total += self.basis[:rows, piece].double() @ block[piece].double()
        return self.reduce(total).cpu().numpy()

    def _project_out(self, block: Tensor, rows: int) -> tuple[NDArray[np.float64], Tensor]:
        """Coefficients (rows, b) of a block in the basis, and what is left of it: classical Gram-Schmidt, twice."""
        coefficients = np.zeros((rows, block.shape[1]))
        for _ in range(2):  # twice is enough
            found = self._dot(rows, block)
            coefficients += found
            block = block - self.basis[:rows].T @ torch.as_tensor(found, dtype=block.dtype, device=block.device)
        return coefficients, block

    def _gram(self, block: Tensor) -> NDArray[np.float64]:
        total = torch.zeros((block.shape[1],) * 2, dtype=torch.float64, device=block.device)
        for first in range(0, block.shape[0], _ROWS):
            piece = block[first : first + _ROWS].double()
            total += piece.T @ piece
        return self.reduce(total).cpu().numpy()

    def _orthonormalise(self, block: Tensor, rows: int = 0) -> tuple[Tensor, NDArray[np.float64]]:
        """block = Q @ triangle with Q (part, r) orthonormal and orthogonal to the basis; r < b where it is deficient.

        Directions whose length is rounding noise of the operator are dropped: they would only add noise.
        """
        total = np.eye(block.shape[1])
        floor = 32 * torch.finfo(block.dtype).eps * self.scale
        for turn in range(3):
            values, vectors = np.linalg.eigh(self._gram(block))
            lengths = np.sqrt(np.maximum(values, 0.0))
            top = lengths.max(initial=0.0)
            keep = lengths > (max(floor, 1e-7 * top) if turn == 0 else 0.1)
            if not keep.any():
                return block[:, :0], np.zeros((0, total.shape[1]))
            # The symmetric root is a continuous function of the Gram matrix: rounding cannot turn the new block.
            back = vectors.T if keep.all() else np.eye(int(keep.sum()))  # (r, r)
            mix = (vectors[:, keep] / lengths[keep]) @ back  # (b, r)
            total = back.T @ (vectors[:, keep] * lengths[keep]).T @ total  # (r, b)
            block = block @ torch.as_tensor(mix, dtype=block.dtype, device=block.device)
            if rows and turn < 2:  # dividing by a short length lifts old components: take them out again
                _, block = self._project_out(block, rows)
        return block, total

    # ------------------------------------------------------------------ reading

    def ritz(self) -> Ritz:
        """Ritz pairs of the space multiplied so far, ascending, with their residuals."""
        m = self.filled
        values, vectors = np.linalg.eigh(self.projected[:m, :m])
        last = vectors[self._last]  # (b, m)
        residuals = np.linalg.norm(self.coupling @ last, axis=0) if self._ahead else np.zeros(m)
        self.scale = max(self.scale, float(np.abs(values).max(initial=0.0)))
        return Ritz(values, residuals, vectors)

    def start_components(self, ritz: Ritz) -> NDArray[np.float64]:
        """Components of the start vectors in the Ritz vectors, (b, m), before any restart; squared: Gauss weights.

        The sign of a Ritz vector is free; here the first start vector's component is not negative.
        """
        first = ritz.vectors[: self.block]
        signed: NDArray[np.float64] = first * np.where(first[0] < 0, -1.0, 1.0)
        return signed

    def ritz_vectors(self, coefficients: NDArray[np.float64]) -> Tensor:
        """Basis times coefficients (m, k): Ritz vectors as rows, (k, part), in working precision."""
        mix = torch.as_tensor(coefficients.T, dtype=self.basis.dtype, device=self.basis.device)
        return mix @ self.basis[: len(coefficients)]

    # ------------------------------------------------------------------ restarting

    def restart(self, ritz: Ritz, keep: NDArray[np.intp]) -> None:
        """Shrink the space to the Ritz vectors `keep` (indices) and the next block, losing nothing of either."""
        m, width = len(keep), self._ahead
        following = self.basis[self.filled : self.filled + width].clone()
        self.basis[:m] = self.ritz_vectors(ritz.vectors[:, keep])
        self.basis[m : m + width] = following
        self.projected[:] = 0.0
        self.projected[np.arange(m), np.arange(m)] = ritz.values[keep]
        self.filled = m

    def reseed(self, block: Tensor) -> None:
        """Go on from an invariant space with a fresh block (part, b) made orthogonal to it."""
        _, rest = self._project_out(block, self.filled)
        fresh, _ = self._orthonormalise(rest, self.filled)
        self.coupling = np.zeros((fresh.shape[1], self.coupling.shape[1]))
        self._append(fresh)


@dataclass(frozen=True)
class Extremes:
    """The wanted ends of the spectrum, each pair with its residual; vectors as rows of this rank's shard."""

    values: NDArray[np.float64]  # (top,) descending
    residuals: NDArray[np.float64]
    lowest_values: NDArray[np.float64]  # (bottom,) ascending
    lowest_residuals: NDArray[np.float64]
    vectors: Tensor  # (top + bottom, part)
    converged: bool
    matvecs: int


def extremes(
    space: BlockLanczos,
    top: int,
    bottom: int,
    tolerance: float,
    max_matvecs: int,
    fresh: Callable[[], Tensor],
    size: int,
    on_block: Callable[[int], None] = lambda matvecs: None,
) -> Extremes:
    """Go on with a Krylov space until its `top` largest and `bottom` smallest Ritz pairs have converged.

    A pair has converged when its residual is at most tolerance * norm(A). Two more pairs than asked must have come
    within ten times that at the upper end, so that no late eigenvalue is missed.

    Args:
        fresh: draws a random block (part, b) to leave an invariant subspace that holds too few pairs.
        size: dimension of the operator.
    """
    top, bottom = min(top, size), min(bottom, size - min(top, size))
    if not space.filled:
        space.expand()
    while True:
        ritz = space.ritz()
        m = len(ritz.values)
        done = m >= min(top + bottom, size) and _converged(ritz, top, bottom, tolerance * space.scale, size)
        if m >= size or done or space.matvecs >= max_matvecs:
            break
        if space.ahead == 0:
            if m >= top + bottom:
                done = True
                break
            space.reseed(fresh())
            if space.ahead == 0:
                break
        if not space.room:
            space.restart(ritz, _kept(m, top, bottom, len(space.basis), space.block))
        space.expand()
        on_block(space.matvecs)
    highest = np.arange(m - 1, max(m - 1 - top, -1), -1)
    lowest = np.arange(min(bottom, max(m - top, 0)))
    chosen = np.concatenate([highest, lowest])
    return Extremes(
        ritz.values[highest], ritz.residuals[highest], ritz.values[lowest], ritz.residuals[lowest],
        _signed(space.ritz_vectors(ritz.vectors[:, chosen]), space.reduce), bool(done or m >= size), space.matvecs,
    )


def _converged(ritz: Ritz, top: int, bottom: int, bound: float, size: int) -> bool:
    r = ritz.residuals
    guard = r[max(len(r) - top - 2, 0) : len(r) - top]
    wanted = np.concatenate([r[len(r) - top :], r[:bottom]])
    return bool((wanted <= bound).all() and (guard <= 10 * bound).all())


def _kept(m: int, top: int, bottom: int, capacity: int, block: int) -> NDArray[np.intp]:
    """Indices of the Ritz vectors that survive a restart: the wanted ones and a generous surplus at both ends."""
    limit = capacity - 3 * block
    high = min(top + max(top // 2, 2 * block), limit - bottom)
    low = min(bottom + block, limit - high) if bottom else 0
    if high + low >= m:
        return np.arange(m)[-limit:]
    return np.concatenate([np.arange(low), np.arange(m - high, m)])


def _signed(vectors: Tensor, reduce: Reduce) -> Tensor:
    """Each row's sign chosen so that the sum of its cubes is positive: the same on any number of ranks."""
    cubes = reduce(vectors.double().pow(3).sum(dim=1))
    return vectors * torch.where(cubes < 0, -1.0, 1.0).to(vectors.dtype)[:, None]
