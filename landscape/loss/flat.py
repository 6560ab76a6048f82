"""The trainable weights of an objective's model as one flat vector, and a block of them alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from ..errors import ProblemError, UsageError
from .fitting import fit
from .objective import Objective
from .weights import check_state, listed, matches, one_kind


class FlatWeights:
    """What a problem knows of weights; `size` of them are in its vectors, all of one dtype on one device."""

    name: str  # shown in messages
    dtype: torch.dtype
    device: torch.device

    def _hold(self, objective: Objective) -> None:
        """Take a model and its loss: all its trainable weights are the problem's."""
        self._objective = objective.eval()
        self._parameters = {n: p for n, p in objective.model.named_parameters() if p.requires_grad}
        if not self._parameters:
            raise ProblemError(f"{self._who()} has no trainable weights; check requires_grad of its parameters")
        self.dtype, self.device = one_kind(self._parameters.values(), self._who())
        self._fixed: dict[str, nn.Parameter] = {}  # trainable, but held at the model's own values
        self.block = ""  # what `restricted` was asked for; empty: all trainable weights
        self._sizes = [p.numel() for p in self._parameters.values()]
        self.size: int = sum(self._sizes)

    def _who(self) -> str:
        return f"the model of '{self.name}'" if self.name else "the model"

    @property
    def model(self) -> nn.Module:
        return self._objective.model

    @property
    def objective(self) -> nn.Module:
        """Model and loss as one module: `objective(batch)` is (mean loss, outputs or None)."""
        return self._objective

    def named_slices(self) -> list[tuple[str, tuple[int, ...], slice]]:
        """(name, shape, slice of the flat vector) of every trainable tensor, in order."""
        found, start = [], 0
        for name, parameter in self._parameters.items():
            found.append((name, tuple(parameter.shape), slice(start, start + parameter.numel())))
            start += parameter.numel()
        return found

    def weights(self) -> Tensor:
        """A copy of the model's weights as one flat vector (size,)."""
        return torch.cat([p.detach().reshape(-1) for p in self._parameters.values()])

    def vector_from(self, state: Mapping[str, Tensor]) -> Tensor:
        """The flat vector (size,) of a state dict, in this problem's dtype and on its device.

        Raises:
            ProblemError: names or shapes do not fit, or a weight is not finite.
        """
        check_state(state, self.model.state_dict(), self._who())
        parts = [state[n].detach().reshape(-1).to(self.device, self.dtype) for n in self._parameters]
        return torch.cat(parts)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a state dict (weights and buffers) into the model.

        Raises:
            ProblemError: names or shapes do not fit, or a weight is not finite.
        """
        check_state(state, self.model.state_dict(), self._who())
        own = dict(self.model.state_dict(keep_vars=True))
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value.to(own[name].device, own[name].dtype))

    def fit(self, state: Mapping[str, Tensor]) -> None:
        """Give the model, in place, the shapes of a state dict of another width; the values come by `load`.

        Linear, convolutional and BatchNorm layers change, added residual layers come or go; size and slices follow.
        """
        before = {n for n, _p in self.model.named_parameters()}
        fit(self.model, state)
        own = dict(self.model.named_parameters())
        added = own.keys() - before  # of layers that the network has grown
        if added or any(own.get(n) is not p for n, p in [*self._parameters.items(), *self._fixed.items()]):
            self._parameters = {n: p for n, p in own.items() if n in self._parameters or n in added}
            self._fixed = {n: own[n] for n in self._fixed if n in own}
            self._sizes = [p.numel() for p in self._parameters.values()]
            self.size = sum(self._sizes)

    def state(self) -> dict[str, Tensor]:
        """A copy of the model's state dict: weights and buffers by name."""
        return {n: v.detach().clone() for n, v in self.model.state_dict().items()}

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector (size,) as the model's named weights; differentiable."""
        parts = torch.split(vector, self._sizes)
        return {n: v.view(p.shape) for (n, p), v in zip(self._parameters.items(), parts, strict=True)}

    def restricted(self, *patterns: str) -> Self:
        """The same as a function of a block of its weights; the others stay at the model's own values.

        Its operators are the diagonal blocks of the full ones. The model is shared: `load` on either serves both.

        Args:
            patterns: shell patterns ('0.*', 'layer1.*', '*.bias'), each of a weight's name or of the name of the
                module that owns it; the block is the union of what they match, in the order of the model.

        Raises:
            UsageError: a pattern matches no weight; the message lists the names.
        """
        for pattern in patterns:
            if not any(matches(n, pattern) for n in self._parameters):
                names = listed(self._parameters)
                raise UsageError(f"no weight of {self._who()} matches '{pattern}'; there are {names}")
        other = copy.copy(self)
        other._parameters = {n: p for n, p in self._parameters.items() if any(matches(n, t) for t in patterns)}
        other._fixed = {**self._fixed, **{n: p for n, p in self._parameters.items() if n not in other._parameters}}
        other._sizes = [p.numel() for p in other._parameters.values()]
        other.size = sum(other._sizes)
        other.block = ",".join(patterns)
        return other

    def layers(self) -> list[str]:
        """Names of the modules that own trainable weights, in the model's order: patterns of `restricted`.

        A weight of the outermost module stands for itself.
        """
        return list(dict.fromkeys(n.rpartition(".")[0] or n for n in self._parameters))
