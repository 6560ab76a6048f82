"""What group sparsity claims: operations and neurons that vanish, without loss and without a bilevel search.

  landscape bench gsparsity
  landscape bench gsparsity --seeds 5 --markdown docs/benchmarks.md

Searches are of `digits_cell` (25 operations on 5 edges of a cell that is there twice), accuracies of the held-out fifth
of the digits. Running means of normalised layers lag behind weights that shrink, so every accuracy but `as trained`
takes the statistics of all training samples at the network's own weights. `one per edge` keeps the largest operation
of every edge (`as it is`: with the searched network's statistics). `from scratch`: the derived network from new weights
in its final form.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from landscape.loss.problem import Problem
    from landscape.networks.derivation import Derived
    from landscape.records import Architecture

    from ._tables import Row, Table

RATE = 0.0125
SEARCH = {"regularizer": "group", "groups": "operations", "metric": "identity", "lr": RATE, "lr_decay": 0.0,
          "rho": 0.8, "rho_decay": 0.0}  # fmt: skip
NEURONS = {"regularizer": "group", "groups": "neurons", "mean_metric": True, "lr": 0.015, "lr_decay": 0.0, "rho": 0.1,
           "rho_decay": 0.0}  # fmt: skip
PENALTIES: tuple[tuple[str, float], ...] = (("div", 60.0), ("div", 10.0), ("none", 0.0))
STRENGTHS = (0.0, 1e-3, 3e-3, 1e-2)
WEIGHTLESS = ("none", "skip", "maxpool")
FREE = {"lr": 3e-3}  # Adam's, of every training without a penalty

Numbers = dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=3, help="trainings a row (default: 3)")
    parser.add_argument("--epochs", type=_common.positive, default=50, help="of every training (default: 50)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.seeds, args.epochs = 1, min(args.epochs, 3)
    found: dict[tuple[str, float], list[Numbers]] = {}
    seeds = f"mean of {args.seeds} seeds, {args.epochs} epochs"
    yield Table(f"Searches, {seeds}", {
        "weights": "", "mu": "g", "as trained": ".4f", "accuracy": ".4f", "operations pruned": ".1%",
        "accuracy pruned": ".4f", "one per edge": ".4f", "as it is": ".4f", "weights before": ",.0f", "after": ",.0f",
        "from scratch": ".4f",
    }, _searches(args, found),
        "weights: w_g = size^(-1/2) (div) or 1 (none). Pruned: norm at most 1e-5, all survivors kept.")  # fmt: skip
    neurons: dict[float, list[Numbers]] = {}
    yield Table(f"Neurons of 64-200-200-10, {seeds}", {
        "mu": "g", "accuracy": ".4f", "weights before": ",.0f", "after": ",.0f", "ratio": ".1f",
        "accuracy pruned": ".4f", "trained on": ".4f", "from scratch": ".4f", "largest change of a logit": ".0e",
        "by cutting, of the largest": ".0e",
    }, _neurons(args, neurons), "Pruned at 1e-4. Trained on: the pruned network, without the penalty.")  # fmt: skip
    yield Table("Claims", {"claim": "", "value": "", "holds": ""}, _claims(found, neurons))


# ---------------------------------------------------------------------- searches


def _searches(args: argparse.Namespace, found: dict[tuple[str, float], list[Numbers]]) -> Iterator[Row]:
    for weighting, mu in PENALTIES[::2] if args.quick else PENALTIES:
        rows = [_search(args, weighting, mu, seed) for seed in _seeds(args)]
        found[weighting, mu] = rows
        shown = ("trained", "accuracy", "pruned", "accuracy pruned", "one", "one as is", "before", "after", "scratch")
        yield weighting, mu, *(_mean(rows, name) for name in shown)


def _search(args: argparse.Namespace, weighting: str, mu: float, seed: int) -> Numbers:
    from landscape.networks.derivation import architecture

    problem, steps = _trained("digits_cell", {"seed": seed}, "prox_sgd",
                              {**SEARCH, "weighting": weighting, "mu": mu}, args.epochs, seed)  # fmt: skip
    record = architecture(problem, steps, 1e-5)
    derived = _derive(problem, record)
    one = _derive(problem, architecture(problem, steps, 1e-5, one_per_edge=True))
    weighty = sum(not k and o not in WEIGHTLESS for k, o in zip(record.kept, record.operations, strict=True))
    again, _ = _trained("digits_cell", {"seed": seed + 1000, "genotype": derived.genotype, "form": "final"}, "adam",
                        FREE, args.epochs, seed)  # fmt: skip
    return {
        "trained": _accuracy(problem), "accuracy": _accuracy(_with_own_statistics(problem)),
        "pruned": float((record.kept == 0).mean()), "accuracy pruned": _accuracy(_with_own_statistics(derived.problem)),
        "one": _accuracy(_with_own_statistics(one.problem)), "one as is": _accuracy(one.problem),
        "before": derived.before, "after": derived.after, "scratch": _accuracy(again), "change": derived.change,
        "with weights": weighty / len(record.kept), **_decay(record, steps),
    }  # fmt: skip


def _decay(record: Architecture, steps: int) -> Numbers:
    """Norms of the groups without weights of their own, beside sqrt(n) (1 - lr)^steps of n scales that began at 1."""
    chosen = [i for i, name in enumerate(record.operations) if name in WEIGHTLESS]
    sizes = record.sizes
    assert sizes is not None  # of a record that `derive` made
    wanted = [math.sqrt(sizes[i]) * (1 - RATE) ** steps for i in chosen]
    ratios = [float(record.norms[i]) / w for i, w in zip(chosen, wanted, strict=True)]
    return {"least ratio": min(ratios), "largest ratio": max(ratios)}


def _derive(problem: Problem, record: Architecture) -> Derived:
    from landscape.loss.loading import build_problem
    from landscape.networks.derivation import derive

    def build(changed: Mapping[str, Any]) -> Problem:
        return build_problem("digits_cell", {**changed})

    return derive(problem, record, build)


def _with_own_statistics(problem: Problem) -> Problem:
    """A copy whose normalisation has the mean and variance of its own training samples."""
    from landscape.loss.batch_statistics import recompute_statistics

    other = problem.with_model(copy.deepcopy(problem.model))
    recompute_statistics(other, other.weights())
    return other


# ---------------------------------------------------------------------- neurons


def _neurons(args: argparse.Namespace, found: dict[float, list[Numbers]]) -> Iterator[Row]:
    for mu in STRENGTHS[::3] if args.quick else STRENGTHS:
        rows = [_prune(args, mu, seed) for seed in _seeds(args)]
        found[mu] = rows
        yield mu, *(_mean(rows, name) for name in rows[0])


def _prune(args: argparse.Namespace, mu: float, seed: int) -> Numbers:
    import torch

    from landscape.networks.pruning import prune

    mlp: dict[str, Any] = {"hidden": [200, 200], "activation": "relu"}
    problem, _ = _trained("digits_mlp", {**mlp, "seed": seed}, "prox_sgd", {**NEURONS, "mu": mu}, args.epochs, seed)
    small = prune(problem, 1e-4)
    accuracy = _accuracy(small.problem)
    change = float((_logits(small.problem) - _logits(problem)).abs().max())
    widths = [m.out_features for m in small.problem.model.modules() if isinstance(m, torch.nn.Linear)][:-1]
    _train(small.problem, "adam", {"lr": 1e-3}, args.epochs, seed)
    fresh, _ = _trained("digits_mlp", {**mlp, "hidden": widths, "seed": seed + 1000}, "adam", {"lr": 1e-3},
                        args.epochs, seed)  # fmt: skip
    return {
        "accuracy": _accuracy(problem), "before": small.before, "after": small.after,
        "ratio": small.before / small.after, "accuracy pruned": accuracy, "trained on": _accuracy(small.problem),
        "scratch": _accuracy(fresh), "change": change, "cut": small.change,
    }  # fmt: skip


# ---------------------------------------------------------------------- claims


def _claims(searches: dict[tuple[str, float], list[Numbers]], neurons: dict[float, list[Numbers]]) -> Iterator[Row]:
    plain = searches["none", 0.0]
    sparse = [row for (_weighting, mu), rows in searches.items() if mu for row in rows]
    lost = max(row["accuracy"] - row["accuracy pruned"] for row in sparse)
    yield "Pruning a searched network at 1e-5 costs <= 0.2 points", f"{100 * lost:+.2f} points at most", lost <= 0.002
    pruned = min(row["pruned"] for row in sparse)
    yield "and removes >= 50 % of the operations", f"{pruned:.0%} at least", pruned >= 0.5
    yield "of which with weights of their own (reported)", f"{_mean(sparse, 'with weights'):.0%} of all", None
    cut = _mean(plain, "trained") - _mean(plain, "one as is")
    yield "Without the penalty one operation per edge costs >= 20 points", f"{100 * cut:+.1f} points", cut >= 0.2
    mended = _mean(plain, "accuracy") - _mean(plain, "one")
    yield "the same with statistics of its own (reported)", f"{100 * mended:+.1f} points", None
    again = _mean(sparse, "scratch") - _mean(plain, "scratch")
    yield ("The derived networks from scratch against all operations from scratch (reported)",
           f"{100 * again:+.2f} points", None)  # fmt: skip
    change = max(row["change"] for rows in searches.values() for row in rows)
    yield ("The derived network is the searched one without what was pruned, to 1e-8 in float64", f"{change:.0e}",
           change <= 1e-8)  # fmt: skip
    low, high = (f(row[k] for row in sparse) for f, k in ((min, "least ratio"), (max, "largest ratio")))
    yield ("Under div every operation without weights decays as sqrt(n) (1 - lr)^T, within 20 %: it dies whatever the "
           "data", f"{low:.3f} to {high:.3f} of it", 0.8 <= low <= high <= 1.2)  # fmt: skip
    base = _mean(neurons[0.0], "accuracy")
    fits = [(mu, _mean(rows, "ratio"), base - _mean(rows, "accuracy pruned")) for mu, rows in neurons.items()]
    good = [(ratio, loss, mu) for mu, ratio, loss in fits if loss <= 0.015]
    ratio, loss, mu = max(good)
    yield (">= 2 x fewer weights for <= 1.5 points by neurons",
           f"{ratio:.1f} x for {100 * loss:+.2f} points (mu {mu:g})", ratio >= 2)  # fmt: skip
    every = [row for rows in neurons.values() for row in rows]
    cut = max(row["cut"] for row in every)
    yield ("The cut network is the large one with its dead weights at zero, to 1e-4 of the largest logit", f"{cut:.0e}",
           cut <= 1e-4)  # fmt: skip
    logit = max(row["change"] for row in every)
    yield "and moves no logit of what was trained by more than (reported)", f"{logit:.0e}", None


# ---------------------------------------------------------------------- training


def _trained(
    name: str, settings: dict[str, Any], optimizer: str, choices: dict[str, Any], epochs: int, seed: int
) -> tuple[Problem, int]:
    from landscape.loss.loading import build_problem

    problem = build_problem(name, settings)
    return problem, _train(problem, optimizer, choices, epochs, seed)


def _train(problem: Problem, optimizer: str, choices: dict[str, Any], epochs: int, seed: int) -> int:
    """Train in place on batches of 64; the number of steps."""
    from landscape.learning.training import MiniBatches, make_optimizer, train_step

    made, batches = make_optimizer(optimizer, problem.model, choices), MiniBatches(problem, 64, seed)
    for step in range(epochs * batches.an_epoch):
        train_step(problem, made, batches.at(step))
    return epochs * batches.an_epoch


def _accuracy(problem: Problem) -> float:
    return problem.evaluate(problem.weights(), "test")["accuracy"]


def _logits(problem: Problem) -> Any:
    import torch

    return torch.cat([problem.outcome(problem.weights(), batch)[1].detach() for batch in problem.batches])


def _mean(rows: list[Numbers], name: str) -> float:
    return statistics.mean(row[name] for row in rows)


def _seeds(args: argparse.Namespace) -> range:
    return range(args.seed, args.seed + args.seeds)
