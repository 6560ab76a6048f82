"""Every operator against the dense float64 matrix of an independent formula; blocks of weights; sums and scalings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import AdamCheckpoint, dense, digits, mlp_problem
from torch import nn
from torch.nn import functional as F

from landscape import Recorder, cli
from landscape.app.reading import Reader
from landscape.distributed.parallel import Comm
from landscape.engine import combination
from landscape.engine.curvature import Curvature, operator_at
from landscape.engine.spectrum import spectrum_at
from landscape.errors import ProblemError, UsageError
from landscape.loss.checkpoints import Checkpoint
from landscape.loss.loading import build_problem
from landscape.loss.objective import convex
from landscape.loss.problem import Problem
from landscape.operators.fisher import draw, uniform
from landscape.readings.bounds import Interval, signs
from landscape.records import check_key, eigenpairs_key, operator_key, spectrum_key
from landscape.stores.run_directory import Run

COMM = Comm()
CE_OPERATORS = ("hessian", "gauss_newton", "residual", "fisher", "empirical_fisher", "preconditioned")
both_precisions = pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 3e-6), (torch.float64, 1e-13)])


def uneven(dtype=torch.float64, samples=150, batch_size=64) -> Problem:
    """The digits MLP, 64-6-10, 460 weights, after three epochs; batches of 64, 64 and 22 samples."""
    return mlp_problem(dtype, hidden=6, epochs=3, samples=samples, batch_size=batch_size)


def function(problem: Problem):
    """(outputs of all samples as a function of the flat weights, labels, weights), in float64 and in one batch."""
    exact = problem.to(dtype=torch.float64)
    inputs = torch.cat([b[0] for b in exact.batches])
    labels = torch.cat([b[1] for b in exact.batches])

    def outputs(theta):
        return torch.func.functional_call(exact.model, exact.unflatten(theta), (inputs,))

    return outputs, labels, exact.weights()


def mean_outer_of_gradients(outputs, labels, theta):
    """1/n sum_i g_i g_i^T, every gradient by itself."""
    theta = theta.clone().requires_grad_(True)
    losses = F.cross_entropy(outputs(theta), labels, reduction="none")
    gradients = torch.stack([torch.autograd.grad(loss, theta, retain_graph=True)[0] for loss in losses])
    return gradients.T @ gradients / len(labels)


def reference(problem: Problem, operator: str):
    outputs, labels, theta = function(problem)
    if operator == "empirical_fisher":
        return mean_outer_of_gradients(outputs, labels, theta)
    p = outputs(theta).softmax(dim=1).detach()
    if operator == "fisher":
        return mean_outer_of_gradients(outputs, draw(p, uniform(0, torch.arange(len(labels)))), theta)
    hessian = torch.func.hessian(lambda t: F.cross_entropy(outputs(t), labels))(theta)
    if operator == "hessian":
        return hessian
    if operator == "preconditioned":
        state = AdamCheckpoint(problem).state
        v = torch.cat([state[f"exp_avg_sq/{n}"].double().reshape(-1) for n, _, _ in problem.named_slices()])
        root = (torch.sqrt(v / (1 - 0.99**10)) + 1e-3).sqrt()
        return hessian / root[:, None] / root
    jacobian = torch.func.jacrev(outputs)(theta)  # (n, classes, size)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    gauss_newton = torch.einsum("naw,nab,nbv->wv", jacobian, inner, jacobian) / len(labels)
    return gauss_newton if operator == "gauss_newton" else hessian - gauss_newton


@pytest.mark.parametrize("operator", CE_OPERATORS)
@both_precisions
def test_the_product_is_that_of_the_independent_dense_matrix(operator, dtype, accuracy):
    problem = uneven(dtype)
    exact = reference(problem, operator)
    curvature = Curvature(problem, problem.weights(), COMM, operator, checkpoint=AdamCheckpoint(problem))
    block = torch.randn(problem.size, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    product, wanted = curvature.matvec(block).double(), exact @ block.double()
    assert float((product - wanted).norm() / wanted.norm()) < accuracy


def test_residual_and_gauss_newton_add_up_to_the_hessian():
    problem = uneven()
    total = dense(problem, "residual") + dense(problem, "gauss_newton")
    np.testing.assert_allclose(total, dense(problem), atol=1e-14)
    np.testing.assert_allclose(dense(problem, "residual"), dense(problem, "hessian - gauss_newton"), atol=1e-14)


@pytest.mark.parametrize(
    ("loss", "known"),
    [
        (F.cross_entropy, True),
        (nn.CrossEntropyLoss(), True),
        (partial(F.cross_entropy, label_smoothing=0.1), True),
        (convex(lambda z, y: F.cross_entropy(z, y)), True),
        (lambda z, y: -F.cross_entropy(z, y), False),  # the Gauss-Newton of this one is negative
    ],
)
def test_an_operator_says_whether_it_has_no_negative_eigenvalues(loss, known):
    problem = Problem(nn.Linear(64, 10), loss, digits(60)).to(dtype=torch.float64)
    gauss_newton = operator_at(problem, problem.weights(), COMM, "gauss_newton")
    assert gauss_newton.lowest == (0.0 if known else -np.inf)
    assert (2 * gauss_newton + gauss_newton).lowest == gauss_newton.lowest
    assert (-gauss_newton).lowest == -np.inf
    assert operator_at(problem, problem.weights(), COMM, "hessian + gauss_newton").lowest == -np.inf
    spectrum, pairs = spectrum_at(
        problem, problem.weights(), COMM, operator="gauss_newton", iterations=10, tolerance=1e-4, check=False
    )
    if known:
        assert signs(spectrum, 1e-9).negative == Interval(0.0, 0.0, 0.0)
        assert pairs.meta["converged"]
    else:
        assert (pairs.lowest_values < -1e-3).all()
        assert signs(spectrum, 1e-9).negative.high > 0.05


def test_the_residual_of_a_linear_model_is_zero():
    inputs, labels = digits(40)
    problem = Problem(nn.Linear(64, 10), F.cross_entropy, (inputs, labels), batch_size=16)
    assert not dense(problem, "residual").any()


def test_the_trace_of_the_empirical_fisher_is_the_mean_squared_gradient_norm_of_a_regression():
    inputs, labels = (t.double() for t in digits(30))
    model = nn.Sequential(nn.Linear(64, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    problem = Problem(model, lambda o, t: (o[:, 0] - t).square().mean(), (inputs, labels), batch_size=11)
    theta = problem.weights().requires_grad_(True)
    one_by_one = [(inputs[i : i + 1], labels[i : i + 1]) for i in range(30)]
    norms = [float(torch.autograd.grad(problem.batch_loss(theta, b), theta)[0].square().sum()) for b in one_by_one]
    assert np.trace(dense(problem, "empirical_fisher")) == pytest.approx(np.mean(norms), rel=1e-12)


# ------------------------------------------------------------------ Monte-Carlo Fisher


def test_the_sampled_fisher_has_the_gauss_newton_as_its_mean():
    """Each of 20 quadratic forms within 4.5 standard errors over 300 seeds, and their mean square about 1."""
    problem = uneven(samples=100)
    block = torch.randn(problem.size, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    theta = problem.weights()

    def forms(operator, seed=0):
        return (block * Curvature(problem, theta, COMM, operator, seed=seed).matvec(block)).sum(dim=0)

    drawn = torch.stack([forms("fisher", seed) for seed in range(300)])
    z = (drawn.mean(dim=0) - forms("gauss_newton")) / (drawn.std(dim=0) / 300**0.5)
    assert float(z.abs().max()) < 4.5
    assert 0.2 < float(z.square().mean()) < 3


@pytest.mark.parametrize("batch_size", [1000, 33, 7])
def test_a_drawn_label_belongs_to_its_sample_not_to_its_batch(batch_size):
    np.testing.assert_allclose(
        dense(uneven(batch_size=batch_size), "fisher", seed=5), dense(uneven(), "fisher", seed=5), atol=1e-14
    )


def test_seeds_draw_different_labels():
    assert np.abs(dense(uneven(), "fisher", seed=1) - dense(uneven(), "fisher", seed=2)).max() > 1e-3


def test_named_uniform_numbers_are_uniform_and_uncorrelated():
    n = 200_000
    u = torch.stack([uniform(seed, torch.arange(n)) for seed in (0, 1)])
    assert bool(((u >= 0) & (u < 1)).all())
    counts = torch.histc(u[0], bins=100, min=0, max=1)
    chi_square = float(((counts - n / 100) ** 2 / (n / 100)).sum())  # 99 degrees of freedom: 99 +- 14
    assert 50 < chi_square < 160
    correlations = torch.corrcoef(torch.stack([u[0, :-1], u[0, 1:], u[1, 1:]]))
    assert float((correlations - torch.eye(3, dtype=torch.float64)).abs().max()) < 5 / n**0.5


def test_drawn_labels_follow_the_probabilities():
    p = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64).expand(100_000, 4)
    shares = torch.bincount(draw(p, uniform(0, torch.arange(100_000))), minlength=4) / 100_000
    assert shares[1] == 0
    assert float((shares - p[0]).abs().max()) < 0.008  # five standard deviations


def test_the_labels_of_a_sequence_are_drawn_token_by_token():
    torch.manual_seed(0)
    tokens, labels = torch.randint(0, 5, (6, 3)), torch.randint(0, 5, (6, 3))
    model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 5)).double()

    def loss(logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    problem = Problem(model, loss, (tokens, labels), batch_size=4)
    theta = problem.weights()
    logits = problem.outcome(theta, (tokens, labels))[1].detach().reshape(-1, 5)
    drawn = draw(logits.softmax(dim=1), uniform(0, torch.arange(18)))
    exact = mean_outer_of_gradients(lambda t: problem.outcome(t, (tokens, labels))[1].reshape(-1, 5), drawn, theta)
    np.testing.assert_allclose(dense(problem, "fisher"), exact.numpy(), atol=1e-15)


# ------------------------------------------------------------------ what they cannot do


def own_loss():
    return Problem.from_batch_loss(nn.Linear(64, 10), lambda m, b: F.cross_entropy(m(b[0]), b[1]), digits(30))


def summed():
    return Problem(nn.Linear(64, 10), lambda o, t: F.cross_entropy(o, t, reduction="sum"), digits(30))


def weighted():
    weight = torch.linspace(1, 3, 10)
    return Problem(nn.Linear(64, 10), lambda o, t: F.cross_entropy(o, t, weight), digits(30))


def squares():
    inputs, labels = digits(30)
    return Problem(nn.Linear(64, 1), F.mse_loss, (inputs, labels[:, None].float()))


@pytest.mark.parametrize(
    ("build", "operator", "sentence"),
    [
        (own_loss, "residual", "needs the model's outputs"),
        (own_loss, "empirical_fisher", "needs the loss of each sample"),
        (summed, "empirical_fisher", "mean over the batch"),
        (weighted, "empirical_fisher", "weights them"),
        (own_loss, "fisher", "cross-entropy"),
        (weighted, "fisher", "cross-entropy"),
        (squares, "fisher", "gauss_newton for other losses"),
        (squares, "preconditioned", "needs a checkpoint of a recorded run"),
    ],
)
def test_what_an_operator_cannot_do_is_one_sentence(build, operator, sentence):
    problem = build()
    with pytest.raises(ProblemError, match=sentence):
        spectrum_at(problem, problem.weights(), COMM, operator=operator, iterations=2)


# ------------------------------------------------------------------ the optimizer's metric


def recorded(root: Path, optimizer, steps: int = 6, **settings):
    """A run of a torch optimizer on the digits, recorded every three steps, with the trained optimizer itself."""
    torch.manual_seed(0)
    problem = build_problem("digits_mlp", {"hidden": 4})
    live = optimizer(problem.model.parameters(), **settings)
    with Recorder(root, problem="digits_mlp", problem_settings={"hidden": 4}, model=problem.model, optimizer=live,
                  every=3) as recorder:  # fmt: skip
        for step in range(steps):
            live.zero_grad()
            loss = problem.training_loss(problem.batches[step % len(problem.batches)])
            loss.backward()
            live.step()
            recorder.step(loss=loss)
    return Run(root), problem, live


def metric_of(optimizer) -> torch.Tensor:
    """P from the live optimizer, written out once more."""
    parts = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = {k: v.double() for k, v in optimizer.state[parameter].items()}
            if "exp_avg_sq" in state:
                v = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
                correction = 1 - group["betas"][1] ** state["step"].item()
                parts.append((v.sqrt() / correction**0.5 + group["eps"]).flatten())
            elif "exp_inf" in state:
                parts.append(state["exp_inf"].flatten())
            elif "square_avg" in state:
                centre = state["grad_avg"] ** 2 if group["centered"] else 0.0
                parts.append(((state["square_avg"] - centre).sqrt() + group["eps"]).flatten())
            else:
                parts.append((state["sum"].sqrt() + group["eps"]).flatten())
    return torch.cat(parts)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (torch.optim.Adam, {"lr": 1e-2, "eps": 1e-6}),
        (torch.optim.Adam, {"lr": 1e-1, "amsgrad": True, "betas": (0.5, 0.5)}),
        (torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}),
        (torch.optim.NAdam, {"lr": 1e-2}),
        (torch.optim.Adamax, {"lr": 1e-2}),
        (torch.optim.RMSprop, {"lr": 1e-3, "momentum": 0.9}),
        (torch.optim.RMSprop, {"lr": 1e-3, "centered": True, "eps": 1e-4}),
        (torch.optim.Adagrad, {"lr": 1e-2}),
    ],
    ids=["adam", "amsgrad", "adamw", "nadam", "adamax", "rmsprop", "centered", "adagrad"],
)
def test_preconditioned_is_the_hessian_in_the_metric_of_a_trained_optimizer(tmp_path, optimizer, settings):
    run, problem, live = recorded(tmp_path / "run", optimizer, **settings)
    exact = problem.to(dtype=torch.float64)
    checkpoint = Checkpoint(run, 6)
    root = metric_of(live).rsqrt().numpy()
    wanted = root[:, None] * dense(problem) * root
    found = dense(exact, "preconditioned", checkpoint=checkpoint)
    assert np.abs(found - wanted).max() < 1e-12 * np.abs(wanted).max()
    _, pairs = spectrum_at(
        exact, exact.weights(), COMM, operator="preconditioned", checkpoint=checkpoint, iterations=20, top=3, bottom=1
    )
    values = np.linalg.eigvalsh(wanted)
    assert np.abs(pairs.values - values[::-1][:3]).max() < 1e-9 * values[-1]


def test_the_largest_second_moments_of_amsgrad_differ_from_the_last_ones(tmp_path):
    run, _, _ = recorded(tmp_path / "run", torch.optim.Adam, lr=0.1, amsgrad=True, betas=(0.5, 0.5))
    state = Checkpoint(run, 6).optimizer_state()
    assert any(bool((state[k] > state[k.removeprefix("max_")]).any()) for k in state if k.startswith("max_exp"))


def test_preconditioned_says_which_checkpoint_has_second_moments(tmp_path):
    run, problem, _ = recorded(tmp_path / "run", torch.optim.Adam)
    with pytest.raises(ProblemError, match="at step 0; the first checkpoint that has some is step 3"):
        Curvature(problem, problem.weights(), COMM, "preconditioned", checkpoint=Checkpoint(run, 0))


def test_preconditioned_says_when_the_optimizer_has_no_second_moments(tmp_path):
    run, problem, _ = recorded(tmp_path / "run", torch.optim.SGD, lr=0.1, momentum=0.9)
    with pytest.raises(ProblemError, match="trained with SGD, which keeps no second moments"):
        Curvature(problem, problem.weights(), COMM, "preconditioned", checkpoint=Checkpoint(run, 6))


class Quadratic(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((size,), 1e-6, dtype=torch.float64))

    def forward(self, x):
        return x @ self.w


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("share", "diverges"), [(0.97, False), (1.03, True)])
def test_the_preconditioned_sharpness_decides_the_stability_of_adam(tmp_path, beta1, share, diverges):
    """torch's Adam with its second moments frozen, lr at either side of (2 + 2 beta1) / ((1 - beta1) sharpness)."""
    inputs = torch.tensor(np.random.default_rng(0).normal(size=(40, 6)) * [1, 2, 0.3, 5, 0.1, 1])
    problem = Problem(Quadratic(6), lambda o, t: 0.5 * (o - t).square().mean(), (inputs, torch.zeros(40).double()))
    # 1 - beta2 at rounding level and a large count of steps: v_hat = v / (1 - beta2^t) stays what it is.
    beta2, steps = 1 - 1e-15, 1e9
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=1.0, betas=(beta1, beta2), eps=1e-8)
    v_hat = torch.tensor([4.0, 0.25, 1.0, 9.0, 0.01, 2.0], dtype=torch.float64)
    optimizer.state[problem.model.w] = {
        "step": torch.tensor(steps, dtype=torch.float64), "exp_avg": torch.zeros(6, dtype=torch.float64),
        "exp_avg_sq": v_hat * (1 - beta2**steps),
    }  # fmt: skip
    Recorder(tmp_path / "run", problem="unused", model=problem.model, optimizer=optimizer).close()
    _, pairs = spectrum_at(
        problem, problem.weights(), COMM, operator="preconditioned", checkpoint=Checkpoint(Run(tmp_path / "run"), 0)
    )
    optimizer.param_groups[0]["lr"] = share * (2 + 2 * beta1) / ((1 - beta1) * pairs.values[0])
    lengths = []
    for _ in range(1500):
        optimizer.zero_grad()
        problem.training_loss(problem.batches[0]).backward()
        optimizer.step()
        lengths.append(float(problem.model(inputs).detach().norm()))
    # What diverges ends up with other second moments in the end, so its growth is read on the way.
    assert (max(lengths) > 1e3 * lengths[0]) == diverges
    assert diverges or lengths[-1] < 1e-3 * lengths[0]


# ------------------------------------------------------------------ sums and scalings


def test_sums_and_scalings_of_operators_are_those_of_their_matrices():
    problem = uneven()
    theta, eye = problem.weights(), torch.eye(problem.size, dtype=torch.float64)
    h, g = (Curvature(problem, theta, COMM, name) for name in ("hessian", "gauss_newton"))
    wanted = 2 * h.matvec(eye) - 0.5 * (g.matvec(eye) + h.matvec(eye))
    combined = 2 * h - 0.5 * (g + h)
    assert combined.name == "2*hessian - 0.5*gauss_newton - 0.5*hessian"
    for operator in (combined, operator_at(problem, theta, COMM, combined.name)):
        torch.testing.assert_close(operator.matvec(eye), wanted, rtol=0, atol=1e-15)
    torch.testing.assert_close((-h).matvec(eye), -h.matvec(eye))


def test_the_spectrum_of_a_sum_by_words_and_by_hand():
    problem = uneven()
    options = {"iterations": 20, "top": 3, "bottom": 3}
    values = np.linalg.eigvalsh(reference(problem, "residual").numpy())
    by_hand = Curvature(problem, problem.weights(), COMM) - Curvature(problem, problem.weights(), COMM, "gauss_newton")
    for operator in (by_hand, "hessian - gauss_newton"):
        spectrum, pairs = spectrum_at(problem, problem.weights(), COMM, operator=operator, **options)
        assert spectrum.operator == pairs.operator == "hessian - gauss_newton"
        np.testing.assert_allclose(pairs.values, values[::-1][:3], atol=1e-9)
        np.testing.assert_allclose(pairs.lowest_values, values[:3], atol=1e-9)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("hessian", [(1.0, "hessian")]),
        ("-hessian", [(-1.0, "hessian")]),
        ("hessian-0.5*fisher", [(1.0, "hessian"), (-0.5, "fisher")]),
        (" 1e-2 * hessian + .5*gauss_newton ", [(0.01, "hessian"), (0.5, "gauss_newton")]),
    ],
)
def test_a_sum_is_read_and_written_back(text, terms):
    assert combination.read(text) == terms
    assert combination.read(combination.written(terms)) == terms


@pytest.mark.parametrize("text", ["", "hessian fisher", "2 hessian", "hessian +", "hessian * 2", "(hessian)"])
def test_what_is_no_sum_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="such as"):
        combination.read(text)


def test_operators_of_different_sizes_do_not_add():
    problem = uneven()
    part = problem.restricted("0")
    with pytest.raises(UsageError, match=r"different sizes cannot be added: 390, 460"):
        Curvature(problem, problem.weights(), COMM) + Curvature(part, part.weights(), COMM)


# ------------------------------------------------------------------ blocks of weights


@pytest.mark.parametrize("operator", [*CE_OPERATORS, "hessian - gauss_newton"])
@pytest.mark.parametrize("patterns", [("0",), ("0.*",), ("*.bias",), ("2.weight", "0.bias")], ids=",".join)
def test_a_restricted_operator_is_the_diagonal_block(operator, patterns):
    problem = uneven()
    block = problem.restricted(*patterns)
    names = [n for n, _, _ in block.named_slices()]
    inside = np.concatenate([np.arange(s.start, s.stop) for n, _, s in problem.named_slices() if n in names])
    checkpoint = AdamCheckpoint(problem)
    found = dense(block, operator, checkpoint=checkpoint)
    assert found.shape == (block.size, block.size)
    exact = dense(problem, operator, checkpoint=checkpoint)[np.ix_(inside, inside)]
    np.testing.assert_allclose(found, exact, atol=1e-13 * max(1, np.abs(exact).max()))


def test_the_spectrum_of_a_block_names_it():
    problem = uneven().restricted("2")
    spectrum, pairs = spectrum_at(problem, problem.weights(), COMM, iterations=18, top=3, bottom=1)
    assert (spectrum.operator, spectrum.size, pairs.vectors.shape) == ("hessian[2]", 70, (4, 70))
    assert pairs.meta["weights"] == ["2.weight", "2.bias"]
    np.testing.assert_allclose(pairs.values, np.linalg.eigvalsh(dense(problem))[::-1][:3], atol=1e-9)


def test_weights_outside_the_block_come_from_the_model():
    problem = uneven()
    block = problem.restricted("0")
    before = dense(block)
    problem.load({n: v * (2.0 if n.startswith("2") else 1.0) for n, v in problem.state().items()})
    theta = problem.weights()
    assert np.abs(dense(block) - before).max() > 1e-3
    np.testing.assert_allclose(dense(block), dense(problem)[:390, :390], atol=1e-14)
    assert torch.equal(problem.weights(), theta)


def test_layers_are_the_modules_that_own_weights():
    assert uneven().layers() == ["0", "2"]
    assert Problem(Quadratic(3), F.mse_loss, (torch.ones(4, 3).double(), torch.ones(4).double())).layers() == ["w"]


def test_a_pattern_that_matches_nothing_lists_the_names():
    with pytest.raises(UsageError, match=r"matches '1\.\*'; there are 0\.weight, 0\.bias, 2\.weight, 2\.bias"):
        uneven().restricted("0.*", "1.*")


# ------------------------------------------------------------------ the command line


def test_the_spectrum_job_on_an_operator_and_on_blocks(tmp_path, capsys):
    run, problem, live = recorded(tmp_path / "run", torch.optim.Adam)
    few = [str(run.root), "--dtype", "float64", "--iterations", "15", "--top", "2", "--bottom", "1"]
    assert cli.main(["spectrum", *few, "--operator", "preconditioned"]) == 0
    told = capsys.readouterr()
    assert "skipped: Adam has no second moments of '0.weight' at step 0; the first checkpoint" in told.err
    assert "2 preconditioned spectra" in told.out
    assert run.steps("eigenpairs", "preconditioned") == [3, 6]
    root = metric_of(live).rsqrt().numpy()
    wanted = np.linalg.eigvalsh(root[:, None] * dense(problem) * root)[::-1][:2]
    np.testing.assert_allclose(run.read("eigenpairs-preconditioned-00000006").values, wanted, rtol=1e-8)

    assert cli.main(["spectrum", *few, "--operator", "preconditioned"]) == 0  # again: nothing is left to do
    assert cli.main(["spectrum", *few, "--operator", "preconditioned", "--checkpoints", "0"]) == 3
    assert "the first checkpoint that has some is step 3" in capsys.readouterr().err

    assert cli.main(["spectrum", *few, "--checkpoints", "last", "--weights", "0.*"]) == 0
    assert "1 hessian[0.*] spectra" in capsys.readouterr().out
    key = eigenpairs_key("hessian[0.*]", 6)
    pairs = run.read(key, large=True)
    assert (pairs.operator, pairs.size, pairs.vectors.shape[1]) == ("hessian[0.*]", 260, 260)
    np.testing.assert_allclose(pairs.values, np.linalg.eigvalsh(dense(problem)[:260, :260])[::-1][:2], rtol=1e-8)
    assert not run.has("spectrum-hessian-00000006")  # the block is no spectrum of the whole

    assert Reader(tmp_path).operators(run) == ["hessian[0.*]", "preconditioned"]
    assert Reader(tmp_path).series(run, "hessian[0.*]").steps == [6]

    assert cli.main(["spectrum", *few, "--checkpoints", "last", "--per-layer"]) == 0
    told = capsys.readouterr().out
    assert "hessian[0] spectra" in told
    assert "hessian[2] spectra" in told
    values = run.read(eigenpairs_key("hessian[2]", 6)).values
    np.testing.assert_allclose(values, np.linalg.eigvalsh(dense(problem)[260:, 260:])[::-1][:2], rtol=1e-8)

    assert cli.main(["spectrum", *few, "--weights", "7.*"]) == 2
    assert "0.weight, 0.bias, 2.weight, 2.bias" in capsys.readouterr().err
    surface = ["surface", str(run.root), "--plane", "eigen", "--operator", "hessian[0.*]", "--points", "3"]
    assert cli.main(surface) == 0
    directions = run.read(run.keys("surface")[0], large=True).directions
    assert directions[:, :260].any()
    assert not directions[:, 260:].any()


@pytest.mark.parametrize("other", ["hessian[0]", "hessian(0)", "hessian[0,*]", "hessian[00]", "hessian_0"])
def test_keys_of_blocks_do_not_collide(other):
    assert spectrum_key("hessian[0.*]", 1) != spectrum_key(other, 1)
    assert check_key(spectrum_key(other, 1))
    assert operator_key(operator_key(other)) == operator_key(other)  # the app finds records by what is in the key


@pytest.mark.parametrize("name", ["hessian", "gauss_newton", "residual", "empirical_fisher"])
def test_a_block_that_no_output_depends_on_has_a_zero_operator(name):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(64, 10), nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    block = Problem(Idle(), F.cross_entropy, digits(20)).restricted("idle.*")
    product = Curvature(block, block.weights(), Comm(), name).matvec(torch.ones(block.size, 2))
    assert torch.equal(product, torch.zeros(8, 2))
