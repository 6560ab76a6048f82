"""Preconditioned Hessian P^-1/2 H P^-1/2, P the diagonal metric in which an adaptive optimizer steps.

An adaptive optimizer moves by -lr P^-1 m, so its stability rests on the eigenvalues of P^-1 H, which are those of this
symmetric matrix. With momentum as an average of gradients (Adam) the step is stable while the largest one stays below
(2 + 2 beta1) / ((1 - beta1) lr): 38 / lr for beta1 = 0.9 (Cohen et al. 2022, arXiv 2207.14484). P is the optimizer's
own state at the checkpoint. Weight decay is not part of the loss and is left out. Eigenvectors live in the coordinates
P^1/2 theta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError
from ._differences import hessian as difference
from .hessian import form

__all__ = ["difference", "form", "scale"]

State = Callable[[str], Tensor]  # 'exp_avg_sq' -> that tensor of one weight
Settings = Mapping[str, Any]


def _adam(state: State, settings: Settings) -> Tensor:
    """sqrt(v / (1 - beta2^t)) + eps (Kingma & Ba 2015); AMSGrad has the largest v so far (Reddi et al. 2018)."""
    square = state("max_exp_avg_sq" if settings.get("amsgrad") else "exp_avg_sq")
    root: Tensor = (square / (1 - float(settings["betas"][1]) ** state("step"))).sqrt() + settings["eps"]
    return root


def _adamax(state: State, settings: Settings) -> Tensor:
    return state("exp_inf")


def _rmsprop(state: State, settings: Settings) -> Tensor:
    square = state("square_avg")
    if settings.get("centered"):
        square = (square - state("grad_avg").square()).clamp(min=0)
    root: Tensor = square.sqrt() + settings["eps"]
    return root


def _adagrad(state: State, settings: Settings) -> Tensor:
    root: Tensor = state("sum").sqrt() + settings["eps"]
    return root


def _prox_sgd(state: State, settings: Settings) -> Tensor:
    """tau of ProxSGD, by the name of its metric (landscape/optimizers/prox_sgd.py)."""
    kind, delta = settings["metric"], settings["delta"]
    if kind == "identity":
        raise KeyError(kind)  # no second moments
    square = state({"amsgrad": "max_exp_avg_sq", "rmsprop": "square_avg", "adagrad": "sum"}.get(kind, "exp_avg_sq"))
    if kind in ("adam", "amsgrad"):
        square = square / (1 - float(settings["beta"]) ** state("step"))
    root: Tensor = square.sqrt() + delta
    return root


# By the optimizer's class: how P follows from its state, and the settings it follows from.
_METRICS: dict[str, tuple[Callable[[State, Settings], Tensor], tuple[str, ...]]] = {
    **dict.fromkeys(("Adam", "AdamW", "NAdam", "NudgedAdam"), (_adam, ("betas", "eps", "amsgrad"))),
    "Adamax": (_adamax, ()),
    "RMSprop": (_rmsprop, ("eps", "centered")),
    "Adagrad": (_adagrad, ("eps",)),
    **dict.fromkeys(("ProxSGD", "BinaryProxSGD"), (_prox_sgd, ("metric", "beta", "delta"))),
}


def _state_of(tensors: Mapping[str, Tensor], name: str, key: str) -> Tensor:
    return tensors[f"{key}/{name}"]


def scale(problem: Any, checkpoint: Any) -> Tensor:
    """The vector s = P^-1/2 (size,) of a run's optimizer at a checkpoint, in float64.

    Raises:
        ProblemError: the optimizer has no such state, or not yet; the message names the first checkpoint that has.
    """
    info = checkpoint.run.info
    if info.stepper not in _METRICS:
        raise ProblemError(
            f"preconditioned needs a run of {', '.join(_METRICS)}; '{checkpoint.run.root}' was trained with "
            f"{info.stepper}, which keeps no second moments. Use --operator hessian"
        )
    metric, named = _METRICS[info.stepper]
    for group in info.settings.get("groups", ()):
        different = [name for name in named if group.get(name) != info.settings.get(name)]
        if different:
            raise ProblemError(
                f"preconditioned needs one {different[0]} for all weights; the parameter groups of "
                f"'{checkpoint.run.root}' differ in it. Use --operator hessian"
            )
    tensors = {key: value.double() for key, value in checkpoint.optimizer_state().items()}
    seen = any(value.any() for key, value in tensors.items() if not key.startswith("step/"))
    parts = []
    for name, shape, _ in problem.named_slices():
        try:
            if not seen:
                raise KeyError(name)
            p = metric(partial(_state_of, tensors, name), info.settings)
        except KeyError:
            raise ProblemError(_no_state(checkpoint, info.optimizer, name)) from None
        if tuple(p.shape) != shape:
            raise ProblemError(f"the optimizer's state of '{name}' has shape {tuple(p.shape)}, the weight has {shape}")
        parts.append(p.reshape(-1))
    s = torch.cat(parts).rsqrt()
    if not bool(torch.isfinite(s).all()):
        bad = int((~torch.isfinite(s)).sum())
        raise ProblemError(
            f"the metric of {info.optimizer} at step {checkpoint.step} is zero or not finite at {bad} of {len(s)} "
            "weights (eps = 0, or training diverged); choose another checkpoint"
        )
    return s


def _no_state(checkpoint: Any, optimizer: str, name: str) -> str:
    def usable(step: int) -> bool:
        state = type(checkpoint)(checkpoint.run, step).optimizer_state()
        return any(value.any() for key, value in state.items() if key.endswith(f"/{name}") and key != f"step/{name}")

    first = next((s for s in checkpoint.run.checkpoint_steps() if s != checkpoint.step and usable(s)), None)
    fix = "no checkpoint of the run has any" if first is None else f"the first checkpoint that has some is step {first}"
    return f"{optimizer} has no second moments of '{name}' at step {checkpoint.step}; {fix}"
