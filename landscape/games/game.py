"""A game: several players in one model, each with weights and a loss of his own.

Player p owns the weights of the model's child of that name and descends his loss L_p(theta) by them alone. What all
descend by is F = (dL_p / dtheta_p)_p, which is no gradient: its Jacobian is not symmetric (`landscape.games.jacobian`).

As a `Problem`, a block of one player's weights (`restricted('generator.*')`) has that player's own loss, so every
operator, spectrum and surface of it is his; any other choice of weights has the sum of the players' losses.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import ProblemError, UsageError
from ..loss.batches import Batch
from ..loss.objective import BatchLoss, Objective
from ..loss.problem import Problem

UPDATES = ("simultaneous", "alternating")
Redraw = Callable[[Batch, torch.Generator], Batch]


@dataclass(frozen=True)
class Judged:
    """What a generator makes: its metrics, samples (sample, coordinate) and the share of each mode (mode,)."""

    metrics: dict[str, float] = field(default_factory=dict)
    samples: Tensor | None = None
    shares: Tensor | None = None
    shape: tuple[int, ...] = ()  # of a sample that is an image


Judge = Callable[[nn.Module], Judged]


class Game(Problem):
    """A model whose children are the players + a loss for each + fixed batches.

    Args:
        model: its trainable weights belong to the children, or are weights themselves, that the players are named by.
        losses: by player, `loss(model, batch)` as of `Problem.from_batch_loss`: a mean over the batch.
        data: as of `Problem`; noise of a generator is part of it, so that every question gets the same answer.
        updates: of `train_step`: 'simultaneous', or 'alternating' where each player answers the others' last step.
        redraw: a mini-batch of the training with noise drawn anew; steps on all samples keep the batches as they are.
        judge: measures what a model makes, at checkpoints.

    Raises:
        ProblemError: a weight belongs to no player or to several, or a player has none.
        UsageError: updates that are no choice.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Mapping[str, BatchLoss],
        data: Any,
        *,
        updates: str = "simultaneous",
        redraw: Redraw | None = None,
        judge: Judge | None = None,
        batch_size: int = 256,
        test_data: Any = None,
        name: str = "",
    ) -> None:
        if updates not in UPDATES:
            raise UsageError(f"unknown updates '{updates}'; the choices are {', '.join(UPDATES)}")
        self._losses, self.updates, self._redraw, self.judge = dict(losses), updates, redraw, judge
        total = Objective(model, None, partial(_total, self._losses))
        self._set_up(total, data, batch_size, test_data, None, None, name)

    def _hold(self, objective: Objective) -> None:
        super()._hold(objective)
        owned = {self.owner(name) for name in self._parameters}
        idle = [p for p in self._losses if p not in owned]
        if idle:
            raise ProblemError(f"player '{idle[0]}' of {self._who()} has no trainable weights named '{idle[0]}.*'")

    # ------------------------------------------------------------------ players

    @property
    def players(self) -> list[str]:
        return list(self._losses)

    def owner(self, weight: str) -> str:
        """The player that a weight, by its name, belongs to.

        Raises:
            ProblemError: it is no player's, or several players'.
        """
        found = [p for p in self._losses if weight == p or weight.startswith(f"{p}.")]
        if len(found) != 1:
            raise ProblemError(
                f"the weight '{weight}' of {self._who()} belongs to {len(found)} of the players "
                f"{', '.join(self._losses)}; a player owns the weights of the model's child of his name"
            )
        return found[0]

    def player(self, name: str) -> Problem:
        """The problem whose loss is that player's own, as a function of all players' weights.

        Raises:
            UsageError: no such player.
        """
        if name not in self._losses:
            raise UsageError(f"there is no player '{name}'; the players are {', '.join(self._losses)}")
        other = copy.copy(self)
        other._objective = self._of(name).eval()
        return other

    def owned(self, name: str) -> Tensor:
        """Whether each entry of a flat vector is that player's weight, (size,) of booleans."""
        found = torch.zeros(self.size, dtype=torch.bool, device=self.device)
        for weight, _, place in self.named_slices():
            found[place] = self.owner(weight) == name
        return found

    def restricted(self, *patterns: str) -> Self:
        """As of `Problem`; a block of one player's weights has his own loss."""
        other = super().restricted(*patterns)
        owners = {self.owner(name) for name in other._parameters}
        if len(owners) == 1:
            other._objective = self._of(owners.pop()).eval()
        return other

    def _of(self, player: str) -> Objective:
        return Objective(self.model, None, self._losses[player])

    # ------------------------------------------------------------------ training

    def training_loss(self, batch: Batch) -> Tensor:
        """sum_p L_p(theta_p, the others held): its gradient is F, and its Hessian the players' own diagonal blocks."""
        parts = [self._alone(p, batch) for p in self._losses]
        return torch.stack(parts).sum()

    def _alone(self, player: str, batch: Batch) -> Tensor:
        """A player's loss as a function of his own weights."""
        held = {f"model.{n}": p.detach() for n, p in self._moving() if self.owner(n) != player}
        loss: Tensor = functional_call(self._of(player), held, (batch,))[0]
        return loss.reshape(())

    def _moving(self) -> Iterator[tuple[str, nn.Parameter]]:
        return iter((self._parameters | self._fixed).items())

    def training_field(self, batch: Batch) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
        """(sum of the losses, F by weight with its whole graph): the cross derivatives are in it."""
        losses, found = [], dict[nn.Parameter, Tensor]()
        for player in self._losses:
            loss = self._of(player)(batch)[0].reshape(())
            own = [p for n, p in self._parameters.items() if self.owner(n) == player and p.requires_grad]
            if own:
                slopes = torch.autograd.grad(loss, own, create_graph=True, materialize_grads=True)
                found |= dict(zip(own, slopes, strict=True))
            losses.append(loss)
        return torch.stack(losses).sum(), found

    def drawn_anew(self, batch: Batch, seed: int, step: int) -> Batch:
        """The real samples of a mini-batch with the noise of this step."""
        if self._redraw is None:
            return batch
        return self._redraw(batch, torch.Generator().manual_seed(seed * 1_000_003 + step))

    def turns(self) -> Sequence[contextlib.AbstractContextManager[None]]:
        """All players at once, or each alone in the order of the losses."""
        return super().turns() if self.updates == "simultaneous" else [self._only(p) for p in self._losses]

    @contextlib.contextmanager
    def _only(self, player: str) -> Iterator[None]:
        """The other players' weights ask for no gradient, so that an optimizer passes them by."""
        others = [p for n, p in self._moving() if self.owner(n) != player]
        for weight in others:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in others:
                weight.requires_grad_(True)

    # ------------------------------------------------------------------ measuring

    def losses(self, vector: Tensor) -> dict[str, float]:
        """Every player's own loss over all training batches at the weights (size,)."""
        return {p: self.player(p).evaluate(vector)["loss"] for p in self._losses}

    def made(self) -> Judged:
        """What the judge says of the model's present weights; nothing without a judge."""
        if self.judge is None:
            return Judged()
        with torch.no_grad():
            return self.judge(self.model)

    def judged(self) -> dict[str, float]:
        """The players' own losses and the judge's metrics, at the model's present weights."""
        return {f"loss_{p}": v for p, v in self.losses(self.weights()).items()} | self.made().metrics


def _total(losses: Mapping[str, BatchLoss], model: nn.Module, batch: Batch) -> Tensor:
    """The sum of all players' losses: of a zero-sum game a constant, and no player's aim."""
    return torch.stack([Objective(model, None, loss)(batch)[0].reshape(()) for loss in losses.values()]).sum()
