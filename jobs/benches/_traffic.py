"""What ranks say to each other: messages and bytes of the collectives, counted, modelled, and extrapolated."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, TypeVar

import torch

from landscape.parallel import Comm

T = TypeVar("T")


class Counted(Comm):
    """A communicator that counts its collectives and the bytes that this rank has to send in each.

    Of a vector of V bytes, joined from shards or summed into shards over P ranks, every rank must send at least
    (P - 1) / P V; an all-reduced one costs both.
    """

    def __init__(self, inner: Comm) -> None:
        self.inner, self.rank, self.size = inner, inner.rank, inner.size
        self.calls: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.itemsize = 0  # bytes of an entry that the last reduce-scatter summed

    def _note(self, name: str, full_bytes: int, times: int = 1) -> None:
        self.calls[name] += 1
        self.sent[name] += times * full_bytes * (self.size - 1) // self.size

    def sum(self, array: T) -> T:
        self._note("all-reduce", int(array.nbytes), 2)  # type: ignore[attr-defined]
        return self.inner.sum(array)

    def all_gather(self, part: torch.Tensor, size: int) -> torch.Tensor:
        full = self.inner.all_gather(part, size)
        self._note("all-gather", full.nbytes)
        return full

    def sum_scatter(self, full: torch.Tensor) -> torch.Tensor:
        self._note("reduce-scatter", full.nbytes)
        self.itemsize = full.element_size()
        return self.inner.sum_scatter(full)

    def broadcast(self, value: T, root: int = 0) -> T:
        return self.inner.broadcast(value, root)

    def gather(self, value: T) -> list[T]:
        return self.inner.gather(value)

    def barrier(self) -> None:
        self.inner.barrier()

    def abort(self, code: int) -> None:
        self.inner.abort(code)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def modelled_bytes(size: int, ranks: int, itemsize: int, out_itemsize: int) -> float:
    """(P - 1) / P n (s_in + s_out): what a rank sends for one vector's product, shards in and shards out."""
    return (ranks - 1) / ranks * size * (itemsize + out_itemsize)


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
