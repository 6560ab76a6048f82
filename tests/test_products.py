"""Strategies of products against the reference and each other; batches of another size; running out of memory."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import AdamCheckpoint, digits, mlp_problem
from torch import nn
from torch.func import grad, jvp, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from landscape import cli, plugins
from landscape.distributed.parallel import Comm
from landscape.engine.curvature import Curvature, operator_at
from landscape.engine.heap import reuse_pages
from landscape.engine.measuring import Peak, available
from landscape.engine.probing import Bench
from landscape.engine.products import Products
from landscape.engine.spectrum import spectrum_at
from landscape.engine.strategies import STRATEGIES, Matrix
from landscape.engine.tracing import divided
from landscape.errors import ProblemError, ResourceError, UsageError
from landscape.loss.batches import join, rows
from landscape.loss.problem import Problem
from landscape.stores.run_directory import Run

COMM = Comm()
EAGER = ("batched", "forward", "forward_batched")
OPERATORS = plugins.names("landscape.operators")
ROOT = Path(__file__).resolve().parents[1]


class Normed(nn.Module):
    """LayerNorm, attention and a residual connection on the digits read as eight tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.norm, self.out = nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 10)

    def forward(self, x):
        y = self.into(x.view(len(x), 8, 8))
        z = self.norm(y)
        y = y + F.scaled_dot_product_attention(z, z, z, is_causal=True)
        return self.out(self.norm(y).mean(dim=1))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)
        )

    def forward(self, x):
        return self.body(x.view(-1, 1, 8, 8))


class Recurrent(nn.Module):
    """An LSTM has no forward mode."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 10)

    def forward(self, x):
        return self.out(self.lstm(x.view(-1, 8, 8))[0][:, -1])


class Checkpointed(nn.Module):
    """Recomputed activations allow no transforms of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Sequential(nn.Linear(64, 7), nn.Tanh()), nn.Linear(7, 10)

    def forward(self, x):
        return self.last(checkpoint(self.first, x, use_reentrant=False))


def problem_of(model: type[nn.Module], dtype: torch.dtype = torch.float64, samples: int = 50) -> Problem:
    torch.manual_seed(0)
    return Problem(model(), F.cross_entropy, digits(samples), batch_size=20).to(dtype=dtype)


def vectors(problem: Problem, width: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(problem.size, width, generator=generator, dtype=torch.float64).to(problem.dtype)


def product(problem: Problem, operator: str = "hessian", **options: Any) -> torch.Tensor:
    options = {"checkpoint": AdamCheckpoint(problem), "seed": 3} | options
    return operator_at(problem, problem.weights(), COMM, operator, **options).matvec(vectors(problem))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.fixture
def choosing(monkeypatch):
    """Choices are made for the smallest job."""
    monkeypatch.setattr("landscape.engine.choosing.SMALL", 0.0)
    monkeypatch.setattr("landscape.engine.choosing.SHARE", 1e6)


# ------------------------------------------------------------------ results do not depend on how they are computed


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("model", "dtype", "accuracy"), [(Normed, torch.float32, 1e-5), (Convolutional, torch.float64, 1e-11)]
)
def test_strategies_agree(operator, model, dtype, accuracy):
    problem = problem_of(model, dtype)
    exact = product(problem, operator)
    for strategy in EAGER:
        found = product(problem, operator, products=Products(strategy, expected=6))
        assert difference(found, exact) < accuracy, strategy


@pytest.mark.parametrize("operator", ["hessian", "gauss_newton"])
def test_linearised_products_agree(operator):
    problem = problem_of(Normed)
    chooser = Products("linearised", expected=6)
    assert difference(product(problem, operator, products=chooser), product(problem, operator)) < 1e-11
    assert [row["verdict"] for row in chooser.table] == ["reference", "chosen"]


@pytest.mark.parametrize("model", [Normed, Convolutional])
def test_one_trace_serves_all_checkpoints_and_batches_of_a_shape(model, monkeypatch):
    traced: list[object] = []
    monkeypatch.setattr("landscape.engine.tracing.divided", lambda graph: traced.append(graph) or divided(graph))
    problem = problem_of(model)  # 20 + 20 + 10 samples
    chooser = Products("linearised", block=3, expected=6)
    for factor in (1.0, 1.3, 0.7):  # BatchNorm's statistics change as well as weights
        problem.load({n: (factor * v).to(v.dtype) for n, v in problem.state().items()})
        curvature = operator_at(problem, problem.weights(), COMM, products=chooser)
        for _ in range(2):
            assert difference(curvature.matvec(vectors(problem)), product(problem)) < 1e-11
    assert len(traced) == 2


def test_traces_of_a_block_of_weights_follow_the_weights_outside_of_it():
    problem = problem_of(Convolutional)
    part = problem.restricted("body.5")
    chooser = Products("linearised", block=3, expected=6)
    for factor in (1.0, 1.3):
        problem.load({n: (factor * v).to(v.dtype) for n, v in problem.state().items()})
        assert difference(product(part, products=chooser), product(part)) < 1e-11


def test_what_a_trace_keeps_leaves_two_gradients_a_vector():
    problem = Problem(Convolutional(), F.cross_entropy, digits(64), batch_size=64)
    theta, batch = problem.weights(), problem.batches[0]
    matrix = Matrix(plugins.load("landscape.operators", "hessian"), problem)
    multiply = STRATEGIES["linearised"](matrix)(theta, batch, 0)
    multiply(vectors(problem, 4))
    with FlopCounterMode(display=False) as gradient:
        leaf = theta.clone().requires_grad_(True)
        torch.autograd.grad(problem.batch_loss(leaf, batch), leaf)
    with FlopCounterMode(display=False) as counted:
        multiply(vectors(problem, 4))
    assert counted.get_total_flops() / 4 <= 2 * gradient.get_total_flops()


def test_compiled_products_agree_at_every_checkpoint_and_for_odd_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 10))
    problem = Problem(model, F.cross_entropy, digits(50), batch_size=20)  # the last is shorter: it takes another way
    chooser = Products("compiled", block=3, expected=6)
    for factor in (1.0, 1.3):
        problem.load({n: factor * v for n, v in problem.state().items()})
        assert difference(product(problem, products=chooser), product(problem)) < 1e-5
    assert chooser.table[-1]["strategy"] == "compiled"
    assert len(chooser.table) == 2  # chosen once


def test_a_kept_graph_stays_for_all_products_and_costs_no_accuracy():
    problem = problem_of(Normed)
    chooser = Products("kept", expected=50)
    curvature = operator_at(problem, problem.weights(), COMM, products=chooser)
    for _ in range(2):
        assert difference(curvature.matvec(vectors(problem)), product(problem)) < 1e-13
    assert sorted(curvature._kept) == [0, 20, 40]
    tight = operator_at(problem, problem.weights(), COMM, products=Products("kept", memory=1.0))
    tight.matvec(vectors(problem))
    assert not tight._kept


def test_zero_operators_stay_zero():
    problem = Problem(nn.Linear(64, 10), F.cross_entropy, digits(20))
    for strategy in ("kept", *EAGER):
        assert not product(problem, "residual", products=Products(strategy)).any(), strategy


# ------------------------------------------------------------------ choosing


def grad_of_jvp(matrix: Matrix):
    """What must never be used: reverse mode over forward mode, wrong for LayerNorm without a word."""

    def prepare(vector, batch, first):
        def column(v):
            return grad(lambda t: jvp(lambda u: matrix.problem.batch_loss(u, batch), (t,), (v,))[1])(vector)

        return lambda block: vmap(column, in_dims=1, out_dims=1)(block)

    return prepare


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wrong_strategy_is_rejected_with_the_reason(choosing, dtype):
    problem = problem_of(Normed, dtype)
    told: list[str] = []
    chooser = Products(expected=100, note=told.append, strategies={**STRATEGIES, "grad_of_jvp": grad_of_jvp})
    found = product(problem, products=chooser)
    wrong = [r for r in chooser.table if r["strategy"] == "grad_of_jvp"]
    assert wrong
    for row in wrong:
        assert row["verdict"] == "rejected"
        assert row["difference"] > 1e-3
        assert "differs from the reference by" in row["why"]
    assert any("grad_of_jvp" in line and "rejected" in line for line in told)
    assert difference(found, product(problem)) < (1e-5 if dtype == torch.float32 else 1e-11)
    pinned = Products("grad_of_jvp", strategies={**STRATEGIES, "grad_of_jvp": grad_of_jvp})
    with pytest.raises(ProblemError, match="grad_of_jvp cannot be used for hessian here"):
        product(problem, products=pinned)


@pytest.mark.parametrize(("model", "reason"), [(Recurrent, "mkldnn_rnn|forward"), (Checkpointed, "hooks")])
def test_models_without_forward_mode_fall_back_and_the_table_says_why(choosing, model, reason):
    problem = problem_of(model, torch.float32)
    # Beside `batched` forward mode is tried only where that gains: by time, which must not decide a test.
    few = {name: STRATEGIES[name] for name in ("kept", "forward_batched", "forward")}
    chooser = Products(expected=100, strategies=few)
    assert difference(product(problem, products=chooser), product(problem)) < 1e-5
    rejected = {r["strategy"]: r["why"] for r in chooser.table if r["verdict"] == "rejected"}
    assert {"forward", "forward_batched"} <= set(rejected)
    assert re.search(reason, rejected["forward"])
    (chosen,) = [r for r in chooser.table if r["verdict"] == "chosen"]
    assert chosen["strategy"] == "kept"


def test_exactly_one_row_is_chosen_and_it_is_in_the_record(choosing):
    problem = problem_of(Convolutional, torch.float32)
    spectrum, pairs = spectrum_at(problem, problem.weights(), COMM, probes=2, iterations=6, top=2, bottom=1)
    chosen = [row for row in spectrum.meta["products"] if row["verdict"] == "chosen"]
    assert len(chosen) == 1
    assert chosen[0]["gradients"] > 0
    assert pairs.meta["products"] == spectrum.meta["products"]


def test_a_small_job_is_not_measured_at_length():
    problem = problem_of(Convolutional, torch.float32)
    chooser = Products(expected=4)
    product(problem, products=chooser)
    assert [(r["strategy"], r["verdict"]) for r in chooser.table] == [("kept", "chosen")]
    assert "too little to choose from" in chooser.table[0]["why"]


def test_what_does_not_fit_into_memory_is_rejected_also_when_the_process_keeps_freed_pages(choosing):
    reuse_pages()
    torch.ones(1 << 22)  # 16 MiB that stay in the heap, where a peak could hide
    problem = problem_of(Convolutional, torch.float32, samples=1797).rebatched(1797)
    chooser = Products("forward_batched", memory=1e5, block=8)
    with pytest.raises(ProblemError, match=r"rows needs \d+ MB of the 0 MB there are"):
        product(problem, products=chooser)


class Slowest(Comm):
    """Two ranks that measure the same but for a factor."""

    size = 1

    def gather(self, value):
        return [value, 3 * value if isinstance(value, float) else value]


def test_ranks_decide_from_the_slowest(choosing):
    problem = problem_of(Convolutional, torch.float32)
    bench = Bench(problem, problem.weights(), Slowest(), 2)
    assert bench._agreed(2.0) == 6.0
    assert bench.gradient(problem.batches[0]) > 0


def test_an_unknown_strategy_names_the_choices(tmp_path, capsys):
    with pytest.raises(UsageError, match="choices are auto, kept, batched"):
        Products("fast")


def test_the_choice_leaves_no_trace(choosing):
    before = (torch.get_num_threads(), torch.is_grad_enabled(), torch.backends.cuda.flash_sdp_enabled())
    problem = problem_of(Normed, torch.float32)
    weights, state = problem.weights(), problem.state()
    product(problem, products=Products(expected=100))
    assert before == (torch.get_num_threads(), torch.is_grad_enabled(), torch.backends.cuda.flash_sdp_enabled())
    assert torch.equal(problem.weights(), weights)
    assert all(torch.equal(v, state[n]) for n, v in problem.state().items())
    assert all(p.grad is None for p in problem.model.parameters())


def test_an_operator_that_multiplies_blocks_itself_needs_no_more():
    class Module:
        @staticmethod
        def prepare(problem, vector, batch):
            return lambda block: 2.0 * block

    problem = problem_of(Convolutional)
    for name in ("kept", "batched"):
        prepare = STRATEGIES[name](Matrix(Module, problem))  # type: ignore[arg-type]
        assert torch.equal(prepare(problem.weights(), problem.batches[0], 0)(vectors(problem)), 2 * vectors(problem))


# ------------------------------------------------------------------ costs


@pytest.mark.parametrize("model", [lambda: nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)),
                                   Convolutional])  # fmt: skip
@pytest.mark.parametrize("width", [1, 4, 10])
def test_a_kept_graph_costs_two_gradients_a_vector_and_one_a_block(model, width):
    problem = Problem(model(), F.cross_entropy, digits(64), batch_size=64)
    theta = problem.weights()
    with FlopCounterMode(display=False) as gradient:
        leaf = theta.clone().requires_grad_(True)
        torch.autograd.grad(problem.batch_loss(leaf, problem.batches[0]), leaf)
    with FlopCounterMode(display=False) as counted:
        Curvature(problem, theta, COMM).matvec(vectors(problem, width))
    assert counted.get_total_flops() / width <= (2 + 1 / width) * gradient.get_total_flops()


def test_reverse_mode_over_forward_mode_is_nowhere_in_the_source():
    outside, inside = {"grad", "vjp", "jacrev", "hessian"}, {"jvp", "jacfwd", "linearize"}
    for path in [p for folder in ("landscape", "jobs") for p in sorted((ROOT / folder).rglob("*.py"))]:
        for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            if ast.unparse(call.func).rpartition(".")[2] in outside:
                names = {ast.unparse(n).rpartition(".")[2] for a in call.args for n in ast.walk(a)}
                assert not names & inside, f"{path}:{call.lineno}"


def test_peak_memory_sees_a_large_tensor():
    with Peak(torch.device("cpu")) as peak:
        torch.ones(30_000_000).sum()
    assert 1e8 < peak.bytes < 4e8
    assert available(torch.device("cpu")) > 1e8


# ------------------------------------------------------------------ batches of another size


@pytest.mark.parametrize("operator", ["hessian", "fisher", "empirical_fisher"])
@pytest.mark.parametrize("size", [1, 7, 20, 33, 1000])
def test_products_do_not_depend_on_the_batches(operator, size):
    problem = mlp_problem(hidden=6, epochs=3, samples=150, batch_size=64)
    other = problem.rebatched(size)
    assert max(map(rows, other.batches)) <= size
    assert torch.equal(join(other.batches)[0], join(problem.batches)[0])
    assert difference(product(other, operator), product(problem, operator)) < 1e-12


@pytest.mark.parametrize(("size", "ranks", "count"), [(1000, 1, 1), (1000, 4, 4), (100, 3, 3), (40, 3, 6), (1, 4, 150)])
def test_no_rank_is_left_without_a_batch(size, ranks, count):
    problem = mlp_problem(hidden=6, epochs=3, samples=150, batch_size=64).rebatched(size, ranks)
    assert len(problem.batches) == count
    lengths = [rows(b) for b in problem.batches]
    assert sum(lengths) == 150
    assert max(lengths) - min(lengths) <= len(lengths)


def test_nested_batches_with_a_count_of_their_own_are_split_and_joined():
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()

    def loss(module, batch):
        return (module(batch["x"]) - batch["more"][0]).square().mean()

    data = [{"x": torch.randn(n, 4, 3).double(), "more": (torch.randn(n, 4, 2).double(),)} for n in (5, 5, 2)]
    problem = Problem.from_batch_loss(model, loss, data, count=lambda b: 4 * len(b["x"]))
    whole, parts = problem.rebatched(12), problem.rebatched(2)
    assert (len(whole.batches), len(parts.batches)) == (1, 7)
    assert problem.parts_agree(problem.weights(), whole.batches[0], problem.batches)
    for other in (whole, parts):
        assert difference(product(other), product(problem)) < 1e-13
        assert sum(problem.count(b) for b in other.batches) == problem.samples == 48


def summed() -> Problem:
    return Problem(nn.Linear(64, 10), lambda o, t: F.cross_entropy(o, t, reduction="sum"), digits(60), batch_size=20)


def matrices() -> Problem:
    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4))

    return Problem.from_batch_loss(Weights(), lambda m, b: m.w @ b @ m.w, [torch.eye(4), 2 * torch.eye(4)])


@pytest.mark.parametrize(("build", "reason"), [(summed, "not the mean of its parts"), (matrices, "by themselves")])
def test_a_loss_that_parts_do_not_add_up_to_keeps_its_batches(choosing, build, reason):
    problem = build()
    chooser = Products(expected=100)
    operator = operator_at(problem, problem.weights(), COMM, products=chooser)
    assert len(operator.problem.batches) == len(problem.batches)
    assert any(reason in row["why"] for row in chooser.table)


# ------------------------------------------------------------------ running out of memory


def test_an_exhausted_memory_halves_the_batches_and_goes_on(monkeypatch):
    problem = mlp_problem(hidden=6, epochs=3, samples=150, batch_size=64)
    exact = product(problem, "fisher")
    curvature = operator_at(problem, problem.weights(), COMM, "fisher", seed=3)
    prepare, refused = curvature._prepare, []

    def greedy(vector, batch, first):
        if rows(batch) > 17:
            refused.append(rows(batch))
            raise torch.OutOfMemoryError("out of memory")
        return prepare(vector, batch, first)

    monkeypatch.setattr(curvature, "_prepare", greedy)
    assert difference(curvature.matvec(vectors(problem)), exact) < 1e-13
    assert refused
    refused.clear()
    assert difference(curvature.matvec(vectors(problem)), exact) < 1e-13
    assert not refused  # the halves stay


def test_a_batch_that_cannot_be_halved_says_that_memory_ran_out(monkeypatch):
    problem = summed()
    curvature = operator_at(problem, problem.weights(), COMM)

    def greedy(vector, batch, first):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(curvature, "_prepare", greedy)
    with pytest.raises(ResourceError, match="batch of 20 samples"):
        curvature.matvec(vectors(problem))


# ------------------------------------------------------------------ the command line


def test_the_spectrum_job_takes_a_strategy_and_records_it(tmp_path, capsys):
    root = str(tmp_path / "run")
    train = ["train", "digits_mlp", "--out", root, "--steps", "2", "--checkpoint-every", "2"]
    assert cli.main(train) == 0
    few = ["spectrum", root, "--checkpoints", "last", "--iterations", "4", "--top", "1", "--bottom", "0"]
    assert cli.main([*few, "--strategy", "batched"]) == 0
    assert "hessian by batched" in capsys.readouterr().err
    table = Run(root).meta("spectrum-hessian-00000002")["meta"]["products"]
    assert [r["strategy"] for r in table if r["verdict"] == "chosen"] == ["batched"]
    assert cli.main([*few, "--strategy", "fastest", "--overwrite"]) == 2
    assert "choices are auto, kept" in capsys.readouterr().err
