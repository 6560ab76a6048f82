"""Model and loss as one module, so that weights are replaced inside both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import ProblemError
from .batches import Batch

Loss = Callable[[Any, Any], Tensor]
BatchLoss = Callable[[nn.Module, Batch], Any]  # the mean loss, (mean loss, outputs), or an object with `.loss`
Metric = Callable[[Any, Any], Any]  # (outputs, targets) -> a scalar, the mean over the batch


def convex(loss: Loss) -> Loss:
    """Marks a loss as convex in the outputs: its Gauss-Newton matrix is then known to have no negative eigenvalue."""
    loss.__dict__["convex"] = True
    return loss


def check_metrics(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics by name.

    Raises:
        ProblemError: a name that is taken, or that is no plain word.
    """
    for name in metrics:
        if not name.isidentifier() or name in ("loss", "accuracy") or name.startswith("test_"):
            raise ProblemError(
                f"a metric cannot be named '{name}': a name is one word of letters, digits and _, and neither loss, "
                "accuracy nor test_..., which are measured anyway"
            )
    return dict(metrics)


class Objective(nn.Module):
    """`objective(batch)` is (mean loss of the batch, outputs or None), of `loss` or of `batch_loss`."""

    def __init__(self, model: nn.Module, loss: Loss | None, batch_loss: BatchLoss | None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.batch_loss = batch_loss

    def forward(self, batch: Batch) -> tuple[Tensor, Any]:
        if self.batch_loss is not None:
            found: Any = self.batch_loss(self.model, batch)
            if isinstance(found, tuple):
                return found[0], found[1] if len(found) > 1 else None
            return getattr(found, "loss", found), getattr(found, "logits", None)
        assert self.loss is not None
        inputs, targets = batch
        outputs = self.model(inputs)
        return self.loss(outputs, targets), outputs

    def of(self, model: nn.Module) -> Objective:
        """The same loss of another model."""
        return Objective(model, self.loss, self.batch_loss)
