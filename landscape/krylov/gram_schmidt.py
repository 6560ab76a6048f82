"""Classical Gram-Schmidt, twice, over a flat basis of sharded rows: few sweeps over memory, two small sums over ranks.

What is orthogonal in exact arithmetic the first pass leaves out: a product of a symmetric operator has parts in the
rows of the basis that the recurrence couples, and in no others but for rounding, which the second pass takes out.

A product of row pieces runs in working precision and is added up in float64. What the first pass gets wrong by rounding
the second one measures, on a block that is already small, so the coefficients are as good as those of float64 dots;
Gram matrices are float64 throughout, and share one sum over ranks with the dots of the second pass.

Source: Giraud, Langou & Rozloznik 2005 (twice is enough).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Reduce = Callable[[Tensor], Tensor]  # small float64 matrix -> its sum over ranks
_CACHE = 1 << 20  # entries of the basis that stay in the cache between two uses
_LONGEST = 1 << 12  # longer sums of float32 products lose digits: 2^15 entries gave residuals of 4 eps norm(A)


@dataclass(frozen=True)
class Projection:
    """What `project_out` found: coefficients (m, b), Gram matrix of the rest (b, b), length before the last pass."""

    coefficients: Array
    gram: Array
    before: float


def pieces(part: int, rows: int) -> Iterator[slice]:
    """Ranges of vector entries for which `rows` vectors fit the cache, short enough to add up in working precision."""
    step = min(max(_CACHE // max(rows, 1), 1 << 11), _LONGEST)
    for first in range(0, part, step):
        yield slice(first, min(first + step, part))


def project_out(basis: Tensor, block: Tensor, reduce: Reduce, near: int = 0) -> Projection:
    """Take the rows of an orthonormal basis (m, part) out of the rows of a block (b, part), in place: two passes.

    Args:
        near: rows before this one have no part in the block but rounding; the second pass alone looks at them.
    """
    m, (b, part) = len(basis), block.shape
    close = basis[near:]
    first = torch.zeros((b, m), dtype=torch.float64, device=block.device)
    if len(close):
        for piece in pieces(part, len(close)):
            first[:, near:] += block[:, piece] @ close[:, piece].T
        first = reduce(first)
    minus = first[:, near:].to(block.dtype)
    both = torch.zeros((b, m + b), dtype=torch.float64, device=block.device)  # dots of the second pass, Gram matrix
    for piece in pieces(part, m):
        if len(close):
            block[:, piece].addmm_(minus, close[:, piece], alpha=-1)
        if m:
            both[:, :m] += block[:, piece] @ basis[:, piece].T
        wide = block[:, piece].double()
        both[:, m:] += wide @ wide.T
    both = reduce(both)
    second, gram = both[:, :m], both[:, m:].cpu().numpy()
    minus = second.to(block.dtype)
    for piece in pieces(part, m) if m else ():
        block[:, piece].addmm_(minus, basis[:, piece], alpha=-1)
    found = second.cpu().numpy()
    before = float(np.sqrt(gram.diagonal().max(initial=0.0)))
    # Pythagoras: the basis is orthonormal.
    return Projection((first.cpu().numpy() + found).T, gram - found @ found.T, before)


def orthonormalise(
    basis: Tensor, block: Tensor, known: Projection, reduce: Reduce, floor: float
) -> tuple[Tensor, Array]:
    """block^T = Q^T triangle: Q (r, part) orthonormal and orthogonal to the basis; r < b where the block is deficient.

    Args:
        block: rows (b, part) from which the basis has been taken out, and `known` what that has told.
        floor: directions not longer than this are rounding noise and dropped: they would only add noise.
    """
    total = np.eye(len(block))
    for turn in range(3):
        if not np.isfinite(known.gram).all():
            break
        values, vectors = np.linalg.eigh(known.gram)
        lengths = np.sqrt(np.maximum(values, 0.0))
        keep = lengths > (max(floor, 1e-7 * lengths.max(initial=0.0)) if turn == 0 else 0.1)
        if not keep.any():
            break
        # The symmetric root is a continuous function of the Gram matrix: rounding cannot turn the new block.
        back = vectors.T if keep.all() else np.eye(int(keep.sum()))  # (r, r)
        block = mixed(block, back.T @ (vectors[:, keep] / lengths[keep]).T)
        total = back.T @ (vectors[:, keep] * lengths[keep]).T @ total  # (r, b)
        if lengths[keep].min() > 0.1 * known.before:
            return block, total
        known = project_out(basis, block, reduce)  # dividing by a short length lifts old components
    else:
        return block, total
    return block[:0], np.zeros((0, total.shape[1]))


def mixed(block: Tensor, mix: Array) -> Tensor:
    """mix (r, b) @ block, computed in float64."""
    out = block.new_empty((len(mix), block.shape[1]))
    wide = torch.as_tensor(mix, device=block.device)
    for piece in pieces(block.shape[1], sum(mix.shape)):
        out[:, piece] = wide @ block[:, piece].double()
    return out


def mix_rows(basis: Tensor, filled: int, mix: Array, behind: int) -> None:
    """Replace the first `filled` rows by mix @ them (k, filled), and move the `behind` rows after them up, in place."""
    k = len(mix)
    small = torch.as_tensor(mix, dtype=basis.dtype, device=basis.device)
    for piece in pieces(basis.shape[1], filled + behind):
        new = small @ basis[:filled, piece]
        after = basis[filled : filled + behind, piece].clone()
        basis[:k, piece] = new
        basis[k : k + behind, piece] = after
