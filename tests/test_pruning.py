"""Pruning: a smaller network with the same outputs, read from the traced graph of whatever network it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from small_problems import convolutional, digits
from test_alignment import Residual, Unknown, images, three_layers, tokens
from torch import Tensor, nn

from landscape.errors import ProblemError
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.problem import Problem
from landscape.networks.pruning import group_norms, prune
from landscape.networks.symmetries import symmetries_of


def outputs(problem: Problem) -> Tensor:
    exact = problem.to(dtype=torch.float64)
    return torch.cat([exact.outcome(exact.weights(), batch)[1].detach() for batch in exact.batches])


def kill(problem: Problem, rows: dict[str, list[int]]) -> None:
    """Set the incoming weights of some units to zero; biases stay."""
    with torch.no_grad():
        for name, units in rows.items():
            problem.model.get_submodule(name).get_parameter("weight")[units] = 0


class Depthwise(nn.Module):
    """Channels go one by one through a depthwise convolution, and are added to what they were."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.head((x + self.depthwise(x)).mean((2, 3)))


def ready(name: str) -> Problem:
    torch.manual_seed(1)
    if name == "mlp":
        problem = images(three_layers())
        kill(problem, {"1": [0, 3, 31], "3": [2, 5]})
    elif name == "cnn":  # BatchNorm makes a constant of a dead channel; the next convolution has no padding
        problem = convolutional()
        with torch.no_grad():
            problem.model[1].bias.normal_()  # type: ignore[union-attr,operator,index]
        kill(problem, {"0": [1, 4], "3": [0, 2]})
    elif name == "depthwise":
        problem = images(Depthwise())
        kill(problem, {"stem": [2, 3]})
        with torch.no_grad():
            problem.model.stem.bias[[2, 3]] = -0.5  # type: ignore[union-attr,operator,index]
    else:
        problem = images(Residual())
        with torch.no_grad():  # a padded convolution reads it: only a channel of zeros can go
            problem.model.norm1.bias[4] = -1.0  # type: ignore[union-attr,operator,index]
            problem.model.norm1.running_mean[4] = 0.0  # type: ignore[union-attr,operator,index]
            problem.model.norm1.bias[5] = 1.0  # type: ignore[union-attr,operator,index]
            problem.model.norm1.running_mean[5] = 0.0  # type: ignore[union-attr,operator,index]
        kill(problem, {"conv1": [4, 5], "hidden": [7]})
    return problem.to(dtype=torch.float64)  # in which moving a constant into a bias is exact to its rounding


REMOVED = {
    "mlp": {"1": 3, "3": 2},
    "cnn": {"0": 1, "3": 1},  # groups of three channels: the same place of both groups must be dead, 1 and 4
    "resnet": {"conv1": 1, "hidden": 1},
    "depthwise": {"stem": 2},
}


@pytest.mark.parametrize("name", REMOVED)
def test_the_pruned_network_has_the_same_outputs_and_fewer_weights(name: str) -> None:
    problem = ready(name)
    before, wanted = problem.state(), outputs(problem)
    found = prune(problem)
    torch.testing.assert_close(outputs(found.problem), wanted, rtol=1e-9, atol=1e-11)
    assert found.removed == REMOVED[name]
    assert found.after < found.before == problem.size
    assert found.change < 1e-8
    assert found.zeroed == 0.0
    assert all(torch.equal(before[n], t) for n, t in problem.state().items())  # the problem itself is as it was


def test_shapes_and_attributes_say_what_is_left() -> None:
    small = prune(ready("mlp")).problem.model
    assert [(m.in_features, m.out_features) for m in small.modules() if isinstance(m, nn.Linear)] == [
        (64, 29), (29, 22), (22, 10)
    ]  # fmt: skip
    convolutions = [m for m in prune(ready("cnn")).problem.model.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.groups) for c in convolutions] == [(1, 4, 1), (4, 2, 2)]
    depthwise = prune(ready("depthwise")).problem.model.depthwise
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (4, 4, 4)  # type: ignore[union-attr]


def test_a_channel_whose_constant_a_padded_convolution_reads_stays() -> None:
    """Inside the image the constant is a bias; at the border the padding is 0, and no bias can be that."""
    found = prune(ready("resnet"))
    assert found.stayed == 1


def test_constants_move_into_the_next_bias() -> None:
    """relu(bias) of a dead neuron is what the next layer must add."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight[1] = 0
        model[0].bias[1] = 2.0
    problem = Problem(model, nn.functional.mse_loss, (torch.randn(8, 3), torch.zeros(8, 1)))
    small = prune(problem).problem.model
    assert float(small[2].bias.detach()) == pytest.approx(2.0 * float(model[2].weight[0, 1].detach()))  # type: ignore[index,union-attr]
    assert small[0].weight.shape == (1, 3)  # type: ignore[index,union-attr]


def test_a_threshold_sets_small_weights_to_zero_first_and_says_what_that_changes() -> None:
    problem = ready("mlp")
    with torch.no_grad():
        problem.model[1].weight[7] = 1e-6  # type: ignore[union-attr,operator,index]
        problem.model[1].bias[7] = 1.0  # type: ignore[union-attr,operator,index]
    assert prune(problem).removed["1"] == 3
    found = prune(problem, threshold=1e-5)
    assert found.removed["1"] == 4
    assert 0 < found.zeroed < 1e-4
    assert found.change < 1e-8


def test_a_layer_keeps_one_unit() -> None:
    problem = images(three_layers()).to(dtype=torch.float64)
    kill(problem, {"3": list(range(24))})
    found = prune(problem)
    assert found.removed == {"3": 23}
    torch.testing.assert_close(outputs(found.problem), outputs(problem), rtol=1e-9, atol=1e-11)


def test_units_under_a_normalisation_across_them_stay() -> None:
    problem = tokens()
    kill(problem, {"embedding": [3], "layer.linear1": [0, 5]})
    found = prune(problem)
    assert found.removed == {"layer.linear1": 2}  # the stream is normalised across its units; the hidden layer is not
    torch.testing.assert_close(outputs(found.problem), outputs(problem), rtol=1e-8, atol=1e-10)


def test_a_forward_with_a_size_in_it_is_left_as_it_is() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(64, 12), nn.Linear(12, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x.flatten(1))).view(-1, 12))

    problem = images(Stubborn())
    kill(problem, {"first": [1]})
    found = prune(problem)
    assert (found.removed, found.stayed, found.after) == ({}, 1, problem.size)
    torch.testing.assert_close(outputs(found.problem), outputs(problem))


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.first, self.second = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.head = nn.Linear(6, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.lift(x.flatten(1))
            return self.head(x + self.first(x) + self.second(x))

    torch.manual_seed(0)
    problem = images(Tied()).to(dtype=torch.float64)
    kill(problem, {"lift": [2], "first": [2]})
    found = prune(problem)
    assert found.removed.get("lift") == 1
    assert found.problem.model.first.weight is found.problem.model.second.weight  # type: ignore[union-attr]
    torch.testing.assert_close(outputs(found.problem), outputs(problem), rtol=1e-9, atol=1e-11)


def test_a_network_without_a_rule_is_pruned_where_it_is_known() -> None:
    problem = images(Unknown())
    kill(problem, {"first": [4], "second": [0]})
    found = prune(problem)
    assert found.removed == {"first": 1}


def test_a_model_that_cannot_be_traced_says_so() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1))

    with pytest.raises(ProblemError, match="nothing can be pruned: the model cannot be traced"):
        prune(images(Branching()))


def test_group_sparse_training_prunes_the_digits_network_and_the_engine_takes_the_rest() -> None:
    """ProxSGD with the group norm over neurons, then a smaller network of the same outputs."""
    problem = digits()
    settings: dict[str, Any] = {"lr": 0.05, "lr_decay": 0.0, "rho": 0.1, "rho_decay": 0.0, "regularizer": "group",
                                "mu": 1e-2, "mean_metric": True, "vectors": False}  # fmt: skip
    optimizer = make_optimizer("prox_sgd", problem.model, settings)
    batches = MiniBatches(problem, 64, 0)
    for step in range(400):
        train_step(problem, optimizer, batches.at(step))
    found = prune(problem, threshold=1e-4)
    dense, small = (p.evaluate(p.weights()) for p in (problem, found.problem))
    assert found.after < 0.7 * found.before
    assert small["loss"] == pytest.approx(dense["loss"], rel=1e-2)
    assert small["accuracy"] > 0.9
    vector = found.problem.weights().requires_grad_()
    (gradient,) = torch.autograd.grad(found.problem.batch_loss(vector, found.problem.batches[0]), vector)
    assert gradient.shape == (found.after,)


def test_norms_are_those_of_rows() -> None:
    state = copy.deepcopy(dict(three_layers().state_dict()))
    norms = group_norms(state)
    assert sorted(norms) == ["1.weight", "3.weight", "6.weight"]
    torch.testing.assert_close(norms["3.weight"][4], state["3.weight"][4].double().norm())


def test_the_wiring_agrees_with_the_symmetries() -> None:
    problem = ready("depthwise")
    assert symmetries_of(problem).sizes == [6]
