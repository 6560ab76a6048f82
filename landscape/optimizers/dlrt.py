"""Dynamical low-rank training: layers W = U S V^T whose ranks follow from a tolerance (Schotthöfer et al. 2022).

    K = U S, L = V S^T step by G V and G^T U;   Uh = qr [K1, U],  Vh = qr [L1, V]
    S step by Uh^T G Vh in these bases;         W1 = Uh S1 Vh^T, cut to the smallest rank with |cut| <= tau |S1|

Without `adaptive` the bases are qr K1 and qr L1 alone and the rank stays. Biases and dense layers step with S. The
augmented bases hold W exactly, so that K, L and S have their gradients from one backward pass: Uh^T G Vh is made from
the pass's inputs and output gradients. The model's weights are W = U S V^T after every step.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.factored import layers_of, matrix_of
from ..networks.lowrank import Factors, drawn, orthonormal, truncated
from ._low_rank_layer import LowRankLayer
from ._moments import carry
from ._torch import torch_optimizers

LEAST = 2  # no rank becomes smaller, where a layer has two
_UNFIT = ("lbfgs", "sparseadam", "muon")  # for several evaluations a step, for sparse gradients, for matrices alone


class DLRT(torch.optim.Optimizer):
    """Every step needs a closure that computes the loss and its gradients; it is called once, or twice at fixed rank.

    Args:
        model: its linear layers and convolutions without groups become low-rank, the rest is trained as it is.
        lr: of all three steps; a schedule may change `param_groups[0]["lr"]`.
        tau: largest part of a layer's norm that is cut off after a step.
        rank: at the start, of every layer; None: half of its smaller side, or at fixed rank a quarter.
        adaptive: ranks follow from tau; False: they stay.
        inner: an optimizer of torch.optim that moves K, L, S and the rest; `settings` are its own beside lr.
        dense: layers left dense: 'last', 'none', or patterns of names separated by commas.
        start: 'weights', the nearest matrices of the rank, or 'random', of torch's generator: for fresh networks.

    The list `events` has one entry for every rank that changed in the last step: what was cut off of the layer's norm,
    and the change of the loss by it to first order, <G, W1 - Uh S1 Vh^T>.

    Raises:
        ValueError: a setting out of its range.
    """

    curvature_state = ("sigma",)  # kept in checkpoints: singular values, and with them the rank

    def __init__(
        self, model: nn.Module, lr: float = 0.1, tau: float = 0.1, rank: int | None = None, adaptive: bool = True,
        inner: str = "sgd", settings: dict[str, Any] | None = None, dense: str = "last", start: str = "weights",
    ) -> None:  # fmt: skip
        if not 0 <= tau < 1:
            raise ValueError(f"tau must lie in [0, 1), got {tau}")
        if rank is not None and rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        if start not in ("weights", "random"):
            raise ValueError(f"start must be weights or random, got '{start}'")
        weights = [p for p in model.parameters() if p.requires_grad]
        defaults = {"lr": lr, "tau": tau, "rank": rank, "adaptive": adaptive, "inner": inner, "dense": dense,
                    "settings": dict(settings or {}), "start": start}  # fmt: skip
        super().__init__(weights, defaults)
        self.events: list[dict[str, Any]] = []
        self.layers = [self._layer(name, module) for name, module in _chosen(model, dense, adaptive).items()]
        ours = {id(layer.weight) for layer in self.layers}
        self.free = [w for w in weights if id(w) not in ours]
        maker = _inner(inner)
        self.basis = maker([f for layer in self.layers for f in (layer.k, layer.l)] or [nn.Parameter(torch.empty(0))],
                           lr=lr, **(settings or {}))  # fmt: skip
        self.core = maker([layer.s for layer in self.layers] + self.free, lr=lr, **(settings or {}))
        for layer in self.layers:
            self._settle(layer)

    def _layer(self, name: str, module: Any) -> LowRankLayer:
        group, small = self.param_groups[0], min(matrix_of(module).shape)
        most = small // 2 if group["adaptive"] else small  # two bases side by side must fit
        rank = group["rank"] or (most if group["adaptive"] else max(small // 4, 1))
        before = matrix_of(module).clone()
        layer = LowRankLayer(name, module, min(rank, most), most)
        if group["start"] == "random":
            layer.set(drawn(layer.factors))
            layer.bases = layer.factors.u, layer.factors.v
        cut = float((matrix_of(module) - before).norm() / before.norm().clamp(min=1e-30))
        self.events.append({"kind": "rank", "layer": name, "before": small, "after": layer.factors.rank, "cut": cut})
        return layer

    @property
    def ranks(self) -> dict[str, int]:
        """Of the low-rank layers by name."""
        return {layer.name: layer.factors.rank for layer in self.layers}

    # ------------------------------------------------------------------ a step

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of K, L, S and the rest; returns the loss.

        Raises:
            ValueError: no closure, or a layer's weight is used outside of its own forward.
        """
        if closure is None:
            raise ValueError("low-rank steps need a closure that computes the loss and its gradients")
        group = self.param_groups[0]
        for optimizer in (self.basis, self.core):
            for one in optimizer.param_groups:
                one["lr"] = group["lr"]
        loss = self._evaluate(closure, "forward_basis")
        if not math.isfinite(float(loss or 0)):
            return loss  # it has diverged: whoever trains sees it, and no factor becomes worse
        layers = [layer for layer in self.layers if layer.k.grad is not None]
        olds = {layer.name: layer.factors for layer in layers}
        self.basis.step()
        for layer in layers:
            self._open(layer, group["adaptive"])
        if group["adaptive"]:
            for layer in layers:
                layer.s.grad = layer.core_gradient()
        else:
            self._evaluate(closure, "forward_core")
        slopes = {layer.name: layer.s.grad for layer in layers}
        self.core.step()
        for layer in layers:
            self._close(layer, group, slopes[layer.name])
            self._settle(layer, olds[layer.name])
        return loss

    def _evaluate(self, closure: Callable[[], Any], forward: str) -> Any:
        """The loss with every layer's products in factors; gradients of factors and of the free weights."""
        for layer in self.layers:
            layer.passes.clear()
            layer.k.grad = layer.l.grad = layer.s.grad = layer.weight.grad = None
        with torch.enable_grad(), self._through(forward):
            loss = closure()
        for layer in self.layers:
            if layer.weight.grad is not None and layer.weight.grad.count_nonzero():
                raise ValueError(f"the weight of layer '{layer.name}' is used outside of the layer's own forward; "
                                 f"leave it dense: dense={layer.name}")  # fmt: skip
        return loss

    @contextmanager
    def _through(self, forward: str) -> Iterator[None]:
        for layer in self.layers:
            module: nn.Module = layer.module
            module.forward = getattr(layer, forward)
        try:
            yield
        finally:
            for layer in self.layers:
                del layer.module.forward

    def _open(self, layer: LowRankLayer, augment: bool) -> None:
        """New bases from K1 and L1, and the same W (or its projection) in them."""
        old = layer.factors
        u, v = ((orthonormal(layer.k, old.u), orthonormal(layer.l, old.v)) if augment
                else (orthonormal(layer.k), orthonormal(layer.l)))  # fmt: skip
        carry(self.core, layer.s, old.core(u, v), u.T @ old.u, old.v.T @ v)
        layer.bases = (u, v)

    def _close(self, layer: LowRankLayer, group: dict[str, Any], slope: Tensor | None) -> None:
        """Factors from the core that stepped, cut where ranks are adaptive; `slope` is the loss's by the core."""
        u, v = layer.bases
        core, before = layer.s.detach().clone(), layer.factors.rank
        if not (group["adaptive"] and _decomposes(core)):
            layer.set(Factors(u, core, v))
            return
        layer.set(truncated(u, core, v, group["tau"], LEAST, layer.most))
        rank = layer.factors.rank
        if rank != before:
            lost = u.T @ layer.factors.u @ layer.factors.s @ (v.T @ layer.factors.v).T - core
            self.events.append({
                "kind": "rank", "layer": layer.name, "before": before, "after": rank,
                "cut": float(lost.norm() / core.norm().clamp(min=1e-30)),
                "predicted": 0.0 if slope is None else float((slope * lost).sum()),
            })  # fmt: skip

    def _settle(self, layer: LowRankLayer, old: Factors | None = None) -> None:
        """K, L and S at the layer's factors, their moments in its bases."""
        new, (u, v) = layer.factors, layer.bases
        turns = (None, None) if old is None else (old.v.T @ new.v, old.u.T @ new.u)
        carry(self.basis, layer.k, new.left, None, turns[0])
        carry(self.basis, layer.l, new.right, None, turns[1])
        carry(self.core, layer.s, new.s.clone(), new.u.T @ u, v.T @ new.v)
        layer.bases = (new.u, new.v)
        layer.passes.clear()
        known = self.param_groups[0]["adaptive"] or not _decomposes(new.s)  # truncation leaves s = diag(sigma)
        self.state[layer.weight]["sigma"] = new.s.diagonal().clone() if known else torch.linalg.svdvals(new.s)

    # ------------------------------------------------------------------ the state

    def state_dict(self) -> dict[str, Any]:
        """Beside torch's: the factors by layer, and the state of the optimizers of the bases and of the core."""
        factors = {layer.name: {"u": layer.factors.u, "s": layer.factors.s, "v": layer.factors.v}
                   for layer in self.layers}  # fmt: skip
        return {**super().state_dict(), "factors": factors, "basis": self.basis.state_dict(),
                "core": self.core.state_dict()}  # fmt: skip

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`; the model's weights follow the factors."""
        super().load_state_dict({name: state_dict[name] for name in ("state", "param_groups")})
        for layer in self.layers:
            found = state_dict["factors"][layer.name]
            layer.set(Factors(*(found[n].to(layer.weight).clone() for n in ("u", "s", "v"))))
            layer.bases = (layer.factors.u, layer.factors.v)
            self._settle(layer)
        self.basis.load_state_dict(state_dict["basis"])
        self.core.load_state_dict(state_dict["core"])
        self.events.clear()


def _decomposes(core: Tensor) -> bool:
    """False of a core that is about to overflow: its singular values would not be found, and the next loss says why."""
    return float(core.norm()) < 1e15


def _chosen(model: nn.Module, dense: str, adaptive: bool) -> dict[str, Any]:
    """The layers that become low-rank: trainable, of two ranks at least, and not kept dense."""
    found = layers_of(model)
    if dense == "last":
        kept = list(found)[-1:]
    else:
        patterns = [] if dense == "none" else [p.strip() for p in dense.split(",")]
        for pattern in patterns:
            if not fnmatch.filter(found, pattern):
                raise ValueError(f"no layer's name fits dense='{pattern}'; there are {', '.join(found)}")
        kept = [name for name in found if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    smallest = 2 * LEAST if adaptive else LEAST
    return {name: layer for name, layer in found.items()
            if name not in kept and layer.weight.requires_grad and min(matrix_of(layer).shape) >= smallest}  # fmt: skip


def _inner(name: str) -> Callable[..., torch.optim.Optimizer]:
    known = {n: maker for n, maker in torch_optimizers().items() if n not in _UNFIT}
    if name.lower() not in known:
        raise ValueError(f"inner must be one of {', '.join(sorted(known))}, got '{name}'")
    return known[name.lower()]


def make(
    model: nn.Module, lr: float = 0.1, tau: float = 0.1, rank: int | None = None, adaptive: bool = True,
    inner: str = "sgd", settings: dict[str, Any] | None = None, dense: str = "last", start: str = "weights",
) -> DLRT:  # fmt: skip
    """Dynamical low-rank training of a model."""
    return DLRT(model, lr, tau, rank, adaptive, inner, settings, dense, start)
