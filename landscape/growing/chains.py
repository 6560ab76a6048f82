"""Which layers of a network can grow: chains of layers one after the other, read from its `nn.Sequential` parts.

A hidden layer is a linear layer or convolution, at most one BatchNorm, an elementwise activation, anything that keeps
units apart (pooling, flatten, dropout), and the layer that reads it. Its unit i computes phi(z_i), z_i = w_i . h + b_i.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ProblemError
from ..loss.added import Insertion, Residual
from .embedding import Change, Cut, Widening

SURROGATE = 3.0  # beta of the softplus whose second derivative stands for ReLU's, as in the published code
_PRODUCERS = (nn.Linear, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_KEEP_UNITS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity)
_ACTIVATIONS = (nn.Tanh, nn.Sigmoid, nn.Softplus, nn.SiLU, nn.GELU, nn.ReLU, nn.ELU, nn.Softsign)


class RadialBasis(nn.Module):
    """exp(-z^2 / 2)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.exp(-z.square() / 2)


@dataclass(frozen=True)
class Hidden:
    """A layer of units that can grow; numbers are places in its chain."""

    name: str  # of the layer that produces the units
    producer: nn.Linear | nn.Conv2d
    reader: nn.Linear | nn.Conv2d
    at: int
    norm: int | None
    activation: int
    read_at: int

    @property
    def units(self) -> int:
        return len(self.producer.weight)

    @property
    def places(self) -> int:
        """Inputs of the reader that belong to one unit: 1, or the pixels that a flatten makes of a channel."""
        return self.reader.weight.shape[1] // self.units

    @property
    def inputs(self) -> int:
        """Entries of a neuron's theta: its weights and, where there is one, its bias."""
        return self.producer.weight[0].numel() + (self.producer.bias is not None)


@dataclass
class Chain:
    """A `nn.Sequential` with those inside it taken apart, and its hidden layers."""

    name: str
    sequence: nn.Sequential
    modules: list[nn.Module]
    owners: list[tuple[nn.Sequential, str]]  # of each module: what holds it, under which name
    hidden: list[Hidden] = field(default_factory=list)


def chains_of(model: nn.Module) -> list[Chain]:
    """All chains of a model.

    Raises:
        ProblemError: nothing in the model can grow.
    """
    inside = {id(c) for m in model.modules() if isinstance(m, nn.Sequential)
              for c in m.children() if isinstance(c, nn.Sequential)}  # fmt: skip
    found = [_chain(name, module) for name, module in model.named_modules()
             if isinstance(module, nn.Sequential) and id(module) not in inside]  # fmt: skip
    if not any(chain.hidden for chain in found):
        raise ProblemError(
            "no layer of this model can grow; it needs an nn.Sequential with a Linear or Conv2d (groups=1), at most "
            "one BatchNorm, an elementwise activation and another Linear or Conv2d, one after the other"
        )
    return found


def hidden_of(chains: list[Chain]) -> list[Hidden]:
    return [hidden for chain in chains for hidden in chain.hidden]


def _chain(name: str, sequence: nn.Sequential) -> Chain:
    names, chain = list(_leaves(name, sequence)), Chain(name, sequence, [], [])
    chain.modules = [module for _name, module, _owner in names]
    chain.owners = [owner for *_, owner in names]
    start: tuple[str, int] | None = None
    norm: int | None = None
    activation: int | None = None
    for at, (leaf, module, _owner) in enumerate(names):
        if isinstance(module, _PRODUCERS):
            if start is not None and activation is not None and _simple(module):
                producer = chain.modules[start[1]]
                assert isinstance(producer, _PRODUCERS)
                chain.hidden.append(Hidden(start[0], producer, module, start[1], norm, activation, at))
            start, norm, activation = ((leaf, at) if _simple(module) else None), None, None
        elif start is None:
            continue
        elif isinstance(module, _NORMS) and norm is None and activation is None and module.track_running_stats:
            norm = at
        elif is_activation(module) and activation is None:
            activation = at
        elif activation is None or not isinstance(module, (*_KEEP_UNITS, Residual)):
            start = None  # units are mixed, or nothing stands between two linear maps
    return chain


def _leaves(name: str, sequence: nn.Sequential) -> Iterator[tuple[str, nn.Module, tuple[nn.Sequential, str]]]:
    for key, module in sequence.named_children():
        full = f"{name}.{key}" if name else key
        if isinstance(module, nn.Sequential):
            yield from _leaves(full, module)
        else:
            yield full, module, (sequence, key)


def _simple(module: nn.Linear | nn.Conv2d) -> bool:
    return isinstance(module, nn.Linear) or (module.groups == 1 and module.padding_mode == "zeros")


def is_activation(module: nn.Module) -> bool:
    """Whether a module is one of torch's elementwise activations, or a module of a user's that is named so."""
    return isinstance(module, (*_ACTIVATIONS, RadialBasis)) or getattr(module, "elementwise", False) is True


def changes_of(small: nn.Module, grown: nn.Module, origins: Mapping[str, Tensor]) -> list[Change]:
    """How the small model's tensors stand in the grown one; origins: layer -> (units,) old unit of each, -1 for new."""
    names = {id(module): name for name, module in small.named_modules()}
    found: list[Change] = []
    for chain in chains_of(small):
        for h in chain.hidden:
            if h.name in origins:
                found.append(_widening(chain, h, names, origins[h.name].tolist()))
    known = small.state_dict()
    new = {name: list(t.shape) for name, t in grown.state_dict().items() if name not in known}
    return [*found, Insertion(new)] if new else found


def _widening(chain: Chain, h: Hidden, names: Mapping[int, str], sources: list[int]) -> Widening:
    state = {id(m): dict(m.named_parameters(recurse=False)) | dict(m.named_buffers(recurse=False))
             for m in chain.modules}  # fmt: skip
    produced = [Cut(f"{names[id(m)]}.{leaf}".removeprefix("."), 0)
                for m in chain.modules[h.at : h.activation] for leaf, t in state[id(m)].items() if t.ndim]  # fmt: skip
    read = [Cut(f"{names[id(h.reader)]}.weight", 1, h.places)]
    for module in chain.modules[h.activation : h.read_at]:
        if isinstance(module, Residual):
            read.append(Cut(f"{names[id(module)]}.inner.0.weight", 1))
            produced.append(Cut(f"{names[id(module)]}.inner.2.weight", 0))
    return Widening(h.name, sources, [1.0 if s < 0 else 1 / sources.count(s) for s in sources], produced, read)


# ---------------------------------------------------------------------- what layers compute


def linear_map(layer: nn.Linear | nn.Conv2d, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What a layer of this kind, stride and padding gives with other weights (units, *inputs)."""
    if isinstance(layer, nn.Linear):
        return F.linear(h, weight, bias)
    return F.conv2d(h, weight, bias, layer.stride, layer.padding, layer.dilation)


def theta_map(layer: nn.Linear | nn.Conv2d, h: Tensor, theta: Tensor) -> Tensor:
    """theta_i . (h, 1) of every unit; theta (units, inputs), its last column the bias where the layer has one."""
    wide = theta[:, :-1] if layer.bias is not None else theta
    return linear_map(
        layer, h, wide.reshape(len(theta), *layer.weight.shape[1:]), theta[:, -1] if layer.bias is not None else None
    )


def per_unit(values: Tensor, like: Tensor) -> Tensor:
    """(units,) in the shape that multiplies activations (n, units, ...) of a convolution, else (..., units)."""
    return values.view(-1, 1, 1) if like.ndim == 4 else values


def frozen(module: nn.Module, x: Tensor) -> Tensor:
    """A module as in evaluation: BatchNorm with its running statistics, dropout off; nothing is written."""
    if isinstance(module, _NORMS):
        return F.batch_norm(x, module.running_mean, module.running_var, module.weight, module.bias, False, 0.0,
                            module.eps)  # fmt: skip
    found: Tensor = x if isinstance(module, (nn.Dropout, nn.Dropout2d)) else module(x)
    return found


def norm_factor(module: nn.Module) -> Tensor:
    """c_i = gamma_i / sqrt(var_i + eps): what a frozen BatchNorm multiplies unit i with."""
    assert isinstance(module, _NORMS)
    variance = module.running_var
    assert isinstance(variance, Tensor)
    factor = (variance + module.eps).rsqrt()
    return factor if module.weight is None else factor * module.weight.detach()


def second_derivative(activation: nn.Module, z: Tensor) -> Tensor:
    """phi''(z), elementwise; of ReLU that of its softplus surrogate, beta s (1 - s) with s = sigmoid(beta z)."""
    if isinstance(activation, nn.ReLU):
        s = torch.sigmoid(SURROGATE * z.detach())
        return SURROGATE * s * (1 - s)
    with torch.enable_grad():
        x = z.detach().requires_grad_()
        (first,) = torch.autograd.grad(activation(x).sum(), x, create_graph=True)
        if not first.requires_grad:
            return torch.zeros_like(z)
        (second,) = torch.autograd.grad(first.sum(), x)
    return second.detach()


@contextlib.contextmanager
def running(chains: list[Chain], run: Callable[[Chain, Tensor], Tensor]) -> Iterator[None]:
    """Within the block the model's chains compute run(chain, x)."""

    def bound(chain: Chain) -> Callable[[Tensor], Tensor]:
        return lambda x: run(chain, x)

    for chain in chains:
        module: nn.Module = chain.sequence
        module.forward = bound(chain)
    try:
        yield
    finally:
        for chain in chains:
            del chain.sequence.forward
