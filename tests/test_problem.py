"""Problems: every form of data is the same loss surface; what does not fit is named."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from exact import digits
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from landscape.errors import ProblemError
from landscape.loss.batches import join, move, rows, split, take, tensors
from landscape.loss.problem import Problem
from landscape.loss.subsets import balanced_indices


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 10))


def problem_of(data, **settings):
    return Problem(network(), F.cross_entropy, data, **settings)


def exact_loss(samples=103):
    inputs, labels = digits(samples)
    return F.cross_entropy(network()(inputs), labels).item()


def forms(samples=103):
    inputs, labels = digits(samples)
    dataset = TensorDataset(inputs, labels)
    return {
        "pair": (inputs, labels),
        "dataset": dataset,
        "batches": [(inputs[:50], labels[:50]), (inputs[50:], labels[50:])],
        "loader": DataLoader(dataset, batch_size=16),
        "shuffled loader": DataLoader(dataset, batch_size=16, shuffle=True),
    }


@pytest.mark.parametrize("form", list(forms()))
def test_every_form_of_data_gives_the_mean_over_samples(form):
    problem = problem_of(forms()[form], batch_size=32)
    assert problem.samples == 103
    assert problem.evaluate(problem.weights())["loss"] == pytest.approx(exact_loss(), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(batch_size=st.integers(1, 150))
def test_an_uneven_last_batch_is_weighted_by_its_samples(batch_size):
    problem = problem_of(digits(103), batch_size=batch_size)
    assert problem.evaluate(problem.weights())["loss"] == pytest.approx(exact_loss(), rel=1e-6)


def test_a_shuffled_loader_is_frozen_at_construction():
    problem = problem_of(forms()["shuffled loader"])
    theta = problem.weights()
    first = [problem.batch_loss(theta, b).item() for b in problem.batches]
    assert first == [problem.batch_loss(theta, b).item() for b in problem.batches]


def test_a_model_that_computes_its_own_loss_on_dictionaries():
    inputs, labels = digits(90)
    batches = [{"x": inputs[:60], "labels": labels[:60]}, {"x": inputs[60:], "labels": labels[60:]}]
    problem = Problem.from_batch_loss(network(), lambda m, b: F.cross_entropy(m(b["x"]), b["labels"]), batches)
    assert problem.samples == 90
    assert problem.evaluate(problem.weights())["loss"] == pytest.approx(exact_loss(90), rel=1e-6)
    assert not problem.has_accuracy


def test_the_weight_of_a_batch_can_be_its_tokens():
    batches = [torch.ones(2, 3), torch.full((2, 5), 2.0)]
    model = nn.Linear(1, 1, bias=False)
    problem = Problem.from_batch_loss(model, lambda m, b: (m.weight * b).mean(), batches, count=lambda b: b.numel())
    assert problem.evaluate(torch.ones(1))["loss"] == pytest.approx((6 * 1 + 10 * 2) / 16)


def test_vector_and_state_are_inverse_and_weights_are_never_written():
    problem = problem_of(digits(20))
    theta = problem.weights()
    other = {k: torch.randn_like(v) for k, v in problem.state().items()}
    vector = problem.vector_from(other)
    for name, shape, where in problem.named_slices():
        assert torch.equal(vector[where].view(shape), other[name])
    problem.evaluate(vector)
    assert torch.equal(problem.weights(), theta)
    problem.load(other)
    assert torch.equal(problem.weights(), vector)


def test_accuracy_counts_right_answers():
    problem = problem_of(digits(103), test_data=digits(40), batch_size=17)
    inputs, labels = digits(103)
    share = (network()(inputs).argmax(dim=1) == labels).float().mean().item()
    assert problem.evaluate(problem.weights())["accuracy"] == pytest.approx(share)
    assert set(problem.evaluate(problem.weights(), "test")) == {"loss", "accuracy"}
    assert problem.has_test
    assert problem.has_accuracy


def test_dropout_is_off_and_tied_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(64, 64)
            self.b = nn.Linear(64, 64)
            self.b.weight = self.a.weight
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.b(self.drop(torch.tanh(self.a(x))))

    problem = Problem(Tied(), F.cross_entropy, digits(30))
    assert problem.size == 64 * 64 + 2 * 64
    theta = problem.weights()
    assert problem.evaluate(theta) == problem.evaluate(theta)
    vector = theta.clone()
    vector[: 64 * 64] = 0  # the shared weight: both layers must feel it
    named = problem.unflatten(vector)
    assert set(named) == {"a.weight", "a.bias", "b.bias"}
    expected = F.cross_entropy(named["b.bias"].expand(30, 64), digits(30)[1]).item()
    assert problem.evaluate(vector)["loss"] == pytest.approx(expected, rel=1e-5)


def test_another_precision_is_another_problem_at_the_same_weights():
    problem = problem_of(digits(50))
    exact = problem.to(dtype=torch.float64)
    assert exact.weights().dtype == torch.float64
    assert problem.weights().dtype == torch.float32
    assert torch.equal(exact.weights().float(), problem.weights())
    assert exact.evaluate(exact.weights())["loss"] == pytest.approx(exact_loss(50), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 103), seed=st.integers(0, 5))
def test_subsets_are_fixed_and_balanced(samples, seed):
    problem = problem_of(digits(103))
    one, other = problem.subset(samples, seed), problem.subset(samples, seed)
    labels = torch.cat([b[1] for b in one.batches])
    assert torch.equal(labels, torch.cat([b[1] for b in other.batches]))
    assert len(labels) == one.samples == samples
    full = torch.bincount(digits(103)[1], minlength=10)
    counts = torch.bincount(labels, minlength=10)
    unfinished = counts[counts < full]  # classes with samples left were all used equally often
    assert len(unfinished) == 0 or counts.max() - unfinished.min() <= 1


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(32, 103), parts=st.sampled_from([2, 4, 6]), seed=st.integers(0, 5))
def test_parts_are_disjoint_and_balanced_and_together_everything(rows, parts, seed):
    problem = problem_of(digits(rows), batch_size=16)
    found = problem.parts(parts, seed)
    numbers = [n for p in found for n in digest_rows(p)]
    assert sorted(numbers) == sorted(digest_rows(problem))
    labels = torch.stack([torch.bincount(torch.cat([b[1] for b in p.batches]), minlength=10) for p in found])
    assert int((labels.max(0).values - labels.min(0).values).max()) <= 1
    assert max(p.samples for p in found) - min(p.samples for p in found) <= 1
    for half, k in zip(problem.halves(seed), (0, 1), strict=True):  # every second part
        assert sorted(digest_rows(half)) == sorted(n for p in found[k::2] for n in digest_rows(p))
    assert len({p.sampling["digest"] for p in found}) == parts


def digest_rows(problem):
    """The rows of a problem as text."""
    return [str(row.tolist()) for batch in problem.batches for row in batch[0]]


@pytest.mark.parametrize("form", ["dict", "triple", "nested", "tensor"])
def test_batches_of_any_nesting_have_subsets(form):
    inputs, labels = digits(90)
    keep = torch.arange(90)
    wrap = {
        "dict": lambda x, y, i: {"pixels": x, "labels": y, "number": i}, "triple": lambda x, y, i: (x, y, i),
        "nested": lambda x, y, i: [{"pixels": x, "number": i}, y], "tensor": lambda x, y, i: torch.cat(
            [x, y[:, None], i[:, None]], dim=1),
    }[form]  # fmt: skip
    batches = [wrap(inputs[s : s + 40], labels[s : s + 40], keep[s : s + 40]) for s in range(0, 90, 40)]

    def parts_of(batch):
        if form == "tensor":
            return batch[:, :64], batch[:, 64].long(), batch[:, 65].long()
        if form == "nested":
            return batch[0]["pixels"], batch[1], batch[0]["number"]
        return tuple(batch.values()) if form == "dict" else batch

    def loss(model, batch):
        pixels, targets, _ = parts_of(batch)
        return F.cross_entropy(model(pixels), targets)

    problem = Problem.from_batch_loss(network(), loss, batches)
    found = problem.subset(30, seed=4)
    number = torch.cat([parts_of(b)[2] for b in found.batches])
    assert found.samples == len(set(number.tolist())) == 30
    chosen = labels[number]
    if form != "tensor":  # the classes are found, and the same rows as of a pair
        assert torch.equal(number, balanced_indices(labels, 30, 4))
        assert found.sampling["rule"] == "class-balanced"
    value = found.evaluate(found.weights())["loss"]
    with torch.no_grad():
        assert value == pytest.approx(float(F.cross_entropy(problem.model(inputs[number]), chosen)), rel=1e-5)


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ([(torch.ones(4, 64), ["a", "b", "c", "d"])], "part of type str"),
        ([{"x": torch.ones(4, 64), "n": torch.tensor(4)}], "part of type scalar"),
        ([(torch.ones(4, 64), torch.ones(9))], "leading lengths are 4, 9"),
        ([torch.ones(4, 64), torch.ones(4, 65)], "rows of one shape"),
        ([{"x": torch.ones(4, 64)}, {"y": torch.ones(4, 64)}], "different keys"),
    ],
)
def test_batches_whose_rows_cannot_be_told_are_named(batches, sentence):
    problem = Problem.from_batch_loss(network(), lambda model, batch: model.weight.sum(), batches)
    with pytest.raises(ProblemError, match=sentence):
        problem.subset(6 if len(batches) > 1 else 2)


class Pair(NamedTuple):
    pixels: torch.Tensor
    labels: torch.Tensor


@pytest.mark.parametrize("size", [1, 3, 4, 10, 99])
def test_split_and_join_undo_each_other_in_any_nesting(size):
    numbers = torch.arange(10)
    batch = {"both": Pair(torch.rand(10, 3), numbers), "list": [(numbers + 10, torch.rand(10, 2, 2))]}
    parts = split(batch, size)
    assert max(map(rows, parts)) <= size
    assert isinstance(parts[0]["both"], Pair)
    assert parts[0]["both"].pixels.data_ptr() == batch["both"].pixels.data_ptr()  # a view
    for found, exact in zip(tensors(join(parts)), tensors(batch), strict=True):
        assert torch.equal(found, exact)
    chosen = take(batch, torch.tensor([1, 7]))
    assert chosen["both"].labels.tolist() == [1, 7]
    assert chosen["list"][0][0].tolist() == [11, 17]
    moved = move(batch, torch.device("cpu"), torch.float64)
    assert [t.dtype for t in tensors(moved)] == [torch.float64, torch.int64, torch.int64, torch.float64]


def test_where_tokens_are_counted_a_subset_still_counts_rows():
    problem = problem_of(digits(50), count=lambda batch: 7 * len(batch[1]))
    found = problem.subset(20)
    assert sum(len(b[1]) for b in found.batches) == 20
    assert (found.samples, found.sampling["rows"], found.sampling["of"]) == (140, 20, 50)
    with pytest.raises(ProblemError, match="between 1 and 50"):
        problem.subset(51)


def test_balanced_indices_of_real_targets_are_just_a_subset():
    chosen = balanced_indices(torch.rand(20), 7, 0)
    assert len(set(chosen.tolist())) == 7


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ((torch.empty(0, 64), torch.empty(0, dtype=torch.long)), "empty"),
        ([], "empty"),
        ((torch.ones(3, 64), torch.ones(2, dtype=torch.long)), "3 inputs but 2 targets"),
        (42, "must be a pair"),
        ("digits", "must be a pair"),
    ],
)
def test_unusable_data_is_named(data, sentence):
    with pytest.raises(ProblemError, match=sentence):
        problem_of(data)


def test_a_model_without_weights_and_a_loss_that_is_no_scalar():
    with pytest.raises(ProblemError, match="no trainable weights"):
        Problem(nn.Tanh(), F.cross_entropy, digits(10))
    problem = Problem(network(), lambda o, t: F.cross_entropy(o, t, reduction="none"), digits(10))
    with pytest.raises(ProblemError, match="scalar"):
        problem.evaluate(problem.weights())


def test_a_checkpoint_that_does_not_fit_says_where():
    problem = problem_of(digits(10))
    good = problem.state()
    with pytest.raises(ProblemError, match=r"0\.weight.*\(7, 64\).*\(5, 64\)"):
        problem.load({**good, "0.weight": torch.zeros(7, 64)})
    with pytest.raises(ProblemError, match=r"DataParallel"):
        problem.load({f"module.{k}": v for k, v in good.items()})
    with pytest.raises(ProblemError, match=r"'2\.bias' is missing"):
        problem.load({k: v for k, v in good.items() if k != "2.bias"})
    bad = {k: v.clone() for k, v in good.items()}
    bad["0.bias"][1] = float("nan")
    with pytest.raises(ProblemError, match=r"'0\.bias' has 1 of 5 values that are not finite"):
        problem.load(bad)
    assert torch.equal(problem.weights(), problem.vector_from(good))  # nothing was written
