"""Spectral densities and extreme eigenpairs of an operator at checkpoints, from one block Lanczos run each.

The first `iterations` block products give the density (stochastic Lanczos quadrature: Ubaru, Chen & Saad 2017;
Ghorbani, Krishnan & Xiao 2019); the same Krylov space then grows, with thick restarts, until the wanted eigenpairs have
converged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import probes as probes_module
from .checks import noise_level, self_check
from .combination import Operator
from .curvature import operator_at
from .errors import ProblemError, UsageError
from .lanczos import BlockLanczos, Extremes, extremes
from .parallel import Comm
from .problem import Problem
from .records import Eigenpairs, Spectrum
from .rules import padded, reduced_weights

Array = NDArray[np.float64]
Rule = tuple[Array, Array, Array]  # nodes (m,), signed components of the probes (b, m), residuals (m,)


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
    **options: Any,
) -> Iterator[tuple[Spectrum, Eigenpairs]]:
    """Density and extreme eigenpairs at every checkpoint, yielded as each is finished; options of `spectrum_at`."""
    noise: float | None = None
    for number, checkpoint in enumerate(checkpoints):
        step = checkpoint.step
        with comm.together():
            checkpoint.load_into(problem)
        found = spectrum_at(
            problem, problem.weights(), comm, step=step, check=number == 0, noise=noise, checkpoint=checkpoint,
            on_matvecs=partial(on_matvecs, step), **options,
        )
        if problem.dtype != torch.float64:
            noise = found[0].meta["lambda_noise"]
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
    noise: float | None = None,
    on_matvecs: Callable[[int], None] = lambda matvecs: None,  # called after every block product
) -> tuple[Spectrum, Eigenpairs]:
    """Density and extreme eigenpairs of an operator at the weights `vector` (size,).

    Args:
        operator: a name in `landscape.operators`, a sum such as 'hessian - 0.5*gauss_newton', or an operator itself.
        checkpoint: where the vector comes from, for operators made of the optimizer's state.
        probes: random start vectors; they run `block` at a time through one block Lanczos recurrence.
        iterations: block products of each recurrence, so probes * iterations products give the density.
        top, bottom: eigenpairs wanted from the upper and the lower end.
        tolerance: residual of a converged pair relative to norm(A); default 1e-5 in float32, 1e-9 in float64.
        check: test symmetry and repeatability and measure the precision first (two block products and one).
        noise: lambda_noise of an earlier checkpoint, for the record.

    Raises:
        UsageError: a number out of range.
        ProblemError: the product is not finite, not repeatable or not symmetric.
    """
    for name, value, low in (("probes", probes, 1), ("iterations", iterations, 1), ("block", block, 1),
                             ("top", top, 0), ("bottom", bottom, 0)):
        if value < low:
            raise UsageError(f"{name} must be at least {low}, got {value}")
    started = time.perf_counter()
    curvature = (
        operator_at(problem, vector, comm, operator, checkpoint=checkpoint, seed=seed)
        if isinstance(operator, str) else operator
    )  # fmt: skip
    size, name = curvature.size, curvature.name
    block = min(block, probes, size)
    probes = min(probes, size) if size < block else probes
    if tolerance is None:
        tolerance = 1e-9 if vector.dtype == torch.float64 else 1e-5
    checked = self_check(curvature, seed) if check else None
    spent = 4 if check else 0
    if check and isinstance(operator, str):
        noise = noise_level(problem, vector, operator, seed, checkpoint)

    rules: list[Rule] = []
    pairs: Extremes | None = None
    try:
        for first in range(0, probes, block):
            space = _space(curvature, range(first, min(first + block, probes)), iterations, top + bottom, seed)
            report = partial(_report, on_matvecs, spent)
            rules.append(_rule(space, iterations, report))
            if first == 0:
                pairs = extremes(
                    space, top, bottom, tolerance, iterations * block + 40 * (top + bottom) + 400,
                    lambda: _fresh(curvature, block, seed), size, report,
                )
            spent += space.matvecs
    except FloatingPointError as error:
        raise ProblemError(
            f"the {name} product is not finite at step {step}: the loss overflows or a layer has no second "
            "derivative at these weights"
        ) from error
    assert pairs is not None
    meta: dict[str, Any] = {
        "matvecs": spent, "seconds": time.perf_counter() - started, "ranks": comm.size, "samples": problem.samples,
        "dtype": str(vector.dtype).removeprefix("torch."), "seed": seed, "probes": probes, "iterations": iterations,
        "block": block, "tolerance": tolerance,
    }
    if problem.sampling:
        meta["sampling"] = problem.sampling
    if problem.block:
        meta["weights"] = [weight for weight, _, _ in problem.named_slices()]
    if checked is not None:
        meta |= {"asymmetry": checked.asymmetry, "repeats": checked.repeats}
    if noise is None:
        eps = torch.finfo(vector.dtype).eps
        noise = float(eps * max(np.abs(nodes).max() for nodes, _, _ in rules))
    meta["lambda_noise"] = noise
    nodes, starts, residuals = padded(rules)
    plain = [(n, np.square(s), r) for n, s, r in rules]
    reduced = padded([(n, reduced_weights((n, w, r), size), r) for n, w, r in plain])[1]
    spectrum = Spectrum(
        step, name, size, nodes, reduced, np.square(starts), residuals, dict(meta), starts=starts
    )
    vectors = comm.all_gather(pairs.vectors.T.contiguous(), size).T.cpu().numpy()
    eigenpairs = Eigenpairs(
        step, name, size, pairs.values, pairs.residuals, pairs.lowest_values, pairs.lowest_residuals,
        np.ascontiguousarray(vectors), {**meta, "converged": pairs.converged},
    )
    return spectrum, eigenpairs


def _report(on_matvecs: Callable[[int], None], before: int, matvecs: int) -> None:
    on_matvecs(before + matvecs)


def _space(curvature: Operator, indices: range, iterations: int, pairs: int, seed: int) -> BlockLanczos:
    """A Krylov space on the probes `indices` with room for the density and for restarts of `pairs` pairs."""
    size, width = curvature.size, len(indices)
    start = probes_module.probes(indices, size, seed, curvature.part)
    capacity = max((iterations + 1) * width, 2 * pairs + 8 * width)
    capacity = max(min(capacity, size + width), 2 * width)
    return BlockLanczos(curvature.matvec, start.to(curvature.vector), capacity, curvature.reduce)


def _fresh(curvature: Operator, block: int, seed: int) -> Tensor:
    """A random block beyond the numbered probes."""
    indices = range(2**30, 2**30 + block)
    return probes_module.probes(indices, curvature.size, seed, curvature.part).to(curvature.vector)


def _rule(space: BlockLanczos, iterations: int, on_block: Callable[[int], None]) -> Rule:
    """Run the recurrence for the density; ends early when the space is invariant (the rule is then exact)."""
    for _ in range(iterations):
        if space.ahead == 0 or space.filled + space.ahead > len(space.basis) - space.ahead:
            break
        space.expand()
        on_block(space.matvecs)
    ritz = space.ritz()
    return ritz.values, space.start_components(ritz), ritz.residuals
