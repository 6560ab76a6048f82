"""An operator over all batches and ranks: batch outer, vector inner, one collective pair a block product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import plugins, probes
from .errors import ProblemError, ResourceError
from .parallel import Comm
from .problem import Problem


class Curvature:
    """The mean over all samples of an operator at fixed weights, as a product with sharded blocks.

    Batches are dealt whole to ranks and their products are summed in float64, so the result does not depend on the
    number of ranks (beyond the last bits). Per block product there is one all-gather of the shards and one
    reduce-scatter of the products.

    Args:
        vector: the weights (size,), equal on every rank.
        operator: a name in `landscape.operators`.
    """

    def __init__(self, problem: Problem, vector: Tensor, comm: Comm, operator: str = "hessian") -> None:
        self.problem, self.comm, self.operator = problem, comm, operator
        self.vector = vector.detach()
        self.part = comm.part(problem.size)
        self._prepare = plugins.load("landscape.operators", operator).prepare
        self._batches = comm.share(problem.batches)

    def matvec(self, block: Tensor) -> Tensor:
        """Product with this rank's rows of a block: (part, b) -> (part, b), in the problem's dtype."""
        full = self.comm.all_gather(block, self.problem.size)
        return self.comm.sum_scatter(self.local_product(full)).to(block.dtype)

    def reduce(self, matrix: Tensor) -> Tensor:
        """Sum of a small float64 matrix over ranks."""
        return self.comm.sum(matrix)

    def local_product(self, block: Tensor) -> Tensor:
        """This rank's share of the product with a full block (size, b): float64, not yet summed over ranks.

        Raises:
            ProblemError: a layer cannot be differentiated twice.
            ResourceError: memory ran out.
        """
        total = torch.zeros(block.shape, dtype=torch.float64, device=block.device)
        try:
            for batch in self._batches:
                share = self.problem.count(batch) / self.problem.samples
                product = self._prepare(self.problem, self.vector, batch)
                total.add_(product(block), alpha=share)
        except torch.OutOfMemoryError as error:
            raise ResourceError(_memory_text(self.problem)) from error
        except RuntimeError as error:
            text = str(error)
            if "DefaultCPUAllocator" in text or "out of memory" in text:
                raise ResourceError(_memory_text(self.problem)) from error
            if "derivative for" in text or "double backward" in text or "differentiate twice" in text:
                raise ProblemError(
                    f"a layer of the model cannot be differentiated twice, so {self.operator} products do not exist: "
                    f"{text.splitlines()[0]}. Replace that layer, e.g. by an explicit formula"
                ) from error
            raise
        return total


def _memory_text(problem: Problem) -> str:
    largest = max(problem.count(b) for b in problem.batches)
    return (
        f"memory ran out in a curvature product on a batch of {largest} samples; it needs about three times a training "
        "step. Build the problem with a smaller batch_size: the result does not depend on it, only the time does"
    )


@dataclass(frozen=True)
class SelfCheck:
    """What two products say of an operator: relative asymmetry, and whether a product repeats bit for bit."""

    asymmetry: float
    repeats: bool


def self_check(curvature: Curvature, seed: int = 0) -> SelfCheck:
    """Two block products with two random vectors: |u.Av - v.Au| / (norm(Av) norm(u)) and bitwise repeatability.

    Raises:
        ProblemError: the operator is not finite, not repeatable or not symmetric; the message names the usual cause.
    """
    size, part = curvature.problem.size, curvature.part
    pair = probes.probes(range(2**31 - 2, 2**31), size, seed, part).to(curvature.vector)
    first, second = curvature.matvec(pair), curvature.matvec(pair)
    sums = torch.stack([
        (pair[:, 0] * first[:, 1]).double().sum(), (pair[:, 1] * first[:, 0]).double().sum(),
        first[:, 1].double().square().sum(), pair[:, 0].double().square().sum(),
        (first != second).double().sum(),
    ])
    uav, vau, product, length, different = curvature.reduce(sums).tolist()
    name = curvature.operator
    if not all(map(_finite, (uav, vau, product))):
        raise ProblemError(
            f"the {name} product is not finite: the loss overflows or a layer has no second derivative at these "
            "weights; look at the loss of this checkpoint and at square roots or norms of zero"
        )
    if different:
        raise ProblemError(
            f"the same {name} product twice gave two results: the model draws random numbers or changes its own state "
            "when called. Switch off dropout called with training=True, random augmentation and stateful layers"
        )
    asymmetry = abs(uav - vau) / max((product * length) ** 0.5, 1e-300)
    limit = 1e-3 if curvature.vector.dtype == torch.float32 else 1e-8
    if asymmetry > limit:
        raise ProblemError(
            f"the {name} is not symmetric (relative difference {asymmetry:.1e}): a custom backward of the model is "
            "wrong, or its loss is not a function of the weights alone"
        )
    return SelfCheck(asymmetry, True)


def noise_level(problem: Problem, vector: Tensor, operator: str = "hessian", seed: int = 0) -> float | None:
    """lambda_noise = |A v - A_64 v| / |v| on the first batch, A in the problem's precision and A_64 in float64.

    Eigenvalues below a few times this have no sign in that precision. One product in each; every rank does the same.
    None for float64, whose own error no higher precision measures here, and where the device has no float64.
    """
    if problem.dtype == torch.float64:
        return None
    one = problem.first_batch()
    v = probes.probe(2**31 - 3, problem.size, seed).to(vector.device, vector.dtype)[:, None]
    try:
        exact = one.to(dtype=torch.float64)
        rough = Curvature(one, vector, Comm(), operator).local_product(v)
        fine = Curvature(exact, vector.double(), Comm(), operator).local_product(v.double())
    except (TypeError, RuntimeError):
        return None
    level = float((rough - fine).norm() / v.double().norm())
    return level if _finite(level) else None


def _finite(value: float) -> bool:
    return value - value == 0.0
