"""Surfaces of other people's tools, side by side when installed: each evaluates a random plane of so many points."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable
from typing import Any

import torch

from ._case import Case

Run = Callable[[Case, int], Any]  # (case, points an axis)


def loss_landscapes(case: Case, points: int) -> Any:
    """PyPI `loss-landscapes` 3: random_plane."""
    tool, metrics = importlib.import_module("loss_landscapes"), importlib.import_module("loss_landscapes.metrics")
    inputs, targets = case.batch
    metric = metrics.Loss(case.loss, inputs, targets)
    with torch.no_grad():
        return tool.random_plane(case.model(), metric, distance=1, steps=points, normalization="filter")


def landscaper(case: Case, points: int) -> Any:
    """PyPI `landscaper` 1.3: compute_loss_landscape, which prints a bar for every point."""
    compute = importlib.import_module("landscaper.compute")
    model = case.model()
    generator = torch.Generator().manual_seed(0)
    directions = [[torch.randn(p.shape, generator=generator) for p in model.parameters()] for _ in range(2)]

    def loss(network: torch.nn.Module, data: Any) -> float:
        return float(case.loss(network(data[0]), data[1]))

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return compute.compute_loss_landscape(
            model, case.batch, directions, loss, steps=points, distance=1.0, dim=2, device="cpu"
        )


TOOLS: dict[str, Run] = {"loss-landscapes": loss_landscapes, "landscaper": landscaper}
