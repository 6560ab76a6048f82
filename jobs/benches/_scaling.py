"""A model of strong scaling: what a block product takes on P ranks from its compute time and its traffic."""

from __future__ import annotations

import math


def modelled_bytes(size: int, ranks: int, itemsize: int) -> float:
    """2 (P - 1) / P n s: what a rank sends for one vector's product, shards of s bytes an entry in and out."""
    return 2 * (ranks - 1) / ranks * size * itemsize


def modelled_efficiency(
    compute: float, sent: float, ranks: int, *, bandwidth: float, latency: float, reductions: int
) -> float:
    """T1 / (P T_P) with T_P = T1 / P + bytes / bandwidth + (2 + 2 r) ceil(log2 P) latency, nothing overlapped.

    Args:
        compute: seconds of one block product on one rank, T1.
        sent: bytes that a rank sends in it.
        reductions: small all-reduces a block step, r, each down and up a tree.
    """
    hops = math.ceil(math.log2(ranks)) if ranks > 1 else 0
    spent = compute / ranks + sent / bandwidth + (2 + 2 * reductions) * hops * latency
    return compute / ranks / spent
