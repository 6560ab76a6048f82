"""Games in training: whose gradient, whose turn, whose eigenvectors; and what is told of the samples."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_games import bilinear, small
from torch import Tensor, nn

from landscape import cli, plugins
from landscape.errors import UsageError
from landscape.games.game import Game
from landscape.games.modes import MixtureJudge, coverage, frechet_distance, inception_score, train_classifier
from landscape.jobs.game import _summary
from landscape.learning.training import MiniBatches, evaluation, make_optimizer, train_step
from landscape.loss.loading import build_problem
from landscape.problems._data import digits
from landscape.records import Eigenpairs, RunInfo, game_key, surface_key
from landscape.records import Game as Record
from landscape.stores.run_directory import Run

RATE = 0.1


def after(game: Game, optimizer: str, settings: dict[str, Any], steps: int = 1) -> Tensor:
    """The weights after some steps on all samples."""
    made = make_optimizer(optimizer, game.model, settings)
    for _ in range(steps):
        train_step(game, made, game.batches)
    return game.weights()


def turned(matrix: Any, steps: int) -> Tensor:
    """The bilinear game's weights (x1, x2, y1, y2) after a linear map of each (x_i, y_i), by its factor a_i."""
    start = bilinear().weights().numpy().reshape(2, 2)
    ends = [np.linalg.matrix_power(matrix(a), steps) @ start[:, i] for i, a in enumerate((1.0, 3.0))]
    return torch.from_numpy(np.stack(ends, axis=1).ravel())


MAPS = {
    "simultaneous": lambda a: np.array([[1, -RATE * a], [RATE * a, 1]]),
    "alternating": lambda a: np.array([[1, -RATE * a], [RATE * a, 1 - (RATE * a) ** 2]]),
}


@pytest.mark.parametrize("updates", MAPS)
def test_players_step_together_or_in_turn_at_the_exact_rate(updates: str) -> None:
    found = after(bilinear(updates), "sgd", {"lr": RATE}, 60)
    torch.testing.assert_close(found, turned(MAPS[updates], 60), rtol=1e-12, atol=1e-12)
    modulus = np.abs(np.linalg.eigvals(MAPS[updates](1.0))).max()  # outwards together; round and round in turn
    assert modulus == pytest.approx(math.sqrt(1 + RATE**2) if updates == "simultaneous" else 1.0, abs=1e-12)


def test_consensus_contracts_by_its_rate_and_sees_the_cross_derivatives() -> None:
    """w - lr (F + gamma J^T F): x - lr (a y + gamma a^2 x), y + lr (a x - gamma a^2 y)."""
    found = after(bilinear(), "consensus", {"lr": RATE, "gamma": 0.5}, 100)
    turn = lambda a: np.array([[1 - RATE * 0.5 * a**2, -RATE * a], [RATE * a, 1 - RATE * 0.5 * a**2]])  # noqa: E731
    torch.testing.assert_close(found, turned(turn, 100), rtol=1e-12, atol=1e-12)
    rate = np.abs(np.linalg.eigvals(turn(1.0))).max()
    assert rate == pytest.approx(math.sqrt((1 - RATE * 0.5) ** 2 + RATE**2), rel=1e-12)


def plays(name: str) -> bool:
    """Those that are handed a problem change its network, which no game's players do."""
    return next(iter(inspect.signature(plugins.load("landscape.optimizers", name).make).parameters)) != "problem"


@pytest.mark.parametrize("name", [name for name in plugins.names("landscape.optimizers") if plays(name)])
@pytest.mark.parametrize("updates", MAPS)
def test_every_optimizer_plays(name: str, updates: str) -> None:
    game = small(updates=updates)
    before = game.weights()
    moved = (after(game, name, {}, 2) - before).abs()
    for player in game.players:
        assert moved[game.owned(player)].max() > 0
    assert all(p.requires_grad for p in game.model.parameters())


def test_a_player_is_moved_by_his_own_loss_alone() -> None:
    game = small()
    expected = game.weights()
    for player in game.players:
        theta = game.weights().requires_grad_(True)
        loss = sum(game.player(player).batch_loss(theta, b) * len(b[0]) for b in game.batches) / game.samples
        (slope,) = torch.autograd.grad(loss, theta)  # type: ignore[arg-type]
        expected -= 0.1 * torch.where(game.owned(player), slope, 0)
    torch.testing.assert_close(after(game, "sgd", {"lr": 0.1}), expected, rtol=1e-12, atol=1e-14)


def test_of_a_game_the_generator_is_nudged_and_the_others_are_asked_for() -> None:
    plain = after(small(), "adam", {"lr": 0.01}, 3)
    for weights, nudged in ((None, {"generator"}), ("discriminator.*", {"discriminator"}),
                            ("generator.*, discriminator.*", {"generator", "discriminator"})):  # fmt: skip
        game = small()
        optimizer = make_optimizer("nudged_adam", game.model, {"lr": 0.01, "weights": weights, "products": 20})
        exact = {p: torch.linalg.eigvalsh(_hessian(game, p))[-1] for p in nudged}
        train_step(game, optimizer, game.batches)
        assert optimizer.eigenvalues == pytest.approx([float(exact[p]) for p in game.players if p in nudged], rel=1e-6)
        for player in nudged:  # its gradient has no part left along its own eigenvector
            own = torch.cat([w.grad.reshape(-1) for n, w in game.model.named_parameters() if game.owner(n) == player])
            top = torch.linalg.eigh(_hessian(small(), player))[1][:, -1]
            assert abs(float(own @ top)) < 1e-6 * float(own.norm())
    game = small()
    found = after(game, "nudged_adam", {"lr": 0.01, "products": 20, "gamma": 1.0}, 3)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-14)
    with pytest.raises(UsageError, match=r"no weight's name fits 'critic\.\*'"):
        make_optimizer("nudged_adam", game.model, {"weights": "critic.*"})


def _hessian(game: Game, player: str) -> Tensor:
    own, total = game.owned(player), torch.zeros(game.size, game.size, dtype=torch.float64)
    for batch in game.batches:
        total += torch.func.hessian(game.player(player).batch_loss)(game.weights(), batch) * len(batch[0])
    return total[own][:, own] / game.samples


def test_mini_batches_have_noise_of_their_step_and_full_ones_the_frozen_one() -> None:
    game = small()
    one, again, other = (MiniBatches(game, 20, seed).at(step)[0] for seed, step in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[1], other[1])
    assert one[1].dtype == torch.float64
    real = {tuple(r) for b in game.batches for r in b[0].tolist()}
    assert {tuple(r) for r in one[0].tolist()} <= real
    assert MiniBatches(game, 0, 0).at(3) is game.batches


@pytest.mark.parametrize("name", ["ring_gan", "grid_gan", "digits_gan"])
def test_a_shipped_game_is_judged_at_its_checkpoints(name: str) -> None:
    problem = build_problem(name, {"seed": 0, "width": 8})
    optimizer = make_optimizer("adam", problem.model, {"lr": 1e-3})
    batches = MiniBatches(problem, 64, 0)
    before = evaluation(problem)
    for step in range(20):
        train_step(problem, optimizer, batches.at(step))
    found = evaluation(problem)
    assert found["loss_generator"] + found["loss_discriminator"] == pytest.approx(found["train_loss"], rel=1e-5)
    assert found["loss_discriminator"] != before["loss_discriminator"]
    assert {"modes", "hq_share", "mode_kl", "test_loss"} <= set(found)
    assert 0 <= found["hq_share"] <= 1


# ---------------------------------------------------------------------- what is told of samples


class Constant(nn.Module):
    """A generator that makes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Identity()
        self.weight = nn.Parameter(torch.zeros(1))


def test_modes_of_a_mixture_are_counted_within_three_deviations() -> None:
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    near = torch.tensor([[0.029, 0.0], [0.031, 0.0], [2.0, 0.0], [1.99, 0.02], [1.0, 1.0]])
    found = MixtureJudge(centres, 0.01, near)(Constant())
    assert found.metrics == {"modes": 2, "modes_tenth": 2, "hq_share": 0.6, "mode_kl": pytest.approx(
        math.log(4) - math.log(3) + 2 / 3 * math.log(2))}  # fmt: skip
    np.testing.assert_allclose(found.shares, [0.2, 0.4, 0, 0])


def test_even_and_collapsed_coverage_have_their_closed_forms() -> None:
    even, collapsed = coverage(torch.full((8,), 10), 100), coverage(torch.tensor([80] + 7 * [0]), 100)
    assert even == {"modes": 8, "modes_tenth": 8, "hq_share": 0.8, "mode_kl": pytest.approx(0, abs=1e-15)}
    assert collapsed == {"modes": 1, "modes_tenth": 1, "hq_share": 0.8, "mode_kl": pytest.approx(math.log(8))}
    assert coverage(torch.zeros(8), 100)["mode_kl"] == math.inf
    assert coverage(torch.tensor([99, 1, 0, 0]), 400)["modes_tenth"] == 1


def test_scores_of_images_have_their_closed_forms() -> None:
    assert inception_score(torch.eye(10)) == pytest.approx(10)
    assert inception_score(torch.full((5, 10), 0.1)) == pytest.approx(1)
    draw = torch.Generator().manual_seed(0)
    samples = torch.randn(200, 6, generator=draw)
    assert frechet_distance(samples, samples) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(samples, samples + 2) == pytest.approx(24, rel=1e-6)
    assert frechet_distance(samples, 3 * (samples - samples.mean(0)) + samples.mean(0)) == pytest.approx(
        4 * float(torch.cov(samples.T, correction=0).trace()), rel=1e-5)  # fmt: skip


def test_the_judge_of_digits_knows_them_and_leaves_the_generator_of_numbers_alone() -> None:
    (images, labels), held_out = digits(0.2, 0)
    assert held_out is not None
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    nets = [train_classifier(images, labels) for _ in range(2)]
    assert torch.equal(torch.rand(1), expected)
    answers = [net(held_out[0]) for net in nets]
    assert torch.equal(*answers)
    assert (answers[0].argmax(1) == held_out[1]).float().mean() > 0.95


# ---------------------------------------------------------------------- the jobs


def test_games_are_trained_looked_at_and_exported(tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "ring"
    words = ["train", "ring_gan", "--optimizer", "adam", "--set", "betas=[0.5,0.999]", "--steps", "4",
             "--checkpoint-every", "4", "--out", str(run)]  # fmt: skip
    words += [f"--problem-set={s}" for s in ("width=3", "depth=1", "samples=120", "batch_size=40", "judged=100")]
    assert cli.main(words) == 0
    assert cli.main(["game", str(run), "--dtype", "float64", "--kept-samples", "30"]) == 0
    assert "2 checkpoints of a game of generator and discriminator" in capsys.readouterr().out
    store = Run(run)
    first: Record = store.read(game_key(4))
    assert first.samples is not None
    assert first.samples.shape == (30, 2)
    assert len(first.real) == first.size
    assert first.residuals.max() < 1e-9
    assert first.metric("modes") == store.metrics()["modes"][-1]
    assert first.losses[0] == pytest.approx(store.metrics()["loss_generator"][-1], rel=1e-5)
    block = ["--problem-set", "player=generator"]
    assert cli.main(["surface", str(run), "--plane", "random", "--points", "3", *block]) == 0
    seen = store.read(surface_key("random", 4))
    assert seen.loss[1, 1] == pytest.approx(first.losses[0], rel=1e-5)  # the generator's own loss, by his weights
    assert "leave --problem-set player=... out" in _refused(["game", str(run), *block], capsys)
    created = store.meta(game_key(4))["meta"]["created"]
    assert cli.main(["game", str(run), "--dtype", "float64", "--kept-samples", "30"]) == 0  # nothing is left to do
    assert store.meta(game_key(4))["meta"]["created"] == created
    assert cli.main(["export", str(run), "--record", "game", "--format", "csv"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()[-1 - 2 * first.size :]
    assert head.startswith("step,real,imaginary,residual,loss_generator,loss_discriminator,modes")
    assert float(rows[-1].split(",")[1]) == pytest.approx(first.real[-1])


def _refused(words: list[str], capsys: Any) -> str:
    assert cli.main(words) == 2
    told: str = capsys.readouterr().err
    return told


def test_the_job_tells_whether_sharpness_leads_the_modes(tmp_path: Path) -> None:
    """Records in which the modes follow, two checkpoints later, what the generator's sharpness did."""
    run = Run.create(tmp_path / "run", RunInfo("run", "ring_gan", {}, "Adam", {}, 10, 4, 0, ""))
    walk, one, none = np.random.default_rng(3).standard_normal(42).cumsum(), np.ones(2), np.empty(0)
    for k in range(40):
        run.write(Record(10 * k, 4, ["generator", "discriminator"], one, one, none, none, none, np.empty((2, 0)),
                         metric_names=["modes"], metrics=np.array([walk[k]])))  # fmt: skip
        run.write(Eigenpairs(10 * k, "hessian[generator.*]", 2, np.array([walk[k + 2]]), np.zeros(1), none, none))
    told = _summary(run, [10 * k for k in range(40)])
    assert told[0].endswith("40 checkpoints of a game of generator and discriminator")
    assert "the sharpness of the generator leads the number of modes by 20 steps" in told[-1]


def test_the_game_of_a_run_that_is_none_is_refused(tmp_path: Path, capsys: Any) -> None:
    run = str(tmp_path / "plain")
    assert cli.main(["train", "digits_mlp", "--problem-set", "hidden=2", "--steps", "1", "--out", run]) == 0
    assert "was trained on 'digits_mlp', which is no game" in _refused(["game", run], capsys)
