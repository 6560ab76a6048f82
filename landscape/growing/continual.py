"""Tasks one after the other without forgetting: old units are frozen, a new task grows what it lacks (firefly's use).

Every task has a mask of units and a head. A new task reads all frozen units and may, under a budget of new units,

    copy    s(theta_i) -> s(theta_i + v_i)                                 a copy of a frozen unit, unlocked   costs 1
    split   s(theta_i) -> 1/2 [ s(theta_i + v_i) + s(theta_i - v_i) ]      two copies, unlocked                costs 2
    new     + w_j phi(delta_j . x)                                                                             costs 1

each scored by its integrated gradient, as in `candidates`. Only units that a task has made are trained by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

COSTS = {"copy": 1, "split": 2, "new": 1}
Head = Callable[[Tensor], Tensor]


class TaskNetwork(nn.Module):
    """One hidden layer of units, of which every task sees its own.

    `masks[task]` numbers the task's units, `owned[task]` those that it trained, `heads[task]` reads the mask.
    """

    def __init__(self, inputs: int, classes: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.units = nn.Linear(inputs, 1)
        self.units.weight = nn.Parameter(torch.empty(0, inputs))
        self.units.bias = nn.Parameter(torch.empty(0))
        self.activation = activation or nn.Tanh()
        self.classes = classes
        self.heads = nn.ModuleList()
        self.masks: list[Tensor] = []
        self.owned: list[Tensor] = []

    def forward(self, x: Tensor, task: int) -> Tensor:
        mask = self.masks[task]
        z = nn.functional.linear(x, self.units.weight[mask], self.units.bias[mask])
        logits: Tensor = self.heads[task](self.activation(z))
        return logits

    @torch.no_grad()
    def add(self, theta: Tensor) -> Tensor:
        """New units (k, inputs + 1) at the end; their numbers."""
        count = len(self.units.weight)
        weight, bias = self.units.weight, self.units.bias
        self.units.weight = nn.Parameter(torch.cat([weight, theta[:, :-1].to(weight)]))
        self.units.bias = nn.Parameter(torch.cat([bias, theta[:, -1].to(bias)]))
        self.units.out_features = len(self.units.weight)
        return torch.arange(count, len(self.units.weight))

    def begin(self, mask: Tensor, owned: Tensor) -> nn.Linear:
        """A new task on these units, with a head that starts at zero."""
        head = nn.Linear(len(mask), self.classes).to(self.units.weight)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.heads.append(head)
        self.masks.append(mask)
        self.owned.append(owned)
        return head

    def learn(
        self, task: int, x: Tensor, y: Tensor, steps: int, lr: float = 1e-2, batch: int = 64, seed: int = 0
    ) -> None:
        """Adam on the task's head and the units that it owns; the gradient of all others is dropped."""
        mine = torch.zeros(len(self.units.weight), 1).to(self.units.weight)
        mine[self.owned[task]] = 1
        head = list(self.heads[task].parameters())
        own = [(self.units.weight, mine), (self.units.bias, mine[:, 0])] if len(self.owned[task]) else []
        weights: list[Tensor] = [*head, *(weight for weight, _share in own)]
        optimizer = torch.optim.Adam(weights, lr)
        for step in range(steps):
            rows = torch.randint(len(x), (batch,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
            loss = nn.functional.cross_entropy(self(x[rows], task), y[rows])
            gradients = torch.autograd.grad(loss, weights)
            for weight, found in zip(weights, gradients, strict=True):
                weight.grad = found
            for (weight, share), found in zip(own, gradients[len(head) :], strict=True):
                weight.grad = found * share  # that of all others is dropped
            optimizer.step()  # entries without any gradient do not move in Adam

    @torch.no_grad()
    def accuracy(self, task: int, x: Tensor, y: Tensor) -> float:
        return float((self(x, task).argmax(dim=1) == y).double().mean())


def grow_for_task(
    net: TaskNetwork, task: int, x: Tensor, y: Tensor, budget: int, *, eps: float = 0.5, new: int = 20,
    kinds: Sequence[str] = ("copy", "split", "new"), steps: int = 30, points: int = 3, lr: float = 3e-3,
    spread: float = 0.3, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Give the latest task up to `budget` units of its own: candidates of every kind, the best scores a unit first.

    Args:
        x, y: the task's samples (n, inputs) and labels (n,); its head should be trained already.
        eps: largest norm of a move or of a new unit's out-weights; new: candidates of that kind.
        steps, lr: of RMSprop on the candidates; points: midpoints of the integrated gradients.

    Returns:
        How many of each kind, the predicted change of the loss and the measured one.
    """
    found = _TaskCandidates(net, task, eps, new, spread, seed)
    loss = nn.functional.cross_entropy
    optimizer = torch.optim.RMSprop(list(found.weights.values()), lr, 0.9, momentum=0.1)
    for _ in range(steps):
        value = loss(found.outputs(x, None), y)
        for weight, grad in zip(found.weights.values(), torch.autograd.grad(value, list(found.weights.values())),
                                strict=True):  # fmt: skip
            weight.grad = grad
        optimizer.step()
        found.project()
    scores = {kind: torch.zeros_like(gate) for kind, gate in found.gates(0.0).items()}
    for point in range(points):
        gates = found.gates((point + 0.5) / points)
        got = torch.autograd.grad(loss(found.outputs(x, gates), y), list(gates.values()))
        for kind, value in zip(gates, got, strict=True):
            scores[kind] += value / points
    chosen = _pick(scores, budget, kinds)
    with torch.no_grad():
        before = float(loss(net(x, task), y))
        found.apply(chosen)
        after = float(loss(net(x, task), y))
    counts = {kind: sum(k == kind for k, *_ in chosen) for kind in COSTS}
    return {**counts, "predicted": sum(s for *_, s in chosen), "measured": after - before}


def _pick(scores: dict[str, Tensor], budget: int, kinds: Sequence[str]) -> list[tuple[str, int, float]]:
    """Most negative score for its cost first; a unit is copied or split once."""
    every = [(score / COSTS[kind], kind, i, score) for kind in kinds for i, score in enumerate(scores[kind].tolist())]
    chosen, taken = [], set()
    for _rate, kind, i, score in sorted(every):
        free = kind == "new" or i not in taken
        if score < 0 and free and COSTS[kind] <= budget:
            chosen.append((kind, i, score))
            budget -= COSTS[kind]
            taken |= {i} if kind != "new" else set()
    return chosen


class _TaskCandidates:
    """Moves v (mask, inputs + 1) of copies and splits, new units and their out-weights; strengths at most eps."""

    def __init__(self, net: TaskNetwork, task: int, eps: float, new: int, spread: float, seed: int) -> None:
        self.net, self.task, self.eps = net, task, eps
        generator = torch.Generator().manual_seed(seed)
        entries, width = net.units.weight.shape[1] + 1, len(net.masks[task])
        drawn = {"copy": (width, entries, 0.01), "split": (width, entries, eps), "delta": (new, entries, spread),
                 "new": (new, net.classes, 0.01)}  # fmt: skip
        self.weights = {
            name: (size * torch.randn(rows, columns, generator=generator, dtype=torch.float64)).to(net.units.weight)
            .requires_grad_() for name, (rows, columns, size) in drawn.items()
        }  # fmt: skip
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        for kind in COSTS:
            rows = self.weights[kind]
            rows.mul_((self.eps / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1))

    def gates(self, value: float) -> dict[str, Tensor]:
        return {kind: self.weights[kind].new_full((len(self.weights[kind]),), value).requires_grad_() for kind in COSTS}

    def outputs(self, x: Tensor, gates: dict[str, Tensor] | None) -> Tensor:
        """All candidates on: what each adds to its unit's activation is added up."""
        w = {k: self.weights[k] if gates is None else self.weights[k] * gates[k][:, None] for k in COSTS}
        mask, phi, units = self.net.masks[self.task], self.net.activation, self.net.units
        z = nn.functional.linear(x, units.weight[mask], units.bias[mask]).detach()
        a = phi(z)

        def along(theta: Tensor) -> Tensor:
            return nn.functional.linear(x, theta[:, :-1], theta[:, -1])

        up = along(w["split"])
        a = phi(z + along(w["copy"])) + (phi(z + up) + phi(z - up)) / 2 - a
        head = self.net.heads[self.task]
        found: Tensor = head(a) + phi(along(self.weights["delta"])) @ w["new"]
        return found

    @torch.no_grad()
    def apply(self, chosen: Sequence[tuple[str, int, float]]) -> None:
        """New units for the task; what a copy stands for leaves its mask."""
        net, task, head = self.net, self.task, self.net.heads[self.task]
        assert isinstance(head, nn.Linear)
        mask, out = net.masks[task], head.weight  # (classes, mask)
        theta = torch.cat([net.units.weight[mask], net.units.bias[mask][:, None]], dim=1)
        rows, columns, gone = [], [], []
        for kind, i, _score in chosen:
            if kind == "new":
                rows.append(self.weights["delta"][i])
                columns.append(self.weights["new"][i])
                continue
            gone.append(i)
            move = self.weights[kind][i]
            rows += [theta[i] + move] if kind == "copy" else [theta[i] + move, theta[i] - move]
            columns += [out[:, i]] if kind == "copy" else [out[:, i] / 2, out[:, i] / 2]
        if not rows:
            return
        numbers = net.add(torch.stack(rows))
        stay = torch.tensor([i for i in range(len(mask)) if i not in gone], dtype=torch.long)
        head.weight = nn.Parameter(torch.cat([out[:, stay], torch.stack(columns, dim=1)], dim=1))
        head.in_features = head.weight.shape[1]
        net.masks[task] = torch.cat([mask[stay], numbers])
        net.owned[task] = torch.cat([net.owned[task], numbers])
