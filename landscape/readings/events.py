"""When something happened first in a window of the training, and which orders the data can tell. Numpy only."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
SIGMAS = 5.0
MEMORY = 100  # values before a step that its band rests on
_LEAST = 8  # fewer make no band


@dataclass(frozen=True)
class Event:
    """A first crossing: `what` happened after step `after` and not later than `step`."""

    what: str
    step: int
    after: int

    @property
    def gap(self) -> int:
        """Steps between the two measurements that bracket it: 1 where every step was recorded."""
        return self.step - self.after


def band(values: ArrayLike, memory: int = MEMORY, sigmas: float = SIGMAS) -> Array:
    """Upper edge (n,) of what is usual at each place: median + sigmas * 1.4826 * MAD of the `memory` values before it.

    1.4826 times the median absolute deviation is the standard deviation of normal values (Hampel 1974). NaN where
    fewer than eight values lie before.
    """
    y = np.asarray(values, dtype=np.float64)
    padded = np.concatenate([np.full(memory, np.nan), y])[: len(y) + memory - 1]
    if not len(y):
        return np.empty(0)
    before = np.lib.stride_tricks.sliding_window_view(padded, memory)  # (n, memory)
    enough = np.isfinite(before).sum(axis=1) >= min(_LEAST, memory)
    found = np.full(len(y), np.nan)
    if enough.any():
        rows = before[enough]
        middle = np.nanmedian(rows, axis=1)
        found[enough] = middle + sigmas * 1.4826 * np.nanmedian(np.abs(rows - middle[:, None]), axis=1)
    return found


def first(
    what: str, steps: ArrayLike, values: ArrayLike, limit: ArrayLike, window: tuple[float, float]
) -> Event | None:
    """The first upward crossing of a limit (n,) or number by values (n,) at steps (n,) inside a window.

    A value that lies above already at the first measurement of the window is no crossing there: the first one is
    looked for after it has been below.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    above = y > np.broadcast_to(np.asarray(limit, dtype=np.float64), y.shape)
    crossing = np.flatnonzero(above[1:] & ~above[:-1] & (x[1:] >= window[0]) & (x[1:] <= window[1])) + 1
    if not len(crossing):
        return None
    i = int(crossing[0])
    return Event(what, int(x[i]), int(x[i - 1]))


def ordered(events: Sequence[Event]) -> bool:
    """Whether the order is known: the brackets (after, step] of no two events overlap."""
    found = sorted(events, key=lambda e: (e.step, e.after))
    return all(later.after >= earlier.step for earlier, later in itertools.pairwise(found))


def sentence(events: Sequence[Event]) -> str:
    """'the update norm rose at step 3,982, the loss rose at step 3,991', earliest first; empty where nothing did."""
    found = sorted(events, key=lambda e: (e.step, e.after))
    words = [
        f"{e.what} at step {e.step:,}" if e.gap <= 1 else f"{e.what} between steps {e.after:,} and {e.step:,}"
        for e in found
    ]
    return ", ".join(words)
