"""DessiLBI: its proximal steps, its path against closed forms, its support, and the tickets that are drawn from it."""

from __future__ import annotations

import copy
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape import cli, plugins
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.checkpoints import Checkpoint
from landscape.loss.loading import build_problem
from landscape.networks import tickets
from landscape.networks.structure import read_out
from landscape.optimizers.dessilbi import DessiLBI, make
from landscape.stores.run_directory import Run
from tests.small_problems import digits

DOUBLE = torch.float64


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def frozen_path(weight: Tensor, steps: int, **settings: Any) -> tuple[Tensor, Tensor]:
    """(step of entry, Gamma) while W is held where it is."""
    held = nn.Parameter(weight.clone())
    optimizer = DessiLBI([held], **settings)
    for _ in range(steps):
        held.grad = torch.zeros_like(held)
        optimizer.step()
        held.data.copy_(weight)
    return optimizer.state[held]["entered"], optimizer.state[held]["gamma"]


# ---------------------------------------------------------------------- the iteration


def test_a_frozen_weight_enters_at_floor_of_nu_over_lr_w_plus_one_and_gamma_tends_to_it() -> None:
    weight = torch.tensor([[1.03, -0.53, 0.21, 0.001]], dtype=DOUBLE)
    entered, gamma = frozen_path(weight, 300, lr=0.1, nu=4.0)
    wanted = [math.floor(4 / (0.1 * abs(w))) + 1 for w in weight[0].tolist()]
    assert entered[0].tolist() == [*wanted[:3], 0]
    torch.testing.assert_close(gamma[0, :2], weight[0, :2], rtol=2e-2, atol=0)
    assert gamma[0, 3] == 0


def test_a_filter_enters_as_a_whole_by_its_norm() -> None:
    weight = random(3, 2, 3, 3, seed=1) * torch.tensor([1.0, 0.5, 0.01], dtype=DOUBLE).view(3, 1, 1, 1)
    entered, gamma = frozen_path(weight, 60, lr=0.1, nu=4.0, penalty="filters")
    norms = weight.flatten(1).norm(dim=1)
    assert entered.tolist() == [*(math.floor(40 / float(n)) + 1 for n in norms[:2]), 0]
    cosine = nn.functional.cosine_similarity(gamma[:2].flatten(1), weight[:2].flatten(1))
    torch.testing.assert_close(cosine, torch.ones(2, dtype=DOUBLE))
    assert gamma[2].count_nonzero() == 0


def test_one_step_is_the_published_one() -> None:
    """W, V and Gamma by hand, momentum and decay in grad L alone, plain SGD for the bias."""
    lr, kappa, nu, rho, decay, lam = 0.3, 2.0, 5.0, 0.9, 0.01, 0.05
    model = nn.Linear(4, 3).double()
    optimizer = make(model, lr, kappa, nu, rho, decay, lam)
    w, b = model.weight.detach().clone(), model.bias.detach().clone()
    v, gamma, m, mb = (torch.zeros_like(w) for _ in range(3)), None, None, None
    dual, gamma, m = v
    mb = torch.zeros_like(b)
    for step in range(40):
        model.weight.grad, model.bias.grad = random(3, 4, seed=step), random(3, seed=100 + step)
        m, mb = rho * m + model.weight.grad + decay * w, rho * mb + model.bias.grad
        gap = w - gamma
        w, b = w - kappa * lr * (m + gap / nu), b - kappa * lr * mb
        dual = dual + lr / nu * gap
        gamma = kappa * dual.sign() * (dual.abs() - lam).clamp(min=0)
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), w, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.bias.detach(), b, rtol=0, atol=1e-12)
    torch.testing.assert_close(optimizer.state[model.weight]["gamma"], gamma, rtol=0, atol=1e-12)
    assert gamma.count_nonzero() > 0
    assert "gamma" not in optimizer.state[model.bias]


def regression(samples: int = 80, size: int = 60, true: int = 6) -> tuple[Tensor, Tensor, set[int]]:
    matrix = random(samples, size, seed=3)
    truth = torch.zeros(size, dtype=DOUBLE)
    truth[7 * torch.arange(true)] = torch.tensor([2.0, -2, 2, -2, 2, -2], dtype=DOUBLE)[:true]
    return matrix, matrix @ truth + 0.1 * random(samples, seed=4), {7 * i for i in range(true)}


def descend(factor: float, steps: int, enough: int = 61, **settings: Any) -> tuple[DessiLBI, nn.Parameter, list[float]]:
    """Least squares at `factor` times 1 / (kappa (Lipschitz + 1 / nu)); Lbar before every step."""
    matrix, target, _ = regression()
    nu, kappa = settings.get("nu", 1.0), settings.get("kappa", 1.0)
    bound = float(torch.linalg.matrix_norm(matrix, 2) ** 2) / len(matrix)
    weight = nn.Parameter(torch.zeros(1, matrix.shape[1], dtype=DOUBLE))
    options = {"nu": nu, "kappa": kappa, "momentum": 0.0, "lr": factor / (kappa * (bound + 1 / nu)), **settings}
    optimizer = DessiLBI([weight], **options)
    found: list[float] = []
    while len(found) < steps:
        error = matrix @ weight.detach()[0] - target
        found.append(optimizer.augmented(float(error.square().mean()) / 2))
        weight.grad = (matrix.T @ error / len(matrix))[None]
        optimizer.step()
        if int(optimizer.state[weight]["entered"].count_nonzero()) >= enough:
            break
    return optimizer, weight, found


def test_the_augmented_loss_falls_below_the_stable_step_and_not_above() -> None:
    falls = np.diff(descend(1.0, 400)[2])
    assert (falls <= 1e-12).all()
    assert (np.diff(descend(3.0, 60)[2]) > 0).mean() > 0.5


@pytest.mark.parametrize(("nu", "kappa"), [(1.0, 10.0), (10.0, 10.0), (1.0, 100.0)])
def test_the_first_to_enter_are_the_true_ones(nu: float, kappa: float) -> None:
    """Sparse regression, 60 weights of which 6 are true: the order of the inverse scale space path."""
    optimizer, weight, _ = descend(1.0, 5000, 6, nu=nu, kappa=kappa)
    entered = optimizer.state[weight]["entered"][0]
    inside = entered.nonzero().reshape(-1)
    assert len(inside) >= 6
    first = inside[entered[inside].argsort(stable=True)[:6]]
    assert set(first.tolist()) == regression()[2]


def test_the_support_is_empty_at_first_and_grows_and_events_tell_it() -> None:
    problem = digits()
    optimizer = make_optimizer("dessilbi", problem.model, {"lr": 0.3, "nu": 5.0})
    batches, told = MiniBatches(problem, 64, 0), []
    for step in range(150):
        train_step(problem, optimizer, batches.at(step))
        told += optimizer.events  # type: ignore[attr-defined]
        optimizer.events.clear()  # type: ignore[attr-defined]
        if step == 0:
            assert not told
    first = problem.model[0].weight  # type: ignore[index]
    entered, gamma = optimizer.state[first]["entered"], optimizer.state[first]["gamma"]
    assert 0 < int(gamma.count_nonzero()) < gamma.numel()
    assert not bool(((gamma != 0) & (entered == 0)).any())
    of_first = [e for e in told if e["layer"] == "0"]
    assert [e["before"] for e in of_first] == [0, *(e["after"] for e in of_first[:-1])]
    assert of_first[-1]["after"] >= int(gamma.count_nonzero()) - gamma.numel() / 100
    before = problem.weights()
    with optimizer.snapshot():  # type: ignore[attr-defined]
        assert torch.equal(first != 0, (gamma != 0) & (first != 0))
    assert torch.equal(problem.weights(), before)


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    models = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    first, second = (make(m, lr=0.01, nu=0.2, lam=0.05, conv_lam=0.1, weight_decay=1e-3) for m in models)

    def step(model: nn.Module, optimizer: DessiLBI, number: int) -> None:
        optimizer.zero_grad()
        model(random(5, 1, 4, 4, seed=number).float()).square().sum().backward()
        optimizer.step()

    for number in range(20):
        step(models[0], first, number)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    models[1].load_state_dict(copy.deepcopy(models[0].state_dict()))
    for number in range(20, 30):
        step(models[0], first, number)
        step(models[1], second, number)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
        for key, value in first.state[a].items():
            assert torch.equal(value, second.state[b][key]), key
    assert first.state[models[0][0].weight]["entered"].shape == (2,)
    assert first.state[models[0][0].weight]["gamma"].count_nonzero() > 0


@pytest.mark.parametrize("settings", [{"lr": 0}, {"nu": -1.0}, {"momentum": 1.0}, {"penalty": "rows"}, {"lam": -1.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        DessiLBI([nn.Parameter(torch.ones(2, 2))], **settings)


# ---------------------------------------------------------------------- tickets


def test_masks_of_the_same_size_and_zeros_that_stay() -> None:
    problem = digits()
    weights = problem.state()
    wanted = {"0.weight": random(32, 64, seed=1) > 1, "2.weight": (random(10, 1, seed=2) > 0).expand(10, 32).clone()}
    for masks in (tickets.largest(weights, wanted, {"2.weight"}), tickets.by_lot(wanted, {"2.weight"}, 5)):
        assert {n: int(m.sum()) for n, m in masks.items()} == {n: int(m.sum()) for n, m in wanted.items()}
        assert bool((masks["2.weight"].all(dim=1) == masks["2.weight"].any(dim=1)).all())
    largest = tickets.largest(weights, wanted, set())["0.weight"]
    assert weights["0.weight"].abs()[largest].min() >= weights["0.weight"].abs()[~largest].max()
    small = tickets.masked(problem, weights, wanted)
    theta = small.weights()
    torch.testing.assert_close(small.evaluate(theta)["loss"], _zeroed_loss(problem, weights, wanted), rtol=1e-5, atol=0)
    optimizer, batches = make_optimizer("adam", small.model, {"weight_decay": 0.1}), MiniBatches(small, 64, 0)
    for step in range(5):
        train_step(small, optimizer, batches.at(step))
    first = small.model[0].weight  # type: ignore[index]
    assert bool((first[~wanted["0.weight"]] == 0).all())
    assert not torch.equal(small.weights(), theta)


def _zeroed_loss(problem: Any, weights: Any, masks: Any) -> float:
    problem.load(tickets.zeroed(weights, masks))
    found: float = problem.evaluate(problem.weights())["loss"]
    problem.load(weights)
    return found


@pytest.fixture(scope="module")
def lbi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store") / "lbi"
    words = ["train", "digits_mlp", "--problem-set", "hidden=8", "--optimizer", "dessilbi", "--set", "lr=0.3", "--set",
             "nu=5", "--steps", "200", "--checkpoint-every", "100", "--out", str(root)]  # fmt: skip
    assert cli.main(words) == 0
    return root


def test_a_run_a_path_and_a_ticket(lbi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["structure", str(lbi), "--saliency", "none"]) == 0
    run = Run(lbi)
    state = Checkpoint(run, 200).optimizer_state()
    found = run.read("scale_space-gamma-00000200")
    gammas = [state["gamma/0.weight"], state["gamma/2.weight"]]
    assert found.layers == ["0", "2"]
    assert found.selected[-1].tolist() == [int(g.count_nonzero()) for g in gammas]
    assert found.selected[0].tolist() == [0, 0]
    assert found.entered.tolist() == torch.cat([state[f"entered/{n}.weight"].reshape(-1) for n in "02"]).tolist()
    np.testing.assert_allclose(found.paths[-1, 0], float(gammas[0].abs().reshape(-1)[found.path_units[0]]), rtol=1e-6)
    assert any(e["event"] == "support" and e["layer"] == "2" for e in run.events())
    weights = Checkpoint(run, 200).state()
    assert torch.equal(read_out(weights, state, 1e-4)["0.weight"] != 0, gammas[0] != 0)
    assert run.read("structure-weights-00000200").zeros[0] == pytest.approx(1 - (int((gammas[0] != 0).sum()) + 8) / 520)

    assert cli.main(["ticket", str(lbi)]) == 0
    assert "step 200: " in capsys.readouterr().out
    for by in ("support", "magnitude", "random"):
        out = lbi.parent / by
        settings = [f"run={lbi}", "step=200", f"by={by}"]
        words = [w for s in settings for w in ("--problem-set", s)]
        assert cli.main(["train", "landscape.jobs.ticket:build", *words, "--steps", "20", "--out", str(out)]) == 0
        kept = Checkpoint(Run(out), 20).state()["0.parametrizations.weight.original"]
        assert 0 < int(kept.count_nonzero()) <= int(gammas[0].count_nonzero())
        start = Checkpoint(Run(out), 0).state()["0.parametrizations.weight.original"]
        own = Checkpoint(run, 0).state()["0.weight"]
        assert torch.equal(start[start != 0], own[start != 0])
    assert cli.main(["ticket", str(lbi), "--checkpoints", "last", "--out", str(lbi.parent / "start")]) == 0
    told = Run(lbi.parent / "start")
    problem = build_problem(told.info.problem, told.info.problem_settings)
    Checkpoint(told, 0).load_into(problem)
    assert told.info.meta["ticket"]["kept"]["0.weight"] == int(gammas[0].count_nonzero())


def test_what_no_ticket_can_be_drawn_from_is_said(lbi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ticket", str(lbi), "--out", str(lbi.parent / "new")]) == 2
    assert "--out takes one checkpoint" in capsys.readouterr().err
    assert cli.main(["ticket", str(lbi.parent / "random"), "--checkpoints", "last"]) == 3
    assert "train with --optimizer dessilbi" in capsys.readouterr().err


def test_the_penalties_are_regularizers_of_the_folder() -> None:
    from landscape.optimizers.dessilbi import PENALTIES

    assert {name for name, _ in PENALTIES.values()} <= set(plugins.names("landscape.regularizers"))
