"""Splitting products of all neurons at once, their eigenpairs, the choice under a budget: against exact matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.growing.budget import flops, knapsack, relaxed, select, split_costs
from landscape.growing.extremes import lanczos
from landscape.growing.rayleigh import rayleigh_descent
from landscape.growing.splitting import Splitting
from landscape.growing.units import layers_of
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem


def perceptron(seed: int = 0) -> Problem:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4, bias=False), nn.Tanh(), nn.Linear(4, 3))
    data = torch.randn(40, 5, dtype=torch.float64), torch.randint(3, (40,))
    return Problem(model.double(), nn.functional.cross_entropy, data, batch_size=30)


def convolutional(seed: int = 0) -> Problem:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh()), nn.Flatten(), nn.Linear(8, 3),
    ).double()  # fmt: skip
    x = torch.randn(12, 1, 8, 8, dtype=torch.float64)
    for _ in range(3):
        model(x)  # running statistics that are not 0 and 1
    return Problem(model, nn.functional.cross_entropy, (x, torch.randint(3, (12,))))


ACTIVATIONS = {"0": "1", "2": "3"}, {"0": "2", "4.0": "4.1"}


def exact(problem: Problem) -> dict[str, Tensor]:
    """Splitting matrices (units, inputs, inputs) of tanh layers, built from patches and the closed form of tanh''."""
    model = problem.model
    layers = next(names for names in ACTIVATIONS if all(isinstance(model.get_submodule(a), nn.Tanh)
                                                        for a in names.values()))  # fmt: skip
    seen: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    hooks = []
    for name, activation in layers.items():

        def read(_m: nn.Module, given: tuple[Tensor, ...], _z: Tensor, name: str = name) -> None:
            seen[name] = given[0].detach()

        def act(_m: nn.Module, _given: tuple[Tensor, ...], out: Tensor, name: str = name) -> None:
            outputs[name] = out
            out.retain_grad()

        hooks.append(model.get_submodule(name).register_forward_hook(read))
        hooks.append(model.get_submodule(activation).register_forward_hook(act))
    x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
    nn.functional.cross_entropy(model(x), y).backward()
    for hook in hooks:
        hook.remove()
    found = {}
    for name in layers:
        layer, rows, out, g = model.get_submodule(name), seen[name], outputs[name].detach(), outputs[name].grad
        assert g is not None
        coefficient = g * -2 * out * (1 - out**2)
        if isinstance(layer, nn.Conv2d):
            norm = model[1] if name == "0" else None  # type: ignore[index]
            if norm is not None:
                coefficient = coefficient * (norm.weight / torch.sqrt(norm.running_var + norm.eps)).view(-1, 1, 1) ** 2
            assert isinstance(layer.padding, tuple)
            rows = nn.functional.unfold(rows, 3, padding=layer.padding).movedim(1, 2).flatten(0, 1)
            coefficient = coefficient.movedim(1, -1).reshape(-1, len(layer.weight))
        if layer.bias is not None:
            rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], 1)
        found[name] = torch.einsum("nu,nd,ne->ude", coefficient.detach(), rows, rows)
    return found


def splitting(problem: Problem) -> Splitting:
    return Splitting(problem, layers_of(problem).need())


@pytest.mark.parametrize("build", [perceptron, convolutional])
def test_one_backward_gives_the_products_of_all_exact_matrices_and_moves_nothing(
    build: Callable[[], Problem],
) -> None:
    problem = build()
    state = problem.state()
    it = splitting(problem)
    generator = torch.Generator().manual_seed(1)
    vectors = {n: torch.randn(v.shape, generator=generator).to(v) for n, v in it.like().items()}
    found, matrices = it.product(vectors), exact(problem)
    assert set(found) == set(matrices)
    for name, rows in found.items():
        wanted = torch.einsum("ude,ue->ud", matrices[name], vectors[name])
        torch.testing.assert_close(rows, wanted, rtol=1e-11, atol=1e-14)
    assert all(torch.equal(t, state[n]) for n, t in problem.state().items())


@pytest.mark.parametrize("build", [perceptron, convolutional])
def test_batched_lanczos_finds_the_smallest_eigenpairs_and_its_residuals_are_true(build: Callable[[], Problem]) -> None:
    problem = build()
    it, matrices = splitting(problem), exact(problem)
    for matvecs in (4, 30):
        for name, pairs in lanczos(it.product, it.like(), matvecs).items():
            moved = torch.einsum("ude,ue->ud", matrices[name], pairs.low_vectors)
            rest = moved - pairs.low[:, None] * pairs.low_vectors
            torch.testing.assert_close(rest.norm(dim=1), pairs.residuals[0], rtol=1e-6, atol=1e-13)
            if matvecs == 30:
                wanted = torch.linalg.eigvalsh(matrices[name])[:, 0]
                torch.testing.assert_close(pairs.low, wanted, rtol=1e-9, atol=1e-14)


def test_lanczos_goes_on_where_a_space_is_invariant() -> None:
    problem = perceptron()
    for x, _y in problem.batches:
        x[:, 2:] = 0  # matrices of the first layer have rank three
    it = splitting(problem)
    wanted = torch.linalg.eigvalsh(exact(problem)["0"])[:, 0]
    torch.testing.assert_close(lanczos(it.product, it.like(), 20)["0"].low, wanted, rtol=1e-9, atol=1e-14)


def test_rayleigh_descent_tends_to_the_smallest_eigenvalues() -> None:
    problem = perceptron()
    wanted = {name: torch.linalg.eigvalsh(s)[:, 0] for name, s in exact(problem).items()}
    for name, (values, _vectors) in rayleigh_descent([splitting(problem)] * 30, epochs=6, lr=1e-2).items():
        assert bool((values >= wanted[name] - 1e-12).all())  # a Rayleigh quotient lies above
        torch.testing.assert_close(values, wanted[name], rtol=0.05, atol=1e-5)


def test_the_knapsack_by_value_per_cost_is_the_linear_programme() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        n = int(generator.integers(2, 40))
        values, costs = generator.normal(size=n), generator.uniform(0.1, 3.0, n)
        budget = float(generator.uniform(0.05, 0.9) * costs.sum())
        ours, theirs = knapsack(values, costs, budget), relaxed(values, costs, budget)
        assert values @ ours == pytest.approx(values @ theirs, rel=1e-9, abs=1e-12)
        assert costs @ ours <= budget * (1 + 1e-12)
        assert (np.isclose(ours, 0) | np.isclose(ours, 1)).sum() >= n - 1


def test_the_choice_keeps_to_budget_caps_and_groups() -> None:
    values = {"a": torch.linspace(-1, 0.2, 10), "b": torch.linspace(-5, -0.1, 6)}
    costs = {"a": 4.0, "b": 100.0}
    chosen = select(values, costs, 0.3, cap=0.5)
    assert chosen["a"].sum() <= 5
    assert not chosen["a"][values["a"] >= 0].any()
    spent = sum(int(mask.sum()) * costs[name] ** 0.5 for name, mask in chosen.items())
    assert 0 < spent <= 0.3 * (10 * 2 + 6 * 10)
    alone = select(values, costs, 0.5, groups=[["a"], ["b"]])
    assert alone["a"].sum() == 5
    assert alone["b"].sum() == 3
    assert alone["b"][:3].all()


def test_costs_are_the_operations_that_one_more_unit_adds() -> None:
    problem = convolutional()
    counts = flops(problem.model, problem.batches[0][0][:1])
    assert counts == {"0": 2 * 9 * 3 * 64, "4.0": 2 * 27 * 2 * 4, "6": 2 * 8 * 3}
    costs = split_costs(counts, {"0": (3, ["4.0"]), "4.0": (2, ["6"])})
    assert costs == {"0": (counts["0"] + counts["4.0"]) / 3, "4.0": (counts["4.0"] + counts["6"]) / 2}


def test_training_splits_the_units_that_gain_most_for_their_operations() -> None:
    problem = build_problem("digits_mlp", {"hidden": [6, 4], "seed": 0})
    optimizer = make_optimizer("energy_splitting", problem.model, {
        "inner": "sgd", "lr": 0.1, "every": 2, "rounds": 1, "share": 0.4, "cap": 0.5, "groups": "0;2",
    }, problem)  # fmt: skip
    batches = MiniBatches(problem, 64, 0)
    for step in range(3):
        train_step(problem, optimizer, batches.at(step))
    event = optimizer.events[0]  # type: ignore[attr-defined]
    layers = [row["layer"] for row in event["rows"]]
    assert 0 < layers.count("0") <= 2  # 0.4 of six units' cost
    assert layers.count("2") == 1
    assert all(row["low"] < 0 for row in event["rows"])
    with pytest.raises(UsageError, match="each of the layers 0, 2 once"):
        make_optimizer("energy_splitting", problem.model, {"lr": 0.1, "groups": "0"}, problem)
