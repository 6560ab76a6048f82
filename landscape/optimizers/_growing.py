"""What all optimizers that grow the network share: stages of ordinary training, and a growth between two of them.

Before the first step of every stage but the first the network may grow; weights, gradients and the state of the inner
optimizer are new then. So a checkpoint at the end of a stage is the small network, trained to where it was split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..games.game import Game
from ..growing.growth import Growth
from ..loss.problem import Problem


class Growing(torch.optim.Optimizer):
    """Trains a problem's model with an optimizer of torch.optim; a subclass says how it grows.

    Args:
        problem: whose model is trained, and on whose samples a growth is decided.
        inner: name of an optimizer of torch.optim.
        inner_settings: its settings.
        settings: with every (steps a stage), rounds (growths at most), schedule ('constant', or 'cosine' to 0 within
            a stage), and what the subclass needs; they are recorded.

    Raises:
        ValueError: a setting out of its range.
    """

    method = "growing"

    def __init__(
        self, problem: Problem, inner: str, inner_settings: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        if isinstance(problem, Game):
            raise ValueError("a game's networks do not grow")
        if settings["every"] < 1 or settings["rounds"] < 0:
            raise ValueError(f"every must be at least 1 and rounds 0, got {settings['every']} and {settings['rounds']}")
        if settings["schedule"] not in ("constant", "cosine"):
            raise ValueError(f"schedule must be constant or cosine, got '{settings['schedule']}'")
        self.problem, self.settings = problem, dict(settings)
        self._maker = _inner(inner)
        self._inner_settings = dict(inner_settings)
        self.events: list[dict[str, Any]] = []  # emptied by the recorder
        self.taken = self.rounds = 0  # steps; growths
        weights = [p for p in problem.model.parameters() if p.requires_grad]
        super().__init__(weights, {"inner": self._maker.__name__, **self.settings})
        self._renew()

    def _renew(self) -> None:
        """The inner optimizer, new, over the model's present weights."""
        weights = [p for p in self.problem.model.parameters() if p.requires_grad]
        self.inner = self._maker(weights, **self._inner_settings)
        self.rates = [float(group["lr"]) for group in self.inner.param_groups]
        for group in self.inner.param_groups:
            group.update({name: value for name, value in self.defaults.items() if name not in group})
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def grown(self) -> tuple[Problem, Growth] | None:
        """The problem with a wider network, and what was done; None where nothing gains or fits the budget."""
        raise NotImplementedError

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the inner optimizer, after a growth where one is due; returns the loss."""
        every, rounds = self.settings["every"], self.settings["rounds"]
        if self.taken and self.taken % every == 0 and self.rounds < rounds:
            self._grow()
        self._anneal()
        loss = self.inner.step() if closure is None else self.inner.step(closure)
        self.taken += 1
        return loss

    def _grow(self) -> None:
        training = self.problem.model.training
        self.problem.model.eval()
        try:
            found = self.grown()
        finally:
            self.problem.model.train(training)
        if found is None:
            self.events.append({"kind": "stable", "method": self.method})  # now; another stage may change that
            return
        wider, growth = found
        self.rounds += 1
        self.fit(wider.state())
        self.problem.load(wider.state())
        self.events.append(growth.event())

    def _anneal(self) -> None:
        if self.settings["schedule"] == "cosine":
            share = (self.taken % self.settings["every"]) / self.settings["every"]
            for group, rate in zip(self.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 + math.cos(math.pi * share)) / 2

    # ------------------------------------------------------------------ going on

    def fit(self, state: Mapping[str, Tensor]) -> None:
        """Bring network and inner optimizer to the shapes of a state dict; the values come later."""
        self.problem.fit(state)
        self._renew()

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict(), "taken": self.taken, "rounds": self.rounds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups, self.state = self.inner.param_groups, self.inner.state
        self.taken, self.rounds = state_dict["taken"], state_dict["rounds"]


def _inner(name: str) -> Callable[..., torch.optim.Optimizer]:
    known = {n.lower(): value for n, value in vars(torch.optim).items()
             if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)}  # fmt: skip
    if name.lower() not in known or name.lower() == "optimizer":
        raise ValueError(f"inner must be an optimizer of torch.optim, got '{name}'")
    maker: Callable[..., torch.optim.Optimizer] = known[name.lower()]
    return maker
