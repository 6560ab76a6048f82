"""Ways of measuring points of a plane: all give the numbers of `Problem.evaluate`, and the fastest one is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from landscape.distributed.parallel import Comm
from landscape.geometry import kernels
from landscape.geometry.directions import random_plane
from landscape.geometry.entries import Entries
from landscape.geometry.meter import Meter, PlaneMeter, Way
from landscape.geometry.quickest import quickest
from landscape.loss.problem import Problem

COMM = Comm()
WAYS = [
    Way(37), Way(0, 16), Way(64, 8, True), Way(200, 1, True, True), Way(1000, 1, False, True),
    Way(64, 3, True, True, True), Way(27, 1, True, True, True), Way(0, 1, False, False, True),
]  # fmt: skip
every_way = pytest.mark.parametrize("way", WAYS, ids=str)
PLACES = np.array([[0.0, 0.0], [0.3, -0.2], [-4.0, 1.5], [40.0, 30.0], [0.1, 0.1]])


def networks() -> dict[str, Problem]:
    """Problems whose data enters in different ways, with test data and a metric of the user's."""
    torch.manual_seed(3)
    images, labels = torch.randn(90, 1, 12, 12), torch.randint(0, 4, (90,))
    rows, values = torch.randn(90, 6), torch.randn(90, 2)
    words, targets = torch.randint(0, 7, (90, 5)), torch.randint(0, 4, (90,))

    class Doubled(nn.Module):
        """Two layers see the data, one of them twice; only the other is replaced."""

        def __init__(self) -> None:
            super().__init__()
            self.once, self.twice, self.last = nn.Linear(6, 5), nn.Linear(6, 5, bias=False), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.tanh(self.once(x) + self.twice(x) + self.twice(x**2)))

    pooled = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(3), nn.Conv2d(3, 4, 2), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4, 4),
    )  # fmt: skip
    embedded = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(15, 4))
    data = {
        "pooled": (pooled, nn.CrossEntropyLoss(), (images, labels)),
        "doubled": (Doubled(), nn.functional.mse_loss, (rows, values)),
        "embedded": (embedded, nn.functional.cross_entropy, (words, targets)),
    }
    spread = {"spread": lambda outputs, _targets: (outputs**2).mean()}
    return {
        name: Problem(model, loss, (x[:60], y[:60]), batch_size=25, test_data=(x[60:], y[60:]), metrics=spread)
        for name, (model, loss, (x, y)) in data.items()
    }


@every_way
@pytest.mark.parametrize("name", ["pooled", "doubled", "embedded"])
def test_every_way_gives_the_numbers_of_one_point_after_the_other(name: str, way: Way) -> None:
    problem = networks()[name].to(dtype=torch.float64)
    plane = random_plane(problem, problem.weights())
    found = PlaneMeter(problem, plane.origin, plane.directions, way).measure(PLACES)
    vectors = torch.cat([plane.points(place[:1], float(place[1])) for place in PLACES])
    assert found.keys() == Meter(problem).names()
    for metric, values in Meter(problem).measure(vectors).items():
        np.testing.assert_allclose(found[metric], values, rtol=1e-11, err_msg=metric)


def test_first_layers_are_those_that_see_nothing_but_data() -> None:
    expected = {"pooled": ["model.0"], "doubled": ["model.once"], "embedded": ["model.0"]}
    for name, problem in networks().items():
        named = {f"model.{n}": x for n, x in problem.unflatten(problem.weights()).items()}
        assert list(Entries(problem.to().objective, [named], problem.batches[0]).layers) == expected[name]


def test_a_block_of_weights_is_measured_with_the_others_held() -> None:
    problem = networks()["pooled"].to(dtype=torch.float64).restricted("4", "7")
    plane = random_plane(problem, problem.weights())
    plain = PlaneMeter(problem, plane.origin, plane.directions, Way()).measure(PLACES)
    with pytest.raises(RuntimeError, match="no linear layer sees the data alone"):
        PlaneMeter(problem, plane.origin, plane.directions, Way(affine=True))
    problem = networks()["pooled"].to(dtype=torch.float64).restricted("0.weight", "7")
    plane = random_plane(problem, problem.weights())
    plain = PlaneMeter(problem, plane.origin, plane.directions, Way()).measure(PLACES)
    affine = PlaneMeter(problem, plane.origin, plane.directions, Way(affine=True)).measure(PLACES)
    np.testing.assert_allclose(affine["loss"], plain["loss"], rtol=1e-11)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(4, 13), st.integers(4, 13), st.integers(0, 2), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_reordered_pooling_is_pooling(
    window: int, stride: int, height: int, width: int, padding: int, ceil: bool, seed: int
) -> None:
    image = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    image[0, 0, height // 2, width // 2] = float("nan")
    padding = min(padding, window // 2)
    wanted = nn.functional.max_pool2d(image, window, stride, padding, ceil_mode=ceil)
    with kernels.Reordered():
        found = nn.functional.max_pool2d(image, window, stride, padding, ceil_mode=ceil)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 80), st.integers(1, 9), st.booleans(), st.integers(0, 10**6))
def test_a_narrow_layer_is_the_layer(samples: int, outputs: int, inputs: int, bias: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = (samples, inputs), (outputs, inputs)
    x, weight = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes)
    shift = torch.randn(outputs, generator=generator, dtype=torch.float64) if bias else None
    wanted = nn.functional.linear(x, weight, shift)
    with kernels.Reordered():
        found = nn.functional.linear(x, weight, shift)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    assert (kernels.linear(x, weight, shift) is None) == (outputs > 64 or samples < 2 * outputs)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 64), st.integers(0, 10**6))
def test_the_first_of_the_largest_is_found_among_equals(samples: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randint(0, 3, (samples, classes), generator=generator).double()  # many are equal
    first = [row.index(max(row)) for row in outputs.tolist()]
    with kernels.Reordered():
        assert outputs.argmax(dim=-1).tolist() == first
        assert torch.argmax(outputs, 1).tolist() == first
        assert int(outputs.argmax()) < outputs.numel()  # another form is left alone
    lost = torch.full((2, classes), torch.nan)
    assert kernels.argmax(lost, -1).tolist() == [classes, classes]  # type: ignore[union-attr]


def test_a_reordered_cross_entropy_is_the_cross_entropy_and_other_forms_are_left_alone() -> None:
    outputs, targets = 300 * torch.randn(50, 7, dtype=torch.float64), torch.randint(0, 7, (50,))
    weight = torch.rand(7, dtype=torch.float64)
    forms: list[dict[str, Any]] = [
        {}, {"reduction": "mean", "ignore_index": -100}, {"label_smoothing": 0.1}, {"reduction": "sum"},
        {"weight": weight}, {"ignore_index": 3},
    ]  # fmt: skip
    for form in forms:
        wanted = nn.functional.cross_entropy(outputs, targets, **form)
        with kernels.Reordered():
            found = nn.functional.cross_entropy(outputs, targets, **form)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    assert kernels.cross_entropy(outputs, targets) is not None
    assert kernels.cross_entropy(outputs, targets, weight=weight) is None


def test_a_way_that_a_model_cannot_go_is_named_and_not_chosen() -> None:
    class Branching(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(inputs)
            return outputs if float(outputs.sum()) > 0 else -outputs

    problem = Problem(Branching(4, 3), nn.functional.cross_entropy, (torch.randn(30, 4), torch.randint(0, 3, (30,))))
    plane = random_plane(problem, problem.weights())
    way, tried = quickest(problem, plane.origin, plane.directions, np.ones(2), 10**6, COMM)
    assert not way.affine
    assert not way.traced
    assert way.points == 1
    failed = {row["way"]: row["failure"] for row in tried if "failure" in row}
    assert any("no linear layer" in failure for failure in failed.values())
    assert "ms_per_point" in tried[0]


def test_a_metric_that_is_no_mean_over_samples_keeps_the_batches_as_they_are() -> None:
    problem = networks()["embedded"]
    problem.metrics = {"largest": lambda outputs, _targets: outputs.max()}
    plane = random_plane(problem, problem.weights())
    way, tried = quickest(problem, plane.origin, plane.directions, np.ones(2), 10**6, COMM)
    assert way.rows == 0
    assert any("differs by" in row.get("failure", "") for row in tried)
