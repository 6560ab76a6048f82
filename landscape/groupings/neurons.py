"""A neuron: the weights into it. Of every linear layer but the last, whose rows are the outputs."""

from __future__ import annotations

from torch import nn

from ._base import Part, rows


def parts(model: nn.Module) -> list[Part]:
    return rows(model, (nn.Linear,))[:-1]
