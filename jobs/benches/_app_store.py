"""A store for the dashboard's budgets: many small runs, really trained, and one run of many checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from landscape import records
from landscape.stores.run_directory import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FEATURES, CLASSES = 5, 10
SIZE = FEATURES * CLASSES
OPTIMIZERS = ("sgd", "momentum", "adam", "rmsprop")


@dataclass(frozen=True)
class Training:
    """One softmax regression on the digits' leading principal components, with all data in every step."""

    optimizer: str
    lr: float
    seed: int
    steps: int
    every: int

    def run(self, x: Array, y: Array) -> Iterator[tuple[int, Array, float]]:
        """(step, weights, loss) of every step."""
        weights = np.random.default_rng(self.seed).normal(size=SIZE)
        first, second = np.zeros(SIZE), np.zeros(SIZE)
        for step in range(self.steps + 1):
            p = probabilities(weights, x)
            yield step, weights, float(-np.log(np.maximum((p * y).sum(axis=1), 1e-300)).mean())
            slope = (x.T @ (p - y) / len(x)).ravel()
            first, second = 0.9 * first + slope, 0.99 * second + 0.01 * slope**2
            scale = np.sqrt(second / (1 - 0.99 ** (step + 1))) + 1e-8
            adam = 0.1 * first / (1 - 0.9 ** (step + 1))
            moves = {"sgd": slope, "momentum": first, "adam": adam / scale, "rmsprop": slope / scale}
            weights = weights - self.lr * moves[self.optimizer]


def probabilities(weights: Array, x: Array) -> Array:
    logits = x @ weights.reshape(FEATURES, CLASSES)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def digits() -> tuple[Array, Array]:
    """(samples, FEATURES) of unit variance, and one-hot targets."""
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    centred = pixels - pixels.mean(axis=0)
    scores = centred @ np.linalg.svd(centred, full_matrices=False)[2][:FEATURES].T
    return scores / scores.std(axis=0), np.eye(CLASSES)[targets]


def hessian(weights: Array, x: Array) -> Array:
    """Mean over samples of (x x^T) kron (diag p - p p^T), in closed form."""
    p = probabilities(weights, x)
    outer = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)  # (samples, feature * feature)
    inner = (-p[:, :, None] * p[:, None, :]).reshape(len(x), -1)
    inner[:, :: CLASSES + 1] += p
    blocks = (outer.T @ inner / len(x)).reshape(FEATURES, FEATURES, CLASSES, CLASSES)
    return np.asarray(blocks.transpose(0, 2, 1, 3).reshape(SIZE, SIZE))


def spectrum(step: int, weights: Array, x: Array) -> tuple[records.Spectrum, records.Eigenpairs]:
    """Every eigenvalue as a node of its own, and both ends of the spectrum."""
    values = np.asarray(np.linalg.eigvalsh(hessian(weights, x)), dtype=np.float64)
    share, exact = np.full((1, SIZE), 1 / SIZE), np.zeros((1, SIZE))
    ends = records.Eigenpairs(
        step, "hessian", SIZE, values[::-1][:10].copy(), np.zeros(10), values[:2].copy(), np.zeros(2)
    )
    return records.Spectrum(step, "hessian", SIZE, values[None], share, share, exact), ends


def make(root: Path, runs: int, checkpoints: int) -> None:
    """`runs` runs of 20 steps in four folders, and the run `long` of so many checkpoints."""
    x, y = digits()
    rates = np.geomspace(0.01, 1.0, 25)
    for i in range(runs):
        optimizer = OPTIMIZERS[i % len(OPTIMIZERS)]
        training = Training(optimizer, float(rates[i // 4 % 25]), i // 100, 20, 20)
        write(root / optimizer / f"run-{i:04d}", training, x, y)
    write(root / "long", Training("sgd", 0.5, 0, checkpoints - 1, 1), x, y)


def write(place: Path, training: Training, x: Array, y: Array) -> None:
    info = records.RunInfo(
        name=place.name, problem="digits_softmax", problem_settings={"features": FEATURES},
        optimizer=training.optimizer, settings={"lr": training.lr}, every=training.every, size=SIZE,
        seed=training.seed, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    run, lines = Run.create(place, info), []
    for step, weights, loss in training.run(x, y):
        lines.append(json.dumps({"step": step, "loss": loss}))
        if step % training.every == 0:
            run.checkpoint_directory(step).mkdir(parents=True)
            for record in spectrum(step, weights, x) if step or training.every == 1 else ():
                run.write(record)
    (place / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
