"""Which data a result was made with, as a short digest that a record can carry."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .batches import Batch, tensors
from .problem import Problem


def fingerprint(problem: Problem) -> str:
    """Digest of the training samples: the same in any order and in any batches, another when a byte differs.

    It is the sum of the samples' own digests, mod 2^64.
    """
    return f"{sum(_digest(batch) for batch in problem.batches) % 2**64:016x}"


def _digest(batch: Batch) -> int:
    parts = [t.detach().cpu().contiguous() for t in tensors(batch)]
    samples = len(parts[0]) if parts and parts[0].ndim else 0
    if not samples or any(not t.ndim or len(t) != samples for t in parts):
        return _number(b"".join(_bytes(t[None]).tobytes() for t in parts))  # no samples to tell apart
    rows = [_bytes(t) for t in parts]  # each (samples, bytes)
    return sum(_number(b"".join(row[i].tobytes() for row in rows)) for i in range(samples))


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """The bytes of every row, (rows, bytes)."""
    found: NDArray[np.uint8] = tensor.reshape(len(tensor), -1).view(torch.uint8).numpy()
    return found


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
