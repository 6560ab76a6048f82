"""Largest sharpness at which an optimizer is stable on a quadratic, from a run's recorded settings.

Full-batch statements (Cohen et al. 2021, arXiv 2103.00065); for mini-batches the edge lies lower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..records import RunInfo

_GRADIENT_DESCENT = {"sgd", "gd", "gradientdescent", "heavyball", "momentum", "nesterov"}


@dataclass(frozen=True)
class Threshold:
    """`value` is the limit of the Hessian's largest eigenvalue, None where no formula holds."""

    value: float | None
    formula: str  # '2/η', or the reason why there is none


def threshold(
    info: RunInfo, operator: str = "hessian", step: int | None = None, slope: float | None = None
) -> Threshold:
    """Stability limit of plain gradient descent, heavy ball and Nesterov momentum; of Adam's on `preconditioned`.

    On a quadratic with curvature h, heavy ball x+ = x - eta h x + beta (x - x-) has roots inside the unit circle
    exactly for eta h < 2 + 2 beta; Nesterov's look-ahead for eta h < (2 + 2 beta) / (1 + 2 beta); extragradient
    multiplies by 1 - eta h + (eta h)^2, below 1 for eta h < 1; optimistic descent's root -1 is at eta h = 2/3;
    SAM's and consensus optimisation's gradient is that of a steeper parabola (`_bent`). Weight decay adds to every
    eigenvalue and so lowers the limit. `step` is the checkpoint's, for rates that decay; `slope` its gradient's norm.
    """
    name = info.stepper.rpartition(".")[2].replace("_", "").replace("-", "").lower()
    settings = info.settings
    if settings.get("schedule") == "cosine":
        return Threshold(None, "no threshold: the learning rate falls along a cosine")
    if name == "proxsgd":
        return _prox_sgd(info, operator, step)
    if operator == "preconditioned":
        return _preconditioned(info, name)
    rate = positive(settings.get("lr"))
    if name in ("extragradient", "optimistic") and rate is not None:
        return Threshold(1 / rate, "1/η") if name == "extragradient" else Threshold(2 / (3 * rate), "2/(3η)")
    if name in ("sam", "consensus") and rate is not None:
        return _bent(name, settings, rate, slope)
    if name not in _GRADIENT_DESCENT:
        return Threshold(None, f"no stability threshold known for {info.stepper}'s raw Hessian")
    if rate is None:
        return Threshold(None, "no threshold: the learning rate was not recorded")
    beta = positive(settings.get("momentum", settings.get("beta"))) or 0.0
    decay = positive(settings.get("weight_decay")) or 0.0
    if positive(settings.get("dampening")):
        return Threshold(None, "no threshold: dampened momentum")
    if beta and (settings.get("nesterov") or name == "nesterov"):
        limit, formula = (2 + 2 * beta) / (rate * (1 + 2 * beta)), "(2+2β)/(η(1+2β))"
    elif beta:
        limit, formula = (2 + 2 * beta) / rate, "(2+2β)/η"
    else:
        limit, formula = 2 / rate, "2/η"
    return Threshold(limit - decay, formula + (" − weight decay" if decay else ""))


def _bent(name: str, settings: Mapping[str, Any], rate: float, slope: float | None) -> Threshold:
    """Where h + a h^2 = c: what the gradient of a parabola of curvature h is multiplied with reaches the limit c.

    SAM looks rho beyond the weights, where the gradient g is longer by rho h: a = rho / norm(g) (Long & Bartlett 2024,
    JMLR 25). Consensus optimisation adds gamma h g: a = gamma, of a single loss.
    """
    beta, decay = positive(settings.get("momentum")) or 0.0, positive(settings.get("weight_decay")) or 0.0
    if name == "consensus":
        bend, formula = positive(settings.get("gamma")) or 0.0, "h + γh² = 2/η"
    else:
        rho, formula = positive(settings.get("rho")) or 0.0, f"h + ρh²/‖g‖ = {'(2+2β)/η' if beta else '2/η'}"
        if rho and not positive(slope):
            return Threshold(None, "no threshold: SAM's depends on the norm of the gradient, which was not recorded")
        bend = rho / slope if rho and slope else 0.0
    limit = (2 + 2 * beta) / rate - decay
    return Threshold(2 * limit / (1 + math.sqrt(1 + 4 * bend * max(limit, 0.0))),
                     formula + (" − weight decay" if decay else ""))  # fmt: skip


def _preconditioned(info: RunInfo, name: str) -> Threshold:
    """Limit of the preconditioned sharpness: (2 + 2 beta1) / ((1 - beta1) eta) where momentum averages gradients.

    Cohen et al. 2022 (arXiv 2207.14484), for a preconditioner that moves slowly.
    """
    rate, settings = positive(info.settings.get("lr")), info.settings
    if rate is None or settings.get("groups"):
        return Threshold(None, "no threshold: one learning rate for all weights was not recorded")
    if name != "adamw" and positive(settings.get("weight_decay")):
        return Threshold(None, "no threshold: the weight decay is part of the gradient")
    if name in ("adam", "adamw", "adamax") and len(settings.get("betas") or ()) == 2:
        beta = float(settings["betas"][0])
        return Threshold((2 + 2 * beta) / ((1 - beta) * rate), "(2+2β₁)/((1−β₁)η)")
    if name == "rmsprop":
        beta = positive(settings.get("momentum")) or 0.0
        return Threshold((2 + 2 * beta) / rate, "(2+2β)/η" if beta else "2/η")
    return Threshold(None, f"no stability threshold known for {info.stepper}")


def _prox_sgd(info: RunInfo, operator: str, step: int | None) -> Threshold:
    """(4 - 2 rho) / (eps rho): heavy ball of rate eps rho and momentum 1 - rho in the metric tau, its rates as they
    are at the next step; of the smooth part alone."""
    settings = info.settings
    own = "hessian" if settings.get("metric") == "identity" else "preconditioned"
    if operator != own or settings.get("groups"):
        return Threshold(None, f"no stability threshold known for ProxSGD's {operator}; see its {own}")
    if settings.get("regularizer") != "none" or settings.get("low") is not None or settings.get("high") is not None:
        return Threshold(None, "no threshold: the step is proximal")
    rate, rho = positive(settings.get("lr")), positive(settings.get("rho"))
    decays = [float(settings.get(name, 0)) for name in ("lr_decay", "rho_decay")]
    if rate is None or rho is None or (any(decays) and step is None):
        return Threshold(None, "no threshold: its rates decay, and the step is not known" if rate and rho else
                         "no threshold: the learning rate was not recorded")  # fmt: skip
    time = (step or 0) + 1 + float(settings.get("offset", 0))
    rate, rho = rate / time ** decays[0], rho / time ** decays[1]
    return Threshold((4 - 2 * rho) / (rate * rho), "(4−2ρ)/(ερ)")


def positive(value: object) -> float | None:
    """A setting as a positive finite number, else None."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) and value > 0 else None
