"""Binary networks by ProxSGD: what the penalty gives once every weight is replaced by its sign, trained here.

  landscape bench binary
  landscape bench binary --seeds 5 --markdown docs/benchmarks.md

Digits, 64-200-200-10 with tanh. Accuracies are of the held-out fifth; `after sign` is with every weight and bias -1 or
+1. Rows differ in the strength mu of the penalty, its indicators' start and the rate.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from ._tables import Row, Table

CONSTANT = {"lr": 0.01, "lr_decay": 0.0, "rho": 0.1, "rho_decay": 0.0}
PLAIN, PAPER = "mu = 0, the box alone", "mu = 2.5e-4"
SETTINGS: dict[str, dict[str, Any]] = {
    PLAIN: {"mu": 0.0},
    PAPER: {},
    "mu = 2.5e-4, a starts at 1/2": {"start": 0.5},
    "mu = 2.5e-4, eps 0.01, rho 0.1": CONSTANT,
    "mu = 2.5e-3": {"mu": 2.5e-3},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=3, help="trainings a row (default: 3)")
    parser.add_argument("--epochs", type=_common.positive, default=60, help="of every training (default: 60)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.seeds, args.epochs = 1, min(args.epochs, 5)
    found: dict[str, list[tuple[float, float, float]]] = {}
    yield Table(f"Binary digits network 64-200-200-10, tanh, {args.epochs} epochs, mean of {args.seeds} seeds ± half "
                "of the 95 % interval", {
        "penalty": "", "test accuracy": "", "weights beyond 0.9": "", "after sign": "",
    }, _rows(args, found))  # fmt: skip
    yield Table("Claims about it", {"claim": "", "value": "", "holds": ""}, _claims(found))


def _rows(args: argparse.Namespace, found: dict[str, list[tuple[float, float, float]]]) -> Iterator[Row]:
    from landscape.readings.comparison import mean

    for label, settings in SETTINGS.items():
        seeds = range(args.seed, args.seed + args.seeds)
        found[label] = [_trained(settings, seed, args.epochs) for seed in seeds]
        means = [mean(column) for column in zip(*found[label], strict=True)]
        yield label, *(f"{m.value:.4f}" + (f" ± {m.half:.2g}" if args.seeds > 1 else "") for m in means)


def _trained(settings: dict[str, Any], seed: int, epochs: int) -> tuple[float, float, float]:
    """Test accuracy, share of the weights beyond 0.9, and test accuracy after sign()."""
    from landscape.learning.training import MiniBatches, make_optimizer, train_step
    from landscape.loss.loading import build_problem
    from landscape.optimizers.binary_prox_sgd import BinaryProxSGD

    problem = build_problem("digits_mlp", {"hidden": [200, 200], "activation": "tanh", "seed": seed})
    optimizer, batches = make_optimizer("binary_prox_sgd", problem.model, settings), MiniBatches(problem, 64, seed)
    for step in range(epochs * batches.an_epoch):
        train_step(problem, optimizer, batches.at(step))
    weights = problem.weights()
    dense = problem.evaluate(weights, "test")["accuracy"]
    assert isinstance(optimizer, BinaryProxSGD)
    optimizer.finalize_()
    signs = problem.evaluate(problem.weights(), "test")["accuracy"]
    return dense, float((weights.abs() > 0.9).double().mean()), signs


def _claims(found: dict[str, list[tuple[float, float, float]]]) -> Iterator[Row]:
    from landscape.readings.comparison import mean

    gains = [paper[2] - plain[2] for paper, plain in zip(found[PAPER], found[PLAIN], strict=True)]
    gain = mean(gains)
    spread = f" ± {100 * gain.half:.2g}" if gain.count > 1 else ""
    yield ("after sign(), mu = 2.5e-4 is at least as accurate as mu = 0", f"{100 * gain.value:+.2f}{spread} points",
           gain.value >= 0)  # fmt: skip
    lost = mean(plain[0] - paper[0] for paper, plain in zip(found[PAPER], found[PLAIN], strict=True))
    yield ("and before it costs at most 2 points", f"{100 * lost.value:+.2f} points", lost.value <= 0.02)
