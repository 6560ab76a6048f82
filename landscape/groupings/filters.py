"""A filter: the weights into one channel of a convolution."""

from __future__ import annotations

from torch import nn

from ._base import Part, rows


def parts(model: nn.Module) -> list[Part]:
    return rows(model, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
