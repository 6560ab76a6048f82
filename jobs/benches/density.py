"""Densities against exactly known spectra: error by products spent, and what they cost in gradients.

  landscape bench density
  landscape bench density --steps 0 145 1000 --sizes 10000 60000 --seeds 4

W1 / range is the Wasserstein-1 distance between the estimated and the true distribution of eigenvalues over the range
of the spectrum, the mean over seeds: of the distribution function (`landscape.readings.distribution`), and of the nodes
of the rules alone. `sampling alone` is what so many probes leave in the mean, were all their moments known: no number
of iterations gets below it but by resolving more eigenvalues. `plain 10 x 80` is what most tools do by default: ten
independent probes, 80 iterations each, plain Gauss weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from .. import _common

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from landscape.loss.problem import Problem
    from landscape.records import Spectrum

    from ._tables import Row, Table

    Array = NDArray[np.float64]
    Trained = tuple[int, Problem, Array]

OURS = ((4, 25), (4, 50), (4, 100), (8, 50))  # probes, iterations; one block
TAILS = {"": (-4.0, 1.5), ", lighter tail": (-5.0, 1.0)}  # mean and standard deviation of log |lambda|
PLAIN = (10, 80)  # probes, iterations
WHOLE = ((4, 50), (4, 25))  # what is timed from end to end: the default, and what is as exact as plain
TARGETS = {"digits_mlp": {100: 2.5e-4, 200: 8e-5, 400: 3e-5}, "synthetic": {200: 1.3e-5, 400: 5e-6}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=_common.natural, nargs="*", default=[145, 200, 1000],
                        help="Adam steps of the digits network before measuring (default: 145 200 1000)")  # fmt: skip
    parser.add_argument("--sizes", type=_common.positive, nargs="*", default=[10_000, 60_000],
                        help="sizes of the synthetic operator (default: 10000 60000)")  # fmt: skip
    parser.add_argument("--seeds", type=_common.positive, default=4,
                        help="seeds a row (default: 4; half as many from 50,000 weights on)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.steps, args.sizes, args.seeds = args.steps[:1], [2000], 1
    trained = list(_trained(args))
    columns = {
        "operator": "", "method": "", "products": "d", "W1 / range": ".1e", "target": ".1e", "of the nodes": ".1e",
        "sampling alone": ".1e",
    }  # fmt: skip
    note = (
        "Sampling alone: what so many random probes leave in the mean were the quadrature exact, by the known variance "
        "2 F (1 - F) / n a probe over the eigenvalues that have not converged; more iterations get below it only by "
        "making more of them converge. Of the nodes: without the distribution function between them."
    )
    yield Table("Distance to the true spectrum, float32", columns, _accuracy(trained, args), note)
    columns = {
        "operator": "", "precision": "", "products of the density": "d", "products in all": "d",
        "largest error / norm": ".1e", "target": ".0e", "largest residual bound / norm": ".1e", "bounds hold": "",
    }  # fmt: skip
    yield Table("The 20 largest eigenvalues against the dense float64 Hessian", columns, _top(trained, args))
    columns = {
        "problem": "", "samples": ",d", "gradient, ms": ".1f", "ours": "", "chosen": "", "choosing, s": ".2f",
        "density, s": ".2f", "choosing, gradients": ".0f", "self-check, gradients": ".0f", "density, gradients": ".0f",
        "plain, gradients": ".0f", "plain / density": ".1f", "plain / all": ".1f", "target": ".0f",
    }  # fmt: skip
    note = (
        "Ours: a job of one checkpoint, its Lanczos algebra included; the choice of strategy and the self-check are "
        "made once a job, and `all` has them within. Plain: 800 products that rebuild their graph, by the measured "
        "cost of one; its Lanczos algebra is not counted, nor for either what torch loads at a process's first "
        "product. Which is nearer to the truth is in the first table: 4 x 50 is the default, 4 x 25 already no farther "
        "than plain."
    )
    yield Table("A density from end to end", columns, _cost(args), note)


# ---------------------------------------------------------------------- accuracy


def _accuracy(trained: list[Trained], args: argparse.Namespace) -> Iterator[Row]:
    from . import _spectra

    for steps, problem, exact in trained:
        yield from _errors(f"digits_mlp after {steps} steps", problem, exact, args, TARGETS["digits_mlp"])
    for size in args.sizes:
        aims = TARGETS["synthetic"] if size >= 60_000 else {}
        for name, tail in list(TAILS.items())[: 1 if args.quick else None]:
            exact = _spectra.synthetic(size, few=10, tail=tail)
            yield from _errors(f"synthetic, {size:,}{name}", _spectra.diagonal_problem(exact), exact, args, aims)


def _trained(args: argparse.Namespace) -> Iterator[Trained]:
    """(Adam steps, digits network, its exact eigenvalues)."""
    import torch

    from . import _spectra, _subjects

    problem = _subjects.SUBJECTS["digits_mlp"].build("digits_mlp", quick=args.quick, seed=args.seed)
    done = 0
    for steps in sorted(args.steps):
        done = _subjects.descend(problem, done, steps, args.seed)
        yield steps, problem.to(dtype=torch.float32), _spectra.dense_eigenvalues(problem)


def _errors(
    name: str, problem: Problem, exact: Array, args: argparse.Namespace, aims: dict[int, float]
) -> Iterator[Row]:
    import numpy as np
    import torch

    from landscape.engine.products import Products

    from ._spectra import density, distances, plain

    here, (probes, iterations) = problem.to(dtype=torch.float32), PLAIN
    seeds = range(args.seed, args.seed + (args.seeds if problem.size < 50_000 else -(-args.seeds // 2)))
    products = Products("kept")  # no strategy changes an error beyond rounding

    def mean(one: Callable[[int], Spectrum]) -> Array:
        return np.asarray(np.mean([distances(one(seed), exact) for seed in seeds], axis=0))

    def ours(probes: int, iterations: int, seed: int) -> Spectrum:
        return density(here, seed, probes, iterations, probes, products)

    error = mean(lambda seed: plain(here, seed, probes, iterations, products))
    yield name, f"plain {probes} x {iterations}", probes * iterations, error[1], None, error[1], None  # nodes, no more
    for probes, iterations in OURS:
        error, count = mean(partial(ours, probes, iterations)), probes * iterations
        yield name, f"ours {probes} x {iterations}", count, error[0], aims.get(count), error[1], error[2]


def _top(trained: list[Trained], args: argparse.Namespace) -> Iterator[Row]:
    import numpy as np
    import torch

    from landscape.distributed.parallel import Comm
    from landscape.engine.spectrum import spectrum_at

    for steps, problem, exact in trained:
        norm = np.abs(exact).max()
        for dtype, aim in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
            here = problem.to(dtype=dtype)
            _, pairs = spectrum_at(here, here.weights(), Comm(), top=20, bottom=0, seed=args.seed, check=False)
            error = np.abs(pairs.values - exact[::-1][: len(pairs.values)])
            # A bound says how exact the product's eigenvalue is; rounding of the product itself comes on top.
            holds = bool((error <= pairs.residuals + 8 * torch.finfo(dtype).eps * norm).all())
            yield (
                f"digits_mlp after {steps} steps", str(dtype)[6:], 200, pairs.meta["matvecs"], error.max() / norm, aim,
                pairs.residuals.max() / norm, holds,
            )  # fmt: skip


# ---------------------------------------------------------------------- cost


def _cost(args: argparse.Namespace) -> Iterator[Row]:
    from . import _subjects

    for name in _subjects.SUBJECTS:
        problem = _subjects.built(name, args, one_batch=name != "digits_mlp")
        if isinstance(problem, str):
            yield (f"{name}: {problem}", *[None] * 13)
            continue
        for probes, iterations in WHOLE[: 1 if args.quick else None]:
            yield _cost_of(name, problem, probes, 5 if args.quick else iterations, args)


def _cost_of(name: str, problem: Problem, probes: int, iterations: int, args: argparse.Namespace) -> Row:
    import torch

    from landscape.distributed.parallel import Comm
    from landscape.engine.checks import self_check
    from landscape.engine.spectrum import spectrum_at

    from . import _choosing, _subjects, _timing

    theta = problem.weights()
    vector = torch.randn(problem.size, 1, generator=torch.Generator().manual_seed(args.seed)).to(theta)
    rebuilt = _subjects.recomputed(problem, theta)
    rebuilt(vector)  # torch loads what it needs
    chosen = _choosing.hessian(problem, theta, Comm(), block=4, expected=probes * iterations)
    chosen.operator.forget()
    checking = _timing.cpu_seconds(lambda: self_check(chosen.operator, args.seed))
    # The operator itself is handed over, so that the choice is made once and the density timed without it.
    spent = _timing.cpu_seconds(lambda: spectrum_at(
        problem, theta, Comm(), operator=chosen.operator, probes=probes, iterations=iterations, top=0, bottom=0,
        seed=args.seed, check=False,
    ))  # fmt: skip
    times = _timing.interleaved(
        {"gradient": partial(_subjects.gradient, problem, theta), "rebuilt": partial(rebuilt, vector)}, args.repeats
    )
    unit = times["gradient"].median
    peers = PLAIN[0] * PLAIN[1] * times["rebuilt"].median
    return (
        name, problem.samples, 1e3 * unit, f"{probes} x {iterations}", chosen.label, chosen.seconds, spent,
        chosen.seconds / unit, checking / unit, spent / unit, peers / unit, peers / spent,
        peers / (spent + chosen.seconds + checking), 5.0,
    )  # fmt: skip
