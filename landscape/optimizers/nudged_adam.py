"""Adam on a gradient without its part along the top eigenvectors of the Hessian (NuGAN: Durall et al. 2021, VISAPP).

    g <- g - (1 - gamma) sum_i <e_i, g> e_i,   e_i the k top eigenvectors of this mini-batch's Hessian

gamma = 1 is Adam itself, gamma = 0 takes the whole part out, gamma > 1 amplifies it. With `apply='pre'` the gradient
is changed before the moments, as published: the step that follows is then not orthogonal to e_i, for Adam scales
every weight by itself. `apply='post'` changes the step instead, and is.

The eigenvectors are found by a few Lanczos products every few steps, each time from where they were.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..krylov.lanczos import BlockLanczos
from ..krylov.probes import probe

NOISE = 0.05  # of a warm start's length: what the old eigenvectors do not contain must be able to come in


class NudgedAdam(torch.optim.Adam):
    """Every step needs a closure that returns the loss with its graph: it is differentiated here, up to twice.

    Args:
        params: weights, or (name, weight) pairs.
        k: eigenvectors taken out.
        gamma: share of the gradient along them that stays.
        every: steps between searches.
        products: Hessian products of a search; below 10 a cold start is too short.
        apply: 'pre' (the gradient, as published) or 'post' (the step).
        threshold: eigenvalues up to it are left alone.
        seed: of the starts.
        weights: patterns of names, separated by commas: each is a block with a Hessian and k eigenvectors of its own,
            and the weights of none are left to Adam. None: 'generator.*' where there are such, as published, else all.

    Raises:
        ValueError: a setting out of its range, or a pattern that no name fits.
    """

    returns_graph = True  # what the training loop asks: its closure must not call backward

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        k: int = 1, gamma: float = 0.0, every: int = 5, products: int = 10, apply: str = "pre",
        threshold: float = 0.0, seed: int = 0, weights: str | None = None,
    ) -> None:  # fmt: skip
        if apply not in ("pre", "post"):
            raise ValueError(f"apply must be pre or post, got '{apply}'")
        limits = (("k", k, 1), ("every", every, 1), ("products", products, max(k, 2)), ("gamma", gamma, 0))
        for name, value, low in limits:
            if value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        given = [p if isinstance(p, tuple) else ("", p) for p in params]
        super().__init__([w for _, w in given], lr=lr, betas=betas, eps=eps)
        self._blocks = _blocks([(n, w) for n, w in given if w.requires_grad], weights)
        nudge = {"k": k, "gamma": gamma, "every": every, "products": products, "apply": apply, "threshold": threshold,
                 "seed": seed, "weights": weights, "nudges": [0] * len(self._blocks),
                 "eigenvalues": [[] for _ in self._blocks]}  # fmt: skip
        for group in self.param_groups:
            group.update(nudge)

    @property
    def eigenvalues(self) -> list[float]:
        """Of the directions that are taken out now, as they were found, block by block, largest first."""
        return [value for found in self.param_groups[0]["eigenvalues"] for value in found]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the loss."""
        if closure is None:
            raise ValueError("nudged steps need a closure that returns the loss with its graph")
        with torch.enable_grad():
            loss: Tensor = closure()
        settings = self.param_groups[0]
        weights = [w for group in self.param_groups for w in group["params"] if w.requires_grad]
        blocks = {i: b for i, b in enumerate(self._blocks) if all(w.requires_grad for w in b)}  # those whose turn it is
        due = [i for i in blocks if settings["gamma"] != 1 and settings["nudges"][i] % settings["every"] == 0]
        with torch.enable_grad():
            found = torch.autograd.grad(loss, weights, create_graph=bool(due), materialize_grads=True)
        gradients = dict(zip(weights, found, strict=True))
        directions = {i: self._directions(block) for i, block in blocks.items()}
        for i in due:
            directions[i] = self._search(i, [gradients[w] for w in blocks[i]], directions[i])
        _scatter(_flat(found), weights, "grad")
        pre = settings["apply"] == "pre"
        if pre:
            for i, block in blocks.items():
                _scatter(self._without(_flat(gradients[w] for w in block), directions[i]), block, "grad")
        before = {} if pre else {i: _flat(block) for i, block in blocks.items()}
        super().step()
        for i, start in before.items():
            _scatter(start + self._without(_flat(blocks[i]) - start, directions[i]), blocks[i], "data")
        for i, block in blocks.items():
            settings["nudges"][i] += 1
            self._keep(block, directions[i])  # only now: Adam takes a state that is there for its own
        return loss.detach()

    def _without(self, vector: Tensor, directions: Tensor) -> Tensor:
        """vector - (1 - gamma) V^T V vector."""
        part: Tensor = directions.T @ (directions @ vector)
        return vector.sub(part, alpha=1 - float(self.param_groups[0]["gamma"]))

    def _search(self, number: int, gradients: list[Tensor], directions: Tensor) -> Tensor:
        """The top eigenvectors (found, size) of a block's Hessian, by Lanczos from the sum of those known."""
        settings, weights = self.param_groups[0], self._blocks[number]
        with torch.enable_grad():
            gradient = torch.cat([g.reshape(-1) for g in gradients])

        def product(block: Tensor) -> Tensor:
            with torch.enable_grad():
                columns = [torch.autograd.grad(gradient, weights, v, retain_graph=True, materialize_grads=True)
                           for v in block.T]  # fmt: skip
            return torch.stack([_flat(column) for column in columns], dim=1)

        size = len(gradient)
        noise = probe(settings["nudges"][number], size, settings["seed"]).to(gradient)
        start = directions.sum(dim=0)
        start = noise if not len(directions) else start + NOISE * start.norm() / noise.norm() * noise
        products = min(settings["products"], size)
        space = BlockLanczos(product, start[:, None], max(products + 1, 2))
        while space.matvecs < products and space.ahead:
            space.expand()
        ritz = space.ritz()
        wanted = [i for i in range(len(ritz.values))[::-1][: settings["k"]] if ritz.values[i] > settings["threshold"]]
        settings["eigenvalues"][number] = [float(ritz.values[i]) for i in wanted]
        return space.ritz_vectors(ritz.vectors[:, wanted])

    def _directions(self, weights: list[Tensor]) -> Tensor:
        """Those of the last search (found, size), rows of length 1; none before the first."""
        found = [self.state[w].get("directions", w.new_zeros(0, *w.shape)) for w in weights]
        return torch.cat([part.reshape(len(part), w.numel()) for part, w in zip(found, weights, strict=True)], dim=1)

    def _keep(self, weights: list[Tensor], directions: Tensor) -> None:
        for weight, part in zip(weights, torch.split(directions, [w.numel() for w in weights], dim=1), strict=True):
            self.state[weight]["directions"] = part.reshape(-1, *weight.shape).clone()


def _blocks(named: list[tuple[str, Tensor]], patterns: str | None) -> list[list[Tensor]]:
    """The weights that each of the patterns means."""
    if patterns is None:
        players = [w for n, w in named if n.startswith("generator.")]
        return [players or [w for _, w in named]]
    found = []
    for pattern in patterns.split(","):
        found.append([w for n, w in named if fnmatch.fnmatchcase(n, pattern.strip())])
        if not found[-1]:
            raise ValueError(f"no weight's name fits '{pattern.strip()}'")
    return found


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def _scatter(vector: Tensor, weights: list[Tensor], what: str) -> None:
    """Put a flat vector into the weights themselves, or into their gradients."""
    for weight, part in zip(weights, torch.split(vector, [w.numel() for w in weights]), strict=True):
        if what == "grad":
            weight.grad = part.view_as(weight).clone()
        else:
            weight.copy_(part.view_as(weight))


def make(
    named: Iterable[Any], lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
    k: int = 1, gamma: float = 0.0, every: int = 5, products: int = 10, apply: str = "pre", threshold: float = 0.0,
    seed: int = 0, weights: str | None = None,
) -> NudgedAdam:  # fmt: skip
    """Adam without the top eigenvectors' part of the gradient; gamma = 1 is Adam."""
    return NudgedAdam(named, lr, (beta1, beta2), eps, k, gamma, every, products, apply, threshold, seed, weights)
