"""A model in the shapes of a state dict: what a checkpoint of a network that grew, or was cut, is loaded into."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .growing.residual import insert_missing

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PRODUCERS = (nn.Linear, *CONVOLUTIONS)


def fitted(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model whose tensors have the shapes, but not the values, of a state dict."""
    other = copy.deepcopy(model)
    fit(other, state)
    return other


def fit(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Give a model's linear, convolutional and BatchNorm layers the shapes of a state dict; whether any changed.

    Tensors whose shape changes are new and hold zeros; those of other modules, and names that the state dict lacks,
    stay as they are. Weights that were tied stay tied.
    """
    parts: dict[int, nn.Parameter] = {}
    changed = insert_missing(model, state)
    for name, tensor in model.state_dict(keep_vars=True).items():
        owner = model.get_submodule(name.rpartition(".")[0])
        known = isinstance(owner, (*PRODUCERS, nn.modules.batchnorm._NormBase))
        wanted = state.get(name)
        if known and wanted is not None and wanted.shape != tensor.shape and wanted.ndim == tensor.ndim:
            replace(model, name, torch.zeros(wanted.shape, dtype=tensor.dtype, device=tensor.device), tensor, parts)
            changed = True
    if changed:
        for module in model.modules():
            resize(module, _groups(module))
    return changed


def replace(model: nn.Module, name: str, value: Tensor, old: Tensor, parts: dict[int, nn.Parameter]) -> None:
    """Put a tensor of another shape in a model's place; `parts` keeps weights tied that were."""
    module, _, leaf = name.rpartition(".")
    owner = model.get_submodule(module)
    if isinstance(old, nn.Parameter):
        setattr(owner, leaf, parts.setdefault(id(old), nn.Parameter(value.clone(), requires_grad=old.requires_grad)))
    else:
        owner.register_buffer(leaf, value.clone(), persistent=True)


def resize(module: nn.Module, groups: int) -> None:
    """Let a module's own numbers say what its tensors are."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, CONVOLUTIONS):
        module.groups = groups
        module.out_channels, module.in_channels = module.weight.shape[0], module.weight.shape[1] * groups
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        tensor: Any = module.weight if module.weight is not None else module.running_mean
        module.num_features = len(tensor) if tensor is not None else module.num_features


def _groups(module: nn.Module) -> int:
    """Groups of a convolution in its new shape: one a channel where there was one a channel, else as many as before."""
    if not isinstance(module, CONVOLUTIONS):
        return 1
    depthwise = module.groups > 1 and module.groups == module.in_channels
    return len(module.weight) // (module.out_channels // module.groups) if depthwise else module.groups
