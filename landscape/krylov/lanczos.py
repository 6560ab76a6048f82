"""Block Lanczos with full re-orthogonalisation and thick restart: products in, Ritz pairs out; knows no network.

Vectors may be sharded: every tensor here holds this rank's rows only, and the two things that need all ranks are
handed in, `matvec` (shard in, shard out) and `reduce` (sum of a small float64 matrix over ranks). At any time

    A Q = Q T + W C,   Q (m rows) and W (r rows) orthonormal together,

with T the projected operator, W the rows that wait to be multiplied and C their coupling. Nothing is lost by a restart,
by multiplying only some of W, or by adding a random vector to it, so a residual is always norm(C s).

Sources: Golub & Underwood 1977 (block Lanczos); Wu & Simon 2000 (thick restart); Ye 1996 (blocks of varying width).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .gram_schmidt import Reduce, mix_rows, mixed, orthonormalise, project_out

Matvec = Callable[[Tensor], Tensor]  # (part, b) -> (part, b)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ritz:
    """Ritz pairs of the projected operator, ascending."""

    values: Array  # (m,)
    residuals: Array  # (m,) norm(A y - theta y)
    vectors: Array  # (m, m) columns: coefficients in the basis


@dataclass(frozen=True)
class SpaceState:
    """All that a Krylov space is, to go on with it later: numbers, small arrays, this rank's shard of the rows."""

    numbers: dict[str, Any]
    arrays: dict[str, Array]
    rows: Tensor  # (filled + ahead, part)


class BlockLanczos:
    """A growing (and restartable) block Krylov space of a symmetric operator.

    Args:
        matvec: product with a block of this rank's rows, (part, b) -> (part, b).
        start: start block (part, b); its columns must be independent. It becomes the first b basis vectors.
        capacity: most basis vectors to hold, those not yet multiplied included: capacity * part * itemsize bytes.
        reduce: sums a small float64 tensor over ranks; the identity for one process.
    """

    def __init__(self, matvec: Matvec, start: Tensor, capacity: int, reduce: Reduce = lambda x: x) -> None:
        self.matvec, self.reduce = matvec, reduce
        part, self.block = start.shape
        if capacity < 2 * self.block:
            raise ValueError(f"capacity must be at least two blocks of {self.block}, got {capacity}")
        self.basis = start.new_empty((capacity, part))  # (capacity, part): Q, then W
        self.projected: Array = np.zeros((capacity, capacity))  # T
        self.coupling: Array = np.zeros((0, 0))  # C (ahead, filled)
        self.filled = 0  # rows of Q
        self.ahead = 0  # rows of W; 0 when the space is invariant
        self.matvecs = 0
        self.scale = 0.0  # largest |Ritz value| seen: estimates norm(A)
        if self.widen(start) < self.block:
            raise ValueError(f"the {self.block} start vectors are linearly dependent")

    # ------------------------------------------------------------------ growing

    @property
    def room(self) -> bool:
        """Whether the basis can take another block after the next one."""
        return self.fits(self.ahead)

    def fits(self, new: int) -> bool:
        """Whether the basis has room for so many more rows."""
        return self.filled + self.ahead + new <= len(self.basis)

    def widen(self, block: Tensor) -> int:
        """Add a block (part, b), made orthogonal to everything, to the rows that wait; returns how many it gave."""
        return len(self._widened(block)[1])

    def lead(self, vector: Tensor) -> None:
        """Add a vector (part, 1); the last waiting row becomes its part outside the rows that have been multiplied."""
        waited, new = self._widened(vector)
        self.turn(np.concatenate([waited[:, 0], new[:, 0]]))

    def turn(self, direction: Array) -> None:
        """Turn the waiting rows so that the last one lies along their combination `direction` (ahead,)."""
        length = float(np.linalg.norm(direction))
        if not length or self.ahead < 2:
            return
        normal = direction / length
        normal[-1] += np.copysign(1.0, normal[-1])
        mirror = np.eye(self.ahead) - 2 * np.outer(normal, normal) / (normal @ normal)  # Householder's reflection
        rows = self.basis[self.filled : self.filled + self.ahead]
        rows.copy_(mixed(rows, mirror))
        self.coupling = mirror @ self.coupling

    def _widened(self, block: Tensor) -> tuple[Array, Array]:
        """Add a block (part, b) to the rows that wait; its parts in those before (ahead, b) and in the new (r, b)."""
        held = self.basis[: self.filled + self.ahead]
        rows = _rows(block)
        known = project_out(held, rows, self.reduce)
        new, triangle = orthonormalise(held, rows, known, self.reduce, 0.0)
        self.coupling = np.vstack([self.coupling, np.zeros((len(new), self.filled))])
        self._append(new)
        return known.coefficients[self.filled :], triangle

    def _append(self, rows: Tensor) -> None:
        first = self.filled + self.ahead
        self.basis[first : first + len(rows)] = rows
        self.ahead += len(rows)

    def expand(self, chosen: NDArray[np.intp] | None = None) -> int:
        """Multiply the chosen waiting rows (all by default): one block product; returns how many rows are new.

        Raises:
            FloatingPointError: the product is not finite.
        """
        width = self.ahead if chosen is None else self._choose(chosen)
        start, stop, held = self.filled, self.filled + width, self.filled + self.ahead
        if not self.fits(width):
            raise ValueError("the basis is full; restart before expanding")
        product = self.matvec(self.basis[start:stop].clone().T).T.contiguous()  # (b, part)
        self.matvecs += width
        # By symmetry q^T A w = C, which is nothing but for the last block's rows and those of a restart.
        coupled = np.flatnonzero(self.coupling[:width].any(axis=0))
        near = int(coupled[0]) if len(coupled) else start
        known = project_out(self.basis[:held], product, self.reduce, near)
        found = known.coefficients  # (held, b)
        if not np.isfinite(found).all():
            raise FloatingPointError("the operator's product is not finite")
        square = found[start:stop]
        found[start:stop] = (square + square.T) / 2
        self.projected[:stop, start:stop] = found[:stop]
        self.projected[start:stop, :stop] = found[:stop].T
        self.scale = max(self.scale, float(np.abs(found).max(initial=0.0)))
        floor = 32 * torch.finfo(product.dtype).eps * self.scale
        block, triangle = orthonormalise(self.basis[:held], product, known, self.reduce, floor)
        waiting = np.hstack([self.coupling[width:], found[stop:]])
        self.coupling = np.vstack([waiting, np.hstack([np.zeros((len(triangle), start)), triangle])])
        self.filled, self.ahead = stop, self.ahead - width
        self._append(block)
        return len(block)

    def _choose(self, chosen: NDArray[np.intp]) -> int:
        """Move the chosen waiting rows to the front of those that wait."""
        order = np.concatenate([chosen, np.setdiff1d(np.arange(self.ahead), chosen)])
        if (order != np.arange(self.ahead)).any():
            rows = slice(self.filled, self.filled + self.ahead)
            self.basis[rows] = self.basis[rows][torch.as_tensor(order, device=self.basis.device)]
            self.coupling = self.coupling[order]
        return len(chosen)

    # ------------------------------------------------------------------ reading

    def ritz(self) -> Ritz:
        """Ritz pairs of the space multiplied so far, ascending, with their residuals."""
        m = self.filled
        values, vectors = np.linalg.eigh(self.projected[:m, :m])
        residuals = np.linalg.norm(self.coupling @ vectors, axis=0)
        self.scale = max(self.scale, float(np.abs(values).max(initial=0.0)))
        return Ritz(values, residuals, vectors)

    def start_components(self, ritz: Ritz) -> Array:
        """Components of the start vectors in the Ritz vectors, (b, m), before any restart; squared: Gauss weights.

        The sign of a Ritz vector is free; here the first start vector's component is not negative.
        """
        first = ritz.vectors[: self.block]
        signed: Array = first * np.where(first[0] < 0, -1.0, 1.0)
        return signed

    def ritz_vectors(self, coefficients: Array) -> Tensor:
        """Basis times coefficients (m, k): Ritz vectors as rows, (k, part), in working precision."""
        mix = torch.as_tensor(coefficients.T, dtype=self.basis.dtype, device=self.basis.device)
        return mix @ self.basis[: len(coefficients)]

    # ------------------------------------------------------------------ restarting and resuming

    def restart(self, ritz: Ritz, keep: NDArray[np.intp]) -> None:
        """Shrink the space to the Ritz vectors `keep` (indices) and the rows that wait, losing nothing of either."""
        m = len(keep)
        mix_rows(self.basis, self.filled, ritz.vectors[:, keep].T, self.ahead)
        self.projected[:] = 0.0
        self.projected[np.arange(m), np.arange(m)] = ritz.values[keep]
        self.coupling = self.coupling @ ritz.vectors[:, keep]
        self.filled = m

    def state(self) -> SpaceState:
        """What `resumed` needs; its rows are a view of the basis."""
        names = ("filled", "ahead", "matvecs", "scale", "block")
        held = self.filled + self.ahead
        arrays = {"projected": self.projected[: self.filled, : self.filled].copy(), "coupling": self.coupling}
        return SpaceState({name: getattr(self, name) for name in names}, arrays, self.basis[:held])

    @classmethod
    def resumed(
        cls, matvec: Matvec, capacity: int, reduce: Reduce, numbers: Mapping[str, Any], arrays: Mapping[str, Array],
        load_rows: Callable[[Tensor], None], like: Tensor,
    ) -> BlockLanczos:  # fmt: skip
        """A space as it was; `load_rows` fills a tensor (filled + ahead, part), `like` has its dtype and part."""
        self = cls.__new__(cls)
        self.matvec, self.reduce = matvec, reduce
        self.filled, self.ahead, self.block = (int(numbers[name]) for name in ("filled", "ahead", "block"))
        self.matvecs, self.scale = int(numbers["matvecs"]), float(numbers["scale"])
        self.basis = like.new_empty((capacity, len(like)))
        load_rows(self.basis[: self.filled + self.ahead])
        self.projected = np.zeros((capacity, capacity))
        self.projected[: self.filled, : self.filled] = arrays["projected"]
        self.coupling = np.array(arrays["coupling"]).reshape(self.ahead, self.filled)
        return self


def _rows(block: Tensor) -> Tensor:
    """The transpose as a contiguous copy: products want columns (part, b), the basis holds rows."""
    return block.T.clone(memory_format=torch.contiguous_format)
