"""A real run that numpy makes in a moment: softmax regression on the digits, with its Hessian in closed form."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from landscape import records
from landscape.stores.run_directory import Run

Array = NDArray[np.float64]
FEATURES, CLASSES = 5, 10
SIZE = FEATURES * CLASSES
RATE, EVERY, LAST = 0.5, 10, 60


@lru_cache
def digits() -> tuple[Array, Array]:
    """Leading principal components of the digits (samples, FEATURES) of unit variance, and one-hot targets."""
    pixels, targets = load_digits(return_X_y=True)
    centred = pixels - pixels.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    scores = centred @ axes[:FEATURES].T
    return scores / scores.std(axis=0), np.eye(CLASSES)[targets]


def probabilities(weights: Array, x: Array) -> Array:
    logits = x @ weights.reshape(FEATURES, CLASSES)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def loss(weights: Array) -> float:
    x, y = digits()
    return float(-np.log((probabilities(weights, x) * y).sum(axis=1)).mean())


def gradient(weights: Array) -> Array:
    x, y = digits()
    return np.asarray((x.T @ (probabilities(weights, x) - y) / len(x)).ravel())


def hessian(weights: Array, rows: slice = slice(None)) -> Array:
    """Mean over samples of (x x^T) kron (diag p - p p^T)."""
    x = digits()[0][rows]
    p = probabilities(weights, x)
    inner = np.einsum("ni,ij->nij", p, np.eye(CLASSES)) - p[:, :, None] * p[:, None, :]  # (samples, class, class)
    sums = np.einsum("na,nb,nij->aibj", x, x, inner, optimize=True).reshape(SIZE, SIZE)
    return np.asarray(sums / len(x))


@lru_cache
def trained() -> tuple[tuple[int, ...], Array, tuple[float, ...]]:
    """Checkpoint steps, their weights (checkpoint, size) and the loss of every step: gradient descent on all data."""
    weights = np.random.default_rng(0).normal(size=SIZE)
    kept, losses = [], []
    for step in range(LAST + 1):
        losses.append(loss(weights))
        if step % EVERY == 0:
            kept.append(weights)
        weights = weights - RATE * gradient(weights)
    return tuple(range(0, LAST + 1, EVERY)), np.stack(kept), tuple(losses)


def spectrum(step: int, weights: Array) -> tuple[records.Spectrum, records.Eigenpairs]:
    """The exact spectrum as a rule with one node an eigenvalue, and its ends."""
    values, vectors = np.linalg.eigh(hessian(weights))
    weight = np.full((1, SIZE), 1 / SIZE)
    exact = np.zeros((1, SIZE))
    return (
        records.Spectrum(step, "hessian", SIZE, values[None], weight, weight, exact),
        records.Eigenpairs(step, "hessian", SIZE, values[::-1][:4].copy(), np.zeros(4), values[:2].copy(), np.zeros(2),
                           vectors=vectors.T[[-1, -2, -3, -4, 0, 1]].copy()),
    )  # fmt: skip


def parts(step: int, weights: Array, count: int = 16) -> records.Halves:
    """Rayleigh quotients of the eigenvectors on disjoint parts of the samples, as `--error-bars` makes them."""
    pairs = spectrum(step, weights)[1]
    assert pairs.vectors is not None
    matrices = [hessian(weights, slice(k, None, count)) for k in range(count)]
    found = np.array([[v @ matrix @ v for v in pairs.vectors] for matrix in matrices])  # (part, pair)
    top, samples = len(pairs.values), np.array([len(digits()[0][k::count]) for k in range(count)])
    return records.Halves(
        step, "hessian", SIZE, part_samples=samples, quotients=found[:, :top], lowest_quotients=found[:, top:]
    )


def plane(points: int = 15) -> tuple[records.Surface, records.Trajectory]:
    """Surface and trajectory on the plane of the path's two principal components."""
    steps, path, losses = trained()
    away = path - path[-1]
    _, scale, axes = np.linalg.svd(away - away.mean(axis=0), full_matrices=False)
    axes = axes[:2]
    at = away @ axes.T  # (checkpoint, 2)
    u, v = (np.linspace(c.min() - 0.3 * np.ptp(c), c.max() + 0.3 * np.ptp(c), points) for c in at.T)

    def on_plane(a: float, b: float) -> float:
        return loss(path[-1] + a * axes[0] + b * axes[1])

    slopes = np.stack([gradient(w) for w in path])  # (checkpoint, size)
    explained = (scale**2 / (scale**2).sum())[:2].tolist()
    model = {"gradient": (axes @ gradient(path[-1])).tolist(), "hessian": (axes @ hessian(path[-1]) @ axes.T).tolist(),
             "asymmetry": 0.0}  # fmt: skip
    surface = records.Surface(
        LAST, "pca", ["PC 1", "PC 2"], u, v, np.array([[on_plane(a, b) for a in u] for b in v]),
        meta={"explained_variance": explained, "random_walk": [0.7, 0.15], "dtype": "float64",
              "centre_loss": loss(path[-1]), "quadratic": model},
    )  # fmt: skip
    trajectory = records.Trajectory(
        LAST, "pca", np.array(steps), at[:, 0], at[:, 1], np.linalg.norm(away - at @ axes, axis=1),
        np.linalg.norm(away, axis=1), np.array([losses[s] for s in steps]), np.array([on_plane(*c) for c in at]),
        moved=np.linalg.norm(np.diff(path, axis=0, prepend=np.nan), axis=1),
        gradient_u=slopes @ axes[0], gradient_v=slopes @ axes[1], gradient_norm=np.linalg.norm(slopes, axis=1),
    )  # fmt: skip
    return surface, trajectory


def volume(points: int = 7) -> records.Volume:
    """The loss on the path's three principal components, evaluated exactly."""
    steps, path, losses = trained()
    away = path - path[-1]
    axes = np.linalg.svd(away - away.mean(axis=0), full_matrices=False)[2][:3]
    at = away @ axes.T  # (checkpoint, 3)
    u, v, w = (np.linspace(c.min() - 0.3 * np.ptp(c), c.max() + 0.3 * np.ptp(c), points) for c in at.T)

    def inside(*place: float) -> float:
        return loss(path[-1] + np.array(place) @ axes)

    return records.Volume(
        LAST, "pca", [f"principal component {i}" for i in (1, 2, 3)], u, v, w,
        np.array([[[inside(a, b, c) for a in u] for b in v] for c in w]), np.array(steps), at,
        np.linalg.norm(away - at @ axes, axis=1), np.linalg.norm(away, axis=1), np.array([losses[s] for s in steps]),
        np.array([inside(*place) for place in at]), meta={"in_volume_share": 0.99, "centre_loss": losses[LAST]},
    )  # fmt: skip


def info(name: str = "softmax") -> records.RunInfo:
    return records.RunInfo(
        name=name, problem="softmax_run:build", problem_settings={}, optimizer="SGD",
        settings={"lr": RATE, "momentum": 0, "nesterov": False}, every=EVERY, size=SIZE, seed=0,
        created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def bare_run(root: Path) -> Run:
    """A run with its metrics but without a record."""
    run = Run.create(root, info(root.name))
    rows = (json.dumps({"step": step, "loss": value}) for step, value in enumerate(trained()[2]))
    (root / "metrics.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return run


def full_run(root: Path) -> Run:
    """A run with spectra, eigenpairs, a PCA surface and its trajectory."""
    run = bare_run(root)
    steps, path, _ = trained()
    for step, weights in zip(steps, path, strict=True):
        for record in (*spectrum(step, weights), *(plane() if step == LAST else ())):
            run.write(record)
    return run
