"""Random start vectors named by (seed, index), never by rank, so that any number of ranks gets the same numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_CHUNK = 1 << 20


def probe(index: int, size: int, seed: int, part: slice | None = None) -> Tensor:
    """Standard normal entries of probe `index`: float64 of shape (size,), or only its shard `part`.

    The vector is drawn in chunks with a generator each, so a rank draws little more than its own shard. The same
    probes serve every checkpoint: common random numbers make the differences between checkpoints far less noisy
    than the densities themselves.
    """
    part = part or slice(0, size)
    pieces = []
    for chunk in range(part.start // _CHUNK, -(-part.stop // _CHUNK)):
        word = np.random.SeedSequence((seed, index, chunk)).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(word) & (2**63 - 1))
        start = chunk * _CHUNK
        values = torch.randn(min(_CHUNK, size - start), generator=generator, dtype=torch.float64)
        pieces.append(values[max(part.start - start, 0) : part.stop - start])
    return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.float64)


def probes(indices: range, size: int, seed: int, part: slice | None = None) -> Tensor:
    """Probes side by side as the columns of a float64 block (size or shard, len(indices))."""
    return torch.stack([probe(i, size, seed, part) for i in indices], dim=1)
