"""The grid of a job: how many groups of ranks work on different checkpoints, and what a rank of a group holds.

Within a group the data and the basis are sharded. The predicted time of a checkpoint, in samples, is

    max(samples / ranks, 32) * (1 + 0.02 log2 ranks) * (2 + 1 / block)

as a rank with fewer than 32 samples gains nothing from sharing, and a group waits for its slowest rank; the last factor
is what a block product costs a vector, in gradients. Groups take checkpoints as they get free, in
ceil(checkpoints / groups) rounds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ResourceError, UsageError

FEWEST_SAMPLES = 32  # a rank with fewer spends its time on overhead
_WAITING = 0.02  # a group's loss for every doubling of its ranks


@dataclass(frozen=True)
class Plan:
    """Groups of ranks, the block of probes multiplied at once, and memory a rank (bytes)."""

    ranks: int
    groups: int
    checkpoints: int
    rounds: int  # checkpoints that the busiest group takes
    block: int
    asked_block: int
    batch_size: int | None  # samples a batch that give every rank the same work; None: as they are
    basis_bytes: int
    other_bytes: int
    memory: int
    cost: float  # predicted time in gradients of one sample

    @property
    def ranks_per_group(self) -> int:
        """Ranks of the smallest group."""
        return self.ranks // self.groups

    def as_dict(self) -> dict[str, Any]:
        """For a record's meta."""
        return asdict(self) | {"ranks_per_group": self.ranks_per_group}

    def __str__(self) -> str:
        low, high = self.ranks_per_group, -(-self.ranks // self.groups)
        of = str(low) if low == high else f"{low} or {high}"
        text = (
            f"plan: {_count(self.ranks, 'rank')} in {_count(self.groups, 'group')} of {of} for "
            f"{_count(self.checkpoints, 'checkpoint')}, {_count(self.rounds, 'round')}; a rank holds "
            f"{_size(self.basis_bytes)} of basis and {_size(self.other_bytes)} of blocks, of {_size(self.memory)}; "
            f"block {self.block}"
        )
        if self.batch_size is not None:
            text += f"; batches of {self.batch_size} so that every rank has its share"
        if self.block < self.asked_block:
            text += (
                f" instead of {self.asked_block}, which would not fit: the same products one after another, which "
                "shifts the density within its error"
            )
        return text


def room(iterations: int, block: int, pairs: int, size: int) -> int:
    """Vectors of a Krylov space with room for the density and for restarts of `pairs` eigenpairs."""
    vectors = max((iterations + 1) * block, 4 * pairs + 16 + 2 * block if pairs else 0)
    return max(min(vectors, size + block + 1), 2 * block)


def plan(
    ranks: int,
    size: int,
    samples: int,
    batches: int,
    checkpoints: int,
    memory: int,
    probes: int = 4,
    iterations: int = 50,
    block: int = 4,
    pairs: int = 12,
    itemsize: int = 4,
    groups: int | None = None,
    largest: int | None = None,
) -> Plan:
    """The fastest grid whose basis fits half of `memory`, and whose replicated blocks fit the rest.

    Args:
        ranks: of the whole job; `size` weights of `itemsize` bytes; `samples` in `batches`, the largest of `largest`.
        checkpoints: independent tasks; groups are never more.
        memory: bytes a rank may use.
        pairs: eigenpairs wanted from both ends together.
        groups: asked for by hand; None lets the plan choose.

    Raises:
        ResourceError: not even one probe at a time fits.
        UsageError: more groups asked for than ranks.
    """
    if groups is not None and groups > ranks:
        raise UsageError(f"{groups} groups need as many ranks, this job has {ranks}; start more, or say --groups auto")
    tasks = max(checkpoints, 1)
    choices = [min(groups, tasks)] if groups is not None else range(1, min(ranks, tasks) + 1)
    asked = min(block, probes, size)
    width = asked
    while width >= 1:
        fitting = [
            (_cost(ranks // k, samples, width) * -(-tasks // k), -k)
            for k in choices if _fits(ranks // k, size, iterations, width, pairs, itemsize, memory)
        ]  # fmt: skip
        if fitting:
            cost, negative = min(fitting)
            number = -negative
            a_group = -(-ranks // number)
            return Plan(
                ranks, number, checkpoints, -(-tasks // number), width, asked,
                _batch_size(a_group, samples, batches, largest or -(-samples // max(batches, 1))),
                _basis(ranks // number, size, iterations, width, pairs, itemsize), _others(size, width, itemsize),
                memory, cost,
            )  # fmt: skip
        width //= 2
    largest_group = ranks // min(choices)
    raise ResourceError(
        f"one probe at a time needs {_size(_basis(largest_group, size, iterations, 1, pairs, itemsize))} of basis and "
        f"{_size(_others(size, 1, itemsize))} of blocks on each of {_count(largest_group, 'rank')} that share it, and "
        f"{_size(memory)} a rank are there (half of it for each). Start more ranks or fewer a machine, ask for fewer "
        "--iterations or --top, or raise --memory"
    )


def _cost(ranks: int, samples: int, block: int) -> float:
    """Predicted time of a checkpoint a vector, in gradients of one sample."""
    return max(samples / ranks, min(FEWEST_SAMPLES, samples)) * (1 + _WAITING * math.log2(ranks)) * (2 + 1 / block)


def _basis(ranks: int, size: int, iterations: int, block: int, pairs: int, itemsize: int) -> int:
    return room(iterations, block, pairs, size) * -(-size // ranks) * itemsize


def _others(size: int, block: int, itemsize: int) -> int:
    """The gathered block, its float64 product and that product as sent; weights, gradient and inputs of one product."""
    return size * (block * (2 * itemsize + 8) + 3 * itemsize)


def _fits(ranks: int, size: int, iterations: int, block: int, pairs: int, itemsize: int, memory: int) -> bool:
    needed = _basis(ranks, size, iterations, block, pairs, itemsize), _others(size, block, itemsize)
    return max(needed) <= memory / 2


def _batch_size(ranks: int, samples: int, batches: int, largest: int) -> int | None:
    """Samples a batch that deal the work evenly to the ranks of a group; None where the batches do so already."""
    now = min(-(-batches // ranks) * largest, samples)  # samples of the busiest rank, its batches all full
    turns = -(-samples // (ranks * largest))
    wished = -(-samples // (ranks * turns))
    return wished if now > 1.1 * turns * wished else None


# ------------------------------------------------------------------ memory


def available_memory() -> int:
    """Bytes that this machine, or the container around this process, still has."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    found += list(_container_memory())
    return max(min(found), 0)


def _container_memory() -> Iterator[int]:
    """Limit minus use of the control group, by its second or its first version."""
    root = "/sys/fs/cgroup"
    for limit, used in (
        (f"{root}/memory.max", f"{root}/memory.current"),
        (f"{root}/memory/memory.limit_in_bytes", f"{root}/memory/memory.usage_in_bytes"),
    ):
        values = [text for name in (limit, used) for text in _lines(name)[:1]]
        if len(values) == 2 and all(value.isdigit() for value in values):
            yield int(values[0]) - int(values[1])


def _lines(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []


# ------------------------------------------------------------------ words


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _size(number: float) -> str:
    """'1.2 GB' or '25 MB'."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"
