"""What several of our optimizers share: the closure, checked groups, memory by name, a sparse network to read out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def evaluated(closure: Callable[[], Any] | None) -> Any:
    """What a closure returns, with gradients on; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def refuse_unless(group: Mapping[str, Any], **good: bool) -> None:
    """Refuse the first setting of a group that is not good.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """
    for name, is_good in good.items():
        if not is_good:
            raise ValueError(f"{name} = {group[name]} is out of its range")


class Remembering(torch.optim.Optimizer):
    """Dense gradients, and memory of each weight by name."""

    def _gradients(self, weights: list[Tensor]) -> list[Tensor]:
        found = [w.grad for w in weights if w.grad is not None]
        if any(g.is_sparse for g in found):
            who = type(self).__name__
            raise RuntimeError(f"{who} has no sparse gradients; build the embedding with sparse=False")
        return found

    def _states(self, weights: list[Tensor], name: str) -> list[Tensor]:
        """The memory of this name of each weight; zeros where there is none yet."""
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        return [self.state[w][name] for w in weights]


class Sparse(Remembering):
    """Parameter groups are checked as they come, and `finalize_` makes the sparse network of the weights."""

    @staticmethod
    def check(group: dict[str, Any]) -> None:
        """Refuse a parameter group.

        Raises:
            ValueError: a setting out of its range, or a combination that there is not.
        """
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        try:
            self.check(self.param_groups[-1])
        except BaseException:
            self.param_groups.pop()
            raise

    @contextmanager
    def snapshot(self, tolerance: float = 1e-4) -> Iterator[None]:
        """Within the block the model is the sparse network that `finalize_` makes for good."""
        weights = [w for group in self.param_groups for w in group["params"]]
        kept = [w.detach().clone() for w in weights]
        self.finalize_(tolerance)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, before in zip(weights, kept, strict=True):
                    weight.copy_(before)

    def finalize_(self, tolerance: float = 1e-4) -> None:
        """Set the weights to those of the sparse network."""
        raise NotImplementedError
