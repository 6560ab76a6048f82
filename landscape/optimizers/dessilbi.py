"""DessiLBI: a dense network and a sparse copy of it that grows from nothing while both train (Fu et al. 2020, ICML).

    Lbar(W, Gamma) = L(W) + norm(W - Gamma)^2 / (2 nu)
    W_{k+1}     = W_k - kappa lr (grad L(W_k) + (W_k - Gamma_k) / nu)
    V_{k+1}     = V_k + lr / nu (W_k - Gamma_k)
    Gamma_{k+1} = kappa prox_Omega(V_{k+1})                             V_0 = Gamma_0 = 0

Omega is lam norm_1 over the entries of a matrix, or lam sum_g norm_2 over the filters of a convolution. What the loss
wants most passes the threshold first: the steps at which units enter the support of Gamma are the inverse scale space
path. The sparse network is W on the support. Stable for lr < 2 / (kappa (Lipschitz constant of grad L + 1 / nu)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .. import plugins
from ..regularizers._base import Regularizer
from ._base import Sparse, evaluated, refuse_unless

PENALTIES = {"entries": ("l1", {}), "filters": ("group", {"groups": "rows"}), "none": ("none", {})}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_REPORTED = 100  # events a layer at most: one for every hundredth of its units


class DessiLBI(Sparse):
    """The defaults are the authors' for LeNet (their `mu` is the paper's nu).

    Args:
        lr, kappa, nu: of the iteration above.
        momentum, weight_decay: of grad L alone; the decay spares weights that are not coupled.
        penalty: of a parameter group, one of `PENALTIES`: 'entries', 'filters' (rows of the tensor), or 'none' for
            weights without a sparse copy, which move by plain SGD with the rate kappa lr.
        lam: threshold of the penalty.

    `events` tells the Recorder when the support of a layer has grown by a hundredth of its units.

    Raises:
        ValueError: a setting out of its range.
    """

    curvature_state = ("gamma", "entered")  # kept in checkpoints: the sparse copy, and when its units appeared

    def __init__(
        self, params: Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]], lr: float = 0.1,
        kappa: float = 1.0, nu: float = 20.0, momentum: float = 0.9, weight_decay: float = 0.0,
        penalty: str = "entries", lam: float = 1.0,
    ) -> None:  # fmt: skip
        self.events: list[dict[str, Any]] = []
        defaults = {"lr": lr, "kappa": kappa, "nu": nu, "momentum": momentum, "weight_decay": weight_decay,
                    "penalty": penalty, "lam": lam}  # fmt: skip
        super().__init__(params, defaults)

    @staticmethod
    def check(group: dict[str, Any]) -> None:
        if group["penalty"] not in PENALTIES:
            raise ValueError(f"penalty must be one of {', '.join(PENALTIES)}, got '{group['penalty']}'")
        refuse_unless(
            group, lr=group["lr"] > 0, kappa=group["kappa"] > 0, nu=group["nu"] > 0, lam=group["lam"] >= 0,
            momentum=0 <= group["momentum"] < 1, weight_decay=group["weight_decay"] >= 0,
        )  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.events = []

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        loss = evaluated(closure)
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if weights:
                self._move(group, weights)
        return loss

    def _move(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        lr, kappa, nu = group["lr"], group["kappa"], group["nu"]
        direction = self._direction(group, weights)
        if group["penalty"] == "none":
            torch._foreach_add_(weights, direction, alpha=-kappa * lr)
            return
        gamma, dual = self._states(weights, "gamma"), self._states(weights, "dual")
        gap = torch._foreach_sub(weights, gamma)  # W_k - Gamma_k, for W and V alike
        torch._foreach_add_(weights, torch._foreach_add(direction, gap, alpha=1 / nu), alpha=-kappa * lr)
        torch._foreach_add_(dual, gap, alpha=lr / nu)
        one = [torch.ones((), dtype=w.dtype, device=w.device) for w in weights]
        found = _regularizer(group["penalty"], group["lam"]).prox(dual, one)
        torch._foreach_copy_(gamma, found)
        torch._foreach_mul_(gamma, kappa)
        names = dict(zip(map(id, group["params"]), group.get("param_names", ()), strict=False))
        for weight in weights:
            self._enter(weight, names.get(id(weight), ""), group["penalty"])

    def _direction(self, group: dict[str, Any], weights: list[Tensor]) -> list[Tensor]:
        """grad L with decay and momentum."""
        gradients = self._gradients(weights)
        if group["weight_decay"] and group["penalty"] != "none":
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        if not group["momentum"]:
            return gradients
        momentum = self._states(weights, "momentum_buffer")
        torch._foreach_mul_(momentum, group["momentum"])
        torch._foreach_add_(momentum, gradients)
        return momentum

    def _enter(self, weight: Tensor, name: str, penalty: str) -> None:
        """Note the step of every unit that is in the support for the first time; now and then, an event."""
        state = self.state[weight]
        here = units(state["gamma"], penalty)
        if "entered" not in state:
            state["step"], state["reported"] = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)
            state["entered"] = torch.zeros(here.shape, dtype=torch.int64, device=weight.device)
        state["step"] += 1
        entered = state["entered"]
        torch.where((entered == 0) & here, state["step"].to(entered.device), entered, out=entered)
        count, before = int(here.count_nonzero()), int(state["reported"])
        if count != before and (not before or not count or abs(count - before) >= here.numel() / _REPORTED):
            self.events.append({"kind": "support", "layer": name.rpartition(".")[0] or name, "before": before,
                                "after": count, "of": here.numel()})  # fmt: skip
            state["reported"].fill_(count)

    # ------------------------------------------------------------------ the sparse result

    @torch.no_grad()
    def finalize_(self, tolerance: float = 0.0) -> None:
        """Set the weights outside the support of Gamma to zero, those of coupled tensors; `tolerance` plays no part."""
        for group in self.param_groups:
            for weight in group["params"]:
                if group["penalty"] != "none":
                    gamma = self.state.get(weight, {}).get("gamma")
                    weight.masked_fill_(torch.tensor(True) if gamma is None else gamma == 0, 0)

    @torch.no_grad()
    def augmented(self, loss: float) -> float:
        """Lbar(W, Gamma) for L(W) = loss."""
        total = loss
        for group in self.param_groups:
            for weight in group["params"]:
                if group["penalty"] != "none":
                    gap = weight - self.state.get(weight, {}).get("gamma", torch.zeros_like(weight))
                    total += float(gap.double().square().sum()) / (2 * group["nu"])
        return total


def units(gamma: Tensor, penalty: str) -> Tensor:
    """Which units are in the support: entries in the tensor's shape, or filters (rows,)."""
    return gamma.reshape(len(gamma), -1).ne(0).any(dim=1) if penalty == "filters" else gamma != 0


@lru_cache(maxsize=64)
def _regularizer(penalty: str, lam: float) -> Regularizer:
    name, settings = PENALTIES[penalty]
    made: Regularizer = plugins.load("landscape.regularizers", name).make(mu=lam, **settings)
    return made


def make(
    model: nn.Module, lr: float = 0.1, kappa: float = 1.0, nu: float = 20.0, momentum: float = 0.9,
    weight_decay: float = 0.0, lam: float = 1.0, conv_lam: float = 1.0, filters: bool = True,
) -> DessiLBI:  # fmt: skip
    """DessiLBI; all tensors of at least two axes have a sparse copy, `filters` of convolutions as a whole.

    `lam` is the threshold of matrices, `conv_lam` that of convolutions.
    """
    kernels = {id(m.weight) for m in model.modules() if isinstance(m, _CONVOLUTIONS)}
    found: dict[tuple[str, float], list[tuple[str, Tensor]]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            if weight.ndim < 2:
                kind = ("none", 0.0)
            elif id(weight) in kernels:
                kind = ("filters" if filters else "entries", conv_lam)
            else:
                kind = ("entries", lam)
            found.setdefault(kind, []).append((name, weight))
    groups = [{"params": some, "penalty": penalty, "lam": own} for (penalty, own), some in found.items()]
    return DessiLBI(groups, lr, kappa, nu, momentum, weight_decay)
