"""Firefly: what the grown network computes, its scores, and growing without forgetting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from landscape.growing.candidates import Candidates, Choice
from landscape.growing.continual import TaskNetwork, grow_for_task
from landscape.growing.embedding import change_of, embed
from landscape.growing.firefly import grow_model
from landscape.learning.resuming import load_state, save_state
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.added import Residual
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem
from landscape.optimizers._growing import Growing

Built = tuple[nn.Sequential, Tensor, Tensor]


def perceptron() -> Built:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False), nn.Softplus(), nn.Linear(3, 2))
    return model.double().eval(), torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)


def convolutional() -> Built:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh(), nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.Tanh()), nn.Flatten(), nn.Linear(8, 2),
    ).double()  # fmt: skip
    x = torch.randn(10, 1, 8, 8, dtype=torch.float64)
    for _ in range(3):
        model(x)
    return model.eval(), x, torch.randn(10, 2, dtype=torch.float64)


BUILDS = pytest.mark.parametrize("build", [perceptron, convolutional])


def candidates(model: nn.Module, **settings: object) -> Candidates:
    return Candidates(model, **{"eps": 0.3, "units": 2, "layers": 2, "start": 0.3, "spread": 0.5} | settings)  # type: ignore[arg-type]


def everything(found: Candidates) -> list[Choice]:
    return [Choice(*key.rpartition("/")[::-2], i, -1.0) for key, w in found.weights_of_strength().items()
            for i in range(len(w))]  # fmt: skip


@BUILDS
def test_the_grown_network_is_the_one_with_all_candidates_on(build: Callable[[], Built]) -> None:
    model, x, _ = build()
    first = candidates(model)
    first.apply(everything(first))  # the second growth widens what residual layers pass through, and those themselves
    for seed in (1, 2):
        found = candidates(model, seed=seed)
        with torch.no_grad():
            wanted = found.loss(lambda: model(x))
            small = model(x)
            found.apply(everything(found))
            torch.testing.assert_close(model(x), wanted, rtol=1e-12, atol=1e-12)
        assert float((wanted - small).detach().abs().max()) > 1e-3
    assert any(isinstance(m, Residual) for m in model.modules())


@BUILDS
def test_at_strength_zero_the_grown_network_computes_what_the_small_one_did(build: Callable[[], Built]) -> None:
    model, x, _ = build()
    before, names = model(x), dict(model.named_parameters())
    found = candidates(model, eps=0.0)
    origins = found.apply(everything(found))
    assert float((model(x) - before).detach().abs().max()) <= 1e-13
    for h in found.hidden.values():
        assert origins[h.name].tolist() == [*range(h.units // 2 - 1), *range(h.units // 2 - 1), -1, -1]
    assert all(dict(model.named_parameters())[name] is weight for name, weight in names.items())


def test_scores_sum_to_the_joint_change_and_each_predicts_its_own() -> None:
    model, x, y = perceptron()
    found = candidates(model, eps=0.05, layers=1)

    def loss() -> Tensor:
        return (model(x) - y).square().mean()

    joint = float(found.loss(loss).detach() - loss().detach())
    gaps = []
    for points in (1, 3, 12):
        scores = found.scores([loss], points)
        gaps.append(abs(float(sum(s.sum() for s in scores.values())) - joint) / abs(joint))
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 1e-3
    best = found.choices(scores)[0]
    alone = copy.deepcopy(found)
    before = float(loss().detach())
    measured = []
    for choice in (best, found.choices(scores)[-1]):
        gates = {key: torch.zeros_like(g) for key, g in found.gates(0.0).items()}
        gates[f"{choice.layer}/{choice.kind}"][choice.index] = 1
        measured.append(float(alone_loss(found, loss, gates)) - before)
    assert measured[0] < 0 < measured[1]
    assert alone.choices(scores)[0] == best


def alone_loss(found: Candidates, loss: Callable[[], Tensor], gates: dict[str, Tensor]) -> Tensor:
    return found.loss(loss, gates).detach()


def test_growing_keeps_the_budget_lowers_the_loss_as_predicted_and_leaves_the_model() -> None:
    model, x, y = perceptron()
    state = {n: t.clone() for n, t in model.state_dict().items()}

    def losses(net: nn.Module) -> list[Callable[[], Tensor]]:
        return [lambda: (net(x[:15]) - y[:15]).square().mean(), lambda: (net(x[15:]) - y[15:]).square().mean()]

    grown, report = grow_model(model, losses, budget=3, steps=40, eps=0.02, units=3, layers=1, spread=0.5)
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert len(report.chosen) == 3
    assert report.measured == pytest.approx(report.predicted, rel=0.2)
    assert report.measured < 0
    with torch.no_grad():
        assert report.after == pytest.approx(float((grown(x) - y).square().mean()), rel=1e-12)
    assert report.total == pytest.approx(report.joint, rel=0.02)


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
