"""Solvers for the smallest eigenpairs of a layer's splitting matrices: time and error against dense ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ._tables import Row


def network(seed: int, steps: int, quick: bool) -> tuple[nn.Sequential, Tensor, Tensor, str]:
    """A trained pixels-64-10 tanh network, 2,000 images and what they are: Fashion-MNIST, or digits without it."""
    import torch
    from torch import nn

    from landscape.problems._data import FASHION_MNIST, digits, fashion_mnist

    try:
        if quick:
            raise FileNotFoundError
        (x, y), _ = fashion_mnist(FASHION_MNIST, 2000, 0)
        name = "Fashion-MNIST"
    except Exception as error:  # where the files are not installed
        from landscape.errors import ProblemError

        if not isinstance(error, (ProblemError, FileNotFoundError)):
            raise
        (x, y), _ = digits(0.2, 0)
        name = "digits"
    x = x.flatten(1).double()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.Tanh(), nn.Linear(64, 10)).double()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(steps):
        rows = torch.randint(len(x), (128,), generator=torch.Generator().manual_seed(seed * 1000 + step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model.eval(), x, y, name


def exact(model: nn.Sequential, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(units,) smallest eigenvalues, (units, inputs) their vectors, of S_i = mean g_i phi''(z_i) h h^T, tanh, dense."""
    import torch
    from torch import nn

    a = model[1](model[0](x)).detach().requires_grad_()
    loss = nn.functional.cross_entropy(model[2](a), y, reduction="sum")
    (g,) = torch.autograd.grad(loss, a)
    a = a.detach()
    bend = -2 * a * (1 - a.square()) * g / len(x)  # (n, units)
    h = torch.cat([x, torch.ones(len(x), 1).to(x)], dim=1)
    matrices = torch.stack([(h * bend[:, [i]]).T @ h for i in range(bend.shape[1])])
    values, vectors = torch.linalg.eigh(matrices)
    return values[:, 0], vectors[:, :, 0]


def solvers(seed: int, steps: int, quick: bool) -> Iterator[tuple[str, float, float, dict[str, float]]]:
    """(solver, seconds, seconds of the exact one, errors) on one trained network."""
    import torch
    from torch import nn

    from landscape.growing.extremes import lanczos
    from landscape.growing.rayleigh import rayleigh_descent
    from landscape.growing.splitting import Splitting
    from landscape.growing.units import layers_of
    from landscape.loss.problem import Problem

    model, x, y, _name = network(seed, steps, quick)
    generator = torch.Generator().manual_seed(seed)
    picks = [torch.randint(len(x), (min(256, len(x)),), generator=generator) for _ in range(4 if quick else 30)]

    def on(rows: Tensor) -> Problem:
        return Problem(model, nn.functional.cross_entropy, (x[rows], y[rows]))

    full = Problem(model, nn.functional.cross_entropy, (x, y), batch_size=len(x))
    layers = layers_of(full).need()

    (truth, _), base = _timed(lambda: exact(model, x, y))
    yield "dense: build, then eigh", base, base, {}
    asked: dict[str, Callable[[], Any]] = {
        f"Rayleigh descent, {10 * len(picks)} batches of 256, lr 1e-3":
            lambda: rayleigh_descent([Splitting(on(rows), layers) for rows in picks], seed=seed)["0"][0],
        f"Rayleigh descent, {10 * len(picks)} full batches, lr 1e-2":
            lambda: rayleigh_descent([Splitting(full, layers)] * len(picks), lr=1e-2, seed=seed)["0"][0],
        "Lanczos, 20 products":
            lambda: lanczos((splitting := Splitting(full, layers)).product, splitting.like(), 20, seed)["0"].low,
    }  # fmt: skip
    for name, ask in asked.items():
        found, seconds = _timed(ask)
        yield name, seconds, base, errors(found, truth)


def errors(found: Tensor, truth: Tensor) -> dict[str, float]:
    """Median and largest relative error, rank correlation, and the overlap of the lowest fifth."""
    from scipy.stats import spearmanr

    relative = ((found - truth) / truth).abs()
    fifth = max(1, len(truth) // 5)
    lowest = [set(t.argsort()[:fifth].tolist()) for t in (found, truth)]
    return {"median": float(relative.median()), "largest": float(relative.max()),
            "ranks": float(spearmanr(found.numpy(), truth.numpy()).statistic),
            "overlap": len(lowest[0] & lowest[1]) / fifth}  # fmt: skip


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """(result, CPU seconds)."""
    begun = time.process_time()
    return call(), time.process_time() - begun


def rows(found: dict[str, list[tuple[float, float, dict[str, float]]]]) -> Iterator[Row]:
    """Means over seeds."""
    import statistics

    for name, runs in found.items():
        seconds, base = statistics.mean(r[0] for r in runs), statistics.mean(r[1] for r in runs)
        kept = [r[2] for r in runs]
        means = [statistics.mean(e[key] for e in kept) if kept[0] else None for key in ("median", "ranks", "overlap")]
        worst = max(e["largest"] for e in kept) if kept[0] else None
        yield name, seconds, base / seconds, means[0], worst, means[1], means[2]
