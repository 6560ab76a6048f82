"""`grow`: a problem with a wider network, and a report of what changed, what was predicted and what came.

The report is an event of a run: JSON values with the map of old weights into new ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import ProblemError
from ..loss.fitting import fitted
from ..loss.problem import Problem
from .embedding import GROWN, Change, Widening
from .splits import Split
from .units import Layer

EXACT = 1e-9  # relative change of the loss at eps = 0 that is rounding, in float64


@dataclass(frozen=True)
class Growth:
    """What a growth did.

    Attributes:
        rows: one a unit that was split (or added): layer, unit, weights of the copies, ends of its splitting matrix.
        predicted, measured: change of the loss over all samples, to second order in eps, and as it came (float64).
        identity: change of the loss at eps = 0, which is rounding.
        eigenvalues: ends of what it adds to the Hessian at eps = 0 and a stationary point, where known exactly.
        bound: the smallest eigenvalue of the grown Hessian is at most this.
        notes: why measured need not follow predicted; left_out: layers that cannot grow, and why.
    """

    method: str
    eps: float
    rows: list[dict[str, Any]]
    widenings: Sequence[Change]
    before: float
    predicted: float
    measured: float
    identity: float
    size_before: int
    size_after: int
    eigenvalues: list[float] = field(default_factory=list)
    bound: float | None = None
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def event(self) -> dict[str, Any]:
        """JSON values, with the `kind` that `Recorder.step` asks for."""
        values = {name: getattr(self, name) for name in (
            "method", "eps", "rows", "before", "predicted", "measured", "identity", "size_before", "size_after",
            "eigenvalues", "bound", "notes", "left_out",
        )}  # fmt: skip
        return {"kind": GROWN, **values, "widenings": [w.as_dict() for w in self.widenings]}


def grow(
    problem: Problem, layers: Sequence[Layer], splits: Sequence[Split], eps: float, *, method: str = "splitting",
    notes: Sequence[str] = (), left_out: Sequence[str] = (),
) -> tuple[Problem, Growth]:  # fmt: skip
    """The problem with these units split by eps, with a model of its own, and the report; the problem stays as it is.

    Raises:
        ProblemError: the wider network does not compute the same at eps = 0.
    """
    by_layer = {layer.name: [s for s in splits if s.layer == layer.name] for layer in layers}
    state = problem.state()
    widenings, same, moved = [], state, state
    for layer in layers:
        if by_layer[layer.name]:
            widening, moves = _widening(layer, by_layer[layer.name])
            widenings.append(widening)
            same, moved = widening.produce(same), widening.produce(moved)
            moved = _moved(moved, layer.name, moves, eps)
    for widening in widenings:  # now, for a direction has as many entries as the small network's layer reads
        same, moved = widening.share(same), widening.share(moved)
    grown = problem.with_model(fitted(problem.model, moved))
    exact = grown.to(dtype=torch.float64)
    before = _loss(problem.to(dtype=torch.float64), state)
    try:
        identity = _loss(exact, same) - before
    except (RuntimeError, ValueError, IndexError) as error:  # what a forward pass of the user's raises
        raise ProblemError(f"the network cannot grow in {', '.join(w.layer for w in widenings)}: its forward pass "
                           f"relies on the old size ({str(error).strip().splitlines()[0]})") from error  # fmt: skip
    if abs(identity) > EXACT * max(abs(before), 1e-12):
        raise ProblemError(
            f"the network cannot grow in {', '.join(w.layer for w in widenings)}: with copied units its loss is "
            f"{before + identity:.6g} in place of {before:.6g} (a size that its forward pass relies on?)"
        )
    grown.load(moved)
    rows = [{"layer": s.layer, "unit": s.unit, "weights": s.weights, "low": s.low, "high": s.high,
             "predicted": eps**2 / 2 * s.curvature} for s in splits]  # fmt: skip
    eigenvalues = sorted(v for s in splits for v in s.eigenvalues())
    predicted = eps**2 / 2 * sum(s.curvature for s in splits)
    return grown, Growth(
        method, eps, rows, widenings, before, predicted, _loss(exact, moved) - before,
        identity, problem.size, grown.size, eigenvalues, min((s.bound() for s in splits), default=None), list(notes),
        list(left_out),
    )  # fmt: skip


def size_after(problem: Problem, layers: Sequence[Layer], splits: Sequence[Split]) -> int:
    """Weights of the problem's network once these units are split."""
    state = problem.state()
    for layer in layers:
        widening, _moves = _widening(layer, [s for s in splits if s.layer == layer.name])
        state = widening.apply(state)
    return sum(state[name].numel() for name, _shape, _slice in problem.named_slices())


def _widening(layer: Layer, splits: Sequence[Split]) -> tuple[Widening, list[tuple[int, Tensor]]]:
    """The layer with its copies at the end, and (unit, direction) of all units that move."""
    sources, weights = list(range(layer.units)), [1.0] * layer.units
    moves: list[tuple[int, Tensor]] = []
    for split in splits:
        for number, (weight, direction) in enumerate(zip(split.weights, split.directions, strict=True)):
            place = split.unit if number == 0 else len(sources)
            if number:
                sources.append(split.unit)
                weights.append(weight)
            weights[place] = weight
            moves.append((place, direction))
    return layer.widening(sources, weights), moves


def _moved(
    state: Mapping[str, Tensor], layer: str, moves: Sequence[tuple[int, Tensor]], eps: float
) -> dict[str, Tensor]:
    weight, bias = state[f"{layer}.weight"].clone(), state.get(f"{layer}.bias")
    bias = None if bias is None else bias.clone()
    for place, direction in moves:
        entries = weight[place].numel()
        weight[place] += eps * direction[:entries].view_as(weight[place])
        if bias is not None:
            bias[place] += eps * direction[entries]
    return {**state, f"{layer}.weight": weight, **({} if bias is None else {f"{layer}.bias": bias})}


def _loss(problem: Problem, state: Mapping[str, Tensor]) -> float:
    """The mean loss over all samples at a state with its own statistics."""
    problem.load(state)
    found = problem.evaluate(problem.weights())["loss"]
    if not math.isfinite(found):
        raise ProblemError("the loss is not finite, so the network cannot be split; train with a smaller rate")
    return found
