"""Real text that every Python ships: the source of its standard library, as sequences of bytes."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import ProblemError, UsageError

BYTES = 256  # the vocabulary
_HELD_OUT = 10  # every tenth file is for testing
Pair = tuple[Tensor, Tensor]


def standard_library(context: int, samples: int, test_samples: int) -> tuple[Pair, Pair | None, str]:
    """(bytes, following bytes), each (samples, context), for training and for testing, and the digest of the text.

    The text is that of the public modules that are one file, by name; every tenth file is held out.

    Raises:
        ProblemError: the standard library is not installed as source, or has fewer sequences than asked for.
    """
    folder = Path(os.__file__).parent
    files = sorted(f for f in folder.glob("[!_]*.py") if f.stem in sys.stdlib_module_names)
    if len(files) < _HELD_OUT:
        raise ProblemError(f"{folder} holds no source of Python's standard library; use a Python installed with it")
    contents = [file.read_bytes() for file in files]
    held_out = b"".join(contents[_HELD_OUT - 1 :: _HELD_OUT])
    text = b"".join(c for i, c in enumerate(contents) if i % _HELD_OUT != _HELD_OUT - 1)
    digest = hashlib.sha256(text + held_out).hexdigest()[:12]
    test = sequences(held_out, context, test_samples, "test_samples") if test_samples else None
    return sequences(text, context, samples, "samples"), test, digest


def sequences(text: bytes, context: int, samples: int, setting: str = "samples") -> Pair:
    """(bytes, following bytes), each (samples, context): pieces of a text that do not overlap, spread evenly over it.

    Raises:
        UsageError: more of them than the text holds.
    """
    whole = max(len(text) - 1, 0) // context
    if not 1 <= samples <= whole:
        raise UsageError(f"{setting} must lie between 1 and {whole} for sequences of {context} bytes, got {samples}")
    starts = np.arange(samples) * whole // samples * context
    read = np.frombuffer(text, dtype=np.uint8)[starts[:, None] + np.arange(context + 1)]  # (samples, context + 1)
    tokens = torch.from_numpy(read.astype(np.int64))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
