"""Firefly: what the grown network computes, its scores, and growing without forgetting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.errors import ProblemError
from landscape.growing.candidates import MIXED, Candidates, Choice
from landscape.growing.continual import TaskNetwork, grow_for_task
from landscape.growing.embedding import Widening, change_of, embed
from landscape.growing.firefly import grow
from landscape.growing.units import OUTPUTS, layers_of
from landscape.learning.resuming import load_state, save_state
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.added import Residual
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem
from landscape.optimizers._growing import Growing


def perceptron() -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False), nn.Softplus(), nn.Linear(3, 2))
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    return Problem(model.double(), F.mse_loss, (x, y), batch_size=20)


def convolutional() -> Problem:
    torch.manual_seed(0)
    return of_images(nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh(), nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.Tanh()), nn.Flatten(), nn.Linear(8, 2),
    ))  # fmt: skip


class Skip(nn.Module):
    """A residual block between a convolution and a head; activations and pooling are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm, self.outer, self.head = nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1), nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.tanh(self.stem(x)), 2)
        inner = torch.tanh(self.norm(self.inner(x)))
        return self.head(torch.tanh(x + self.outer(inner)).flatten(1))


def skipping() -> Problem:
    torch.manual_seed(0)
    return of_images(Skip())


def of_images(model: nn.Module) -> Problem:
    x, y = torch.randn(10, 1, 8, 8, dtype=torch.float64), torch.randn(10, 2, dtype=torch.float64)
    model = model.double()
    for _ in range(3):
        model(x)  # running statistics that are not 0 and 1
    return Problem(model, F.mse_loss, (x, y), batch_size=6)


BUILDS = pytest.mark.parametrize("build", [perceptron, convolutional, skipping])


def candidates(problem: Problem, **settings: Any) -> Candidates:
    return Candidates(problem, **{"eps": 0.3, "units": 2, "layers": 2, "start": 0.3, "spread": 0.5} | settings)


def everything(found: Candidates) -> list[Choice]:
    return [Choice(*key.rpartition("/")[::-2], i, -1.0) for key, w in found.weights_of_strength().items()
            for i in range(len(w))]  # fmt: skip


def outputs(problem: Problem) -> Tensor:
    return torch.cat([problem.outcome(problem.weights(), batch)[1] for batch in problem.batches])


# ---------------------------------------------------------------------- the definitions, by hand


def perceptron_by_hand(m: Any, w: dict[str, Tensor], x: Tensor) -> Tensor:
    z, v = m[0](x), F.linear(x, w["0/split"][:, :-1], w["0/split"][:, -1])
    h = (torch.tanh(z + v) + torch.tanh(z - v)) / 2
    h = h + torch.tanh(F.linear(h, w["0/layer_in"][:, :-1], w["0/layer_in"][:, -1])) @ w["0/layer"]
    new = torch.tanh(F.linear(x, w["0/unit_in"][:, :-1], w["0/unit_in"][:, -1]))
    z, v = m[2](h) + new @ w["0/unit"], F.linear(h, w["2/split"])
    new = F.softplus(F.linear(h, w["2/unit_in"]))
    h = (F.softplus(z + v) + F.softplus(z - v)) / 2
    h = h + F.softplus(F.linear(h, w["2/layer_in"][:, :-1], w["2/layer_in"][:, -1])) @ w["2/layer"]
    return m[4](h) + new @ w["2/unit"]


def convolutional_by_hand(m: Any, w: dict[str, Tensor], x: Tensor) -> Tensor:
    def layer(name: str, h: Tensor) -> Tensor:
        theta = w[f"{name}/layer_in"]
        inner = F.conv2d(h, theta[:, :-1].view(len(theta), -1, 3, 3), theta[:, -1], padding=1)
        return torch.einsum("nrxy,ru->nuxy", torch.tanh(inner), w[f"{name}/layer"])

    z, v = m[0](x), F.conv2d(x, w["0/split"][:, :-1].view(3, 1, 3, 3), w["0/split"][:, -1], padding=1)
    up, down = torch.tanh(m[1](z + v)), torch.tanh(m[1](z - v))
    added = layer("0", (up + down) / 2)
    h = (F.max_pool2d(up + added, 2) + F.max_pool2d(down + added, 2)) / 2
    new = torch.tanh(F.conv2d(x, w["0/unit_in"][:, :-1].view(2, 1, 3, 3), w["0/unit_in"][:, -1], padding=1))
    z = m[4][0](h) + F.conv2d(F.max_pool2d(new, 2), w["0/unit"].view(2, 2, 3, 3).transpose(0, 1))
    v = F.conv2d(h, w["4.0/split"].view(2, 3, 3, 3))
    new = torch.tanh(F.conv2d(h, w["4.0/unit_in"].view(2, 3, 3, 3)))
    h = (torch.tanh(z + v) + torch.tanh(z - v)) / 2
    read = torch.einsum("nqp,qrp->nr", new.flatten(2), w["4.0/unit"].view(2, 2, 4))
    return m[6]((h + layer("4.0", h)).flatten(1)) + read


def skipping_by_hand(m: Any, w: dict[str, Tensor], x: Tensor) -> Tensor:
    x = F.avg_pool2d(torch.tanh(m.stem(x)), 2)
    z, v = m.inner(x), F.conv2d(x, w["inner/split"].view(4, 3, 3, 3), padding=1)
    h = (torch.tanh(m.norm(z + v)) + torch.tanh(m.norm(z - v))) / 2
    new = torch.tanh(F.conv2d(x, w["inner/unit_in"].view(2, 3, 3, 3), padding=1))
    read = m.outer(h) + F.conv2d(new, w["inner/unit"].view(2, 3, 3, 3).transpose(0, 1), padding=1)
    return m.head(torch.tanh(x + read).flatten(1))


@pytest.mark.parametrize(("build", "by_hand"), [
    (perceptron, perceptron_by_hand), (convolutional, convolutional_by_hand), (skipping, skipping_by_hand),
])  # fmt: skip
def test_the_grown_network_is_the_one_that_the_candidates_define(build: Any, by_hand: Any) -> None:
    problem = build()
    found = candidates(problem)
    with torch.no_grad():
        wanted = torch.cat([by_hand(problem.model, found.weights, x) for x, _y in problem.batches])
        grown, _changes = found.grown(everything(found))
        torch.testing.assert_close(outputs(grown), wanted, rtol=1e-12, atol=1e-12)
        joint = sum(found.loss(number) for number in found.batches) / len(found.batches)
        assert float((wanted - outputs(problem)).abs().max()) > 1e-3
    assert float(joint) == pytest.approx(grown.evaluate(grown.weights())["loss"], rel=1e-12)
    assert any(isinstance(m, Residual) for m in grown.model.modules()) == (build is not skipping)


@BUILDS
def test_at_strength_zero_the_grown_network_computes_what_the_small_one_did(build: Callable[[], Problem]) -> None:
    problem = build()
    before = outputs(problem)
    for _ in range(2):  # the second time through residual layers, and in them
        found = candidates(problem, eps=0.0)
        wider, changes = found.grown(everything(found))
        assert (outputs(wider) - before).detach().abs().max() <= 1e-13
        for change, layer in zip(changes, found.layers, strict=False):
            assert isinstance(change, Widening)
            assert change.sources == [*range(layer.units), *range(layer.units), -1, -1]
        again = json.loads(json.dumps([change.as_dict() for change in changes]))  # what a run keeps
        state = embed(problem.state(), [change_of(values) for values in again])
        wider.load(state)
        assert (outputs(wider) - before).detach().abs().max() <= 1e-13
        problem = found.grown(everything(found)[::2])[0]
        before = outputs(problem)


def test_layers_that_feed_a_sum_are_left_out_and_told() -> None:
    found = candidates(skipping())
    assert [layer.name for layer in found.layers] == ["inner"]
    assert found.left_out == [
        "'stem': its units are also made by layer 'outer', for both feed one sum",
        "'outer': its units are also made by layer 'stem', for both feed one sum",
    ]  # and not 'head', whose units are no hidden ones
    with pytest.raises(ProblemError, match=f"'head' cannot grow: {OUTPUTS}"):
        layers_of(skipping()).need("head")


def test_layers_whose_units_act_on_each_other_are_left_out() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, 2, dtype=torch.float64)
    normed = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    found = candidates(Problem(normed.double(), F.mse_loss, (x, y)))
    assert [layer.name for layer in found.layers] == ["3"]
    assert f"'0': {MIXED}" in found.left_out
    with pytest.raises(ProblemError, match=r"no layer of this network can grow: .*'0': its units act on each other"):
        candidates(Problem(normed[:4], F.mse_loss, (x, y.repeat(1, 3))))


def test_scores_sum_to_the_joint_change_and_each_predicts_its_own() -> None:
    problem = perceptron()
    found = candidates(problem, eps=0.05, layers=1)

    def loss(gates: dict[str, Tensor] | None = None) -> float:
        return sum(float(found.loss(number, gates).detach()) for number in found.batches) / len(found.batches)

    before = problem.evaluate(problem.weights())["loss"]
    joint, gaps = loss() - before, []
    for points in (1, 3, 12):
        scores = found.scores(points)
        gaps.append(abs(float(sum(s.sum() for s in scores.values())) - joint) / abs(joint))
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 1e-3
    measured = []
    for choice in (found.choices(scores)[0], found.choices(scores)[-1]):
        gates = {key: torch.zeros_like(g) for key, g in found.gates(0.0).items()}
        gates[f"{choice.layer}/{choice.kind}"][choice.index] = 1
        measured.append(loss(gates) - before)
        grown, _changes = found.grown([choice])
        assert grown.evaluate(grown.weights())["loss"] - before == pytest.approx(measured[-1], rel=1e-9)
    assert measured[0] < 0 < measured[1]


@BUILDS
def test_growing_keeps_the_number_lowers_the_loss_as_predicted_and_leaves_the_problem(build: Any) -> None:
    problem = build()
    state = problem.state()
    settings: dict[str, Any] = {"steps": 12, "eps": 0.02, "units": 3, "layers": 1, "spread": 0.5}
    result = grow(problem, number=3, **settings)
    assert result is not None
    grown, growth = result
    assert all(torch.equal(t, state[n]) for n, t in problem.state().items())
    assert len(growth.rows) == 3
    assert growth.measured < 0
    assert growth.measured == pytest.approx(growth.predicted, rel=0.2)
    assert abs(growth.identity) <= 1e-12
    assert growth.before + growth.measured == pytest.approx(grown.evaluate(grown.weights())["loss"], rel=1e-12)
    assert growth.size_after == grown.size > problem.size
    smaller = grow(problem, number=3, most=grown.size - 1, **settings)
    assert smaller is None or smaller[0].size < grown.size


def test_a_new_task_grows_what_it_lacks_and_moves_no_other() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(60, 6), torch.randint(3, (60,))
    net = TaskNetwork(6, 3)
    first = net.add(torch.randn(4, 7))
    net.begin(first, first)
    net.learn(0, x, y, 20)
    old = net(x, 0).detach()
    net.begin(torch.arange(4), torch.arange(0))
    net.learn(1, x[:, torch.randperm(6)], y, 20)
    before = float(nn.functional.cross_entropy(net(x, 1), y).detach())
    for kinds, budget in ((("copy",), 2), (("split",), 3), (("new",), 3)):
        units = len(net.units.weight)
        report = grow_for_task(net, 1, x, y, budget, kinds=kinds, steps=20)
        added = report["copy"] + 2 * report["split"] + report["new"]
        assert 0 < added == len(net.units.weight) - units <= budget
        assert report["predicted"] < 0
        assert report["measured"] < 0
    assert float(nn.functional.cross_entropy(net(x, 1), y).detach()) < before
    net.learn(1, x, y, 20)
    assert torch.equal(net(x, 0), old)
    assert set(net.owned[1].tolist()) == set(range(4, len(net.units.weight)))


def firefly(number: int = 4) -> tuple[Problem, torch.optim.Optimizer]:
    problem = build_problem("digits_mlp", {"hidden": [3, 4], "seed": 0}).to(dtype=torch.float64)
    return problem, make_optimizer("firefly", problem.model, {
        "inner": "adam", "lr": 0.01, "every": 2, "rounds": 1, "number": number, "units": 3, "tune": 5, "spread": 0.3,
        "eps": 0.05, "layers": 2,
    }, problem)  # fmt: skip


def test_a_training_goes_on_in_the_grown_network_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    problem, optimizer = firefly(number=13)
    batches = MiniBatches(problem, 64, 0)
    for step in range(4):
        if step == 3:
            save_state(tmp_path, step, problem.model, optimizer)
        train_step(problem, optimizer, batches.at(step))
    again, other = firefly(number=13)
    load_state(tmp_path, 3, again.model, other)
    assert any(isinstance(m, Residual) for m in again.model.modules())
    train_step(again, other, MiniBatches(again, 64, 0).at(3))
    assert torch.equal(again.weights(), problem.weights())
    small = firefly()[0]
    for state in (small.state(), problem.state(), small.state()):  # as a job does at its checkpoints
        again.fit(state)
        again.load(state)
        assert {n: t.shape for n, t in again.state().items()} == {n: t.shape for n, t in state.items()}
        assert again.size == sum(p.numel() for p in again.model.parameters())
    assert torch.equal(again.weights(), small.weights())


def test_training_grows_and_its_event_maps_the_small_network_into_the_grown_one() -> None:
    problem, optimizer = firefly()
    assert isinstance(optimizer, Growing)
    batches = MiniBatches(problem, 64, 0)
    for step in range(2):
        train_step(problem, optimizer, batches.at(step))
    before, state = problem.evaluate(problem.weights())["loss"], problem.state()
    found = optimizer.grown()
    assert found is not None
    wider, growth = found
    assert growth.before == pytest.approx(before, rel=1e-12)
    assert abs(growth.identity) <= 1e-12
    assert growth.measured == pytest.approx(wider.evaluate(wider.weights())["loss"] - before, abs=1e-12)
    assert growth.measured < 0
    assert growth.predicted == pytest.approx(growth.measured, rel=0.2)
    wider.load(embed(state, [change_of(w) for w in growth.event()["widenings"]]))
    assert wider.evaluate(wider.weights())["loss"] == pytest.approx(before, rel=1e-12)
    train_step(problem, optimizer, batches.at(2))
    assert problem.size == wider.size > sum(t.numel() for t in state.values())
    assert optimizer.events[0]["method"] == "firefly"
    assert len(optimizer.events[0]["rows"]) == 4
