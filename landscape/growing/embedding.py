"""The weights of a small network as weights of the wider one that grew from it: the same function, exactly.

    out_i = sum_j w_j copy_j,   sum_j w_j = 1      copies of a unit share its outgoing weights
    sources = [0, 1, 2, 1], weights = [1, 1/2, 1, 1/2]: unit 1 was split in two, and its copy stands at the end

The in-weights, biases and BatchNorm statistics of a unit are copied, the weights that read it multiplied by w_j.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError
from ..loss.added import Insertion
from ..loss.checkpoints import Checkpoint, RunLike

GROWN = "grow"  # kind of the event


@dataclass(frozen=True)
class Cut:
    """An axis of a tensor as (before, units, after)."""

    tensor: str
    axis: int
    after: int = 1


@dataclass(frozen=True)
class Widening:
    """The units of a layer in the wider network.

    Attributes:
        layer: the layer that produces them.
        sources: (unit,) of the wider network: the unit that it copies; -1 for one that was not there and gives nothing.
        weights: (unit,) factor of its outgoing weights.
        produced: where the units are copied: rows of the layer, its bias, BatchNorm.
        read: where they are read.
    """

    layer: str
    sources: Sequence[int]
    weights: Sequence[float]
    produced: Sequence[Cut]
    read: Sequence[Cut]

    def apply(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The wider network's tensors; others as they are.

        Raises:
            ProblemError: a tensor is missing, or too small for these units.
        """
        return self.share(self.produce(state))

    def produce(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The units are copied; nothing reads the copies yet."""
        factors = [1.0 if s >= 0 else 0.0 for s in self.sources]
        return {**state, **{cut.tensor: self._taken(state, cut, factors) for cut in self.produced}}

    def share(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The copies take over their part of the outgoing weights."""
        factors = [w if s >= 0 else 0.0 for s, w in zip(self.sources, self.weights, strict=True)]
        return {**state, **{cut.tensor: self._taken(state, cut, factors) for cut in self.read}}

    def _taken(self, state: Mapping[str, Tensor], cut: Cut, factors: Sequence[float]) -> Tensor:
        tensor = state.get(cut.tensor)
        shape = [] if tensor is None else list(tensor.shape)
        units = shape[cut.axis] // cut.after if cut.axis < len(shape) else 0
        if tensor is None or max(self.sources) >= units:
            raise ProblemError(f"'{cut.tensor}' has no {max(self.sources) + 1} units of layer '{self.layer}' that grew")
        blocks = tensor.reshape(*shape[: cut.axis], units, cut.after, *shape[cut.axis + 1 :])
        index = torch.tensor([max(s, 0) for s in self.sources], device=tensor.device)
        taken = blocks.index_select(cut.axis, index)
        if any(factor != 1 for factor in factors):  # statistics such as a count of batches are no floats
            scale = torch.tensor(factors, dtype=taken.dtype, device=taken.device)
            taken = taken * scale.view(-1, *[1] * (taken.ndim - cut.axis - 1))
        shape[cut.axis] = len(self.sources) * cut.after
        return taken.reshape(shape)

    def as_dict(self) -> dict[str, Any]:
        """JSON values, of an event."""
        cuts = {name: [[c.tensor, c.axis, c.after] for c in getattr(self, name)] for name in ("produced", "read")}
        return {"layer": self.layer, "sources": list(self.sources), "weights": list(self.weights), **cuts}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Widening:
        """From the JSON values of an event."""
        produced, read = ([Cut(*cut) for cut in values[name]] for name in ("produced", "read"))
        return cls(values["layer"], values["sources"], values["weights"], produced, read)


Change = Widening | Insertion


def change_of(values: Mapping[str, Any]) -> Change:
    """From the JSON values of an event."""
    return Insertion(values["tensors"]) if "tensors" in values else Widening.of(values)


def embed(state: Mapping[str, Tensor], widenings: Sequence[Change]) -> dict[str, Tensor]:
    """The state of a small network as that of the wider one, widenings in the order in which they were made."""
    found = dict(state)
    for widening in widenings:
        found = widening.apply(found)
    return found


# ---------------------------------------------------------------------- checkpoints of a run


def growths(run: RunLike) -> list[tuple[int, list[Change]]]:
    """(step, widenings) of every growth of a run, in order; checkpoints from that step on are of the wider network."""
    return [(int(e["step"]), [change_of(w) for w in e["widenings"]])
            for e in run.events() if e["event"] == GROWN and e.get("widenings")]  # fmt: skip


class Embedded(Checkpoint):
    """A checkpoint of a run in the weights that its network had at a later step."""

    def __init__(self, checkpoint: Checkpoint, widenings: Sequence[Change]) -> None:
        super().__init__(checkpoint.run, checkpoint.step)
        self.widenings = widenings

    def state(self) -> dict[str, Tensor]:
        return embed(super().state(), self.widenings)

    def part(self, slices: Sequence[tuple[str, tuple[int, ...], slice]], start: int, stop: int) -> Tensor:
        state = self.state()
        return torch.cat([state[name].reshape(-1) for name, _shape, _slice in slices])[start:stop]


def at_width_of(checkpoint: Checkpoint, checkpoints: Sequence[Checkpoint]) -> tuple[list[Checkpoint], int]:
    """Those of a run's checkpoints that can be written in the weights of one of them, and how many are embedded.

    Networks from before a growth are embedded; wider ones, from after the checkpoint, have no place and are left out.
    """
    known = growths(checkpoint.run)
    found: list[Checkpoint] = []
    embedded = 0
    for one in checkpoints:
        if one.run is not checkpoint.run and one.run.root != checkpoint.run.root:
            found.append(one)
            continue
        if any(checkpoint.step < step <= one.step for step, _ in known):
            continue
        between = [w for step, made in known if one.step < step <= checkpoint.step for w in made]
        found.append(Embedded(one, between) if between else one)
        embedded += bool(between)
    return found, embedded
