"""What a piece of work must compute, whatever it is written in: products of matrices, and transcendental functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from . import _timing

_TRANSCENDENTAL = ("exp", "log", "tanh", "sigmoid", "erf", "gelu", "silu", "softplus", "_log_softmax", "_softmax")
_SIDE = 1024


class _Values(TorchDispatchMode):
    """Counts the values that transcendental functions give."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's mode has no annotations
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func._schema.name.partition("::")[2].removesuffix("_") in _TRANSCENDENTAL:
            self.count += args[0].numel()
        return found


@dataclass(frozen=True)
class Work:
    """Something to do, and how many points it does."""

    do: Callable[[], Any]
    points: int


def rows(works: Mapping[str, Work], repeats: int) -> Iterator[tuple[str, float, int, float, float, float, float]]:
    """Of each work, a point: megaflops of products, values of functions, the least milliseconds that they take here,
    those that were taken, the share, and the least in terms of what the first work took."""
    products, functions = product_speed(), exponential_speed()
    times = _timing.interleaved({what: work.do for what, work in works.items()}, repeats)
    unit = next(times[what].median / work.points for what, work in works.items())
    for what, work in works.items():
        flops, values = (count / work.points for count in counted(work.do))
        least, taken = flops / products + values / functions, times[what].median / work.points
        yield what, 1e-6 * flops, round(values), 1e3 * least, 1e3 * taken, least / taken, least / unit


def counted(work: Callable[[], Any]) -> tuple[int, int]:
    """Floating-point operations of matrix products and convolutions, and values of transcendental functions."""
    with torch.no_grad(), _Values() as values, FlopCounterMode(display=False) as flops:
        work()
    return flops.get_total_flops(), values.count


def product_speed() -> float:
    """Operations a CPU second of a float32 product of two square matrices, the best of several."""
    a, b = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
    return 2 * _SIDE**3 / _best(lambda: a @ b)


def exponential_speed() -> float:
    """Exponentials a CPU second, in cache."""
    values = torch.rand(1 << 16)
    return len(values) / _best(values.exp)


def _best(work: Callable[[], Any]) -> float:
    work()
    taken = []
    for _ in range(7):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return max(min(taken), 1e-9)
