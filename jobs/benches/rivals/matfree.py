"""matfree on JAX: the digits network written again, its product compiled and vmapped, probes in one vmap."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import ProblemError

from .._case import Case, Estimate, pooled

MODULE, DISTRIBUTION = "matfree", "matfree"
BLOCKS, COMPILES = True, True
_engines: dict[int, tuple[Case, Any]] = {}  # compiled once a case


def _matvec(case: Case) -> tuple[Any, int]:
    """v -> H v of cross-entropy of a chain of linear and tanh layers, and its size.

    Raises:
        ProblemError: another network.
    """
    jax, jnp = importlib.import_module("jax"), importlib.import_module("jax.numpy")
    layers = list(case.problem.model.children())
    if not all(isinstance(layer, nn.Linear | nn.Tanh) for layer in layers):
        raise ProblemError("written for networks of linear and tanh layers")
    inputs, targets = (jnp.asarray(x.numpy()) for x in case.batch)
    shapes = [tuple(p.shape) for p in case.problem.model.parameters()]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])
    weights = jnp.asarray(case.problem.weights().numpy())

    def loss(flat: Any) -> Any:
        pieces = [piece.reshape(shape) for piece, shape in zip(jnp.split(flat, cuts[:-1]), shapes, strict=True)]
        hidden = inputs
        for layer in layers:
            linear = isinstance(layer, nn.Linear)
            hidden = hidden @ pieces.pop(0).T + pieces.pop(0) if linear else jnp.tanh(hidden)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(hidden), targets[:, None], axis=1)
        return -chosen.mean()

    return (lambda v: jax.jvp(jax.grad(loss), (weights,), (v,))[1]), int(cuts[-1])


def product(case: Case) -> Callable[[Tensor], Tensor]:
    jax = importlib.import_module("jax")
    many = jax.jit(jax.vmap(_matvec(case)[0], in_axes=1, out_axes=1))
    return lambda block: torch.from_numpy(np.array(many(block.numpy())))


def _compiled(case: Case, iterations: int) -> Any:
    jax, jnp = importlib.import_module("jax"), importlib.import_module("jax.numpy")
    tridiagonal = importlib.import_module("matfree.decomp").tridiag_sym(iterations)
    matvec, _ = _matvec(case)

    def rule(start: Any) -> Any:
        _, matrix, *_ = tridiagonal(matvec, start / jnp.linalg.norm(start))
        values, vectors = jnp.linalg.eigh(matrix)
        return values, vectors[0] ** 2

    return jax.jit(jax.vmap(rule))


def slq(case: Case, probes: int, iterations: int, seed: int) -> Estimate:
    if id(case) not in _engines:
        _engines[id(case)] = case, _compiled(case, iterations)
    starts = np.random.default_rng(seed).normal(size=(probes, case.problem.size)).astype(np.float32)
    nodes, weights = _engines[id(case)][1](starts)
    return pooled(nodes, weights, None, probes * iterations)
