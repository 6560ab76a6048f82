"""A model in the shapes of a state dict: what a checkpoint of a network that grew, or was cut, is loaded into."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .added import match_added
from .attention import Attention, HasHeads, head_blocks, heads_in, open_attention

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PRODUCERS = (nn.Linear, *CONVOLUTIONS)


def fitted(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model whose tensors have the shapes, but not the values, of a state dict."""
    other = copy.deepcopy(model)
    fit(other, state)
    return other


def fit(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Give a model's linear, convolutional, BatchNorm and attention layers the shapes of a state dict, and the model
    the added residual layers that it has; whether any changed.

    Tensors whose shape changes are new and hold zeros; those of other modules, and names that the state dict lacks,
    stay as they are. Weights that were tied stay tied.
    """
    parts: dict[int, nn.Parameter] = {}
    changed = match_added(model, state)
    _fit_heads(model, state)
    for name, tensor in model.state_dict(keep_vars=True).items():
        owner = model.get_submodule(name.rpartition(".")[0])
        known = isinstance(owner, (*PRODUCERS, nn.modules.batchnorm._NormBase, Attention))
        wanted = state.get(name)
        if known and wanted is not None and wanted.shape != tensor.shape and wanted.ndim == tensor.ndim:
            replace(model, name, torch.zeros(wanted.shape, dtype=tensor.dtype, device=tensor.device), tensor, parts)
            changed = True
    if changed:
        for module in model.modules():
            resize(module, _groups(module))
    return changed


def _fit_heads(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Let modules of attention heads know how many they have in a state dict."""
    own = model.state_dict()
    counts: dict[str, int] = {}  # of those with another number than before
    for name, module in model.named_modules():
        for leaf, block in head_blocks(module).items():
            tensor = f"{name}.{leaf}" if name else leaf
            if tensor in state and state[tensor].ndim == own[tensor].ndim:
                count = heads_in(own[tensor].shape, state[tensor].shape, block)
                if count != block[1]:
                    counts[name] = count
    if counts:
        open_attention(model)
    for name, count in counts.items():
        module = model.get_submodule(name)
        if isinstance(module, HasHeads):
            module.heads = count


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
