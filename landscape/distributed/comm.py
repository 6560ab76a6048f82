"""What every rank can ask of the others: `Comm` is one process; the rooms of MPI fill the same words in for many."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import LandscapeError
from .traffic import Traffic

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class Counter:
    """A number that all ranks of a communicator share; here the ranks are one."""

    def __init__(self) -> None:
        self._value = 0

    def add(self, amount: int = 1) -> int:
        """Add to it and return what it was before, in one step that no other rank can come between."""
        before, self._value = self._value, self._value + amount
        return before

    def value(self) -> int:
        """What it is now."""
        return self.add(0)

    def close(self) -> None:
        """Give it back; all ranks together."""


class Comm:
    """One process. Every method also describes what many ranks do.

    `local_size` counts the ranks on this machine; `traffic` is what this rank has sent through this communicator.
    """

    rank = 0
    size = 1
    local_size = 1

    def __init__(self) -> None:
        self.traffic = Traffic()

    def split(self, groups: int) -> Comm:
        """This rank's group, of `groups` with neighbouring ranks and sizes that differ by one at most."""
        return Comm()

    def counter(self) -> Counter:
        """A shared number, 0 at first; all ranks ask for it together."""
        return Counter()

    def sum(self, array: T) -> T:
        """Elementwise sum over ranks of a float32 or float64 array or tensor; equal on every rank."""
        return array

    def broadcast(self, value: T, root: int = 0) -> T:
        """The root's value on every rank."""
        return value

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank, on every rank."""
        return [value]

    def barrier(self, idle: Callable[[], None] | None = None) -> None:
        """Wait for all ranks; with `idle` sleep between looks, and call it at every look."""

    def abort(self, code: int) -> None:
        """End every rank of the job at once with this exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's items: every size-th one, from its rank on."""
        return list(items[self.rank :: self.size])

    def part(self, size: int, rank: int | None = None) -> slice:
        """A rank's contiguous shard of a vector of this size (its own by default)."""
        rank, rows = self.rank if rank is None else rank, -(-size // self.size)
        return slice(min(rank * rows, size), min((rank + 1) * rows, size))

    def all_gather(self, part: torch.Tensor, size: int) -> torch.Tensor:
        """Shards (part, block) of all ranks joined to the full (size, block) tensor."""
        return part

    def collect(self, part: torch.Tensor, size: int) -> torch.Tensor | None:
        """Shards (part, block) of all ranks joined on rank 0, in host memory; None elsewhere."""
        return part.cpu()

    def sum_scatter(self, full: torch.Tensor) -> torch.Tensor:
        """Sum over ranks of full (size, block) tensors, of which each rank keeps its shard (part, block).

        What travels has the tensor's own dtype, float32 or float64.
        """
        return full

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """If the block fails on any rank, the first failure is raised on every rank (so that none waits for ever)."""
        failure: Exception | None = None
        try:
            yield
        except Exception as caught:
            failure = caught
        reports = self.gather(None if failure is None else _report(failure))
        for rank, report in enumerate(reports):
            if report is not None:
                error = failure if rank == self.rank and failure is not None else _rebuild(report)
                self._mark(error, rank)
                raise error

    def _mark(self, error: Exception, first: int) -> None:
        """Note who knows of a failure: all ranks of the job here; only those of one group in a part of it."""
        vars(error)["everywhere"] = True  # on any exception: the command line asks by getattr


def _report(error: Exception) -> tuple[str, str, int | None]:
    return type(error).__name__, str(error), getattr(error, "exit_code", None)


def _rebuild(report: tuple[str, str, int | None]) -> Exception:
    name, text, code = report
    if code is None:
        return RuntimeError(f"{name} on another rank: {text}")
    error = LandscapeError(text)
    error.exit_code = code
    return error


def check_dtype(array: Any) -> None:
    """Raises:
    TypeError: an array that is not summed over ranks: some MPI libraries add bfloat16 as raw bytes.
    """
    if str(array.dtype).removeprefix("torch.") not in ("float32", "float64"):
        raise TypeError(f"only float32 and float64 are summed over ranks, got {array.dtype}")
