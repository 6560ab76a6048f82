"""What ProxSGD's paper and group sparsity claim, trained here: the value, and whether it holds.

  landscape bench prox_sgd
  landscape bench prox_sgd --seeds 5 --markdown docs/benchmarks.md

Accuracies are of the held-out fifth of the digits. `<= 1e-6` is the share of all weights that small at the end; `zeros`
are exact, after `finalize_`. The objective is the training loss with the l1 norm of every weight.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.loss.problem import Problem

    from ._tables import Row, Table

MU = 5e-4  # of the l1 norm
CONSTANT = {"lr_decay": 0.0, "rho_decay": 0.0}
GROUPS = (0.0, 1e-3, 3e-3, 1e-2, 3e-2)  # mu of the group norm over neurons


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=3, help="trainings a row (default: 3)")
    parser.add_argument("--epochs", type=_common.positive, default=60, help="of every training (default: 60)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.seeds, args.epochs = 1, min(args.epochs, 8)
    yield Table("Special cases: largest difference to torch.optim over 200 steps, float64", {
        "ProxSGD as": "", "largest difference": ".1e", "at most": ".0e", "holds": "",
    }, _special_cases())  # fmt: skip
    yield Table("Proximal points of 100 random problems, float64", {
        "regularizer": "", "against": "", "value": ".1e", "at most": ".0e", "holds": "",
    }, _closed_forms(), "The excess is of the objective over the least on a grid of 20,001 points; the residual "
        "is of the conditions of optimality.")  # fmt: skip
    yield Table("Stochastic lasso, 400 x 50, batches of 4", {
        "schedule": "", "steps": ",d", "norm(v - grad f)": ".3f", "F - F*": ".1e", "nonzero": "d", "claim": "",
        "holds": "",
    }, _lasso(2_000 if args.quick else 40_000))  # fmt: skip
    trained: dict[str, list[dict[str, float]]] = {}
    yield Table(f"Sparse digits network 64-200-200-10, mu = {MU:g}, {args.epochs} epochs, mean of {args.seeds} seeds", {
        "method": "", "test accuracy": ".4f", "<= 1e-6": ".3f", "<= 1e-4": ".3f", "zeros": ".3f",
        "accuracy with zeros": ".4f", "objective": ".3f",
    }, _sparse(args, trained))  # fmt: skip
    yield Table("Claims about it", {"claim": "", "value": "", "holds": ""}, _claims(trained))
    yield Table(f"Neurons pruned from 64-200-200-10, mean of {args.seeds} seeds", {
        "mu": "g", "test accuracy": ".4f", "weights before": ",.0f", "after": ",.0f", "ratio": ".1f",
        "accuracy pruned": ".4f", "outputs change": ".0e",
    }, _pruned(args), "Pruned at 1e-4; the change of the outputs is relative, by cutting, in float64.")  # fmt: skip


# ---------------------------------------------------------------------- special cases


def _special_cases() -> Iterator[Row]:
    import torch

    from landscape.optimizers.prox_sgd import ProxSGD

    cases: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
        "SGD": ({"lr": 0.05, "rho": 1.0, "metric": "identity"}, lambda p: torch.optim.SGD(p, 0.05)),
        "heavy ball": ({"lr": 0.5, "rho": 0.1, "metric": "identity"}, lambda p: torch.optim.SGD(p, 0.05, 0.9)),
        "Adam": ({"lr": 0.01, "rho": 0.1, "correct_rate": True}, lambda p: torch.optim.Adam(p, 0.01)),
        "AMSGrad": ({"lr": 0.01, "rho": 0.1, "correct_rate": True, "metric": "amsgrad"},
                    lambda p: torch.optim.Adam(p, 0.01, amsgrad=True)),
        "RMSprop": ({"lr": 0.01, "rho": 1.0, "metric": "rmsprop", "beta": 0.99},
                    lambda p: torch.optim.RMSprop(p, 0.01)),
        "Adagrad": ({"lr": 0.1, "rho": 1.0, "metric": "adagrad", "delta": 1e-10},
                    lambda p: torch.optim.Adagrad(p, 0.1)),
    }  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    matrix, target = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((60, 12), (60,)))
    start = torch.randn(12, generator=generator, dtype=torch.float64)
    for name, (settings, theirs) in cases.items():
        weights = [torch.nn.Parameter(start.clone()) for _ in range(2)]
        optimizers = [ProxSGD([weights[0]], **CONSTANT | settings), theirs([weights[1]])]
        worst = 0.0
        for step in range(200):
            rows = torch.randint(60, (6,), generator=torch.Generator().manual_seed(step))
            for weight, optimizer in zip(weights, optimizers, strict=True):
                optimizer.zero_grad()
                (0.5 * (matrix[rows] @ weight - target[rows]).square().mean()).backward()
                optimizer.step()
            worst = max(worst, float((weights[0] - weights[1]).detach().abs().max()))
        yield name, worst, 1e-12, worst <= 1e-12


# ---------------------------------------------------------------------- the closed forms


def _closed_forms() -> Iterator[Row]:
    """Excess over a grid of what has one weight, residuals of groups, and how often a mean of tau says the same."""
    import torch

    from landscape import plugins

    def made(name: str, mu: float, **more: Any) -> Any:
        return plugins.load("landscape.regularizers", name).make(mu=mu, **more)

    generator = torch.Generator().manual_seed(0)
    b, u, v = (torch.rand(100, generator=generator, dtype=torch.float64) for _ in range(3))
    b, tau, mu, low, high = 6 * b - 3, 0.05 + 4 * u, 3 * v, -1.0, 1.5
    for name in ("l1", "l2", "l0", "none"):
        for box in ({}, {"low": low, "high": high}):
            strengths = (0 * mu if name == "none" else mu).tolist()
            worst = max(_excess(made(name, m, **box), name, m, x, t, box)
                        for x, t, m in zip(b, tau, strengths, strict=True))  # fmt: skip
            yield name + (" in a box" if box else ""), "excess over the grid", worst, 1e-5, worst <= 1e-5
    points = 3 * torch.randn(100, 7, generator=generator, dtype=torch.float64)
    metric = torch.randn(100, 7, generator=generator, dtype=torch.float64).exp()
    zeros = {}
    for kind, t in (("one tau", torch.tensor(1.7, dtype=torch.float64)), ("diagonal tau", metric)):
        (x,) = made("group", 5.0).prox([points], [t])
        residual = _group_residual(x, points, t.expand(points.shape), 5.0)
        yield f"group, {kind}", "residual", residual, 1e-10, residual <= 1e-10
        zeros[kind] = x.norm(dim=1) == 0
    (x,) = made("group", 5.0, mean_metric=True).prox([points], [metric])
    other = float(((x.norm(dim=1) == 0) != zeros["diagonal tau"]).double().mean())
    yield "group, mean of tau (reported)", "share of groups that differ in being zero", other, None, None


def _excess(regularizer: Any, name: str, mu: float, b: Tensor, tau: Tensor, box: dict[str, float]) -> float:
    """Objective of the proximal point over the least of a grid that holds 0."""
    import torch

    grid = torch.linspace(box.get("low", -4.0), box.get("high", 4.0), 20_000, dtype=torch.float64)
    grid = torch.cat([grid, torch.zeros(1, dtype=torch.float64)])

    def objective(x: Tensor) -> Tensor:
        r = {"none": 0 * x, "l1": mu * x.abs(), "l2": mu / 2 * x**2, "l0": mu * (x != 0)}[name]
        return r + tau / 2 * (x - b) ** 2

    (x,) = regularizer.prox([b[None]], [tau[None]])
    return float(objective(x)[0] - objective(grid).min())


def _group_residual(x: Tensor, b: Tensor, tau: Tensor, mu: float) -> float:
    """Of 0 = mu x / norm(x) + tau (x - b) where a group lives, and of norm(tau b) <= mu where it does not."""
    norms = x.norm(dim=1, keepdim=True)
    alive = norms[:, 0] > 0
    inside = ((tau * b).norm(dim=1) - mu)[~alive].clamp(min=0)
    slope = (mu * x / norms + tau * (x - b))[alive].abs()
    return max(float(slope.max()) if slope.numel() else 0.0, float(inside.max()) if inside.numel() else 0.0)


# ---------------------------------------------------------------------- the lasso


def _lasso(steps: int) -> Iterator[Row]:
    theorem: dict[str, Any] = {"lr": 2.0, "lr_decay": 0.9, "rho": 0.9, "rho_decay": 0.6}
    error, excess, nonzero = _solve(theorem, steps)
    yield ("theorem: eps 2/t^0.9, rho 0.9/t^0.6", steps, error, excess, nonzero, "<= 0.1, F - F* <= 1e-4",
           error <= 0.1 and excess <= 1e-4)  # fmt: skip
    error, excess, nonzero = _solve({"rho_decay": 0.0}, steps)
    yield "constant rho 0.9", steps, error, excess, nonzero, "norm(v - grad f) stays >= 0.5", error >= 0.5
    yield "the paper's defaults", steps, *_solve({}, steps), "", None


def _solve(settings: dict[str, Any], steps: int) -> tuple[float, float, int]:
    """(norm(v - grad f), F - F*, weights that are not dead) of a stochastic lasso with 8 true weights of 50."""
    import torch

    from landscape.optimizers.prox_sgd import ProxSGD

    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(400, 50, generator=generator, dtype=torch.float64)
    truth = torch.where(torch.arange(50) < 8, 1.0, 0.0).double()
    target = matrix @ truth + 0.5 * torch.randn(400, generator=generator, dtype=torch.float64)
    gram, moment, mu = matrix.T @ matrix / 400, matrix.T @ target / 400, 0.1

    def objective(x: Tensor) -> float:
        return float(0.5 * x @ gram @ x - moment @ x + mu * x.abs().sum())

    best, size = torch.zeros(50, dtype=torch.float64), 1 / float(torch.linalg.eigvalsh(gram)[-1])
    for _ in range(5000):
        moved = best - size * (gram @ best - moment)
        best = moved.sign() * (moved.abs() - size * mu).clamp(min=0)
    weight = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    optimizer = ProxSGD([weight], metric="identity", regularizer="l1", mu=mu, **settings)
    for rows in torch.randint(400, (steps, 4), generator=generator):
        part = matrix[rows]
        weight.grad = part.T @ (part @ weight.detach() - target[rows]) / 4
        optimizer.step()
    x = weight.detach().clone()
    error = float((optimizer.state[weight]["exp_avg"] - (gram @ x - moment)).norm())
    optimizer.finalize_(1e-3)
    return error, objective(x) - objective(best), int(weight.detach().count_nonzero())


# ---------------------------------------------------------------------- the digits


def _problem(seed: int) -> Problem:
    from landscape.loss.loading import build_problem

    return build_problem("digits_mlp", {"hidden": [200, 200], "activation": "relu", "seed": seed})


def _train(
    name: str, settings: dict[str, Any], seed: int, epochs: int, penalty: float = 0.0
) -> tuple[Problem, Any]:
    """A trained digits network; `penalty` puts an l1 norm into the loss of optimizers without a proximal step."""
    import torch

    from landscape.learning.training import MiniBatches, make_optimizer

    problem = _problem(seed)
    weights = list(problem.model.parameters())
    optimizer, batches = make_optimizer(name, problem.model, settings), MiniBatches(problem, 64, seed)
    for step in range(epochs * batches.an_epoch):
        optimizer.zero_grad()
        loss = problem.training_loss(batches.at(step)[0])
        if penalty:
            loss = loss + penalty * sum(w.abs().sum() for w in weights)
        torch.autograd.backward(loss)
        optimizer.step()
    return problem, optimizer


METHODS: tuple[tuple[str, str, dict[str, Any], float], ...] = (
    ("ProxSGD, eps 0.01, rho 0.1", "prox_sgd",
     {"lr": 0.01, "rho": 0.1, "regularizer": "l1", "mu": MU} | CONSTANT, 0.0),
    ("ProxSGD, eps 0.2122/t^0.598", "prox_sgd", {"lr": 0.2122, "lr_decay": 0.598, "regularizer": "l1", "mu": MU}, 0.0),
    ("ProxSGD, the paper's defaults", "prox_sgd", {"regularizer": "l1", "mu": MU}, 0.0),
    ("Adam, l1 in the loss", "adam", {"lr": 1e-3}, MU),
    ("AMSGrad, l1 in the loss", "adam", {"lr": 1e-3, "amsgrad": True}, MU),
    ("SGD 0.1, momentum 0.9, l1 in the loss", "sgd", {"lr": 0.1, "momentum": 0.9}, MU),
    ("Adam, no regularizer", "adam", {"lr": 1e-3}, 0.0),
    ("AdaBound, l1 in the loss", "adabound", {"lr": 1e-3}, MU),
)  # fmt: skip


def _sparse(args: argparse.Namespace, trained: dict[str, list[dict[str, float]]]) -> Iterator[Row]:
    for label, name, settings, penalty in METHODS:
        trained[label] = [_measured(*_train(name, settings, s, args.epochs, penalty)) for s in _seeds(args)]
        yield label, *(statistics.mean(row[key] for row in trained[label]) for key in trained[label][0])


def _measured(problem: Problem, optimizer: Any) -> dict[str, float]:
    weights = problem.weights()
    small = {f"<= {limit:g}": float((weights.abs() <= limit).double().mean()) for limit in (1e-6, 1e-4)}
    accuracy = problem.evaluate(weights, "test")["accuracy"]
    objective = problem.evaluate(weights)["loss"] + MU * float(weights.double().abs().sum())
    if hasattr(optimizer, "finalize_"):
        optimizer.finalize_()
    weights = problem.weights()
    return {"accuracy": accuracy, **small, "zeros": float((weights == 0).double().mean()),
            "with zeros": problem.evaluate(weights, "test")["accuracy"], "objective": objective}  # fmt: skip


def _claims(trained: dict[str, list[dict[str, float]]]) -> Iterator[Row]:
    def mean(method: int, key: str) -> float:
        return statistics.mean(row[key] for row in trained[METHODS[method][0]])

    sparse, lost = mean(0, "<= 1e-06"), mean(6, "accuracy") - mean(0, "accuracy")
    yield "ProxSGD sets >= 70 % of the weights to <= 1e-6", f"{sparse:.1%}", sparse >= 0.7
    yield "at an accuracy within 1.5 points of Adam without a regularizer", f"{100 * lost:+.2f} points", lost <= 0.015
    adam = mean(3, "<= 1e-06")
    yield "Adam with l1 in the loss has <= 5 % that small", f"{adam:.1%}", adam <= 0.05
    ours, theirs = mean(0, "objective"), mean(3, "objective")
    yield "ProxSGD ends at a lower objective than Adam with l1", f"{ours:.3f} < {theirs:.3f}", ours < theirs


def _pruned(args: argparse.Namespace) -> Iterator[Row]:
    from landscape.networks.pruning import prune

    for mu in GROUPS[:2] if args.quick else GROUPS:
        settings = {"lr": 0.015, "rho": 0.1, "regularizer": "group", "mu": mu, "mean_metric": True} | CONSTANT
        rows = []
        for seed in _seeds(args):
            problem, _ = _train("prox_sgd", settings, seed, args.epochs)
            found = prune(problem, 1e-4)
            dense, small = (p.evaluate(p.weights(), "test")["accuracy"] for p in (problem, found.problem))
            rows.append((dense, found.before, found.after, found.before / found.after, small, found.change))
        yield mu, *(statistics.mean(column) for column in zip(*rows, strict=True))


def _seeds(args: argparse.Namespace) -> range:
    return range(args.seed, args.seed + args.seeds)
