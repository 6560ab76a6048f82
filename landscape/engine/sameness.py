"""Do all ranks hold the same data, in the same order and batches, and the same weights?"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from ..distributed.parallel import Comm
from ..errors import ProblemError
from ..loss.batches import tensors
from ..loss.problem import Problem


def same_everywhere(problem: Problem, vector: Tensor, comm: Comm) -> None:
    """Raises:
    ProblemError: ranks hold other data, another order of it, or other weights.
    """
    mine = [_digest([vector]), *(_digest(tensors(batch)) for batch in problem.batches)]
    everyone = comm.gather(mine)
    other = next((rank for rank, theirs in enumerate(everyone) if theirs != everyone[0]), None)
    if other is None:
        return
    batches = max(len(everyone[0]), len(everyone[other])) - 1
    different = [i for i in range(batches) if everyone[0][i + 1 : i + 2] != everyone[other][i + 1 : i + 2]]
    if different:
        text = (
            f"rank {other} holds other data than rank 0 in {len(different)} of {batches} batches, first in batch "
            f"{different[0]}: every rank reads the data for itself, and a shuffling loader or a random draw without a "
            "seed gave each its own. Seed it (generator=torch.Generator().manual_seed(0)) or do not shuffle"
        )
    else:
        text = (
            f"rank {other} has other weights than rank 0: the model draws them without a seed. Load a checkpoint, or "
            "call torch.manual_seed before the model is made"
        )
    error = ProblemError(text)
    error.everywhere = True  # every rank sees the same list
    raise error


def _digest(parts: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            part = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        digest.update(part if isinstance(part, bytes) else str(part).encode())
    return digest.hexdigest()
