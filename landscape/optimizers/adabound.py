"""AdaBound: Adam whose rates are clipped between bounds that close in on one rate, SGD's (Luo, Xiong, Liu & Sun 2019).

    m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2
    x <- x - clip(lr sqrt(1 - beta2^t) / ((1 - beta1^t) (sqrt(v) + eps)), low_t, high_t) m
    low_t = final_lr (1 - 1 / (gamma t + 1)),   high_t = final_lr (1 + 1 / (gamma t))

At first the bounds are nearly 0 and infinity, and it is Adam; at last both are final_lr, and it is SGD with momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ._base import Remembering, evaluated, refuse_unless


class AdaBound(Remembering):
    """`amsbound` takes the largest v so far, as AMSGrad does; `gamma` is the speed at which the bounds close.

    A schedule of `lr` scales `final_lr` with it.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float = 1e-3, final_lr: float = 0.1,
        beta1: float = 0.9, beta2: float = 0.999, gamma: float = 1e-3, eps: float = 1e-8, weight_decay: float = 0.0,
        amsbound: bool = False,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "final_lr": final_lr, "beta1": beta1, "beta2": beta2, "gamma": gamma, "eps": eps,
                    "weight_decay": weight_decay, "amsbound": amsbound, "first_lr": lr}  # fmt: skip
        refuse_unless(
            defaults, lr=lr > 0, final_lr=final_lr > 0, beta1=0 <= beta1 < 1, beta2=0 <= beta2 < 1, gamma=0 < gamma < 1,
            eps=eps >= 0, weight_decay=weight_decay >= 0,
        )  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        loss = evaluated(closure)
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(group, weight)
        return loss

    def _move(self, group: dict[str, Any], weight: Tensor) -> None:
        (gradient,) = self._gradients([weight])
        if group["weight_decay"]:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
        (mean,), (square,) = self._states([weight], "exp_avg"), self._states([weight], "exp_avg_sq")
        count = self.state[weight].setdefault("step", torch.zeros((), dtype=torch.float64))
        count += 1
        t = int(count)
        mean.lerp_(gradient, 1 - group["beta1"])
        square.mul_(group["beta2"]).addcmul_(gradient, gradient, value=1 - group["beta2"])
        if group["amsbound"]:
            (largest,) = self._states([weight], "max_exp_avg_sq")
            square = torch.maximum(largest, square, out=largest)
        rate = group["lr"] * (1 - group["beta2"] ** t) ** 0.5 / (1 - group["beta1"] ** t)
        low, high = bounds(group, t)
        weight.addcmul_((rate / (square.sqrt() + group["eps"])).clamp_(low, high), mean, value=-1)


def bounds(group: dict[str, Any], t: int) -> tuple[float, float]:
    """(low_t, high_t) of step t = 1, 2, ..."""
    final = group["final_lr"] * group["lr"] / group["first_lr"]
    return final * (1 - 1 / (group["gamma"] * t + 1)), final * (1 + 1 / (group["gamma"] * t))


def make(
    params: Iterable[Tensor], lr: float = 1e-3, final_lr: float = 0.1, beta1: float = 0.9, beta2: float = 0.999,
    gamma: float = 1e-3, eps: float = 1e-8, weight_decay: float = 0.0, amsbound: bool = False,
) -> AdaBound:  # fmt: skip
    """AdaBound with its paper's settings."""
    return AdaBound(params, lr, final_lr, beta1, beta2, gamma, eps, weight_decay, amsbound)
