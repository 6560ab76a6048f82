"""Diagonal of an operator from products: exactly by unit vectors, or Hutchinson's estimate with its standard error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..krylov.lanczos import Matvec
from ..krylov.probes import probes


@dataclass(frozen=True)
class Piece:
    """What one block of probes adds, this rank's rows: sums of z * (A z) and of its square, (part,)."""

    total: Tensor
    square: Tensor


def pieces(matvec: Matvec, like: Tensor, size: int, blocks: list[range], seed: int, part: slice) -> Iterator[Piece]:
    """z * (A z) summed over the random signs of each block: its mean over many is diag A (Hutchinson 1990; Bekas,
    Kokiopoulou & Saad 2007). The variance of entry i is sum_{j != i} A_ij^2 a probe.

    Args:
        matvec: product with a block of this rank's rows (part, b).
        like: what the probes shall look like (dtype and device).
        part: this rank's rows.
    """
    for numbers in blocks:
        signs = torch.where(probes(numbers, size, seed, part) < 0, -1.0, 1.0).to(like)
        seen = signs.double() * matvec(signs).double()
        yield Piece(seen.sum(dim=1), seen.square().sum(dim=1))


def exact(matvec: Matvec, like: Tensor, blocks: list[range], part: slice) -> Iterator[Tensor]:
    """Rows (part,) of the diagonal, zero outside of each block, from products with unit vectors."""
    rows = part.stop - part.start
    for numbers in blocks:
        units = torch.zeros(rows, len(numbers), dtype=like.dtype, device=like.device)
        mine = [(i - part.start, k) for k, i in enumerate(numbers) if part.start <= i < part.stop]
        for row, column in mine:
            units[row, column] = 1
        product, found = matvec(units).double(), torch.zeros(rows, dtype=torch.float64, device=like.device)
        for row, column in mine:
            found[row] = product[row, column]
        yield found


def estimate(total: Tensor, square: Tensor, probes: int) -> tuple[Tensor, Tensor]:
    """Mean and standard error from sums over `probes` random signs; the error of a single one is NaN."""
    mean = total / probes
    spread = (square / probes - mean.square()).clamp(min=0)
    return mean, (spread / (probes - 1)).sqrt() if probes > 1 else torch.full_like(mean, torch.nan)
