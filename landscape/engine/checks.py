"""What a job finds out about an operator before it trusts it: the data, the weights, and the product itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..distributed.parallel import Comm
from ..errors import ProblemError
from ..krylov import probes
from ..loss.batches import rows, split
from ..loss.problem import Problem
from . import quotients, suspects
from .combination import Operator
from .curvature import operator_at
from .sameness import same_everywhere

FEWEST = 4  # rows of a batch that are looked at


@dataclass(frozen=True)
class SelfCheck:
    """What a few products say of an operator; every deviation is relative.

    `difference` is that from difference quotients in float64, None where there is nothing to compare with. `matvecs`
    counts products with all the data: none where one mini-batch was enough, and then `gradients` of that were spent.
    """

    asymmetry: float
    nonlinearity: float
    repeats: bool
    difference: float | None
    warnings: tuple[str, ...]
    matvecs: int
    gradients: int

    def record(self) -> dict[str, Any]:
        """For a record's meta."""
        return {**asdict(self), "warnings": list(self.warnings)}


def told(record: Mapping[str, Any]) -> str:
    """One line for a job's log from `SelfCheck.record`."""
    found = SelfCheck(**{**record, "warnings": tuple(record["warnings"])})
    against = "" if found.difference is None else f", {found.difference:.1e} from difference quotients"
    cost = f"{found.matvecs} products" if found.matvecs else f"about {found.gradients} gradients of one batch"
    line = (
        f"asymmetry {found.asymmetry:.1e}, nonlinearity {found.nonlinearity:.1e}, "
        f"repeats {'bit for bit' if found.repeats else 'up to rounding'}{against}; it cost {cost}"
    )
    return "; ".join([line, *(f"warning: {text}" for text in found.warnings)])


def self_check(curvature: Operator, seed: int = 0, problem: Problem | None = None) -> SelfCheck:
    """Look for what makes spectra wrong without a word; each fault is named with its layer and its fix.

    Other data or weights on other ranks; a product that is not finite, does not repeat, moves a buffer of the model,
    has no second derivative, is not linear, not symmetric, or not that of this loss at these weights. An operator that
    knows its problem is looked at on a quarter of the first batch, on every rank alike; one made by hand as it is.

    Args:
        problem: of an operator made by hand, for the comparison with difference quotients.

    Raises:
        ProblemError: one of them is so.
    """
    problem = problem or _problem_of(curvature)
    if problem is not None:
        same_everywhere(problem, curvature.vector, curvature.comm)
    if problem is None or not quotients.knows_problems(curvature):
        return _inspect(curvature, curvature, problem, seed)
    with curvature.comm.together():
        one, share = excerpt(problem, curvature.vector)
        return _inspect(curvature, curvature.on(one, curvature.vector), one, seed, share)


def excerpt(problem: Problem, vector: Tensor) -> tuple[Problem, float]:
    """(the problem on the first rows of its first batch, their share of it): a quarter shows what is wrong as well.

    Where a batch has no rows, or the loss does not add up over its parts, it is the whole batch.
    """
    one = problem.first_batch()
    whole = one.batches[0]
    with contextlib.suppress(Exception):  # what the model makes of fewer rows is not what is asked here
        parts = split(whole, max(FEWEST, -(-rows(whole) // 4)))
        with one.unmoved_buffers():
            agree = len(parts) > 1 and one.parts_agree(vector, whole, parts)
        if agree:
            one.batches, one.samples = parts[:1], one.count(parts[0])
    return one, one.samples / problem.count(whole)


def _inspect(
    curvature: Operator, small: Operator, problem: Problem | None, seed: int, share: float = 1.0
) -> SelfCheck:
    u, v = probes.probes(range(2**31 - 2, 2**31), small.size, seed, small.part).to(small.vector).unbind(dim=1)
    block = torch.stack([u, v, u + 2 * v], dim=1)  # (part, 3)
    with _unmoved_buffers(problem):
        first = small.matvec(block)
        small.forget()  # a kept graph would repeat what the model drew at random
        again = small.matvec(block)
    fault = _Faults(small, problem)
    if not all(map(_finite, fault.norms(first))):
        raise ProblemError(where_not_finite(curvature, problem))
    deviation = fault.ratio(first - again, first)
    single = small.vector.dtype == torch.float32
    if deviation > (1e-5 if single else 1e-12):
        raise ProblemError(fault.random(deviation))
    limit = 1e-3 if single else 1e-8
    asymmetry = fault.asymmetry(u, v, first)
    nonlinearity = fault.ratio(first[:, 2:] - first[:, :1] - 2 * first[:, 1:2], first[:, 2:])
    if max(asymmetry, nonlinearity) > limit:
        raise ProblemError(fault.no_matrix(asymmetry, nonlinearity, limit))
    verdict = None if problem is None else quotients.compare(curvature, problem, seed)
    if verdict is not None and verdict.wrong:
        raise ProblemError(
            f"the {small.name} product is not that of this loss at these weights: it differs by "
            f"{verdict.difference:.1e} (relative) from difference quotients of the gradient in float64. It is taken "
            "at other weights or of another loss, or by a rule of differentiation that is wrong for a layer (forward "
            "over reverse, never reverse over forward, for LayerNorm)"
        )
    kink = (
        f"{small.name} products were not compared with difference quotients, which do not settle here: a kink (ReLU, "
        "max-pooling) lies at the weights"
    )
    return SelfCheck(
        asymmetry, nonlinearity, deviation == 0, None if verdict is None or verdict.kink else verdict.difference,
        (kink,) if verdict is not None and verdict.kink else (), 6 if small is curvature else 0,
        0 if small is curvature else round(1 + share * (14 + (0 if verdict is None else 3 + 2 * verdict.steps))),
    )  # fmt: skip


class _Faults:
    """Sizes of deviations over all ranks, and the sentences that name what causes them."""

    def __init__(self, small: Operator, problem: Problem | None) -> None:
        self.small, self.problem = small, problem

    def norms(self, block: Tensor) -> list[float]:
        total: list[float] = self.small.reduce(block.double().square().sum(dim=0)).sqrt().tolist()
        return total

    def ratio(self, deviation: Tensor, against: Tensor) -> float:
        return max(self.norms(deviation)) / max(*self.norms(against), 1e-300)

    def asymmetry(self, u: Tensor, v: Tensor, products: Tensor) -> float:
        """|u.Av - v.Au| / (norm(Av) norm(u))."""
        dots = torch.stack([(u * products[:, 1]).double().sum(), (v * products[:, 0]).double().sum()])
        uav, vau = self.small.reduce(dots).tolist()
        return float(abs(uav - vau) / max(self.norms(products)[1] * self.norms(u[:, None])[0], 1e-300))

    def blame(self, fault: suspects.Fault) -> str:
        """'; the fault begins in layer ...', or nothing where no layer shows it."""
        if self.problem is None:
            return ""
        found = suspects.blame(self.problem, self.small.vector, self.problem.batches[0], fault)
        return f"; it begins in {found}" if found else ""

    def random(self, deviation: float) -> str:
        training = [] if self.problem is None else [
            f"'{n}' ({type(m).__name__})" for n, m in self.problem.model.named_modules() if m.training and n
        ]  # fmt: skip
        mode = f". In training mode are {', '.join(training[:5])}: call problem.model.eval()" if training else ""
        return (
            f"the same {self.small.name} product twice gave two results (relative difference {deviation:.1e}): the "
            f"model draws random numbers or changes its own state when called{self.blame(suspects.random)}{mode}. "
            "Switch off dropout called with training=True, random augmentation and stateful layers"
        )

    def no_matrix(self, asymmetry: float, nonlinearity: float, limit: float) -> str:
        layer = self.blame(suspects.asymmetric)
        if nonlinearity > limit and not layer:
            return (
                f"the {self.small.name} product is not linear (relative difference {nonlinearity:.1e}): the vector "
                "changes the weights that it is taken at, or the loss. Evaluate it at fixed weights, with the vector "
                "only multiplied"
            )
        return (
            f"the {self.small.name} is not symmetric (relative difference {asymmetry:.1e}): a custom backward of the "
            "model is wrong, a second derivative is taken by reverse over forward, or the loss is not a function of "
            f"the weights alone{layer}. Write that layer with torch operations"
        )


def _problem_of(curvature: Operator) -> Problem | None:
    """The problem of an operator, or of the first term of a sum."""
    terms = getattr(curvature, "terms", ())
    return getattr(terms[0][1] if terms else curvature, "problem", None)


# ---------------------------------------------------------------------- buffers


@contextlib.contextmanager
def _unmoved_buffers(problem: Problem | None) -> Iterator[None]:
    """Buffers of the model are as before at the end; a call that moves one is an error.

    Raises:
        ProblemError: one was moved; it is restored.
    """
    if problem is None:
        yield
        return
    with problem.unmoved_buffers() as moved:
        yield
    if moved:
        layer, _, name = moved[0].rpartition(".")
        kind = type(problem.model.get_submodule(layer)).__name__
        raise ProblemError(
            f"a product moved the buffer '{name}' of layer '{layer}' ({kind}): it keeps running statistics in training "
            "mode, so every product would be that of another function. The buffer is restored. Let the problem hold "
            "the model in evaluation mode (no train() after it was made, no training=True in forward), or take batch "
            "statistics on purpose with track_running_stats=False"
        )


# ---------------------------------------------------------------------- precision and numbers


def where_not_finite(curvature: Operator, problem: Problem | None = None) -> str:
    """One sentence on a product that is NaN or infinite: which batch, which weight, which layer."""
    problem = _problem_of(curvature) or problem
    told = f"the {curvature.name} product is not finite"
    fix = "look at the loss of this checkpoint, and at square roots, norms and divisions of zero"
    if problem is None or not quotients.knows_problems(curvature):
        return f"{told}: {fix}"
    for number, batch in enumerate(problem.batches):
        one = problem.one_batch(number)
        v = probes.probe(2**31 - 1, problem.size, 0).to(curvature.vector)[:, None]
        product = curvature.on(one, curvature.vector).matvec(v)[:, 0]
        bad = (~product.isfinite()).nonzero().flatten()
        if not len(bad):
            continue
        weight = next(name for name, _, where in problem.named_slices() if where.start <= int(bad[0]) < where.stop)
        with torch.no_grad():
            loss = float(problem.batch_loss(curvature.vector, batch))
        fault = suspects.second_derivative_not_finite if _finite(loss) else suspects.not_finite
        layer = suspects.blame(problem, curvature.vector, batch, fault)
        begins = f"; it begins in {layer}" if layer else "; no layer shows it alone, so look at the loss function"
        return (
            f"{told} on batch {number} of {len(problem.batches)} (loss {loss:.4g}), in {len(bad)} of {problem.size} "
            f"rows, the first in '{weight}'{begins}. The loss overflows or a layer has no second derivative there: "
            f"{fix}"
        )
    return f"{told}: {fix}"


def noise_level(
    problem: Problem, vector: Tensor, operator: str = "hessian", seed: int = 0, checkpoint: Any = None
) -> float | None:
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
        rough, fine = (
            operator_at(p, vector.to(p.dtype), Comm(), operator, checkpoint=checkpoint, seed=seed).matvec(v.to(p.dtype))
            for p in (one, exact)
        )
    except (TypeError, RuntimeError):
        return None
    level = float((rough.double() - fine).norm() / v.double().norm())
    return level if _finite(level) else None


def _finite(value: float) -> bool:
    return value - value == 0.0
