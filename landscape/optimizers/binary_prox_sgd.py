"""Networks whose weights become -1 and +1, by ProxSGD on weights and indicators together (Yang et al. 2020, section 4).

    min f(x) + mu/4 sum_j [a_j (x_j + 1)^2 + (1 - a_j) (x_j - 1)^2],   -1 <= x <= 1,   0 <= a <= 1
    g_x = grad f + mu/2 (2a + x - 1),   g_a = mu x

The network is trained as it is, without a straight-through estimator; the binary one is sign(x) (`finalize_`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ._base import evaluated
from .prox_sgd import ProxSGD


class BinaryProxSGD(ProxSGD):
    """ProxSGD in the boxes [-1, 1] of the weights and [0, 1] of one indicator a weight.

    Args:
        weights: those that shall become binary; `free` are trained without box or indicator.
        mu: strength of the penalty. With `start` = 1 all weights are first drawn to -1, so it must be small.
        start: of the indicators; 1 is the paper's, 1/2 favours neither sign.
        settings: ProxSGD's.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self, weights: Iterable[Tensor], free: Iterable[Tensor] = (), mu: float = 2.5e-4, start: float = 1.0,
        **settings: Any,
    ) -> None:  # fmt: skip
        if mu < 0 or not 0 <= start <= 1:
            raise ValueError(f"mu must be at least 0 and start within 0 and 1, got {mu} and {start}")
        binary = list(weights)
        super().__init__([{"params": binary, "low": -1.0, "high": 1.0, "strength": mu}], **settings)
        self.indicators = [torch.full_like(w, start, requires_grad=False) for w in binary]
        self.add_param_group({"params": self.indicators, "low": 0.0, "high": 1.0, "strength": mu})
        others = list(free)
        if others:
            self.add_param_group({"params": others})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of weights and indicators; returns what the closure returns."""
        loss = evaluated(closure)
        mu, given = self.param_groups[0]["strength"], [w.grad for w in self.param_groups[0]["params"]]
        for weight, a in zip(self.param_groups[0]["params"], self.indicators, strict=True):
            a.grad = None if weight.grad is None else mu * weight
            weight.grad = None if weight.grad is None else weight.grad + mu / 2 * (2 * a + weight - 1)
        super().step()
        for weight, a, gradient in zip(self.param_groups[0]["params"], self.indicators, given, strict=True):
            weight.grad = gradient
            if self.state[a]:
                self.state[a]["value"] = a  # a state_dict holds state, not the values of its weights
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        with torch.no_grad():
            for a in self.indicators:
                if "value" in self.state[a]:
                    a.copy_(self.state[a]["value"])
                    self.state[a]["value"] = a

    @torch.no_grad()
    def finalize_(self, tolerance: float = 0.0) -> None:
        """Set the binary weights to their signs, 0 to +1; `tolerance` plays no part."""
        for weight in self.param_groups[0]["params"]:
            weight.copy_(torch.where(weight < 0, -1.0, 1.0))

    @torch.no_grad()
    def regularization(self) -> float:
        """The penalty at the present weights and indicators."""
        pairs = zip(self.param_groups[0]["params"], self.indicators, strict=True)
        total = sum(float((a * (x + 1).square() + (1 - a) * (x - 1).square()).double().sum()) for x, a in pairs)
        return float(self.param_groups[0]["strength"]) / 4 * total


def make(
    params: Iterable[nn.Parameter], lr: float = 0.06, lr_decay: float = 0.5, rho: float = 0.9, rho_decay: float = 0.5,
    offset: float = 4.0, metric: str = "adam", beta: float = 0.999, delta: float = 1e-8, mu: float = 2.5e-4,
    start: float = 1.0, vectors: bool = True,
) -> BinaryProxSGD:  # fmt: skip
    """Binary weights by ProxSGD; `vectors=False` leaves biases and normalisation as real numbers."""
    weights = list(params)
    return BinaryProxSGD(
        [w for w in weights if vectors or w.ndim > 1], [w for w in weights if not (vectors or w.ndim > 1)], mu, start,
        lr=lr, lr_decay=lr_decay, rho=rho, rho_decay=rho_decay, offset=offset, metric=metric, beta=beta, delta=delta,
    )  # fmt: skip
