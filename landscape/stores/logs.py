"""Files of one JSON object a line, to which a training appends while others read; any line may be cut short."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that have a step, in order; none where there is no file."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        # The last line may be half-written, and any line may hold anything.
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and "step" in row:
                yield row


def columns(file: Path) -> dict[str, NDArray[np.float64]]:
    """Numbers by step: 'step' always, others NaN where a step lacks them; of a step written twice the later counts."""
    by_step: dict[int, dict[str, Any]] = {}
    for row in rows(file):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            by_step[int(row["step"])] = row
    ordered = [by_step[s] for s in sorted(by_step)]
    names = sorted({k for row in ordered for k in row})
    found = {n: np.array([_number(row.get(n)) for row in ordered], dtype=np.float64) for n in names}
    found.setdefault("step", np.empty(0))
    return found


def events(file: Path) -> list[dict[str, Any]]:
    """What has a whole step and says which event it is."""
    return [row for row in rows(file) if isinstance(row["step"], int) and isinstance(row.get("event"), str)]


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:  # an integer beyond all floats
        return math.nan
