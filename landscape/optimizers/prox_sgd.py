"""ProxSGD: momentum, an adaptive diagonal and a regularizer's proximal step (Yang et al. 2020, ICLR).

    v = (1 - rho_t) v + rho_t g                      rho_t = rho / (t + offset)^rho_decay
    xhat = argmin_{x in box} <v, x - x_t> + 1/2 (x - x_t)' diag(tau_t) (x - x_t) + r(x) = prox(x_t - v / tau_t; tau_t)
    x_{t+1} = x_t + eps_t (xhat - x_t)               eps_t = lr / (t + offset)^lr_decay

rho weighs the new gradient. Without a regularizer and with constant rates it is SGD (rho = 1, identity), heavy ball
(lr = eps rho, momentum = 1 - rho), RMSprop, Adagrad, and with `correct_rate` Adam and AMSGrad.

The weights themselves are never exactly zero while eps < 1: a weight whose xhat is 0 shrinks by 1 - eps_t a step.
`snapshot` and `finalize_` make exact zeros of those that are dead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .. import plugins
from ..groupings._base import PACKAGE, group_factors, layout, parts_of
from ..regularizers._base import Regularizer, Tensors
from ..regularizers._partition import Layout
from ..regularizers.group import GROUPS
from ._base import Sparse, evaluated, refuse_unless

METRICS = ("adam", "amsgrad", "rmsprop", "adagrad", "identity")
_SECOND = {"adam": "exp_avg_sq", "amsgrad": "exp_avg_sq", "rmsprop": "square_avg", "adagrad": "sum"}
_REGULARIZERS = "landscape.regularizers"


class ProxSGD(Sparse):
    """The defaults are the paper's; a parameter group may have settings and a regularizer of its own.

    Args:
        lr, lr_decay: eps_t, at most 1 where there is a regularizer or a box: then x_{t+1} lies between x_t and xhat.
        rho, rho_decay: weight of the new gradient in the momentum, in (0, 1].
        offset: added to the step count in both schedules.
        metric: tau_t, one of `METRICS`: sqrt(r_t / (1 - beta^t)) + delta of Adam, with the largest r so far
            (amsgrad), without bias correction (rmsprop), with the sum of squares (adagrad); or 1 (identity).
        beta, delta: decay and floor of the metric.
        correct_rate: eps_t / (1 - (1 - rho)^t), Adam's correction of the momentum's bias; for a constant rho.
        regularizer: a file of `landscape/regularizers`; `mu` its strength, `low` and `high` the box; its other
            settings (such as `groups` of the group regularizer) under `prox`.

    A parameter group's `layout` names groups that span its tensors (`landscape/groupings`); every tensor then needs a
    gradient in every step.

    Raises:
        ValueError: a setting out of its range, or a combination without a closed form.
    """

    curvature_state = ("dead",)  # kept in checkpoints too: which weights the read-out sets to zero

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float = 0.06, lr_decay: float = 0.5,
        rho: float = 0.9, rho_decay: float = 0.5, offset: float = 4.0, metric: str = "adam", beta: float = 0.999,
        delta: float = 1e-8, correct_rate: bool = False, regularizer: str = "none", mu: float = 0.0,
        low: float | None = None, high: float | None = None, prox: dict[str, Any] | None = None,
        layout: Layout | None = None,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "rho": rho, "rho_decay": rho_decay, "offset": offset, "metric": metric,
            "beta": beta, "delta": delta, "correct_rate": correct_rate, "regularizer": regularizer, "mu": mu,
            "low": low, "high": high, "prox": dict(prox or {}), "layout": layout,
        }  # fmt: skip
        super().__init__(params, defaults)

    @staticmethod
    def check(group: dict[str, Any]) -> None:
        if group["metric"] not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, got '{group['metric']}'")
        choices = plugins.names(_REGULARIZERS)
        if group["regularizer"] not in choices:
            raise ValueError(f"regularizer must be one of {', '.join(choices)}, got '{group['regularizer']}'")
        refuse_unless(
            group, lr=group["lr"] > 0, rho=0 < group["rho"] <= 1, beta=0 <= group["beta"] < 1,
            delta=group["delta"] >= 0, offset=group["offset"] >= 0, lr_decay=group["lr_decay"] >= 0,
            rho_decay=group["rho_decay"] >= 0,
        )  # fmt: skip
        if group["correct_rate"] and group["rho_decay"]:
            raise ValueError("correct_rate is for a constant rho; set rho_decay = 0")
        first = rates(group, 1)[0]
        if not _regularizer(group).trivial and first > 1:
            raise ValueError(
                f"the first step moves by eps = {first:.3g} > 1 of the way to the proximal point and may leave the "
                f"box; set lr to at most {group['lr'] / first:.3g}"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        loss = evaluated(closure)
        for group in self.param_groups:
            regularizer = _regularizer(group)
            for t, members in self._by_step(group).items():
                self._move(group, regularizer, t, members)
        return loss

    def _by_step(self, group: dict[str, Any]) -> dict[int, list[Tensor]]:
        """Weights that have a gradient, by the number of this step; one entry unless some were without before."""
        self._gradients(group["params"])  # refused before a step is counted
        found: dict[int, list[Tensor]] = {}
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float64)
            state["step"] += 1
            found.setdefault(int(state["step"]), []).append(weight)
        if group["layout"] is not None and [len(group["params"])] != [len(some) for some in found.values()]:
            raise RuntimeError("groups of weights that span tensors need a gradient for every weight in every step")
        return found

    def _move(self, group: dict[str, Any], regularizer: Regularizer, t: int, weights: Tensors) -> None:
        eps, rho = rates(group, t)
        gradients = self._gradients(weights)
        momentum = self._states(weights, "exp_avg")
        torch._foreach_lerp_(momentum, gradients, rho)
        tau = self._metric(group, t, weights, gradients)
        if regularizer.trivial:
            if tau is None:
                torch._foreach_add_(weights, momentum, alpha=-eps)
            else:
                torch._foreach_addcdiv_(weights, momentum, tau, value=-eps)
            return
        if tau is None:
            points = list(torch._foreach_sub(weights, momentum))
            tau = [torch.ones((), dtype=w.dtype, device=w.device) for w in weights]
        else:
            points = list(torch._foreach_addcdiv(weights, momentum, tau, value=-1))
        solution = regularizer.prox(points, tau)
        torch._foreach_lerp_(weights, solution, eps)
        for weight, xhat in zip(weights, solution, strict=True):
            self.state[weight]["dead"] = xhat == 0

    def _metric(self, group: dict[str, Any], t: int, weights: Tensors, gradients: Tensors) -> Tensors | None:
        """tau_t; None for the identity."""
        kind, beta = group["metric"], group["beta"]
        if kind == "identity":
            return None
        square = self._states(weights, _SECOND[kind])
        if kind != "adagrad":
            torch._foreach_mul_(square, beta)
        torch._foreach_addcmul_(square, gradients, gradients, value=1.0 if kind == "adagrad" else 1 - beta)
        if kind == "amsgrad":
            largest = self._states(weights, "max_exp_avg_sq")
            torch._foreach_maximum_(largest, square)
            square = largest
        root = list(torch._foreach_sqrt(square))
        if kind in ("adam", "amsgrad"):
            torch._foreach_div_(root, (1 - beta**t) ** 0.5)
        torch._foreach_add_(root, group["delta"])
        return root

    # ------------------------------------------------------------------ the sparse result

    @torch.no_grad()
    def finalize_(self, tolerance: float = 1e-4) -> None:
        """Set the dead weights to zero: those whose part of xhat is 0 and which have shrunk to `tolerance`.

        xhat itself is no result: where tau is small it lies far from the weights, which go only eps of the way.
        """
        for group in self.param_groups:
            for weight in group["params"]:
                dead = self.state.get(weight, {}).get("dead")
                if dead is not None:
                    weight.masked_fill_(dead.bool() & (weight.abs() <= tolerance), 0)

    @torch.no_grad()
    def regularization(self) -> float:
        """r(x) at the present weights: what the objective has beside the loss."""
        return float(sum(_regularizer(group).value(list(group["params"])) for group in self.param_groups))


def rates(group: dict[str, Any], t: int) -> tuple[float, float]:
    """(eps_t, rho_t) of step t = 1, 2, ..."""
    rho = group["rho"] / (t + group["offset"]) ** group["rho_decay"]
    eps = group["lr"] / (t + group["offset"]) ** group["lr_decay"]
    return (eps / (1 - (1 - rho) ** t) if group["correct_rate"] else eps), rho


def broken_conditions(lr_decay: float, rho_decay: float) -> list[str]:
    """Conditions of the convergence theorem that two schedules ~ t^-decay break; none broken: the momentum tends to
    the gradient and every limit point is stationary, for bounded iterates and tau away from 0 (Yang et al. 2020)."""
    broken = []
    if lr_decay > 1:
        broken.append("sum eps = infinity needs lr_decay <= 1")
    if rho_decay > 1:
        broken.append("sum rho = infinity needs rho_decay <= 1")
    if rho_decay <= 0.5:
        broken.append("sum rho^2 < infinity needs rho_decay > 1/2")
    if lr_decay <= 0.5:
        broken.append("sum eps^2 < infinity needs lr_decay > 1/2")
    if lr_decay <= rho_decay:
        broken.append("eps / rho -> 0 needs lr_decay > rho_decay")
    return broken


def _regularizer(group: dict[str, Any]) -> Regularizer:
    maker = plugins.load(_REGULARIZERS, group["regularizer"]).make
    own = set(inspect.signature(maker).parameters) - {"mu", "low", "high", "layout"}
    unknown = set(group["prox"]) - own
    if unknown:
        raise ValueError(f"the regularizer {group['regularizer']} has no setting {', '.join(sorted(unknown))}")
    spanning = {"layout": group["layout"]} if group["layout"] is not None else {}
    made: Regularizer = maker(mu=group["mu"], low=group["low"], high=group["high"], **group["prox"], **spanning)
    return made


def make(
    model: nn.Module, lr: float = 0.06, lr_decay: float = 0.5, rho: float = 0.9, rho_decay: float = 0.5,
    offset: float = 4.0, metric: str = "adam", beta: float = 0.999, delta: float = 1e-8, correct_rate: bool = False,
    regularizer: str = "none", mu: float = 0.0, low: float | None = None, high: float | None = None,
    groups: str = "rows", weighting: str = "none", mean_metric: bool = False, vectors: bool = True,
    factors: dict[str, float] | str | None = None,
) -> ProxSGD:  # fmt: skip
    """ProxSGD; `vectors=False` leaves biases and normalisation out of regularizer and box.

    `groups`, `weighting` and `mean_metric` are the group regularizer's; `groups` may also be a file of
    `landscape/groupings`, which says itself what is left out. `factors` multiply the penalty of its groups by their
    names, such as by what an operation costs; or the name of a JSON file with them under "factors".
    """
    prox: dict[str, Any] = {"groups": groups, "weighting": weighting, "mean_metric": mean_metric}
    prox = prox if regularizer == "group" else {}
    named = {name: w for name, w in model.named_parameters() if w.requires_grad}
    spanning = regularizer == "group" and groups not in GROUPS
    if spanning and groups not in plugins.names(PACKAGE):
        raise ValueError(f"groups must be one of {', '.join([*GROUPS, *plugins.names(PACKAGE)])}, got '{groups}'")
    if factors is not None and not spanning:
        raise ValueError(f"factors need regularizer=group and groups of {', '.join(plugins.names(PACKAGE))}")
    penalised = {n: w for n, w in named.items() if vectors or spanning or w.ndim > 1}
    found: list[dict[str, Any]] = [{"params": list(penalised.values())}]
    if spanning:
        parts = parts_of(model, groups)
        found[0]["layout"] = layout(parts, list(penalised))
        prox |= {} if factors is None else {"factors": group_factors(parts, factors)}
    free = [w for n, w in named.items() if n not in penalised]
    if free:
        found.append({"params": free, "regularizer": "none", "mu": 0.0, "low": None, "high": None, "prox": {}})
    return ProxSGD([g for g in found if g["params"]], lr, lr_decay, rho, rho_decay, offset, metric, beta, delta,
                   correct_rate, regularizer, mu, low, high, prox)  # fmt: skip
