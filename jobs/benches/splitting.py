"""What splitting and signed splitting claim, measured here: the value, and whether it holds.

  landscape bench splitting
  landscape bench splitting --seeds 32 --markdown docs/benchmarks.md

The first tables are identities in float64; the last one trains a student of one Gaussian unit up to eight towards a
teacher of fifteen (problem `rbf_toy`), with a unit split after every stage.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.loss.problem import Problem

    from ._tables import Row, Table

UNITS = 8  # of the student at the end
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "splitting": ("splitting", {}),
    "random unit and direction": ("splitting", {"choose": "random"}),
    "signed splitting, two copies": ("signed_splitting", {"copies": 2, "c": 3.0}),
}
SAME = 0.01  # relative change of a loss that counts as the same minimum


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=6, help="toys, trainings a method (default: 6)")
    parser.add_argument("--iterations", type=_common.positive, default=2000, help="steps a stage (default: 2000)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.seeds, args.iterations = 1, min(args.iterations, 100)
    yield Table("Measured over predicted change of the loss, digits 64-6-6-10, tanh, float64, trained for 300 steps", {
        "method": "", "units split": "d", "eps": "g", "predicted": ".2e", "measured": ".2e", "ratio": ".4f",
        "claim": "", "holds": "",
    }, _law())  # fmt: skip
    yield Table("Smallest eigenvalue of the Hessian before and after a split at eps = 0, three Gaussian units", {
        "teacher": "d", "gradient": ".0e", "before": ".6f", "lambda_min(S) / 2": ".6f", "after, by Lanczos": ".6f",
        "relative difference": ".1e", "at most": ".0e", "holds": "",
    }, _added(1 if args.quick else 3))  # fmt: skip
    yield Table("Where splitting is stable: one tanh unit at minima with S > 0, c = 3", {
        "teacher": "d", "S": ".4f", "two halves": ".4f", "signed, two": ".4f", "signed, three": ".4f", "loss": ".5f",
        "after halves": ".5f", "after signed": ".5f", "holds": "",
    }, _stable(2 if args.quick else 5), "The change of the loss, times 2 / (eps^2 S), should be 1, -1/2 and -1 to 1 %. "
        "Trained on, the two halves should come back to the loss, and the two signed copies go below it.")  # fmt: skip
    losses: dict[str, list[list[float]]] = {}
    yield Table(f"Median loss of the student by units, {args.seeds} teachers, {args.iterations} steps a unit", {
        "method": "", **{str(n): ".5f" for n in range(1, UNITS + 1)},
    }, _toys(args, losses))  # fmt: skip
    yield Table("Claims about it", {"claim": "", "value": ".3g", "holds": ""}, _claims(losses))


# ---------------------------------------------------------------------- identities


def _law() -> Iterator[Row]:
    import torch

    from landscape.growing.extremes import lanczos
    from landscape.growing.growth import grow
    from landscape.growing.splits import candidates, signed, steepest
    from landscape.growing.splitting import Splitting
    from landscape.growing.units import layers_of
    from landscape.loss.loading import build_problem

    problem = build_problem("digits_mlp", {"hidden": [6, 6], "seed": 0}).to(dtype=torch.float64)
    _adam(problem, 300)
    layers = layers_of(problem).able
    splitting = Splitting(problem, layers)
    ends = lanczos(splitting.product, splitting.like(), 40)
    for name, rule in (("splitting", steepest), ("signed, 2 copies", signed(2, 3.0)), ("signed, 4", signed(4, 3.0))):
        every = candidates(ends, rule)
        for splits in (every[:1], every):
            for eps in (1e-2, 3e-3, 1e-3):
                _wider, found = grow(problem, layers, splits, eps)
                ratio = found.measured / found.predicted
                claim, holds = ("", None) if eps > 1e-3 else ("0.98 to 1.02", 0.98 <= ratio <= 1.02)
                yield name, len(splits), eps, found.predicted, found.measured, ratio, claim, holds


def _added(count: int) -> Iterator[Row]:
    import torch

    from landscape.growing.growth import grow
    from landscape.growing.splits import candidates, steepest
    from landscape.growing.splitting import Splitting, exact
    from landscape.growing.units import layers_of
    from landscape.loss.loading import build_problem

    for seed in range(40 * count):
        problem = build_problem("rbf_toy", {"hidden": 3, "data_seed": seed, "seed": seed}).to(dtype=torch.float64)
        gradient = _newton(problem)
        layers = layers_of(problem).able
        splits = candidates(exact(Splitting(problem, layers)), steepest)[:1]
        before = _lowest(problem)
        if gradient > 1e-7 or before < 0 or not splits:
            continue  # no minimum was found, or one where nothing gains
        wider, _growth = grow(problem, layers, splits, 0.0)
        wanted, after = splits[0].low / 2, _lowest(wider)
        difference = abs(after - wanted) / abs(wanted)
        yield seed, gradient, before, wanted, after, difference, 1e-5, difference <= 1e-5
        count -= 1
        if not count:
            return


def _stable(count: int) -> Iterator[Row]:
    import torch

    from landscape.growing.growth import grow
    from landscape.growing.splits import Split, signed, steepest
    from landscape.growing.splitting import Splitting, exact
    from landscape.growing.units import layers_of
    from landscape.loss.problem import Problem

    x = torch.linspace(-3, 3, 200, dtype=torch.float64)[:, None]
    for seed in range(50 * count):
        generator = torch.Generator().manual_seed(seed)
        inner, outer = (torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(2))
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Tanh(),
                                    torch.nn.Linear(1, 1, bias=False)).double()  # fmt: skip
        problem = Problem(model, torch.nn.functional.mse_loss, (x, torch.tanh(x * inner) @ outer[:, None]))
        gradient = _newton(problem)
        loss = problem.evaluate(problem.weights())["loss"]
        layers = layers_of(problem).able
        ends = exact(Splitting(problem, layers))["0"]
        own = float(ends.low[0])
        if gradient > 1e-8 or own < 1e-3 or loss < 1e-4 or _lowest(problem) < 0:
            continue
        found, trained = [], []
        for rule in (steepest, signed(2, 3.0), signed(4, 3.0)):
            weights, directions = rule(ends, 0)
            split = Split("0", 0, weights, directions, 0.0, own, own)
            found.append(grow(problem, layers, [split], 1e-3)[1].measured * 2e6 / own)
            wider, _growth = grow(problem, layers, [split], 1e-2)
            _newton(wider, 400)
            trained.append(wider.evaluate(wider.weights())["loss"])
        holds = all(abs(a - b) <= 0.01 for a, b in zip(found, (1, -0.5, -1), strict=True))
        holds = holds and abs(trained[0] - loss) <= SAME * loss and trained[1] < (1 - SAME) * loss
        yield seed, own, *found, loss, *trained[:2], holds
        count -= 1
        if not count:
            return


def _newton(problem: Problem, iterations: int = 200) -> float:
    """Descend to a minimum by Newton's steps with |eigenvalues| and a line search; the norm of the gradient there."""
    import torch

    weights, (batch,) = problem.weights(), problem.batches

    def loss(w: Tensor) -> Tensor:
        return problem.batch_loss(w, batch)

    for _ in range(iterations):
        gradient = torch.func.grad(loss)(weights)
        if gradient.norm() < 1e-12:
            break
        values, vectors = torch.linalg.eigh(torch.func.hessian(loss)(weights))
        step = vectors @ ((vectors.T @ gradient) / values.abs().clamp_min(1e-9))
        step = step * (1 / step.norm()).clamp(max=1)
        here = float(loss(weights))
        rates = [r for r in (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3) if float(loss(weights - r * step)) <= here]
        if not rates:
            break
        weights = weights - min(rates, key=lambda r: float(loss(weights - r * step))) * step
    torch.nn.utils.vector_to_parameters(weights, problem.model.parameters())
    return float(torch.func.grad(loss)(weights).norm())


def _adam(problem: Problem, steps: int) -> None:
    from landscape.learning.training import MiniBatches, make_optimizer, train_step

    optimizer, batches = make_optimizer("adam", problem.model, {"lr": 0.01}), MiniBatches(problem, 0, 0)
    for step in range(steps):
        train_step(problem, optimizer, batches.at(step))


def _lowest(problem: Problem) -> float:
    from landscape.distributed.parallel import Comm
    from landscape.engine.spectrum import eigenpairs_at

    pairs = eigenpairs_at(problem, problem.weights(), Comm(), top=0, bottom=1, tolerance=1e-9)
    return float(pairs.lowest_values[0])


# ---------------------------------------------------------------------- the toy


def _toys(args: argparse.Namespace, losses: dict[str, list[list[float]]]) -> Iterator[Row]:
    for name, (optimizer, settings) in METHODS.items():
        losses[name] = [_grown(optimizer, settings, seed, args.iterations) for seed in range(args.seeds)]
        yield name, *(statistics.median(values) for values in zip(*losses[name], strict=True))


def _grown(optimizer: str, settings: dict[str, Any], seed: int, iterations: int) -> list[float]:
    """The student's loss at the end of every stage."""
    from landscape.learning.training import make_optimizer
    from landscape.loss.loading import build_problem

    problem = build_problem("rbf_toy", {"data_seed": seed, "seed": seed})
    made: Any = make_optimizer(optimizer, problem.model, {
        "inner": "adam", "lr": 0.02, "schedule": "cosine", "every": iterations, "number": 1, "rounds": UNITS - 1,
        "eps": 0.01, "seed": seed, **settings,
    }, problem)  # fmt: skip
    (batch,), found = problem.batches, []

    def closure() -> Tensor:
        made.zero_grad()
        loss = problem.training_loss(batch)
        loss.backward()
        return loss

    for step in range(UNITS * iterations):
        made.step(closure)
        if (step + 1) % iterations == 0:
            found.append(problem.evaluate(problem.weights())["loss"])
    return found


def _claims(losses: dict[str, list[list[float]]]) -> Iterator[Row]:
    last = {name: statistics.median(values[-1] for values in runs) for name, runs in losses.items()}
    names = list(METHODS)
    ratio = last[names[0]] / last[names[1]]
    yield f"splitting / random split, median loss at {UNITS} units: at most 0.2", ratio, ratio <= 0.2
    ratio = last[names[2]] / last[names[0]]
    yield f"signed / splitting, median loss at {UNITS} units: at most 1", ratio, ratio <= 1
    better = sum(a[-1] < b[-1] for a, b in zip(losses[names[0]], losses[names[1]], strict=True))
    yield f"splitting below the random split, of {len(losses[names[0]])} toys: more than half", better, \
        2 * better > len(losses[names[0]])  # fmt: skip
