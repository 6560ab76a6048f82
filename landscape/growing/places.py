"""Where a new residual layer can go: behind the module of the activation of a layer that grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..loss.problem import Problem
from .units import Layer

_ACTIVATIONS = (nn.Tanh, nn.Sigmoid, nn.Softplus, nn.SiLU, nn.GELU, nn.ReLU, nn.ELU, nn.Softsign)


def is_activation(module: nn.Module) -> bool:
    """Whether a module is one of torch's elementwise activations, or has an attribute `elementwise` that is true."""
    return isinstance(module, _ACTIVATIONS) or getattr(module, "elementwise", False) is True


def activations_of(problem: Problem, layers: Sequence[Layer]) -> dict[str, str]:
    """layer -> the module of its activation: right behind it or its BatchNorm, and called once in a forward pass.

    Layers whose activation is a function, or that are no nn.Linear and nn.Conv2d, are left out.
    """
    calls: list[tuple[nn.Module, Tensor, Any]] = []
    leaves = {module: name for name, module in problem.model.named_modules() if not list(module.children())}
    hooks = [module.register_forward_hook(lambda m, given, out: calls.append((m, given[0] if given else out, out)))
             for module in leaves]  # fmt: skip
    try:
        with torch.no_grad():
            problem.outcome(problem.weights(), problem.batches[0])
    finally:
        for hook in hooks:
            hook.remove()
    times = Counter(id(module) for module, *_ in calls)
    found = {}
    for layer in layers:
        module = problem.model.get_submodule(layer.name)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and times[id(module)] == 1:
            behind = _behind(calls, module)
            if behind is not None and is_activation(behind) and times[id(behind)] == 1:
                found[layer.name] = leaves[behind]
    return found


def _behind(calls: Sequence[tuple[nn.Module, Tensor, Any]], layer: nn.Module) -> nn.Module | None:
    """The first module that reads what a layer gives, a BatchNorm in between passed over."""
    at = next(i for i, (module, *_) in enumerate(calls) if module is layer)
    value = calls[at][2]
    for module, given, out in calls[at + 1 :]:
        if given is value:
            if not isinstance(module, nn.modules.batchnorm._NormBase):
                return module
            value = out
    return None
