"""Self-checks: each of the traps that make a spectrum wrong without a word is named with its layer and its fix."""

from __future__ import annotations

import inspect

import pytest
import small_problems
import torch
from exact import AdamCheckpoint, digits, mlp_problem
from small_problems import Weights
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape import cli, plugins
from landscape.distributed.parallel import Comm
from landscape.engine import quotients
from landscape.engine.checks import self_check, told
from landscape.engine.combination import Operator
from landscape.engine.curvature import Curvature, operator_at
from landscape.engine.sameness import same_everywhere
from landscape.engine.spectrum import spectrum_at
from landscape.errors import ProblemError, UsageError
from landscape.evidence import check_settings
from landscape.games.game import Game
from landscape.loss.fingerprint import fingerprint
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem

COMM = Comm()
EVERY_OPERATOR = plugins.names("landscape.operators")


def with_layer(layer: nn.Module, samples: int = 60, dtype: torch.dtype = torch.float32) -> Problem:
    """64 - 8 - layer - 10 on digits."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("first", nn.Linear(64, 8))
    model.add_module("middle", layer)
    model.add_module("last", nn.Linear(8, 10))
    return Problem(model, F.cross_entropy, digits(samples), batch_size=32).to(dtype=dtype)


def checked(problem: Problem, operator: str = "hessian", **options):  # type: ignore[no-untyped-def]
    return self_check(operator_at(problem, problem.weights(), COMM, operator, **options))


def refused(problem: Problem, *pieces: str) -> str:
    """The job refuses, and its sentence holds these pieces."""
    with pytest.raises(ProblemError) as caught:
        spectrum_at(problem, problem.weights(), COMM, iterations=3, top=1, bottom=0)
    for piece in pieces:
        assert piece in str(caught.value), str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------ 1 dropout


class Noisy(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return F.dropout(x, 0.5, training=True)


def test_dropout_is_named_with_its_layer():
    refused(with_layer(Noisy()), "two results", "layer 'middle' (Noisy)", "dropout called with training=True")


def test_a_model_put_back_into_training_mode_is_told_to_leave_it():
    problem = with_layer(nn.Dropout(0.5))
    checked(problem)
    problem.model.train()
    refused(problem, "layer 'middle' (Dropout)", "In training mode are", "problem.model.eval()")


def test_randomness_of_the_loss_is_no_layers_fault():
    problem = Problem(
        nn.Linear(64, 10), lambda o, t: (1 + torch.rand(())) * F.cross_entropy(o, t), digits(40), batch_size=20
    )
    assert "layer" not in refused(problem, "two results").partition("Switch off")[0]


# ------------------------------------------------------------------ 2 shuffled data


class TwoRanks(Comm):
    """This process, and another whose reports are handed in."""

    def __init__(self, problem: Problem, vector: torch.Tensor) -> None:
        self.other: list[list[str]] = []
        same_everywhere(problem, vector, _Spy(self.other))

    def gather(self, value):  # type: ignore[no-untyped-def]
        return [value, *self.other]


class _Spy(Comm):
    def __init__(self, heard: list[list[str]]) -> None:
        self.heard = heard

    def gather(self, value):  # type: ignore[no-untyped-def]
        self.heard.append(value)
        return [value]


def shuffled(seed: int) -> Problem:
    inputs, labels = digits(64)
    torch.manual_seed(0)
    model = nn.Linear(64, 10)
    torch.manual_seed(seed)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    return Problem(model, F.cross_entropy, loader)


def test_ranks_that_shuffle_differently_are_named():
    here, there = shuffled(0), shuffled(1)
    same_everywhere(here, here.weights(), TwoRanks(shuffled(0), here.weights()))
    with pytest.raises(ProblemError, match=r"rank 1 holds other data than rank 0 in 4 of 4 batches.*Seed it") as error:
        same_everywhere(here, here.weights(), TwoRanks(there, here.weights()))
    assert error.value.everywhere


def test_ranks_with_other_weights_are_named():
    problem = shuffled(0)
    with pytest.raises(ProblemError, match=r"rank 1 has other weights than rank 0.*torch\.manual_seed"):
        same_everywhere(problem, problem.weights(), TwoRanks(problem, problem.weights() + 1e-7))


def test_a_resumed_job_notices_that_its_data_changed():
    inputs, labels = digits(40)

    def digest(x):  # type: ignore[no-untyped-def]
        return fingerprint(Problem(nn.Linear(64, 10), F.cross_entropy, (x, labels)))

    old = {"problem": "own", "data": digest(inputs)}
    check_settings("the spectrum", old, {"problem": "own", "data": digest(inputs.clone())})
    check_settings("the spectrum", {"problem": "own"}, old)  # records of earlier versions have no digest
    with pytest.raises(UsageError, match="was made with data"):
        check_settings("the spectrum", old, {"problem": "own", "data": digest(inputs + 1e-6)})


# ------------------------------------------------------------------ 3 BatchNorm in training mode


class TrainingNorm(nn.BatchNorm1d):
    """BatchNorm that will not be put into evaluation mode."""

    def train(self, mode: bool = True):  # type: ignore[no-untyped-def]
        return super().train(True)


def test_a_moved_buffer_is_named_and_restored():
    problem = with_layer(TrainingNorm(8))
    before = {n: b.clone() for n, b in problem.model.named_buffers()}
    refused(problem, "'running_mean' of layer 'middle' (TrainingNorm)", "restored", "track_running_stats=False")
    for name, buffer in problem.model.named_buffers():
        assert torch.equal(buffer, before[name]), name


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(8), nn.BatchNorm1d(8, track_running_stats=False), nn.LayerNorm(8), nn.GroupNorm(2, 8)],
    ids=["statistics", "batch statistics", "layer", "group"],
)  # fmt: skip
def test_norms_pass(norm):
    problem = with_layer(norm)
    assert checked(problem).difference < 1e-5


# ------------------------------------------------------------------ 4 kernels without a second derivative


class Fused(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        x = x.view(len(x), 1, 2, 4)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(x, x, x).flatten(1)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return g * ctx.saved_tensors[0].cos()


class OnceLayer(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return Once.apply(x)


def test_a_fused_attention_kernel_is_named_with_its_layer():
    refused(
        with_layer(nn.Sequential(nn.Tanh(), Fused())), "layer 'middle.1' (Fused) cannot be differentiated twice",
        "remove its sdpa_kernel",
    )


def test_a_backward_that_is_differentiable_once_is_named_with_its_layer():
    """torch may return a wrong second derivative here in place of an error; both are refused."""
    refused(with_layer(OnceLayer()), "layer 'middle' (OnceLayer)")


# ------------------------------------------------------------------ 5, 6, 7 wrong derivatives, weights, losses


class ByHand(Operator):
    """An operator made from a function of vectors."""

    def __init__(self, problem: Problem, product, name: str = "hessian") -> None:  # type: ignore[no-untyped-def]
        super().__init__(name, problem.weights(), COMM)
        self.product = product

    def matvec(self, block):  # type: ignore[no-untyped-def]
        return torch.stack([self.product(v) for v in block.unbind(dim=1)], dim=1)


def total_loss(problem: Problem, theta: torch.Tensor) -> torch.Tensor:
    losses = [problem.count(b) / problem.samples * problem.batch_loss(theta, b) for b in problem.batches]
    return torch.stack(losses).sum()


def forward_over_reverse(problem: Problem, at=None):  # type: ignore[no-untyped-def]
    at = problem.weights() if at is None else at
    gradient = torch.func.grad(lambda theta: total_loss(problem, theta))
    return lambda v: torch.func.jvp(gradient, (at,), (v,))[1]


def reverse_over_forward(problem: Problem):  # type: ignore[no-untyped-def]
    def along(theta, v):  # type: ignore[no-untyped-def]
        return torch.func.jvp(lambda t: total_loss(problem, t), (theta,), (v,))[1]

    return lambda v: torch.func.grad(along)(problem.weights(), v)


def smooth(dtype: torch.dtype = torch.float64) -> Problem:
    return with_layer(nn.Tanh(), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_right_operator_made_by_hand_passes(dtype):
    problem = smooth(dtype)
    found = self_check(ByHand(problem, forward_over_reverse(problem)), problem=problem)
    assert found.difference < 1e-5
    assert found.matvecs == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reverse_over_forward_through_layer_norm_is_rejected(dtype):
    problem = with_layer(nn.LayerNorm(8), dtype=dtype)
    self_check(ByHand(problem, forward_over_reverse(problem)), problem=problem)
    wrong = ByHand(problem, reverse_over_forward(problem))
    with pytest.raises(ProblemError, match="reverse over forward"):
        self_check(wrong, problem=problem)


def test_a_product_at_the_vector_in_place_of_the_weights_is_rejected():
    """HessFormer hands the vector over as the weights too."""
    problem = smooth()
    wrong = ByHand(problem, lambda v: forward_over_reverse(problem, at=v)(v))
    with pytest.raises(ProblemError, match=r"not linear.*Evaluate it at fixed weights"):
        self_check(wrong, problem=problem)


class Elsewhere(Curvature):
    """The engine's own product, at weights that are a little off."""

    def local_product(self, block):  # type: ignore[no-untyped-def]
        here, self.vector = self.vector, 1.05 * self.vector
        try:
            return super().local_product(block)
        finally:
            self.vector = here


@pytest.mark.parametrize("operator", [o for o in EVERY_OPERATOR if o != "preconditioned"])
def test_a_product_at_other_weights_is_rejected(operator):
    problem = smooth()
    wrong = Elsewhere(problem, problem.weights(), COMM, operator)
    with pytest.raises(ProblemError, match="not that of this loss at these weights"):
        self_check(wrong)


def test_a_product_of_another_loss_is_rejected():
    problem = smooth()
    logits = Problem.from_batch_loss(problem.model, lambda m, b: m(b[0]).square().mean(), problem.batches)
    wrong = ByHand(problem, forward_over_reverse(logits))
    with pytest.raises(ProblemError, match="not that of this loss"):
        self_check(wrong, problem=problem)


def test_a_short_last_batch_that_counts_as_much_as_the_others_is_rejected():
    problem = smooth()  # 32 and 28 samples
    plain = Problem(problem.model, F.cross_entropy, problem.batches)
    plain.count, plain.samples = lambda batch: 1, 2
    wrong = ByHand(problem, forward_over_reverse(plain))
    with pytest.raises(ProblemError, match="not that of this loss"):
        self_check(wrong, problem=problem)


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return g * (2 * x + 0.1 * x.roll(1, dims=-1))


class WrongLayer(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return WrongBackward.apply(x)


def test_a_wrong_backward_is_named_with_its_layer():
    refused(with_layer(nn.Sequential(nn.Tanh(), WrongLayer())), "not symmetric", "layer 'middle.1' (WrongLayer)")


def test_a_matrix_that_is_not_symmetric_is_rejected():
    matrix = small_problems.symmetric(6)
    problem = small_problems.quadratic(matrix)
    matrix = matrix.clone()
    matrix[0, 1] += 0.01
    with pytest.raises(ProblemError, match="not symmetric"):
        self_check(ByHand(problem, lambda v: matrix @ v))


# ------------------------------------------------------------------ 8 NaN


class Root(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return F.relu(x).sqrt()


def test_a_second_derivative_that_is_not_finite_is_named_with_batch_weight_and_layer():
    problem = with_layer(Root())
    refused(problem, "not finite on batch 0 of 2", "rows, the first in 'first.weight'", "layer 'middle' (Root)")


@pytest.mark.parametrize("operator", ["hessian", "hessian + 0.5*gauss_newton"])
def test_a_batch_beyond_the_first_is_found_when_the_product_meets_it(operator):
    inputs, labels = digits(60)
    inputs[40] = 1e30
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 4), nn.Linear(4, 10))
    problem = Problem(model, lambda o, t: o.square().square().mean(), (inputs, labels), batch_size=16)
    with pytest.raises(ProblemError, match=r"at step 7 .* on batch 2 of 4 \(loss inf\).*'0\.weight'.*square roots"):
        spectrum_at(problem, problem.weights(), COMM, operator=operator, iterations=3, step=7)


# ------------------------------------------------------------------ healthy problems and kinks


class Lookup(nn.Module):
    """Digits as words: embedding, attention, LayerNorm; logits at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(17, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        self.head = nn.Linear(8, 17)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.head(self.block(self.words(x)))


def language() -> Problem:
    words = (digits(24)[0] * 16).long()
    torch.manual_seed(0)
    loss = lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten())  # noqa: E731
    return Problem(Lookup(), loss, (words[:, 20:30], words[:, 21:31]), batch_size=16)


def trained_batch_norm() -> Problem:
    """Three steps from the start, where black pixels lie exactly on the kinks of the ReLUs."""
    problem = small_problems.convolutional()
    small_problems.train(problem, 3)
    return problem


SMALL = {"resnet20": {"width": 4, "blocks": 1}, "gpt": {"width": 16, "layers": 1, "heads": 2, "context": 16},
         "digits_cell": {"cells": 1, "nodes": 1, "channels": 2}}  # fmt: skip


def shipped(name: str) -> Problem:
    """A problem of ours, shrunk, on twelve samples: the checks look at one batch."""
    asked = inspect.signature(plugins.load("landscape.problems", name).build).parameters
    few = {"samples": 12, "test_samples": 10, "batch_size": 12}
    return build_problem(name, {k: v for k, v in few.items() if k in asked} | SMALL.get(name, {}))


MADE_HERE = {
    "tanh": lambda: mlp_problem(torch.float32, hidden=6, epochs=3, samples=150, batch_size=64),
    "relu digits": lambda: small_problems.digits(200),
    "batch norm": trained_batch_norm,
    "group norm": lambda: small_problems.convolutional(statistics=False),
    "language": language,
    "linear": lambda: Problem(nn.Linear(64, 10), F.cross_entropy, digits(50), batch_size=20),
}
HEALTHY = MADE_HERE | {name: lambda name=name: shipped(name) for name in plugins.names("landscape.problems")}


# Operators that a problem has not, by a word of their names: labels to draw, a loss of outputs, one loss a sample.
LACKING = {"rbf_toy": ("fisher",), "addition_npi": ("fisher",)}
GAMES_LACK = ("fisher", "gauss_newton", "residual")


@pytest.mark.parametrize(  # float32 is what refuses too easily; float64 is checked where it is cheap
    ("name", "dtype"), [(n, torch.float32) for n in HEALTHY] + [(n, torch.float64) for n in MADE_HERE]
)
def test_no_healthy_problem_is_refused(name, dtype):
    try:
        problem = HEALTHY[name]().to(dtype=dtype)
    except ProblemError as error:
        pytest.skip(str(error))  # data that this machine lacks
    lacking = LACKING.get(name, GAMES_LACK if isinstance(problem, Game) else ())
    every = [o for o in [*EVERY_OPERATOR, "hessian - 0.5*gauss_newton"] if not any(word in o for word in lacking)]
    assert len(every) >= 2
    for operator in every:
        found = checked(problem, operator, checkpoint=AdamCheckpoint(problem))
        assert found.asymmetry < 1e-5, operator
        assert found.repeats, operator
        if found.difference is None:  # kinks may lie at the weights: said, not refused
            assert "kink" in found.warnings[0], operator
            assert any(isinstance(m, (nn.ReLU, nn.MaxPool2d)) for m in problem.model.modules()), operator
        else:
            assert found.difference < quotients.AGREE, operator


@pytest.mark.parametrize("operator", [o for o in EVERY_OPERATOR if o != "fisher"])
def test_a_regression_and_a_loss_of_its_own_pass(operator):
    inputs, labels = digits(50)
    model = nn.Sequential(nn.Linear(64, 3), nn.SiLU(), nn.Linear(3, 1))
    regression = Problem(model, lambda o, t: (o[:, 0] - t).square().mean(), (inputs, labels), batch_size=20)
    checked(regression, operator, checkpoint=AdamCheckpoint(regression))
    if operator in ("hessian", "preconditioned"):
        quadratic = small_problems.quadratic(small_problems.symmetric(5), torch.ones(5).double())
        checked(quadratic, operator, checkpoint=AdamCheckpoint(quadratic))


def kinked(at: float, power: int) -> Problem:
    """relu(w)^power, with its kink at w = 0, and a parabola."""
    start = torch.tensor([at, 1.0], dtype=torch.float64)

    def loss(model, batch):  # type: ignore[no-untyped-def]
        return (batch * (model.w[0].clamp(min=0) ** power + model.w[0] * model.w[1] + model.w[1] ** 2)).mean()

    return Problem.from_batch_loss(Weights(start), loss, [torch.ones(3, dtype=torch.float64)])


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("at", [0.0, 1e-9, 1e-7])
def test_a_kink_at_the_weights_is_a_warning_and_no_error(at, power):
    found = checked(kinked(at, power))
    assert found.difference is not None or ("kink" in found.warnings[0] and "kink" in told(found.record()))


def test_without_a_kink_nearby_there_is_no_warning():
    for at in (1.0, 1e-3, -1.0):
        found = checked(kinked(at, 1))
        assert found.difference is not None
        assert not found.warnings


def test_the_check_is_paid_in_gradients_of_one_batch():
    """Rows that the model sees, counted: a batch whole and in parts, and on a quarter two products, in float64 one
    product and two gradients.
    """
    problem = mlp_problem(torch.float32, hidden=6, epochs=1, samples=600, batch_size=64)
    seen = []
    hook = problem.model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = checked(problem)
    hook.remove()
    assert found.matvecs == 0
    assert set(seen) <= {64, 16}
    assert sum(seen) <= 4 * 64
    spectrum, _ = spectrum_at(problem, problem.weights(), COMM, iterations=3, top=1, bottom=0)
    assert spectrum.meta["self_check"]["gradients"] == found.gradients < 10
    assert spectrum.meta["self_check"]["difference"] < 1e-6


def test_the_layers_are_called_as_the_model_called_them_and_left_alone():
    problem = with_layer(nn.Tanh())
    before = {n: v.clone() for n, v in problem.state().items()}
    checked(problem)
    assert all(torch.equal(v, before[n]) for n, v in problem.state().items())
    assert not any(m._forward_hooks for m in problem.model.modules())
    assert functional_call(problem.model, before, digits(3)[0]).shape == (3, 10)


def test_the_check_job_prints_every_finding(capsys):
    assert cli.main(["check", "digits_mlp", "--problem-set", "hidden=4", "--problem-set", "activation=relu"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name in ("same", "finite", "repeats", "buffers", "twice", "linear", "symmetry", "quotient"):
        assert lines[name].endswith("ok")
    assert float(lines["quotient"].split("= ")[1].split()[0]) < quotients.AGREE
