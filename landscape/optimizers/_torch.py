"""The optimizers of torch.optim by name."""

from __future__ import annotations

import inspect

import torch


def torch_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """The optimizers of torch.optim by lower-case name."""
    return {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
