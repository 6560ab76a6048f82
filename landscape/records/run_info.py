"""What defines a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ._record import Meta


@dataclass(frozen=True)
class RunInfo:
    """One training run: enough to rebuild its problem and to read its pictures years later."""

    name: str
    problem: str  # 'digits_mlp', 'module:function' or 'file.py:function'
    problem_settings: dict[str, Any]
    optimizer: str  # class or plug-in name
    settings: dict[str, Any]  # hyperparameters as recorded from the optimizer
    every: int  # steps between checkpoints
    size: int  # trainable weights
    seed: int | None
    created: str  # ISO 8601, UTC
    finished: str | None = None
    meta: Meta = field(default_factory=dict)  # versions, command, commit, host

    @property
    def stepper(self) -> str:
        """The optimizer that takes the steps: of one that changes the network, the one inside of it."""
        inner = self.settings.get("inner")
        return inner if isinstance(inner, str) else self.optimizer
