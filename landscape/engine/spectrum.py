"""Spectral densities and extreme eigenpairs of an operator at checkpoints, from one block Lanczos run each.

The first `iterations` block products give the density (stochastic Lanczos quadrature: Ubaru, Chen & Saad 2017;
Ghorbani, Krishnan & Xiao 2019); the same Krylov space then grows, with thick restarts, until the wanted eigenpairs have
converged. Eigenpairs alone need far fewer products: `eigenpairs_at`, from a single start vector.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distributed.parallel import Comm
from ..distributed.planning import room
from ..errors import ProblemError, UsageError
from ..krylov import probes as probes_module
from ..loss.problem import Problem
from ..readings.rules import padded, reduced_weights
from ..records import Eigenpairs, Spectrum
from . import findings
from .checks import self_check, where_not_finite
from .combination import Operator
from .curvature import operator_at
from .products import Products
from .saving import Keeper
from .solving import Solving

Array = NDArray[np.float64]


class CheckpointLike(Protocol):
    """What a checkpoint must offer: its step, and putting its weights into a problem."""

    @property
    def step(self) -> int: ...

    def load_into(self, problem: Problem) -> None: ...


def spectra(
    problem: Problem,
    checkpoints: Iterable[CheckpointLike],
    comm: Comm,
    *,
    on_matvecs: Callable[[int, int], None] = lambda step, matvecs: None,
    keeper_at: Callable[[int], Keeper | None] = lambda step: None,
    **options: Any,
) -> Iterator[tuple[Spectrum, Eigenpairs]]:
    """Density and extreme eigenpairs at every checkpoint, yielded as each is finished; options of `spectrum_at`."""
    width, probes = options.get("block", 4), options.get("probes", 4)
    options.setdefault("products", Products(block=min(width, probes), expected=probes * options.get("iterations", 50)))
    noise: tuple[float, int] | None = None
    for number, checkpoint in enumerate(checkpoints):
        step = checkpoint.step
        with comm.together():
            checkpoint.load_into(problem)
        found = spectrum_at(
            problem, problem.weights(), comm, step=step, check=number == 0, noise=noise, checkpoint=checkpoint,
            on_matvecs=partial(on_matvecs, step), keeper=keeper_at(step), **options,
        )
        noise = noise or findings.noise_of(found[0], problem)
        yield found


def eigenpairs(
    problem: Problem,
    checkpoints: Iterable[CheckpointLike],
    comm: Comm,
    *,
    on_matvecs: Callable[[int, int], None] = lambda step, matvecs: None,
    keeper_at: Callable[[int], Keeper | None] = lambda step: None,
    **options: Any,
) -> Iterator[Eigenpairs]:
    """Extreme eigenpairs alone at every checkpoint; options of `eigenpairs_at`.

    Each search starts from the sum of the eigenvectors of the checkpoint before, which saves about three products; a
    random vector checks the result, so that nothing is missed by what the start does not contain.
    """
    options.setdefault("products", Products(block=1, expected=5 * options.get("top", 10)))
    noise: tuple[float, int] | None = None
    warm: Tensor | None = None
    size = problem.size
    for number, checkpoint in enumerate(checkpoints):
        step = checkpoint.step
        with comm.together():
            checkpoint.load_into(problem)
        warm, size = (warm if size == problem.size else None), problem.size  # a network that grew starts anew
        found, warm = _eigenpairs_at(
            problem, problem.weights(), comm, step=step, check=number == 0, noise=noise, checkpoint=checkpoint,
            on_matvecs=partial(on_matvecs, step), keeper=keeper_at(step), warm=warm, **options,
        )
        noise = noise or findings.noise_of(found, problem)
        yield found


def spectrum_at(
    problem: Problem,
    vector: Tensor,
    comm: Comm,
    *,
    operator: str | Operator = "hessian",
    probes: int = 4,
    iterations: int = 50,
    block: int = 4,
    top: int = 10,
    bottom: int = 2,
    seed: int = 0,
    tolerance: float | None = None,
    step: int = 0,
    checkpoint: Any = None,
    check: bool = True,
    noise: tuple[float, int] | None = None,
    products: Products | None = None,
    on_matvecs: Callable[[int], None] = lambda matvecs: None,  # called after every block product
    keeper: Keeper | None = None,
) -> tuple[Spectrum, Eigenpairs]:
    """Density and extreme eigenpairs of an operator at the weights `vector` (size,).

    Args:
        operator: a name in `landscape.operators`, a sum such as 'hessian - 0.5*gauss_newton', or an operator itself.
        checkpoint: where the vector comes from, for operators made of the optimizer's state.
        probes: random start vectors; they run `block` at a time through one block Lanczos recurrence.
        iterations: block products of each recurrence, so probes * iterations products give the density.
        top, bottom: eigenpairs wanted from the upper and the lower end.
        tolerance: residual of a converged pair relative to norm(A); default 1e-5 in float32, 1e-9 in float64.
        check: look for faults of the operator and measure the precision first, on one mini-batch (`checks.self_check`).
        noise: lambda_noise of an earlier checkpoint and its step, where measuring it again costs too much.
        products: chooses how products are computed; hand over the same one at all checkpoints of a job.
        keeper: saves the state inside the run, and gives it back to a job that was killed.

    Raises:
        UsageError: a number out of range.
        ProblemError: the product is not finite, not repeatable or not symmetric.
    """
    _check_numbers(probes=(probes, 1), iterations=(iterations, 1), block=(block, 1), top=(top, 0), bottom=(bottom, 0))
    started = time.perf_counter()
    products = products or Products(block=min(block, probes), expected=probes * iterations)
    curvature = _operator(problem, vector, comm, operator, checkpoint, seed, products)
    size = curvature.size
    block = min(block, probes, size)
    probes = min(probes, size) if size < block else probes
    if tolerance is None:
        tolerance = 1e-9 if vector.dtype == torch.float64 else 1e-5
    asked = {
        "probes": probes, "iterations": iterations, "block": block, "top": top, "bottom": bottom,
        "tolerance": tolerance, "samples": problem.samples, "step": step,
    }  # fmt: skip
    checked = self_check(curvature, seed, problem) if check else None
    keeper = keeper or Keeper(comm)
    run = Solving(curvature, seed, keeper, asked, on_matvecs, checked.matvecs if checked else 0)
    with _finite(curvature, step), keeper.running():
        done = len(run.rules) if run.pairs is not None else 0  # the pairs belong to the first block of probes
        for first in range(block * done, probes, block):
            indices = range(first, min(first + block, probes))
            draw = partial(probes_module.probes, indices, size, seed, curvature.part)
            run.begin(draw, room(iterations, len(indices), top + bottom, size))
            if len(run.rules) == first // block:
                run.rule(iterations)
            if first == 0:
                run.extremes(top, bottom, tolerance, iterations * block + 40 * (top + bottom) + 400)
            run.end()
    assert run.pairs is not None
    level = findings.noise(problem, vector, operator, seed, checkpoint, run, comm, check, noise, step)
    slope = findings.gradient(problem, curvature, run.pairs) if isinstance(operator, str) else {}
    meta = findings.numbers(problem, vector, comm, run, started, checked, products) | level | slope | {
        "probes": probes, "iterations": iterations, "block": block, "tolerance": tolerance,
    }  # fmt: skip
    nodes, starts, residuals = padded(run.rules)
    plain = [(n, np.square(s), r) for n, s, r in run.rules]
    reduced = padded([(n, reduced_weights((n, w, r), size), r) for n, w, r in plain])[1]
    spectrum = Spectrum(
        step, curvature.name, size, nodes, reduced, np.square(starts), residuals, dict(meta), starts=starts
    )
    return spectrum, findings.record(run.pairs, curvature, step, meta)


def eigenpairs_at(problem: Problem, vector: Tensor, comm: Comm, **options: Any) -> Eigenpairs:
    """Extreme eigenpairs of an operator at the weights `vector` (size,), without a density; see `_eigenpairs_at`."""
    return _eigenpairs_at(problem, vector, comm, **options)[0]


def _eigenpairs_at(
    problem: Problem,
    vector: Tensor,
    comm: Comm,
    *,
    operator: str | Operator = "hessian",
    top: int = 10,
    bottom: int = 0,
    seed: int = 0,
    tolerance: float = 1e-4,
    missed: float | None = None,
    step: int = 0,
    checkpoint: Any = None,
    check: bool = True,
    noise: tuple[float, int] | None = None,
    products: Products | None = None,
    on_matvecs: Callable[[int], None] = lambda matvecs: None,
    keeper: Keeper | None = None,
    warm: Tensor | None = None,
) -> tuple[Eigenpairs, Tensor]:
    """Eigenpairs, and this rank's rows of a start vector for the next checkpoint; arguments as of `spectrum_at`.

    Args:
        tolerance: residual of a converged pair relative to norm(A).
        missed: probability to miss a pair with which the search may end, by default 0.01; 1 leaves the check out, which
            saves some ten products and counts a multiple eigenvalue once.
        warm: this rank's rows (part,) of the start vector; random without.
    """
    _check_numbers(top=(top, 0), bottom=(bottom, 0), pairs=(top + bottom, 1))
    started = time.perf_counter()
    products = products or Products(block=1, expected=5 * top)
    curvature = _operator(problem, vector, comm, operator, checkpoint, seed, products)
    size = curvature.size
    asked = {"top": top, "bottom": bottom, "tolerance": tolerance, "samples": problem.samples, "step": step, "block": 1}
    asked |= {} if missed is None else {"missed": missed}
    checked = self_check(curvature, seed, problem) if check else None
    keeper = keeper or Keeper(comm)
    run = Solving(curvature, seed, keeper, asked, on_matvecs, checked.matvecs if checked else 0)

    def draw() -> Tensor:
        return probes_module.probes(range(1), size, seed, curvature.part) if warm is None else warm[:, None]

    with _finite(curvature, step), keeper.running():
        run.begin(draw, min(4 * (top + bottom) + 16, size + 2))
        run.extremes(top, bottom, tolerance, 40 * (top + bottom) + 400, missed)
        run.end()
    assert run.pairs is not None
    level = findings.noise(problem, vector, operator, seed, checkpoint, run, comm, check, noise, step)
    slope = findings.gradient(problem, curvature, run.pairs) if isinstance(operator, str) else {}
    meta = findings.numbers(problem, vector, comm, run, started, checked, products) | level | slope
    meta |= {"block": 1, "tolerance": tolerance}
    return findings.record(run.pairs, curvature, step, meta), run.pairs.vectors.sum(dim=0)


# ---------------------------------------------------------------------- steps of both


def _check_numbers(**numbers: tuple[int, int]) -> None:
    for name, (value, low) in numbers.items():
        if value < low:
            raise UsageError(f"{name} must be at least {low}, got {value}")


def _operator(
    problem: Problem, vector: Tensor, comm: Comm, operator: str | Operator, checkpoint: Any, seed: int,
    products: Products,
) -> Operator:  # fmt: skip
    if isinstance(operator, str):
        return operator_at(problem, vector, comm, operator, checkpoint=checkpoint, seed=seed, products=products)
    return operator


@contextlib.contextmanager
def _finite(curvature: Operator, step: int) -> Iterator[None]:
    try:
        yield
    except FloatingPointError as error:
        raise ProblemError(f"at step {step} {where_not_finite(curvature)}") from error
