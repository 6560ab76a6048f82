"""Splitting products of all neurons at once, their eigenpairs, the choice under a budget: against exact matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape.errors import ProblemError, UsageError
from landscape.growing.budget import flops, knapsack, relaxed, select, split_costs
from landscape.growing.chains import chains_of, hidden_of
from landscape.growing.extremes import lanczos
from landscape.growing.rayleigh import SplittingProduct, rayleigh_descent
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.loading import build_problem

Loss = Callable[[], Tensor]


def perceptron(seed: int = 0) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4, bias=False), nn.Tanh(), nn.Linear(4, 3))
    return model.double().eval(), torch.randn(40, 5, dtype=torch.float64), torch.randint(3, (40,))


def convolutional(seed: int = 0) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh()), nn.Flatten(), nn.Linear(8, 3),
    ).double()  # fmt: skip
    x = torch.randn(12, 1, 8, 8, dtype=torch.float64)
    for _ in range(3):
        model(x)  # running statistics that are not 0 and 1
    return model.eval(), x, torch.randint(3, (12,))


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Loss:
    return lambda: nn.functional.cross_entropy(model(x), y)


def exact(model: nn.Sequential, loss: Loss) -> dict[str, Tensor]:
    """Splitting matrices (units, inputs, inputs) of tanh layers, built from patches and the closed form of tanh''."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    chains = chains_of(model)
    hooks, outputs = [], {}
    for chain in chains:
        for h in chain.hidden:
            norm = None if h.norm is None else chain.modules[h.norm]

            def read(module: nn.Module, inputs: tuple[Tensor, ...], z: Tensor, name: str = h.name) -> None:
                seen[name] = inputs[0].detach(), z

            def act(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor, name: str = h.name) -> None:
                outputs[name] = out
                out.retain_grad()

            hooks += [h.producer.register_forward_hook(read)]
            hooks += [chain.modules[h.activation].register_forward_hook(act)]
            seen[h.name + "/norm"] = norm  # type: ignore[assignment]
    loss().backward()
    for hook in hooks:
        hook.remove()
    found = {}
    for h in hidden_of(chains):
        x, out, g = seen[h.name][0], outputs[h.name].detach(), outputs[h.name].grad
        assert g is not None
        coefficient = g * -2 * out * (1 - out**2)
        norm = seen[h.name + "/norm"]
        if norm is not None:
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            coefficient = coefficient * factor.view(-1, 1, 1) ** 2
        if x.ndim == 4:
            rows = nn.functional.unfold(x, 3, padding=h.producer.padding).movedim(1, 2).flatten(0, 1)
            coefficient = coefficient.movedim(1, -1).reshape(-1, h.units)
        else:
            rows = x
        if h.producer.bias is not None:
            rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], 1)
        found[h.name] = torch.einsum("nu,nd,ne->ude", coefficient.detach(), rows, rows)
    return found


@pytest.mark.parametrize("build", [perceptron, convolutional])
def test_one_backward_gives_the_products_of_all_exact_matrices_and_moves_no_output(
    build: Callable[[], tuple[nn.Sequential, Tensor, Tensor]],
) -> None:
    model, x, y = build()
    product, loss = SplittingProduct(model), loss_of(model, x, y)
    before, state = model(x), {n: t.clone() for n, t in model.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    vectors = {n: torch.randn(v.shape, generator=generator).to(v) for n, v in product.like().items()}
    found, matrices = product(vectors, loss), exact(model, loss)
    assert set(found) == set(matrices)
    for name, rows in found.items():
        wanted = torch.einsum("ude,ue->ud", matrices[name], vectors[name])
        torch.testing.assert_close(rows, wanted, rtol=1e-11, atol=1e-14)
    assert torch.equal(model(x), before)
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())


@pytest.mark.parametrize("build", [perceptron, convolutional])
def test_batched_lanczos_finds_the_smallest_eigenpairs_and_its_residuals_are_true(
    build: Callable[[], tuple[nn.Sequential, Tensor, Tensor]],
) -> None:
    model, x, y = build()
    product, loss = SplittingProduct(model), loss_of(model, x, y)
    matrices = exact(model, loss)
    for matvecs in (4, 30):
        for name, pairs in lanczos(lambda v: product(v, loss), product.like(), matvecs).items():
            moved = torch.einsum("ude,ue->ud", matrices[name], pairs.low_vectors)
            rest = moved - pairs.low[:, None] * pairs.low_vectors
            torch.testing.assert_close(rest.norm(dim=1), pairs.residuals[0], rtol=1e-6, atol=1e-13)
            if matvecs == 30:
                wanted = torch.linalg.eigvalsh(matrices[name])[:, 0]
                torch.testing.assert_close(pairs.low, wanted, rtol=1e-9, atol=1e-14)


def test_lanczos_goes_on_where_a_space_is_invariant() -> None:
    model, x, y = perceptron()
    x[:, 2:] = 0  # matrices of the first layer have rank three
    product, loss = SplittingProduct(model), loss_of(model, x, y)
    wanted = torch.linalg.eigvalsh(exact(model, loss)["0"])[:, 0]
    pairs = lanczos(lambda v: product(v, loss), product.like(), 20)["0"]
    torch.testing.assert_close(pairs.low, wanted, rtol=1e-9, atol=1e-14)


def test_rayleigh_descent_tends_to_the_smallest_eigenvalues() -> None:
    model, x, y = perceptron()
    product, loss = SplittingProduct(model), loss_of(model, x, y)
    wanted = {name: torch.linalg.eigvalsh(s)[:, 0] for name, s in exact(model, loss).items()}
    for name, (values, _vectors) in rayleigh_descent(product, [loss] * 30, epochs=6, lr=1e-2).items():
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
    model, x, _ = convolutional()
    counts = flops(model, x[:1])
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


def test_a_model_without_a_chain_is_refused() -> None:
    with pytest.raises(ProblemError, match="no layer of this model can grow"):
        SplittingProduct(nn.Linear(3, 2))
