"""A game's Jacobian against the dense one, and its eigenvalues against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact import PROGRAMS, mpirun
from small_games import Pair, bilinear, dense, small

from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.errors import ProblemError, UsageError
from landscape.games import arnoldi
from landscape.games.arnoldi import cross_norms, eigenvalues
from landscape.games.game import Game
from landscape.games.jacobian import Jacobian
from landscape.games.payoffs import PAYOFFS
from landscape.loss.loading import build_problem
from landscape.readings.leading import lead_lag

every_payoff = pytest.mark.parametrize("payoff", PAYOFFS)


@every_payoff
def test_products_are_those_of_the_dense_jacobian(payoff: str) -> None:
    game = small(payoff)
    exact, block = dense(game), torch.randn(game.size, 3, dtype=torch.float64)
    for keep in (True, False):
        found = Jacobian(game, game.weights(), Comm(), keep)
        for _ in range(2):  # a kept graph serves more than once
            torch.testing.assert_close(found.product(block), exact @ block, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(found.transposed(block), exact.T @ block, rtol=1e-10, atol=1e-12)


def test_a_players_block_of_the_jacobian_is_the_hessian_of_his_own_loss() -> None:
    game = small()
    exact = dense(game)
    for player in game.players:
        block = game.restricted(f"{player}.*")
        eye = torch.eye(block.size, dtype=torch.float64)
        own = game.owned(player)
        hessian = operator_at(block, block.weights(), Comm()).matvec(eye)
        torch.testing.assert_close(hessian, exact[own][:, own], rtol=1e-10, atol=1e-12)
        assert block.evaluate(block.weights())["loss"] == pytest.approx(game.losses(game.weights())[player])


def test_the_whole_game_has_the_sum_of_the_losses() -> None:
    game = small()
    assert game.evaluate(game.weights())["loss"] == pytest.approx(sum(game.losses(game.weights()).values()))
    mixed = game.restricted("generator.0.*", "discriminator.0.*")
    assert mixed.evaluate(mixed.weights())["loss"] == pytest.approx(sum(game.losses(game.weights()).values()))


def test_a_bilinear_game_turns_and_does_nothing_else() -> None:
    found = eigenvalues(Jacobian(bilinear(), bilinear().weights(), Comm()))
    np.testing.assert_allclose(found.values, [3j, -3j, 1j, -1j], atol=1e-14)
    np.testing.assert_allclose(found.shares, 0.5, atol=1e-14)  # both players share every eigenvector
    assert found.residuals.max() < 1e-13
    crossed = cross_norms(Jacobian(bilinear(), bilinear().weights(), Comm()))
    assert crossed == {("x", "y"): pytest.approx(3.0), ("y", "x"): pytest.approx(3.0)}


def test_arnoldi_finds_the_ends_of_the_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    game = small(width=6, batch_size=50)
    matrix = dense(game).numpy()
    exact = np.linalg.eigvals(matrix)
    monkeypatch.setattr(arnoldi, "DENSE", 0)
    found = eigenvalues(Jacobian(game, game.weights(), Comm()), count=3)
    assert not found.missed
    for wanted in (np.abs, np.real, lambda values: -np.real(values)):
        extreme = exact[np.argsort(-wanted(exact))[:3]]
        for value in extreme:
            assert np.abs(found.values - value).min() < 1e-8 * np.abs(exact).max()
    assert found.residuals.max() < 1e-8 * np.abs(exact).max()
    np.testing.assert_allclose(found.shares.sum(axis=0), 1)
    own = game.owned("generator").numpy()
    crossed = cross_norms(Jacobian(game, game.weights(), Comm()))
    assert crossed["generator", "discriminator"] == pytest.approx(np.linalg.norm(matrix[own][:, ~own], 2), rel=1e-5)
    assert crossed["discriminator", "generator"] == pytest.approx(np.linalg.norm(matrix[~own][:, own], 2), rel=1e-5)


def test_two_ranks_find_the_same_eigenvalues_and_fail_together() -> None:
    ended = mpirun(2, str(PROGRAMS / "game_on_ranks.py"))
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr


def test_the_field_is_every_players_gradient() -> None:
    game = bilinear()
    np.testing.assert_allclose(Jacobian(game, game.weights(), Comm()).field(), [0.7, 0.6, -1.0, 1.5], atol=1e-15)


def test_a_weight_that_is_nobodys_is_refused() -> None:
    with pytest.raises(ProblemError, match="the weight 'y' of the model belongs to 0 of the players x"):
        Game(Pair(), {"x": lambda m, b: m.x.sum()}, [torch.zeros(1)])
    with pytest.raises(ProblemError, match=r"player 'z' of the model has no trainable weights named 'z.\*'"):
        Game(Pair(), {p: lambda m, b: m.x.sum() for p in "xyz"}, [torch.zeros(1)])
    with pytest.raises(UsageError, match="unknown updates 'turns'"):
        bilinear("turns")
    with pytest.raises(UsageError, match="unknown payoff 'gan'; the choices are nsgan"):
        build_problem("ring_gan", {"payoff": "gan"})


# ---------------------------------------------------------------------- lead and lag


@pytest.mark.parametrize("shift", [-3, 0, 4])
def test_the_lag_of_a_shifted_curve_is_found(shift: int) -> None:
    walk = np.cumsum(np.random.default_rng(0).standard_normal(80))
    steps = 50 * np.arange(70)
    first, second = walk[5:75], -walk[5 - shift : 75 - shift]  # the second does `shift` checkpoints later the opposite
    found = lead_lag(steps, first, second)
    assert found is not None
    assert (found.peak, found.probability) == (50 * shift, 0.001)
    assert found.height < -0.8
    assert np.abs(found.correlation[found.lags != found.peak]).max() < 0.5


def test_unrelated_curves_are_told_to_lead_no_more_often_than_said() -> None:
    steps, wrong = 10 * np.arange(40), 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        first, second = (np.convolve(draw.standard_normal(60), np.ones(4), "valid")[:40].cumsum() for _ in range(2))
        found = lead_lag(steps, first, second)
        assert found is not None
        wrong += found.probability <= 0.05
    assert wrong <= 7  # of 40 at 5 %: more has a probability of 0.001


def test_too_few_checkpoints_or_constant_curves_tell_nothing() -> None:
    assert lead_lag(range(7), range(7), range(7)) is None
    assert lead_lag(range(20), np.arange(20) ** 2, np.ones(20)) is None
    broken = np.where(np.arange(20) % 2, np.nan, 1.0)
    assert lead_lag(range(9), np.arange(9) ** 2, broken[:9]) is None
