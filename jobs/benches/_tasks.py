"""Permuted digits, one task after the other: growing against fine-tuning and against random new units."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ._tables import Row

START = 16  # units of the first task
METHODS = ("firefly: copies, splits, new", "firefly: new only", "random new units", "frozen units alone",
           "fine-tuning")  # fmt: skip


def tasks(count: int, seed: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(training images, labels, test images, labels) of each task: its own order of the pixels, the first as it is."""
    import torch

    from landscape.problems._data import digits

    train, test = digits(0.2, seed)
    assert test is not None
    found = []
    for task in range(count):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(97 * seed + task))
        order = torch.arange(64) if task == 0 else order
        found.append((train[0][:, order], train[1], test[0][:, order], test[1]))
    return found


def trained(method: str, seed: int, count: int, budget: int, steps: int) -> dict[str, Any]:
    """Accuracy of each task when learned and at the end, units, and what was grown."""
    import torch

    from landscape.growing.continual import TaskNetwork, grow_for_task

    given = tasks(count, seed)
    generator = torch.Generator().manual_seed(seed)
    net = TaskNetwork(64, 10)
    first = net.add(0.3 * torch.randn(START, 65, generator=generator))
    net.begin(first, first)
    learned, grown = [], {"copy": 0, "split": 0, "new": 0}
    for task, (x, y, test_x, test_y) in enumerate(given):
        if task:
            mask = torch.arange(len(net.units.weight))
            net.begin(mask, mask if method == "fine-tuning" else mask[:0])
            if method == "random new units":
                new = net.add(0.3 * torch.randn(budget, 65, generator=generator))
                net.masks[task], net.owned[task] = torch.cat([mask, new]), new
                net.heads[task] = _head(len(mask) + budget)
            elif method.startswith("firefly"):
                net.learn(task, x, y, steps // 4, seed=seed)  # the head alone, so that there is something to descend
                kinds = ("new",) if "only" in method else ("copy", "split", "new")
                report = grow_for_task(net, task, x, y, budget, kinds=kinds, seed=seed)
                grown = {kind: grown[kind] + report[kind] for kind in grown}
        net.learn(task, x, y, steps, seed=seed + task)
        learned.append(net.accuracy(task, test_x, test_y))
    final = [net.accuracy(task, t[2], t[3]) for task, t in enumerate(given)]
    return {"learned": learned, "final": final, "units": len(net.units.weight), "grown": grown}


def _head(inputs: int) -> Any:
    from torch import nn

    head = nn.Linear(inputs, 10)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def rows(found: dict[str, list[dict[str, Any]]]) -> Iterator[Row]:
    """Means over seeds."""
    for method, runs in found.items():
        told = ", ".join(f"{statistics.mean(r['grown'][k] for r in runs):.1f} {k}" for k in ("copy", "split", "new"))
        yield (method, statistics.mean(r["units"] for r in runs),
               statistics.mean(statistics.mean(r["final"]) for r in runs),
               statistics.mean(statistics.mean(r["final"][1:]) for r in runs),
               forgotten(runs), told if method.startswith("firefly") else None)  # fmt: skip


def forgotten(runs: list[dict[str, Any]]) -> float:
    """Largest loss of accuracy of a task since it was learned."""
    return float(max(a - b for r in runs for a, b in zip(r["learned"], r["final"], strict=True)))
