"""What an engine is handed, and what it hands back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.loss.problem import Problem

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Eigenpairs: values (k,) descending, vectors (k, size), the residual bounds that were told, products spent."""

    values: Array
    vectors: Array
    bounds: Array | None
    products: int


@dataclass(frozen=True)
class Estimate:
    """A spectral measure: nodes (m,) and weights (m,) summing to 1; the curve (grid, density) that users are shown."""

    nodes: Array
    weights: Array
    curve: tuple[Array, Array] | None
    products: int


@dataclass(frozen=True)
class Case:
    """A problem of one batch of (inputs, targets); every engine gets a copy of the model of its own."""

    problem: Problem

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        inputs, targets = self.problem.batches[0]
        return inputs, targets

    @property
    def loss(self) -> Callable[[Any, Any], Tensor]:
        loss = self.problem.loss
        assert loss is not None  # the shipped problems have outputs
        return loss

    def model(self) -> nn.Module:
        return copy.deepcopy(self.problem.model)


def worst_residual(matvec: Callable[[Tensor], Tensor], pairs: Pairs, dtype: torch.dtype = torch.float32) -> float:
    """max_i ||A v_i - theta_i v_i||, by products of their own."""
    vectors = torch.from_numpy(np.array(pairs.vectors.T)).to(dtype)  # (size, k)
    rest = matvec(vectors).double() - vectors.double() * torch.from_numpy(np.array(pairs.values, dtype=float))
    return float(rest.norm(dim=0).max())


def sorted_pairs(values: Any, vectors: Any, products: int, bounds: Any = None) -> Pairs:
    """Pairs by descending value, whatever order and array type they came in: vectors as rows (k, size)."""
    values, vectors = np.asarray(values, dtype=float), np.asarray(vectors)
    order = np.argsort(values)[::-1]
    return Pairs(values[order], vectors[order], None if bounds is None else np.asarray(bounds)[order], products)


def pooled(nodes: Any, weights: Any, curve: tuple[Any, Any] | None, products: int) -> Estimate:
    """Rules of several probes (probe, m) as one measure."""
    nodes, weights = np.asarray(nodes, dtype=float).ravel(), np.asarray(weights, dtype=float).ravel()
    keep = np.isfinite(nodes)
    nodes, weights = nodes[keep], weights[keep] / weights[keep].sum()
    drawn = None if curve is None else (np.asarray(curve[0], dtype=float), np.asarray(curve[1], dtype=float))
    return Estimate(nodes, weights, drawn, products)


def by_columns(column: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A product of one vector as a product of a block, one after the other."""
    return lambda block: torch.stack([column(v) for v in block.unbind(1)], dim=1)


def measure_distance(nodes: Array, weights: Array, exact: Array) -> float:
    """Wasserstein-1 distance of a discrete measure to the exact eigenvalues."""
    order = np.argsort(nodes)
    return _distance(nodes[order], np.cumsum(weights[order]), exact)


def curve_distance(curve: tuple[Array, Array], exact: Array) -> float:
    """Wasserstein-1 distance of a drawn density, piecewise linear and of mass one, to the exact eigenvalues."""
    grid, density = curve
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    places = np.union1d(grid, exact)
    ours = np.interp(places, grid, mass / mass[-1])
    theirs = np.searchsorted(exact, places[:-1], side="right") / len(exact)
    return float(np.sum(np.abs((ours[1:] + ours[:-1]) / 2 - theirs) * np.diff(places)))


def _distance(nodes: Array, steps: Array, exact: Array) -> float:
    places = np.sort(np.concatenate([nodes, exact]))
    ours = np.concatenate([[0.0], steps])[np.searchsorted(nodes, places[:-1], side="right")]
    theirs = np.searchsorted(exact, places[:-1], side="right") / len(exact)
    return float(np.sum(np.abs(ours - theirs) * np.diff(places)))


