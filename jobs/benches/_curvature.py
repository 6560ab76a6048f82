"""Largest eigenvalue and trace of a trained network's Hessian, for benchmarks that compare many networks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from landscape.loss.problem import Problem

PRODUCTS = 60  # of the trace


def sharpness_and_trace(problem: Problem, seed: int = 0) -> tuple[float, float]:
    """(lambda_max, trace by Hutch++) at the problem's own weights."""
    from landscape.distributed.parallel import Comm
    from landscape.engine.curvature import operator_at
    from landscape.engine.spectrum import eigenpairs_at
    from landscape.engine.traces import hutchpp
    from landscape.krylov.probes import probes

    theta, comm = problem.weights(), Comm()
    pairs = eigenpairs_at(problem, theta, comm, top=1, tolerance=1e-2, seed=seed, check=False)
    curvature = operator_at(problem, theta, comm, "hessian", seed=seed)
    draw = partial(probes, size=problem.size, seed=seed, part=curvature.part)
    found = hutchpp(curvature.matvec, lambda numbers: draw(numbers).to(theta), problem.size,
                    min(PRODUCTS, problem.size // 3 * 3), curvature.reduce)  # fmt: skip
    return float(pairs.values.max()), float(found.value)
