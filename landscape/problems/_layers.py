"""Choices that the shipped networks share."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import UsageError


class Gaussian(nn.Module):
    """exp(-z^2 / 2) of every entry."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.exp(-z.square() / 2)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU, "softplus": nn.Softplus, "relu": nn.ReLU,
    "gaussian": Gaussian,
}  # fmt: skip


def activation_layer(name: str) -> nn.Module:
    """A fresh activation by name.

    Raises:
        UsageError: an unknown name.
    """
    if name not in ACTIVATIONS:
        raise UsageError(f"unknown activation '{name}'; the choices are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def set_seed(seed: int | None) -> None:
    """Seed torch's generator, from which initial weights are drawn; None leaves it as it is."""
    if seed is not None:
        torch.manual_seed(seed)
