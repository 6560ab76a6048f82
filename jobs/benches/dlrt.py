"""What low-rank training claims (DLRT, 2022): ranks that follow from a tolerance, accuracy, and cheaper steps.

  landscape bench dlrt
  landscape bench dlrt --parts digits times --seeds 5 --markdown docs/benchmarks.md

Networks are trained by plain SGD of rate 0.1, dense and in factors (digits: from the same
weights, Fashion-MNIST: from random factors); compression is
1 - sum r (m + n) / sum m n over all layers, the dense last one among them. Fashion-MNIST (784-500-500-500-500-10,
cosine schedule, batches of 256) is left out where it is not installed. `wrong factor` truncates with Vh Q^T[:, :r], as
two published programs do. Times are CPU seconds in units of the dense step and forward pass of the same run.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from landscape.loss.problem import Problem

    from ._tables import Row, Table

Numbers = dict[str, float]
DIGITS = (0.12, 0.2, 0.3)  # tau
FASHION = (0.15,)
PARTS = ("digits", "fashion", "times")
RANKS = (8, 16, 32, 64, 128)
WRONG = "wrong factor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=3, help="trainings a row of the digits (default: 3)")
    parser.add_argument("--epochs", type=_common.positive, default=15, help="of Fashion-MNIST (default: 15)")
    parser.add_argument("--images", type=_common.positive, default=60_000, help="of Fashion-MNIST (default: all)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="trainings and times (default: all)")
    parser.add_argument("--width", type=_common.positive, default=2048, help="of the timed network (default: 2048)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.seeds, args.epochs, args.images, args.width = 1, 1, 2000, 512
    yield Table("Identities of a step, float64: largest deviation", {
        "identity": "", "deviation": ".0e", "at most": ".0e", "holds": "",
    }, _identities())  # fmt: skip
    epochs = 4 if args.quick else 40
    found: dict[str, list[Numbers]] = {}
    columns = {"training": "", "test accuracy": ".3f", "least": ".3f", "compression": ".1%", "ranks": "",
               "changes": ".0f", "seconds / dense": ".2f"}  # fmt: skip
    fashion: dict[str, list[Numbers]] = {}
    times: dict[int, Numbers] = {}
    tables = {
        "digits": Table(f"Digits 64-200-200-200-10, {epochs} epochs, mean of {args.seeds} seeds", columns,
                        _digits(args, epochs, found)),
        "fashion": Table(f"Fashion-MNIST 784-500x4-10, {args.images:,} images, {args.epochs} epochs, one seed", columns,
                         _fashion(args, fashion)),
        "times": Table(f"784-{args.width}-{args.width}-10, batches of 256: time in units of the dense network's", {
            "rank": "d", "adaptive step": ".2f", "fixed step": ".2f", "forward": ".3f", "weights": ".3f",
        }, _times(args, times), _NOTE),
    }  # fmt: skip
    yield from (table for part, table in tables.items() if part in args.parts)
    yield Table("Claims", {"claim": "", "value": "", "holds": ""}, _claims(found, fashion, times))


_NOTE = "Adaptive: tau = 0 and a largest rank, so that the rank stays. Forward: of the factored network."


# ---------------------------------------------------------------------- identities


def _identities() -> Iterator[Row]:
    import torch

    from landscape.networks.lowrank import nearest, orthonormal, tangent_part, truncated

    generator = torch.Generator().manual_seed(0)
    w, gradient = (torch.randn(60, 40, generator=generator, dtype=torch.float64) for _ in range(2))
    old, rate = nearest(w, 8), 0.1
    u = orthonormal(old.left - rate * gradient @ old.v, old.u)
    v = orthonormal(old.right - rate * gradient.T @ old.u, old.v)
    core = old.core(u, v)

    def told(name: str, deviation: Any, most: float = 1e-13) -> Row:
        return name, float(deviation), most, float(deviation) <= most

    yield told("Uh Sh Vh^T = W", (u @ core @ v.T - old.matrix()).abs().max())
    yield told("span U in span Uh", (u @ (u.T @ old.u) - old.u).abs().max())
    projected = u @ (u.T @ gradient @ v) @ v.T
    stepped = u @ (core - rate * u.T @ gradient @ v) @ v.T
    yield told("What = W - lr Pu G Pv", (stepped - old.matrix() + rate * projected).abs().max())
    inside, through, whole = tangent_part(old, gradient).norm(), projected.norm(), gradient.norm()
    yield told("norm(P_T G) <= norm(Pu G Pv) <= norm(G)", max(inside - through, through - whole, 0.0))
    new = truncated(u, core, v, 0.3)
    tail = torch.linalg.svdvals(core)[new.rank :].norm()
    yield told("norm(W1 - What) = tail of sigma", (new.matrix() - u @ core @ v.T).norm() - tail)


# ---------------------------------------------------------------------- trainings


def _digits(args: argparse.Namespace, epochs: int, found: dict[str, list[Numbers]]) -> Iterator[Row]:
    from landscape.loss.loading import build_problem

    settings = {"hidden": [200, 200, 200], "activation": "relu"}
    for label, choices in _ways(DIGITS[:1] if args.quick else DIGITS, (0.12, 0.2)):
        found[label] = []
        for seed in range(args.seed, args.seed + args.seeds):
            problem = build_problem("digits_mlp", {**settings, "seed": seed})
            found[label].append(_train(problem, label, choices, epochs, 64, seed, cosine=False))
        yield _row(label, found)


def _fashion(args: argparse.Namespace, found: dict[str, list[Numbers]]) -> Iterator[Row]:
    for label, choices in _ways(FASHION, (0.15,), rank=100, start="random"):
        problem = _fashion_problem(args.images, args.seed)
        if problem is None:
            yield "Fashion-MNIST is not installed", *[None] * 6
            return
        found[label] = [_train(problem, label, choices, args.epochs, 256, args.seed, cosine=True)]
        yield _row(label, found)


def _ways(taus: tuple[float, ...], wrong: tuple[float, ...], **more: Any) -> list[tuple[str, dict[str, Any] | None]]:
    ways: list[tuple[str, dict[str, Any] | None]] = [("dense", None)]
    ways += [(f"tau {tau:g}", {"tau": tau, **more}) for tau in taus]
    return ways + [(f"tau {tau:g}, {WRONG}", {"tau": tau, **more}) for tau in wrong if tau in taus]


def _fashion_problem(images: int, seed: int) -> Problem | None:
    import torch
    from torch import nn

    from landscape.errors import ProblemError
    from landscape.loss.problem import Problem
    from landscape.problems._data import FASHION_MNIST, fashion_mnist

    try:
        train, test = fashion_mnist(FASHION_MNIST, images, 10_000)
    except ProblemError:
        return None
    torch.manual_seed(seed)
    hidden = [layer for _ in range(3) for layer in (nn.Linear(500, 500), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 500), nn.ReLU(), *hidden, nn.Linear(500, 10))
    return Problem(model, nn.functional.cross_entropy, train, batch_size=2000, test_data=test)


def _train(
    problem: Problem, label: str, choices: dict[str, Any] | None, epochs: int, batch: int, seed: int, *, cosine: bool
) -> Numbers:
    """Test accuracy, compression and CPU seconds of one training; of one that diverges, until then."""
    from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # documented, but not in torch's own list

    from landscape.learning.training import MiniBatches, make_optimizer, train_step

    from ._timing import timed

    optimizer = make_optimizer("sgd" if choices is None else "dlrt", problem.model, {"lr": 0.1, **(choices or {})})
    batches = MiniBatches(problem, batch, seed)
    steps = epochs * batches.an_epoch

    def train() -> tuple[int, bool]:
        """Changes of ranks, and whether it diverged."""
        changes = 0
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / steps)) if cosine else 0.1
            try:
                train_step(problem, optimizer, batches.at(step))
            except LinAlgError:  # no singular values of what is not finite: it has diverged
                return changes, True
            changes += len(getattr(optimizer, "events", ()))
            getattr(optimizer, "events", []).clear()
        return changes, False

    with _wrong_factor() if WRONG in label else nullcontext():
        (changes, diverged), seconds = timed(train)
    ranks = getattr(optimizer, "ranks", {})
    return {
        "accuracy": problem.evaluate(problem.weights(), "test")["accuracy"],
        "compression": _compression(problem, ranks), "seconds": seconds, "changes": changes,
        "diverged": diverged,
        **{f"rank {name}": rank for name, rank in ranks.items()},
    }  # fmt: skip


def _wrong_factor() -> AbstractContextManager[Any]:
    """Within the block truncation takes the columns of Q^T for singular vectors."""
    from unittest import mock

    import torch

    from landscape.networks.lowrank import Factors, rank_within
    from landscape.optimizers import dlrt

    def wrong(u: Any, core: Any, v: Any, tau: float, least: int, most: int) -> Factors:
        p, sigma, qt = torch.linalg.svd(core)
        rank = rank_within(sigma, tau, least, most)
        return Factors(u @ p[:, :rank], torch.diag(sigma[:rank]), v @ qt[:, :rank])

    return mock.patch.object(dlrt, "truncated", wrong)


def _compression(problem: Problem, ranks: dict[str, int]) -> float:
    from landscape.networks.factored import layers_of, matrix_of

    shapes = {name: tuple(matrix_of(layer).shape) for name, layer in layers_of(problem.model).items()}
    kept = sum(ranks[name] * (m + n) if name in ranks else m * n for name, (m, n) in shapes.items())
    return 1 - kept / sum(m * n for m, n in shapes.values())


def _row(label: str, found: dict[str, list[Numbers]]) -> Row:
    rows = found[label]
    ranks = [_mean(rows, name) for name in rows[0] if name.startswith("rank ")]
    return (label, _mean(rows, "accuracy"), min(r["accuracy"] for r in rows), _mean(rows, "compression"),
            " ".join(f"{rank:.0f}" for rank in ranks) + ", diverged" * any(r["diverged"] for r in rows),
            _mean(rows, "changes"), _mean(rows, "seconds") / _mean(found["dense"], "seconds"))  # fmt: skip


# ---------------------------------------------------------------------- times


def _times(args: argparse.Namespace, found: dict[int, Numbers]) -> Iterator[Row]:
    import torch
    from torch import nn

    from landscape.learning.training import make_optimizer, train_step
    from landscape.loss.problem import Problem
    from landscape.networks.factored import factorise

    from ._timing import interleaved

    generator = torch.Generator().manual_seed(args.seed)
    data = torch.randn(256, 784, generator=generator), torch.randint(10, (256,), generator=generator)

    def problem() -> Problem:
        torch.manual_seed(args.seed)
        model = nn.Sequential(nn.Linear(784, args.width), nn.ReLU(), nn.Linear(args.width, args.width), nn.ReLU(),
                              nn.Linear(args.width, 10))  # fmt: skip
        return Problem(model, nn.functional.cross_entropy, data)

    def works(name: str, settings: dict[str, Any]) -> tuple[Any, Any, float]:
        one = problem()
        optimizer = make_optimizer(name, one.model, {"lr": 1e-3, **settings})
        if hasattr(optimizer, "layers"):
            for layer in optimizer.layers:
                layer.most = layer.factors.rank  # the rank stays, all of the step's work is done
        small = factorise(one).problem
        small.model.eval()

        def forward() -> Any:
            with torch.no_grad():
                return small.model(data[0])

        return (lambda: train_step(one, optimizer, one.batches)), forward, small.size / one.size

    for rank in RANKS[1::2] if args.quick else RANKS:
        dense, dense_forward, _ = works("sgd", {})
        adaptive, forward, share = works("dlrt", {"rank": rank, "tau": 0.0})
        fixed, _, _ = works("dlrt", {"rank": rank, "adaptive": False})
        timed = interleaved({"dense": dense, "adaptive": adaptive, "fixed": fixed, "forward": forward,
                             "dense forward": dense_forward}, args.repeats)  # fmt: skip
        step = timed["dense"].median
        found[rank] = {"adaptive": timed["adaptive"].median / step, "fixed": timed["fixed"].median / step,
                       "forward": timed["forward"].median / timed["dense forward"].median}  # fmt: skip
        yield rank, *found[rank].values(), share


# ---------------------------------------------------------------------- claims


def _claims(
    digits: dict[str, list[Numbers]], fashion: dict[str, list[Numbers]], times: dict[int, Numbers]
) -> Iterator[Row]:  # fmt: skip
    if "tau 0.15" in fashion:
        lost = _mean(fashion["dense"], "accuracy") - _mean(fashion["tau 0.15"], "accuracy")
        kept = _mean(fashion["tau 0.15"], "compression")
        yield ("Fashion-MNIST, tau 0.15: within 2.5 points of dense at >= 80 % compression",
               f"{100 * lost:+.1f} points at {kept:.1%}", lost <= 0.025 and kept >= 0.8)  # fmt: skip
    for name, found, taus in (("Digits", digits, (0.12, 0.2)), ("Fashion-MNIST", fashion, (0.15,))):
        for tau in taus:
            if f"tau {tau:g}, {WRONG}" in found:
                gain = _mean(found[f"tau {tau:g}"], "accuracy") - _mean(found[f"tau {tau:g}, {WRONG}"], "accuracy")
                yield (f"{name}, tau {tau:g}: the right factor gains >= 3 points over the published programs'",
                       f"{100 * gain:+.1f} points", gain >= 0.03)  # fmt: skip
    if 32 in times:
        yield ("Rank 32, adaptive: a step >= 1.5 times faster than a dense one",
               f"{1 / times[32]['adaptive']:.2f} times", times[32]["adaptive"] <= 1 / 1.5)  # fmt: skip
        yield ("Rank 32: a forward pass >= 5 times faster", f"{1 / times[32]['forward']:.1f} times",
               times[32]["forward"] <= 0.2)  # fmt: skip
    if 128 in times:
        yield ("Rank 128, adaptive: a step slower than a dense one",
               f"{1 / times[128]['adaptive']:.2f} times the speed", times[128]["adaptive"] > 1)  # fmt: skip
    if times:
        yield ("The largest rank measured whose adaptive step is faster (reported)",
               f"{max((r for r, t in times.items() if t['adaptive'] < 1), default=0)}", None)  # fmt: skip


def _mean(rows: list[Numbers], name: str) -> float:
    return statistics.mean(row[name] for row in rows)
