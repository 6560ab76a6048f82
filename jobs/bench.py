"""Measure this engine here: accuracy against a dense float64 Hessian, and speed as a ratio to one plain gradient.

  landscape bench density
  landscape bench coverage --seeds 100
  landscape bench hvp cnn --problem-set data=digits
  mpirun -n 2 landscape bench hvp digits_mlp

Every figure is printed beside its reference from the same run; timings are medians of CPU seconds of rank 0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from landscape.errors import ProblemError

from . import _common

DENSE_LIMIT = 4000  # weights: the dense float64 matrix takes 8 * size^2 bytes and its eigenvalues size^3 work


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("density", "coverage", "hvp"),
                        help="accuracy of densities, coverage of intervals, or speed of products")  # fmt: skip
    parser.add_argument("problem", nargs="?", default="digits_mlp", help="default: digits_mlp")
    _common.add_problem_settings(parser)
    parser.add_argument("--operator", default="hessian", help="of landscape/operators (default: hessian)")
    parser.add_argument("--steps", type=_common.natural, nargs="*", default=[0, 100, 1000],
                        help="Adam steps (lr 0.003, batches of 64) before measuring (default: 0 100 1000)")  # fmt: skip
    parser.add_argument("--repeats", type=_common.positive, default=11, help="timings a figure (default: 11)")
    parser.add_argument("--seeds", type=_common.positive, default=60, help="seeds of the coverage (default: 60)")
    _common.add_computing(parser, records=False)


def run(args: argparse.Namespace) -> int:
    import torch

    from landscape.loading import build_problem
    from landscape.parallel import world

    comm = world()
    torch.manual_seed(args.seed)
    with comm.together():
        problem = _common.as_asked(build_problem(args.problem, dict(args.problem_set)), args, comm)
    say = print if comm.rank == 0 else _silent
    say(f"{args.problem}: {problem.size:,} weights, {problem.samples:,} samples in {len(problem.batches)} batches, "
        f"{args.operator}, {comm.size} rank(s) of {torch.get_num_threads()} thread(s)")  # fmt: skip
    {"density": _density, "coverage": _coverage_tables, "hvp": _products}[args.what](args, problem, comm, say)
    return 0


# ---------------------------------------------------------------------- accuracy


def _density(args: argparse.Namespace, problem: Any, comm: Any, say: Callable[..., None]) -> None:
    import numpy as np
    import torch

    from landscape import quadrature
    from landscape.spectrum import spectrum_at

    _check_size(problem)
    say("| Adam steps | dtype | products | W1 / range | top-10: largest relative error | largest residual bound |")
    say("|---:|---|---:|---:|---:|---:|")
    done = 0
    for steps in sorted(args.steps):
        done = _descend(problem, done, steps, args.seed)
        exact = np.linalg.eigvalsh(_dense(problem, args.operator))
        for dtype in (torch.float32, torch.float64):
            here = problem.to(dtype=dtype)
            for iterations in (25, 50, 100):
                spectrum, pairs = spectrum_at(
                    here, here.weights(), comm, operator=args.operator, iterations=iterations, seed=args.seed
                )
                error = quadrature.wasserstein(spectrum, exact) / (exact[-1] - exact[0])
                off = np.abs(pairs.values / exact[::-1][: len(pairs.values)] - 1).max()
                say(f"| {steps} | {str(dtype)[6:]} | {4 * iterations} | {error:.1e} | {off:.1e} | "
                    f"{pairs.residuals.max():.1e} |")  # fmt: skip


def _check_size(problem: Any) -> None:
    if problem.size > DENSE_LIMIT:
        raise ProblemError(f"a dense reference takes at most {DENSE_LIMIT:,} weights; this problem has {problem.size:,}"
                           ". Choose a smaller one, e.g. --problem-set hidden=16")  # fmt: skip


PLANS = ((4, 25, 4), (4, 50, 4), (4, 50, 1), (8, 50, 4))  # probes, iterations, block


def _coverage_tables(args: argparse.Namespace, problem: Any, comm: Any, say: Callable[..., None]) -> None:
    """Coverage of every interval on the problem's own dense spectrum and on a synthetic one; rank 0 works."""
    import numpy as np

    from . import _coverage

    if comm.rank:
        return
    _check_size(problem)
    steps = sorted(args.steps)[-1] if args.steps else 0
    _descend(problem, 0, steps, args.seed)
    spectra = {
        f"{args.problem} after {steps} Adam steps": np.linalg.eigvalsh(_dense(problem, args.operator)),
        "synthetic, 3,000 eigenvalues": _coverage.synthetic(3000),
    }
    seeds = range(args.seed, args.seed + args.seeds)
    say(f"coverage of the 95 % intervals over {args.seeds} seeds, and mean half width: relative for trace and norm, "
        "as a share of all eigenvalues for shares")  # fmt: skip
    for name, exact in spectra.items():
        rows = [_coverage.measure(exact, seeds, probes=p, iterations=m, block=b) for p, m, b in PLANS]
        say(f"\n| {name} | " + " | ".join(f"{p} x {m}, block {b}" for p, m, b in PLANS) + " |")
        say("|---|" + "---:|" * len(PLANS))
        for what in rows[0]:
            say(f"| {what} | " + " | ".join(f"{row[what][0]:.2f}, ± {100 * row[what][1]:.2g} %" for row in rows) + " |")
        for products in (30, 60, 120):
            covered, half = _coverage.measure_hutchpp(exact, seeds, products)
            say(f"Hutch++, {products} products: {covered:.2f}, ± {100 * half:.2g} %")


def _descend(problem: Any, done: int, steps: int, seed: int) -> int:
    """Train on from `done` to `steps` Adam steps; the mini-batches are named by the seed and the step."""
    import torch

    inputs, labels = (torch.cat([b[i] for b in problem.batches]) for i in (0, 1))
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=3e-3)
    for step in range(done, steps):
        chosen = torch.randint(len(labels), (64,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad()
        problem.training_loss((inputs[chosen], labels[chosen])).backward()
        optimizer.step()
    return steps


def _dense(problem: Any, operator: str) -> Any:
    import torch

    from landscape.curvature import operator_at
    from landscape.parallel import Comm

    exact = problem.to(dtype=torch.float64)
    matrix = operator_at(exact, exact.weights(), Comm(), operator).matvec(torch.eye(exact.size, dtype=torch.float64))
    return ((matrix + matrix.T) / 2).numpy()


# ---------------------------------------------------------------------- speed


def _products(args: argparse.Namespace, problem: Any, comm: Any, say: Callable[..., None]) -> None:
    import torch

    from landscape.curvature import operator_at

    theta = problem.weights()
    curvature = operator_at(problem, theta, comm, args.operator)

    def gradient() -> None:
        for batch in comm.share(problem.batches):
            vector = theta.clone().requires_grad_(True)
            torch.autograd.grad(problem.batch_loss(vector, batch), vector)
        comm.barrier()

    unit = _median(gradient, args.repeats)
    say(f"one gradient over this rank's batches: {1e3 * unit:.2f} ms of CPU")
    say("| vectors a block | products, ms | gradients a product |")
    say("|---:|---:|---:|")
    for width in (1, 4, 10):
        block = torch.randn(curvature.part.stop - curvature.part.start, width, dtype=theta.dtype)
        spent = _median(lambda block=block: curvature.matvec(block), args.repeats)  # type: ignore[misc]
        say(f"| {width} | {1e3 * spent:.2f} | {spent / width / unit:.2f} |")


def _median(work: Callable[[], Any], repeats: int) -> float:
    work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return sorted(taken)[len(taken) // 2]


def _silent(*_: Any) -> None:
    pass
