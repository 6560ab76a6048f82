"""Permutation symmetries read from traced graphs, and the alignment of a permuted copy back onto the original."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_problems import convolutional, digits, train, two_minima
from torch import Tensor, nn

from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError
from landscape.geometry.curve import straight
from landscape.geometry.path import follow
from landscape.loss.problem import Problem
from landscape.networks.alignment import align, check_preserved
from landscape.networks.axes import Factor, fresh, length, reshape, resolve, unify
from landscape.networks.symmetries import Symmetries, symmetries_of


class Residual(nn.Module):
    """A residual block, a depthwise and a grouped convolution, pooling, LayerNorm on a flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 8, 3, padding=1)
        self.depthwise, self.grouped = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1, groups=2)
        self.groups = nn.GroupNorm(2, 4)
        self.norm2, self.hidden, self.out = nn.LayerNorm(36), nn.Linear(36, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm0(self.stem(x)))
        x = torch.relu(x + self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        x = nn.functional.max_pool2d(self.groups(self.grouped(self.depthwise(x))), 2)
        return self.out(torch.tanh(self.hidden(self.norm2(x.view(x.size(0), -1)))))


class Unknown(nn.Module):
    """An operation that no rule knows between the second and the third layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(64, 9), nn.Linear(9, 7), nn.Linear(7, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.cumsum(self.second(torch.relu(self.first(x.flatten(1)))), 1))


class Branching(nn.Module):
    """What cannot be traced: the way depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.layer(x if float(x.sum()) > 0 else -x)


def images(model: nn.Module, samples: int = 48) -> Problem:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(samples, 1, 8, 8, generator=generator), torch.randint(0, 10, (samples,), generator=generator)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return Problem(model, nn.functional.cross_entropy, (x, y), batch_size=16)


def tokens() -> Problem:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    embedding, head = nn.Linear(3, 8), nn.Linear(8, 2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.layer, self.head = embedding, layer, head

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(self.embedding(x)).mean(1))

    x = torch.randn(12, 5, 3, generator=torch.Generator().manual_seed(0))
    return Problem(Net(), nn.functional.mse_loss, (x, torch.zeros(12, 2)), batch_size=12)


def three_layers() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 24), nn.Dropout(), nn.GELU(), nn.Linear(24, 10)
    )


NETWORKS: dict[str, tuple[Any, list[int]]] = {
    "mlp": (lambda: images(three_layers()), [32, 24]),
    "cnn": (convolutional, [2, 3, 2]),  # six channels feed two groups of three, and end in two groups of two
    "resnet": (lambda: images(Residual()), [2, 4, 12, 2, 20]),  # 8 channels = 2 groups of 4, shared by the block
    "transformer": (tokens, [8, 2, 4, 16]),  # stream, heads, places in a head (twice), hidden
}


def names(problem: Problem) -> list[str]:
    return [name for name, _shape, _slice in problem.named_slices()]


def shuffled(symmetries: Symmetries, state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return symmetries.permute(state, [torch.randperm(size, generator=generator) for size in symmetries.sizes])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_permutation_keeps_the_function_and_a_permuted_copy_is_aligned_back_exactly(name: str) -> None:
    torch.manual_seed(0)
    problem = NETWORKS[name][0]()
    symmetries, state = symmetries_of(problem), problem.state()
    assert symmetries.obstacles == []
    for seed in range(3):
        copy = shuffled(symmetries, state, seed)
        assert check_preserved(problem, state, copy) < 1e-12
        found = align(symmetries, state, copy, names(problem), seed=seed)
        assert found.before > 0.1
        assert found.after == 0
        assert found.moved > 0
        back = symmetries.permute(copy, found.permutations)
        assert all(torch.equal(back[n], state[n]) for n in state)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_the_groups_are_those_of_the_architecture(name: str) -> None:
    make, sizes = NETWORKS[name]
    assert sorted(symmetries_of(make()).sizes) == sorted(sizes)


def test_the_barrier_to_a_permuted_copy_is_the_permutations_own_and_falls_to_zero() -> None:
    torch.manual_seed(0)
    problem = convolutional()
    train(problem, 40)
    symmetries, state = symmetries_of(problem), problem.state()
    copy = shuffled(symmetries, state, 1)
    back = symmetries.permute(copy, align(symmetries, state, copy, names(problem)).permutations)
    t = np.linspace(0, 1, 5)
    a, raw, aligned = (problem.vector_from(s) for s in (state, copy, back))
    assert follow(problem, straight(a, raw), t, Comm()).barrier > 0.05
    assert follow(problem, straight(a, aligned), t, Comm()).barrier == pytest.approx(0, abs=1e-12)


def test_alignment_lowers_the_barrier_between_two_trainings_tenfold_or_so() -> None:
    problem = digits(400)
    states = two_minima(problem)
    symmetries = symmetries_of(problem)
    found = align(symmetries, *states, names(problem))
    permuted = symmetries.permute(states[1], found.permutations)
    vectors = [problem.vector_from(s) for s in (*states, permuted)]
    raw, aligned = (follow(problem, straight(vectors[0], v), np.linspace(0, 1, 5), Comm()).barrier for v in vectors[1:])
    assert found.after < found.before
    assert found.after == pytest.approx(float(torch.linalg.norm(vectors[0].double() - vectors[2].double())), rel=1e-6)
    assert raw > 0.1
    assert aligned < raw / 3


def test_an_operation_without_a_rule_pins_what_it_touches_and_is_named() -> None:
    problem = images(Unknown())
    symmetries = symmetries_of(problem)
    assert symmetries.sizes == [9]
    assert symmetries.obstacles == ["aten.cumsum.default"]
    assert symmetries.unpermuted == ["third"]
    assert check_preserved(problem, problem.state(), shuffled(symmetries, problem.state(), 0)) < 1e-12


def test_a_model_that_cannot_be_traced_is_left_as_it_is_and_says_why() -> None:
    problem = images(Branching())
    symmetries = symmetries_of(problem)
    assert (symmetries.sizes, symmetries.unpermuted) == ([], ["layer"])
    assert "cannot be traced" in symmetries.obstacles[0]
    found = align(symmetries, problem.state(), problem.state(), names(problem))
    assert found.before == found.after == 0


def test_a_permutation_that_changes_the_function_is_refused() -> None:
    problem = images(three_layers())
    wrong = {**problem.state(), "1.bias": problem.state()["1.bias"].flip(0)}
    with pytest.raises(ProblemError, match="changes the network's outputs"):
        check_preserved(problem, problem.state(), wrong)


# ------------------------------------------------------------------ axes


def test_a_flattened_axis_splits_the_weight_that_reads_it() -> None:
    image, weight = fresh((5, 4, 3)), fresh((7, 12))
    flat = reshape(image, (5, 12))
    unify(flat[1], weight[1])
    assert [f.size for f in resolve(weight[1])] == [4, 3]
    assert resolve(weight[1]) == resolve((*image[1], *image[2]))


@pytest.mark.parametrize(("one", "two"), [((4, 6), (6, 4)), ((2, 6), (3, 4)), ((9,), (3, 3))])
def test_unified_axes_have_the_same_factors(one: tuple[int, ...], two: tuple[int, ...]) -> None:
    left, right = (tuple(Factor(n) for n in sizes) for sizes in (one, two))
    unify(left, right)
    ours, theirs = resolve(left), resolve(right)
    assert ours == theirs or all(f.pinned for f in (*ours, *theirs))
    assert length(ours) == length(theirs) == np.prod(one)


def test_a_pin_holds_for_all_that_is_unified_with_it_before_or_after() -> None:
    one, two, three = fresh((6,)), fresh((6,)), fresh((6,), pinned=True)
    unify(one[0], two[0])
    unify(two[0], three[0])
    unify(one[0], (Factor(2), Factor(3)))
    assert all(f.pinned for f in resolve(one[0]))
    assert [f.size for f in resolve(three[0])] == [2, 3]
