"""Check a problem before a long job: what makes spectra wrong, speed, and how long a spectrum would take.

  landscape check digits_mlp
  landscape check my/problem.py:build weights.safetensors --problem-set hidden=64
  mpirun -n 4 landscape check digits_mlp

Nothing is written. A checkpoint is a .safetensors file, a state dict saved by torch.save, or a run's checkpoint folder.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from landscape.errors import ProblemError

from . import _common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problem", help="a shipped problem, module:function or file.py:function")
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="weights to check at (default: fresh ones)")
    _common.add_problem_settings(parser)
    parser.add_argument("--operator", default="hessian", help="of landscape/operators (default: hessian)")
    parser.add_argument("--plan", type=int, nargs=3, metavar=("CHECKPOINTS", "PROBES", "ITERATIONS"),
                        default=(20, 4, 50), help="what to estimate (default: 20 4 50)")  # fmt: skip
    _common.add_computing(parser, records=False)


def run(args: argparse.Namespace) -> int:
    import torch

    from landscape.distributed.parallel import world

    comm = world()
    torch.manual_seed(args.seed)
    problem, loaded = _open(args, comm)
    say = print if comm.rank == 0 else _silent
    say(f"model      {problem.name}, {problem.size:,} weights, {_dtype(problem)} on {problem.device}{_modes(problem)}")
    largest = max(problem.count(b) for b in problem.batches)
    say(f"data       {problem.samples:,} samples in {len(problem.batches)} batches of up to {largest}, order fixed"
        f"{_test(problem)}")  # fmt: skip
    _check_loss(problem, comm, loaded, say)
    products = _check_products(args, problem, comm, say)
    _plan(args, products, comm, say)
    return 0


def _open(args: argparse.Namespace, comm: Any) -> tuple[Any, str]:
    from landscape.loss.checkpoints import read_weights
    from landscape.loss.loading import build_problem

    with comm.together():
        problem = _common.as_asked(build_problem(args.problem, dict(args.problem_set)), args, comm)
        if args.checkpoint is None:
            return problem, "fresh weights"
        try:
            problem.load(read_weights(args.checkpoint))
        except ProblemError as error:
            raise ProblemError(f"{args.checkpoint}: {error}") from error
    return problem, str(args.checkpoint)


def _check_loss(problem: Any, comm: Any, where: str, say: Any) -> None:
    weights = problem.weights()
    with comm.together():
        first, again = (problem.evaluate(weights) for _ in range(2))
        if first["loss"] != again["loss"]:
            raise ProblemError(
                f"the same weights gave loss {first['loss']:.6g} and {again['loss']:.6g}: spectra would not be "
                "comparable. Usual causes: dropout called with training=True, random augmentation inside the model"
            )
        if first["loss"] != first["loss"]:
            raise ProblemError(f"the loss is nan at {where}; choose another checkpoint or look at the data")
    accuracy = f", accuracy {first['accuracy']:.4f}" if "accuracy" in first else ""
    say(f"loss       {first['loss']:.6g}{accuracy} at {where}, again {again['loss']:.6g} (same)  ok")


def _check_products(args: argparse.Namespace, problem: Any, comm: Any, say: Any) -> float:
    """The self-checks of the operator, one line each; returns products a second."""
    from landscape.distributed.progress import memory_bytes
    from landscape.engine.checks import self_check
    from landscape.engine.curvature import check_operator, operator_at
    from landscape.loss.fingerprint import fingerprint

    with comm.together():
        check_operator(args.operator)
    curvature = operator_at(problem, problem.weights(), comm, args.operator, seed=args.seed)
    for line in _table(self_check(curvature, args.seed), args.operator, fingerprint(problem), comm):
        say(line)
    started, blocks = time.perf_counter(), 0
    while blocks < 2 or (time.perf_counter() - started < 1.0 and blocks < 200 and comm.size == 1):
        curvature.matvec(_block(problem, curvature.part))
        blocks += 1
    rate = 4 * blocks / (time.perf_counter() - started)
    say(f"speed      {rate:.3g} products/s in blocks of 4 on {comm.size} rank{'s' * (comm.size > 1)}, "
        f"{memory_bytes() / 1e9:.2f} GB a rank")  # fmt: skip
    return rate


def _table(checked: Any, operator: str, digest: str, comm: Any) -> list[str]:
    """What was looked at and found; whatever is wrong was an error before."""
    ranks = "one rank" if comm.size == 1 else f"all {comm.size} ranks"
    repeats = "bit for bit" if checked.repeats else "up to rounding"
    quotient = (
        f"quotient   |Av - difference quotient| / |Av| = {checked.difference:.1e} in float64  ok"
        if checked.difference is not None else f"quotient   {next(iter(checked.warnings), 'none for this operator')}"
    )  # fmt: skip
    return [
        f"same       data {digest} and weights on {ranks}  ok",
        f"finite     the {operator} product on the first batch  ok",
        f"repeats    the same {operator} product twice, {repeats}  ok",
        "buffers    no product moves one  ok",
        "twice      every layer is differentiable twice  ok",
        f"linear     |A(u + 2v) - Au - 2Av| / |A(u + 2v)| = {checked.nonlinearity:.1e}  ok",
        f"symmetry   |u.Av - v.Au| / (|u| |Av|) = {checked.asymmetry:.1e}  ok",
        quotient,
    ]


def _block(problem: Any, part: slice) -> Any:
    import torch

    generator = torch.Generator().manual_seed(0)
    full = torch.randn(problem.size, 4, generator=generator, dtype=torch.float64)
    return full[part].to(problem.device, problem.dtype)


def _plan(args: argparse.Namespace, rate: float, comm: Any, say: Any) -> None:
    from landscape.distributed.progress import duration

    checkpoints, probes, iterations = args.plan
    products = checkpoints * probes * iterations
    ranks = f"{comm.size} rank{'s' * (comm.size > 1)}"
    say(f"plan       {checkpoints} checkpoints x {probes} probes x {iterations} iterations = {products:,} products; "
        f"about {duration(products / rate)} on {ranks}, and more for eigenpairs")  # fmt: skip


def _silent(text: str) -> None:
    """What ranks other than the first say."""


def _dtype(problem: Any) -> str:
    return str(problem.dtype).removeprefix("torch.")


def _modes(problem: Any) -> str:
    frozen = sum(getattr(m, "running_var", None) is not None for m in problem.model.modules())
    return f", evaluation mode ({frozen} BatchNorm layers frozen)" if frozen else ", evaluation mode"


def _test(problem: Any) -> str:
    return f"; {sum(problem.count(b) for b in problem.test_batches):,} test samples" if problem.has_test else ""
