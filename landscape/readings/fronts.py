"""What a front of costs and accuracies says: the best accuracy that every cost buys."""

from __future__ import annotations

import numpy as np

from ..records import Array


def stairs(cost: Array, accuracy: Array) -> tuple[Array, Array]:
    """The best accuracy that every cost buys, as corners: of points that are not dominated in these two alone.

    Args:
        cost, accuracy: (point,)
    """
    order = np.lexsort((-accuracy, cost))
    best = np.maximum.accumulate(accuracy[order])
    rises = np.concatenate([[True], np.diff(best) > 0]) if len(best) else np.zeros(0, dtype=bool)
    return cost[order][rises], best[rises]
