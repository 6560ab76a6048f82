"""All ways in which a network may grow, at once and differentiable (firefly; Wu, Liu, Stone & Liu 2020).

    split       s(theta_i)  ->  1/2 [ s(theta_i + v_i) + s(theta_i - v_i) ]
    new unit    + w_j phi(delta_j . h)
    new layer   h  ->  h + sum_j u_j phi(delta_j . h)

with |v_i|, |w_j|, |u_j| <= eps: the strength and the direction of a candidate in one vector. A gate multiplies each of
these, so that the gradient by a gate is the derivative by the strength.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..loss.added import Residual
from .chains import Chain, Hidden, chains_of, frozen, hidden_of, linear_map, running, theta_map
from .widening import Additions, widen

Loss = Callable[[], Tensor]
KINDS = ("split", "unit", "layer")


@dataclass(frozen=True)
class Choice:
    """One candidate: what it is, where, and the change of the loss that its score predicts."""

    kind: str  # split, unit, layer
    layer: str
    index: int
    score: float


class Candidates:
    """Candidates of every hidden layer of a model.

    Args:
        eps: largest strength.
        units: new units a hidden layer.
        layers: units of the new layer behind each hidden layer.
        splits: whether old units may split.
        start: v is drawn from U(-start, start), entry by entry, then cut to eps.
        spread: standard deviation of delta.
    """

    def __init__(
        self, model: nn.Module, *, eps: float = 1e-2, units: int = 70, layers: int = 0, splits: bool = True,
        start: float = 0.1, spread: float = 0.1, seed: int = 0,
    ) -> None:  # fmt: skip
        self.model, self.eps, self.chains = model, eps, chains_of(model)
        self.hidden: dict[str, Hidden] = {h.name: h for h in hidden_of(self.chains)}
        generator = torch.Generator().manual_seed(seed)
        self.weights: dict[str, Tensor] = {}  # '<layer>/<what>'
        for name, h in self.hidden.items():
            self._draw(name, h, generator, (splits, units, layers), start, spread)
        self.project()

    def _draw(
        self, name: str, h: Hidden, generator: torch.Generator, counts: tuple[bool, int, int], start: float,
        spread: float,
    ) -> None:  # fmt: skip
        def uniform(*shape: int, size: float) -> Tensor:
            return size * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)

        def normal(*shape: int) -> Tensor:
            return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)

        splits, units, layers = counts
        entries = h.units * (9 if isinstance(h.producer, nn.Conv2d) else 1) + 1
        width, *taps = h.reader.weight.shape
        drawn = {
            "split": uniform(h.units if splits else 0, h.inputs, size=start),
            "unit_in": normal(units, h.inputs),
            "unit": uniform(units, width, h.places, *taps[1:], size=self.eps),  # one row a candidate
            "layer_in": normal(layers, entries),
            "layer": uniform(layers, h.units, size=self.eps),
        }
        for what, value in drawn.items():
            self.weights[f"{name}/{what}"] = value.to(h.producer.weight).requires_grad_()

    @torch.no_grad()
    def project(self) -> None:
        """Cut every strength to eps."""
        for rows in self.weights_of_strength().values():
            norm = rows.flatten(1).norm(dim=1).clamp(min=1e-300)
            rows.mul_((self.eps / norm).clamp(max=1).view(-1, *[1] * (rows.ndim - 1)))

    def weights_of_strength(self) -> dict[str, Tensor]:
        return {key: value for key, value in self.weights.items() if key.rpartition("/")[2] in KINDS}

    # ------------------------------------------------------------------ the network with candidates

    def loss(self, loss: Loss, gates: dict[str, Tensor] | None = None) -> Tensor:
        """The loss with all candidates on, each multiplied by its gate; BatchNorm frozen, dropout off."""
        with running(self.chains, lambda chain, x: self._run(chain, x, gates)), torch.enable_grad():
            return loss()

    def gates(self, value: float) -> dict[str, Tensor]:
        """A gate a candidate."""
        return {key: w.new_full((len(w),), value).requires_grad_() for key, w in self.weights_of_strength().items()}

    def _of(self, h: Hidden, what: str, gates: dict[str, Tensor] | None) -> Tensor:
        rows = self.weights[f"{h.name}/{what}"]
        return rows if gates is None else rows * gates[f"{h.name}/{what}"].view(-1, *[1] * (rows.ndim - 1))

    def _run(self, chain: Chain, x: Tensor, gates: dict[str, Tensor] | None) -> Tensor:
        copies, new = [x], None  # the units with their moves up and down; the new units beside them
        starts = {h.at: h for h in chain.hidden}
        ends = {h.activation: h for h in chain.hidden}
        reads = {h.read_at: h for h in chain.hidden}
        for at, module in enumerate(chain.modules):
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                h = _mean(copies)
                out = module(h)
                if at in reads and new is not None:
                    out = out + linear_map(module, new, _columns(self._of(reads[at], "unit", gates)))
                copies, new = [out], None
                if at in starts:
                    copies, new = self._begin(starts[at], h, out, gates)
                continue
            if isinstance(module, Residual):  # reads the mean of the copies and leaves new units alone
                added = module.inner(_mean(copies))
                copies = [c + added for c in copies]
                continue
            copies = [frozen(module, c) for c in copies]
            if new is not None and at not in {h.norm for h in chain.hidden}:
                new = frozen(module, new)
            if at in ends and len(self.weights[f"{ends[at].name}/layer_in"]):
                added = self._layer(ends[at], module, gates)(_mean(copies))
                copies = [c + added for c in copies]
        return _mean(copies)

    def _begin(
        self, h: Hidden, x: Tensor, out: Tensor, gates: dict[str, Tensor] | None
    ) -> tuple[list[Tensor], Tensor | None]:
        copies, new = [out], None
        if len(self.weights[f"{h.name}/split"]):
            move = theta_map(h.producer, x, self._of(h, "split", gates))
            copies = [out + move, out - move]
        if len(self.weights[f"{h.name}/unit_in"]):
            new = theta_map(h.producer, x, self.weights[f"{h.name}/unit_in"])
        return copies, new

    def _layer(self, h: Hidden, activation: nn.Module, gates: dict[str, Tensor] | None) -> Callable[[Tensor], Tensor]:
        theta, out = self.weights[f"{h.name}/layer_in"], self._of(h, "layer", gates).T  # (units, r)

        def added(x: Tensor) -> Tensor:
            if isinstance(h.producer, nn.Linear):
                units: Tensor = activation(nn.functional.linear(x, theta[:, :-1], theta[:, -1]))
                return units @ out.T
            inner = nn.functional.conv2d(x, theta[:, :-1].reshape(len(theta), -1, 3, 3), theta[:, -1], padding=1)
            return nn.functional.conv2d(activation(inner), out[:, :, None, None])

        return added

    # ------------------------------------------------------------------ optimise, score, choose

    def scores(self, losses: Sequence[Loss], points: int) -> dict[str, Tensor]:
        """s_i = mean over midpoints t of dL / d gate_i at t, all candidates scaled together: integrated gradients.

        Their sum is L(all on) - L(all off) up to the error of the midpoint rule.
        """
        found = {key: torch.zeros(len(w)).to(w) for key, w in self.weights_of_strength().items()}
        for point in range(points):
            for loss in losses:
                gates = self.gates((point + 0.5) / points)
                got = torch.autograd.grad(self.loss(loss, gates), list(gates.values()), materialize_grads=True)
                for key, value in zip(gates, got, strict=True):
                    found[key] += value / (points * len(losses))
        return found

    def choices(self, scores: dict[str, Tensor]) -> list[Choice]:
        """All candidates, the most negative score first."""
        found = []
        for key, values in scores.items():
            layer, _, kind = key.rpartition("/")
            found += [Choice(kind, layer, i, score) for i, score in enumerate(values.tolist())]
        return sorted(found, key=lambda c: c.score)

    def apply(self, chosen: Sequence[Choice]) -> dict[str, Tensor]:
        """Grow the model in place by the chosen candidates; layer -> which unit each of its units was, -1 for new."""
        origins: dict[int, Tensor] = {}
        found = {}
        for chain in reversed(self.chains):  # those inside a residual layer before the one that it lies in
            for h in reversed(chain.hidden):
                mine = {kind: torch.tensor([c.index for c in chosen if c.layer == h.name and c.kind == kind],
                                           dtype=torch.long) for kind in KINDS}  # fmt: skip
                if any(len(rows) for rows in mine.values()):
                    origins[id(h.producer)] = widen(chain, h, self._widening(h, mine), origins.get(id(h.reader)))
                    found[h.name] = origins[id(h.producer)]
        return found

    def _widening(self, h: Hidden, mine: dict[str, Tensor]) -> Additions:
        w = {what: self.weights[f"{h.name}/{what}"].detach()
             for what in ("split", "unit_in", "unit", "layer_in", "layer")}  # fmt: skip
        return Additions(
            split=mine["split"], moves=w["split"][mine["split"]],
            fresh_in=w["unit_in"][mine["unit"]], fresh_out=_columns(w["unit"][mine["unit"]]),
            layer_in=w["layer_in"][mine["layer"]], layer_out=w["layer"][mine["layer"]].T,
        )  # fmt: skip


def _columns(rows: Tensor) -> Tensor:
    """Out-weights (q, readers, places, ...) as a reader's weight (readers, q * places, ...)."""
    return rows.transpose(0, 1).flatten(1, 2)


def _mean(copies: list[Tensor]) -> Tensor:
    return copies[0] if len(copies) == 1 else (copies[0] + copies[1]) / 2


