"""The trace of an operator from few products, without a Krylov space: Hutch++ with a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from ..krylov.gram_schmidt import Reduce
from ..krylov.lanczos import Matvec
from ..readings.bounds import Interval, student


def hutchpp(
    matvec: Matvec,
    draw: Callable[[range], Tensor],
    size: int,
    products: int,
    reduce: Reduce = lambda x: x,
    width: int = 8,
) -> Interval:
    """tr A = tr(Q^T A Q) + tr((I - Q Q^T) A), Q = orth(A S): the first exactly, the second by random probes.

    A third of the products each for A S, for A Q and for the probes (Meyer, Musco, Musco & Woodruff 2021, arXiv
    2010.09649, algorithm 1). The probes V are k orthonormal vectors, uniformly distributed in the n-dimensional
    complement of Q; the off-diagonal entries of V^T A V have half the variance of the diagonal ones and no mean, so the
    interval rests on k - 1 + k (k - 1) / 2 degrees of freedom. Its variance has the factor (n - k) / (n - 1).

    Args:
        matvec: product with a block of this rank's rows (part, b).
        draw: Gaussian vectors of the given numbers, this rank's rows (part, b).
        width: most vectors multiplied at once.

    Raises:
        UsageError: fewer than 6 products.
    """
    if products < 6:
        raise UsageError(f"products must be at least 6, got {products}")
    third = min(products // 3, size)

    def multiply(block: Tensor) -> Tensor:
        return torch.cat([matvec(piece.contiguous()).double() for piece in block.split(width, dim=1)], dim=1)

    start = draw(range(third))
    dtype = start.dtype
    basis = _orthonormal(multiply(start), reduce)
    known = basis.shape[1]
    inside = float(reduce((basis * multiply(basis.to(dtype))).sum().reshape(1, 1))) if known else 0.0
    rest = size - known
    if rest == 0:
        return _about(inside, 0.0)
    probes = draw(range(third, third + min(third, rest))).double()
    for _ in range(2):  # twice is enough
        probes = probes - basis @ reduce(basis.T @ probes)
    probes = _orthonormal(probes, reduce)
    seen = reduce(probes.T @ multiply(probes.to(dtype))).cpu().numpy()  # (k, k)
    seen, k = (seen + seen.T) / 2, len(seen)
    diagonal = np.diag(seen)
    scatter = np.square(diagonal - diagonal.mean()).sum() + 2 * np.square(np.triu(seen, 1)).sum()
    freedom = k - 1 + k * (k - 1) / 2
    variance = scatter / max(freedom, 1) / k * (rest - k) / max(rest - 1, 1)
    half = student(freedom) * rest * float(np.sqrt(variance)) if freedom or rest == k else float("inf")
    return _about(inside + rest * float(diagonal.mean()), half)


def _about(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half)


def _orthonormal(block: Tensor, reduce: Reduce) -> Tensor:
    """An orthonormal basis (part, r) of the columns' span in float64; directions of rounding size are dropped."""
    block = block.double()
    for turn in range(3):
        values, vectors = np.linalg.eigh(reduce(block.T @ block).cpu().numpy())
        lengths = np.sqrt(np.maximum(values, 0.0))
        keep = lengths > (1e-6 * lengths.max(initial=0.0) if turn == 0 else 0.1)
        mix = vectors[:, keep] / lengths[keep]
        block = block @ torch.as_tensor(mix, dtype=block.dtype, device=block.device)
    return block
