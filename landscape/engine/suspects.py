"""Which layer is to blame: every layer of a model is called once more by itself, with the inputs that it had.

Inner layers come before the ones that hold them, so the first that shows the fault is where it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..loss.batches import tensors
from ..loss.problem import Problem

Fault = Callable[["Call"], bool]


@dataclass(frozen=True)
class Call:
    """A layer, what it was called with, and what it gave."""

    name: str
    module: nn.Module
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    output: Any

    def again(self) -> list[Tensor]:
        """The floating-point outputs of another call with the same inputs."""
        with sdpa_kernel(SDPBackend.MATH):
            return _floats(self.module(*self.arguments, **self.keywords))

    def __str__(self) -> str:
        kind = type(self.module).__name__
        return f"layer '{self.name}' ({kind})" if self.name else f"the model itself ({kind})"


def calls(problem: Problem, vector: Tensor, batch: Any) -> list[Call]:
    """One call of every layer that a batch passes through, inner layers first; those before an error, where one is."""
    found: dict[str, Call] = {}
    hooks = []
    for name, module in problem.model.named_modules():
        def keep(module: nn.Module, arguments: Any, keywords: Any, output: Any, name: str = name) -> None:
            found[name] = Call(name, module, arguments, keywords, output)

        hooks.append(module.register_forward_hook(keep, with_kwargs=True))
    try:
        with torch.no_grad():
            problem.outcome(vector, batch)
    except Exception:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def blame(problem: Problem, vector: Tensor, batch: Any, fault: Fault) -> str | None:
    """The innermost layer with a fault, in words; None where no layer shows it (the loss function may)."""
    for call in calls(problem, vector, batch):
        try:
            if fault(call):
                return str(call)
        except Exception:  # a layer that cannot be called by itself is not convicted
            continue
    return None


# ---------------------------------------------------------------------- faults


def random(call: Call) -> bool:
    """Two calls with the same inputs differ."""
    with torch.no_grad():
        return any(not torch.equal(a, b) for a, b in zip(call.again(), call.again(), strict=True))


def not_finite(call: Call) -> bool:
    """Outputs are not finite although all inputs are."""
    good = all(bool(t.isfinite().all()) for t in _floats((call.arguments, call.keywords)))
    return good and not all(bool(t.isfinite().all()) for t in _floats(call.output))


def no_second_derivative(call: Call) -> bool:
    """Differentiating the layer twice is refused."""
    try:
        list(_twice(call))
    except RuntimeError as error:
        return is_second_derivative(str(error))
    return False


def second_derivative_not_finite(call: Call) -> bool:
    """The layer's own second derivative is NaN or infinite although its inputs are finite."""
    good = all(bool(t.isfinite().all()) for t in _floats((call.arguments, call.keywords)))
    return good and not all(bool(t.isfinite().all()) for _, products in _twice(call) for t in products)


def asymmetric(call: Call) -> bool:
    """Second derivatives in two orders differ: a backward that is the gradient of nothing."""
    (one, of_one), (other, of_other) = _twice(call)
    left = sum(float((a * b).sum()) for a, b in zip(one, of_other, strict=True))
    right = sum(float((a * b).sum()) for a, b in zip(other, of_one, strict=True))
    size = sum(float(b.double().square().sum()) for b in of_one) ** 0.5
    length = sum(float(b.double().square().sum()) for b in other) ** 0.5
    return bool(abs(left - right) > 1e-5 * max(size * length, 1e-300))


def _twice(call: Call) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Two random directions, each with its product with the Hessian of <c, outputs> in inputs, weights and c."""
    moved: list[Tensor] = []

    def fresh(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            moved.append(value.detach().clone().requires_grad_(True))
            return moved[-1]
        if isinstance(value, (tuple, list)):
            return type(value)(fresh(v) for v in value)
        return {k: fresh(v) for k, v in value.items()} if isinstance(value, dict) else value

    generator = torch.Generator().manual_seed(0)

    def drawn(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        arguments, keywords = fresh(call.arguments), fresh(call.keywords)
        outputs = [o for o in _floats(call.module(*arguments, **keywords)) if o.requires_grad]
        cotangents = [drawn(o).requires_grad_(True) for o in outputs]
        leaves = moved + [p for p in call.module.parameters() if p.requires_grad] + cotangents
        value = sum(((c * o).sum() for c, o in zip(cotangents, outputs, strict=True)), torch.zeros(()))
        gradients = torch.autograd.grad(value, leaves, create_graph=True, allow_unused=True, materialize_grads=True)
        for _ in range(2):
            direction = [drawn(leaf) for leaf in leaves]
            along = sum(((g * d).sum() for g, d in zip(gradients, direction, strict=True)), torch.zeros(()))
            if not along.requires_grad:
                yield direction, [torch.zeros_like(leaf) for leaf in leaves]
                continue
            products = torch.autograd.grad(along, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
            yield direction, [p.detach() for p in products]


def _floats(nested: Any) -> list[Tensor]:
    return [t for t in tensors(nested) if t.is_floating_point()]


# ---------------------------------------------------------------------- second derivatives that do not exist


def is_second_derivative(text: str) -> bool:
    """Whether an error of torch says that something cannot be differentiated twice."""
    return any(words in text for words in ("derivative for", "double backward", "differentiate twice", "twice diff"))


def not_twice(problem: Problem, vector: Tensor, batch: Any, operator: str, text: str) -> str:
    """One sentence on a layer without a second derivative: which, why, and what to do."""
    where = blame(problem, vector, batch, no_second_derivative) or "a layer of the model"
    reason = text.splitlines()[0]
    fix = "Replace it, e.g. by an explicit formula"
    if "attention" in text:
        fix = (
            "A fused attention kernel was forced: remove its sdpa_kernel(...) from the model, then the math kernel is "
            "chosen for you; or write softmax(q k^T / sqrt(d)) v out"
        )
    elif "once_differentiable" in text or "trying to differentiate twice" in text:
        fix = "Its backward is marked once_differentiable: write it with torch operations"
    return f"{where} cannot be differentiated twice, so {operator} products do not exist: {reason}. {fix}"
