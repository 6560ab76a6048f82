"""Splitting matrices of all units, as products and dense, and their extreme eigenpairs (Liu, Wu & Wang 2019).

    L(theta) = E[Phi(s(theta_i, x))],   S_i = E[Phi'(s) grad^2 s]          (units k, weights of a unit with its bias d)
    layer z = W h + b:                  S_i = E[c_i h h^T],  c_i = d^2 / dz_i^2 <g, a>

a is what the next layers read (after activation, pooling, BatchNorm with its statistics fixed), g = dL/da is held, so c
needs no table of activations. S_i is the Hessian's block of the unit less its Gauss-Newton block. With c known, a
product of all S_i of all layers with a vector each is the gradient of

    q(V) = 1/2 sum_i E[c_i (h . v_i)^2],   dq/dv_i = S_i v_i                one backward pass (Wang et al. 2019)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ProblemError
from ..loss.fitting import CONVOLUTIONS
from ..loss.problem import Problem
from .extremes import Extremes, Vectors
from .units import Layer

_RELUS = (torch.relu, torch.relu_, nn.functional.relu, nn.functional.relu_, Tensor.relu, Tensor.relu_)
SHARPNESS = 3.0  # of the softplus that stands in for the second derivative of a ReLU, as published


class Surrogate(TorchFunctionMode):
    """ReLU with value and slope of its own and the second derivative of a softplus, beta s (1 - s), s(beta z)."""

    def __init__(self) -> None:
        super().__init__()
        self.kinks: dict[str, None] = {}  # what was met, in order

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _RELUS:
            if "max_pool" in getattr(func, "__name__", ""):
                self.kinks["max pooling has kinks, which its splitting matrix lacks"] = None
            return func(*args, **(kwargs or {}))
        self.kinks[f"ReLU's second derivative is that of a softplus (beta {SHARPNESS:g})"] = None
        z = args[0]
        with torch.no_grad():
            at, slope = z.detach().clone(), torch.sigmoid(SHARPNESS * z)
        bend = nn.functional.softplus(z, SHARPNESS) - slope * (z - at)
        return torch.clamp_min(z, 0) + (bend - bend.detach())


@dataclass(frozen=True)
class _Seen:
    """Of one batch: what each layer reads, and the coefficients c; the batch's share of all samples is in c."""

    inputs: dict[str, Tensor]
    coefficients: dict[str, Tensor]


class Splitting:
    """The splitting matrices of a problem's layers at its model's own weights.

    Args:
        layers: of `units.layers_of`.

    Raises:
        ProblemError: a layer is used twice, or its units act on each other before they are read.
    """

    def __init__(self, problem: Problem, layers: Sequence[Layer]) -> None:
        self.problem, self.layers = problem, list(layers)
        self.kinks: list[str] = []  # why the loss need not follow what the matrices predict
        self._modules = {layer.name: problem.model.get_submodule(layer.name) for layer in layers}
        self._seen = [self._see(batch, check=number == 0) for number, batch in enumerate(problem.batches)]

    def dimension(self, name: str) -> int:
        """Weights of a unit of the layer, d."""
        module = self._modules[name]
        return module.get_parameter("weight")[0].numel() + (module.bias is not None)

    def like(self) -> Vectors:
        """Zeros (k, d) of every layer: the shape, precision and device of what `product` takes."""
        weights = {layer.name: self._modules[layer.name].get_parameter("weight").detach() for layer in self.layers}
        return {name: w.new_zeros(len(w), self.dimension(name)) for name, w in weights.items()}

    def product(self, vectors: Mapping[str, Tensor]) -> Vectors:
        """S_i v_i of every unit of these layers, (k, d) each; all of a batch in one backward pass."""
        leaves = {name: v.detach().requires_grad_() for name, v in vectors.items()}
        total = {name: torch.zeros_like(v) for name, v in vectors.items()}
        for seen in self._seen:
            with torch.enable_grad():
                value = sum(0.5 * (seen.coefficients[n] * self._linear(n, v, seen.inputs[n]).square()).sum()
                            for n, v in leaves.items())  # fmt: skip
                assert isinstance(value, Tensor)
                found = torch.autograd.grad(value, list(leaves.values()))
            for name, part in zip(leaves, found, strict=True):
                total[name] += part
        return total

    def dense(self, name: str) -> Tensor:
        """All S_i of a layer, (k, d, d), from d products."""
        units, d = len(self._modules[name].get_parameter("weight")), self.dimension(name)
        like = self._modules[name].get_parameter("weight").detach()
        columns = []
        for j in range(d):
            unit = like.new_zeros(units, d)
            unit[:, j] = 1
            columns.append(self.product({name: unit})[name])
        matrix = torch.stack(columns, dim=2)
        return (matrix + matrix.mT) / 2

    # ------------------------------------------------------------------ one batch

    def _linear(self, name: str, vectors: Tensor, inputs: Tensor) -> Tensor:
        """The layer with other weights, (k, d): h . v_i in the layout of its outputs."""
        module = self._modules[name]
        weight = module.get_parameter("weight")
        own = vectors[:, : weight[0].numel()].reshape(weight.shape)
        bias = vectors[:, -1] if module.bias is not None else None
        if isinstance(module, nn.Linear):
            return nn.functional.linear(inputs, own, bias)
        assert isinstance(module, CONVOLUTIONS)
        found: Tensor = module._conv_forward(inputs, own, bias)
        return found

    def _see(self, batch: Any, check: bool) -> _Seen:
        problem = self.problem
        share = problem.count(batch) / problem.samples
        inputs, outputs, read, loss = self._forward(batch)
        flat = [a for found in read.values() for a in found]
        slopes = torch.autograd.grad(loss, flat, retain_graph=True, materialize_grads=True)
        gradients = iter(slopes)
        coefficients = {}
        for layer in self.layers:
            mine = [next(gradients) for _ in read[layer.name]]
            coefficients[layer.name] = share * self._bend(layer, outputs[layer.name], read[layer.name], mine, check)
        return _Seen({name: h.detach() for name, h in inputs.items()}, coefficients)

    def _forward(self, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, list[Tensor]], Tensor]:
        """(h by layer, z by layer, what each of its readers reads, the batch's loss) of one pass, with its graph."""
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        entering: dict[str, Tensor] = {}
        model = self.problem.model

        def enter(name: str) -> Any:
            def look(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
                if name in entering:
                    raise ProblemError(f"layer '{name}' is used more than once, so its units cannot be split")
                entering[name] = given[0]

            return look

        def leave(name: str) -> Any:
            def look(_module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> Tensor:
                inputs[name], outputs[name] = given[0], found
                return found.clone()  # an activation in place must not overwrite z

            return look

        names = {name for layer in self.layers for name in (layer.name, *layer.readers)}
        hooks = [model.get_submodule(name).register_forward_pre_hook(enter(name)) for name in names]
        hooks += [module.register_forward_hook(leave(name)) for name, module in self._modules.items()]
        try:
            with torch.enable_grad(), Surrogate() as surrogate:
                loss = self.problem.training_loss(batch)
        finally:
            for hook in hooks:
                hook.remove()
        self.kinks = list(dict.fromkeys([*self.kinks, *surrogate.kinks]))
        return inputs, outputs, {layer.name: [entering[r] for r in layer.readers] for layer in self.layers}, loss

    def _bend(self, layer: Layer, z: Tensor, read: list[Tensor], gradients: list[Tensor], check: bool) -> Tensor:
        """c = d^2 <g, a> / dz^2, in the layout of z; the second derivative has no entries between units."""
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(read, z, [g.detach() for g in gradients], create_graph=True)
        if not slope.requires_grad:
            return torch.zeros_like(z)

        def times(vector: Tensor) -> Tensor:
            found = torch.autograd.grad(slope, z, vector, retain_graph=True, materialize_grads=True)[0]
            return found.detach()

        bend = times(torch.ones_like(z))
        if check:
            sign = torch.sign(torch.rand(z.shape, generator=torch.Generator().manual_seed(0)) - 0.5).to(z)
            wrong = (times(sign) - bend * sign).abs().max()
            if wrong > 1e-4 * bend.abs().max():
                raise ProblemError(
                    f"the units of layer '{layer.name}' cannot be split: they act on each other before they are read "
                    "(a normalisation across units?)"
                )
        return bend


# ---------------------------------------------------------------------- eigenpairs


def exact(splitting: Splitting) -> dict[str, Extremes]:
    """By layer, from dense matrices."""
    return {layer.name: _of_pairs(*torch.linalg.eigh(splitting.dense(layer.name))) for layer in splitting.layers}


def _of_pairs(values: Tensor, vectors: Tensor) -> Extremes:
    return Extremes(values[:, 0], vectors[:, :, 0], values[:, -1], vectors[:, :, -1], torch.zeros_like(values[:, :2].T))


def ranked(found: Mapping[str, Extremes]) -> Iterator[tuple[str, int, float]]:
    """(layer, unit, smallest eigenvalue), lowest first."""
    rows = [(name, unit, float(low)) for name, e in found.items() for unit, low in enumerate(e.low)]
    yield from sorted(rows, key=lambda row: row[2])
