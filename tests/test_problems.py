"""The shipped problems, their data, and problems of one's own by name."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest
import torch

from landscape import plugins
from landscape.errors import ProblemError, UsageError
from landscape.loading import build_problem
from landscape.problems._data import FASHION_MNIST, read_idx
from landscape.training import MiniBatches, make_optimizer, torch_optimizers, train_step

every_problem = pytest.mark.parametrize("name", plugins.names("landscape.problems"))


@every_problem
def test_a_problem_is_real_data_and_trains(name: str) -> None:
    torch.manual_seed(0)
    problem = build_problem(name, {})
    assert problem.samples > 1000
    assert problem.has_test
    assert problem.has_accuracy
    before = problem.evaluate(problem.weights())["loss"]
    optimizer = make_optimizer("adam", problem.model, {"lr": 0.01})
    batches = MiniBatches(problem, None, 0)
    for step in range(30):
        train_step(problem, optimizer, batches.at(step))
    assert problem.evaluate(problem.weights())["loss"] < 0.9 * before


@every_problem
def test_a_seed_fixes_the_initial_weights(name: str) -> None:
    first, second, third = (build_problem(name, {"seed": seed}).weights() for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_the_digits_mlp_has_2410_weights_and_a_fixed_balanced_split() -> None:
    problem = build_problem("digits_mlp", {})
    assert problem.size == 2410
    targets = torch.cat([b[1] for b in problem.test_batches])
    assert len(targets) == 359
    counts = targets.bincount()
    assert int(counts.max() - counts.min()) <= 1
    assert problem.samples + len(targets) == 1797


def test_batch_size_of_a_problem_changes_no_number() -> None:
    small, large = (build_problem("digits_mlp", {"seed": 0, "batch_size": n}) for n in (100, 2000))
    assert small.evaluate(small.weights())["loss"] == pytest.approx(large.evaluate(large.weights())["loss"], rel=1e-6)


def test_a_cnn_on_fashion_mnist_reads_the_packaged_files() -> None:
    if not Path(FASHION_MNIST).is_dir():
        pytest.skip("no Fashion-MNIST: apt-get install dataset-fashion-mnist")
    problem = build_problem("cnn", {"data": "fashion_mnist", "samples": 200, "test_samples": 100})
    inputs, targets = problem.batches[0]
    assert inputs.shape == (200, 1, 28, 28)
    assert float(inputs.max()) == 1.0
    assert targets.bincount().tolist() == [20] * 10


def test_missing_fashion_mnist_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="apt-get install dataset-fashion-mnist"):
        build_problem("cnn", {"data": "fashion_mnist", "data_root": str(tmp_path)})


def test_an_idx_file_is_read_plain_or_gzipped_and_refused_when_cut(tmp_path: Path) -> None:
    content = b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(6))
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(content))
    (tmp_path / "cut").write_bytes(content[:-2])
    assert read_idx(tmp_path, "plain").tolist() == read_idx(tmp_path, "packed").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ProblemError, match="cut"):
        read_idx(tmp_path, "cut")


# ---------------------------------------------------------------------- problems of one's own

MINE = """
import torch
import landscape

def build(width=2):
    data = torch.zeros(4, 3), torch.zeros(4, width)
    return landscape.Problem(torch.nn.Linear(3, width), torch.nn.functional.mse_loss, data)

def wrong():
    return 3

def broken():
    return torch.zeros(2) @ torch.zeros(3)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_own_problem.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path  # type: ignore[misc]
    for name in [n for n in sys.modules if "my_own_problem" in n]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["my_own_problem:build", "my_own_problem.py:build", "./my_own_problem.py:build"])
def test_a_problem_of_ones_own_is_found_by_module_or_file(mine: Path, name: str) -> None:
    assert build_problem(name, {"width": 5}).size == 20


def test_two_files_of_one_name_are_two_problems(mine: Path) -> None:
    (mine / "other").mkdir()
    (mine / "other/my_own_problem.py").write_text(MINE.replace("width=2", "width=7"))
    assert build_problem("my_own_problem.py:build").size == 8
    assert build_problem("other/my_own_problem.py:build").size == 28


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit_mlp", "Did you mean digits_mlp"),
        ("no_such_module:build", r"no module named 'no_such_module'. Looked in: "),
        ("nowhere.py:build", "cannot find the file 'nowhere.py'"),
        ("my_own_problem:bild", "has no function 'bild'; it has build, wrong, broken"),
        ("my_own_problem.py", "name its function too"),
        ("my_own_problem:wrong", "must return a landscape.Problem, got int"),
        ("my_own_problem:broken", r"my_own_problem.py line 13: RuntimeError"),
        ("os:system", "Python's own library"),
    ],
)
def test_a_problem_that_cannot_be_built_says_why(mine: Path, name: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        build_problem(name)


def test_an_error_inside_a_users_module_names_file_and_line(mine: Path) -> None:
    (mine / "my_own_problem_b.py").write_text("import torch\nimport not_installed_at_all\n")
    (mine / "my_own_problem_c.py").write_text("x = 1\ny = (\n")
    with pytest.raises(ProblemError, match=r"no module named 'not_installed_at_all', my_own_problem_b.py line 2"):
        build_problem("my_own_problem_b:build")
    with pytest.raises(ProblemError, match=r"my_own_problem_c.py line 2: SyntaxError"):
        build_problem("my_own_problem_c.py:build")


def test_an_unknown_setting_is_answered_with_the_known_ones(mine: Path) -> None:
    with pytest.raises(UsageError, match=r"no setting 'widht'.* Did you mean width\? It takes width"):
        build_problem("my_own_problem:build", {"widht": 3})


# ---------------------------------------------------------------------- training them


def test_mini_batches_depend_on_seed_and_step_alone() -> None:
    problem = build_problem("digits_mlp", {"seed": 0})
    first, second, other = (MiniBatches(problem, 100, seed) for seed in (3, 3, 4))
    walked = [first.at(step)[0][1] for step in range(40)]
    assert torch.equal(walked[37], second.at(37)[0][1])
    assert not torch.equal(walked[0], other.at(0)[0][1])
    an_epoch = torch.cat(walked[: first.an_epoch])
    assert an_epoch.bincount().tolist() == torch.cat([b[1] for b in problem.batches]).bincount().tolist()


def test_a_full_batch_step_is_one_step_of_gradient_descent() -> None:
    problem = build_problem("digits_mlp", {"seed": 0}).to(dtype=torch.float64)
    weights = problem.weights().requires_grad_()
    share = [problem.count(b) / problem.samples for b in problem.batches]
    loss = sum(s * problem.batch_loss(weights, b) for s, b in zip(share, problem.batches, strict=True))
    (gradient,) = torch.autograd.grad(loss, weights)
    train_step(problem, make_optimizer("sgd", problem.model, {"lr": 0.5}), MiniBatches(problem, 0, 0).at(0))
    torch.testing.assert_close(problem.weights(), weights.detach() - 0.5 * gradient, rtol=0, atol=1e-14)


ALL_OPTIMIZERS = sorted({*torch_optimizers(), *plugins.names("landscape.optimizers")} - {"sparseadam", "muon"})


@pytest.mark.parametrize("name", ALL_OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_of_the_digits(name: str) -> None:
    problem = build_problem("digits_mlp", {"seed": 0, "hidden": 8})
    slow = name in ("adadelta", "asgd", "sgd", "adagrad", "adafactor", "sam")
    settings = {} if name == "adafactor" else {"lr": 0.5 if slow else 0.01}
    optimizer = make_optimizer(name, problem.model, settings)
    batches, before = MiniBatches(problem, 256, 0), problem.evaluate(problem.weights())["loss"]
    for step in range(20):
        train_step(problem, optimizer, batches.at(step))
    assert problem.evaluate(problem.weights())["loss"] < before


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [("adm", {}, "unknown optimizer 'adm'. Did you mean adam"), ("sgd", {"leraning": 1}, "no setting 'leraning'"),
     ("sgd", {"lr": -1.0}, "Invalid learning rate")],
)  # fmt: skip
def test_an_optimizer_that_cannot_be_made_says_why(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_optimizer(name, torch.nn.Linear(2, 2), settings)


def test_sharpness_aware_steps_without_a_radius_are_those_of_sgd() -> None:
    ended = []
    for name, settings in (("sgd", {"lr": 0.1, "momentum": 0.9}), ("sam", {"lr": 0.1, "momentum": 0.9, "rho": 0.0})):
        problem = build_problem("digits_mlp", {"seed": 0, "hidden": 4})
        optimizer, batches = make_optimizer(name, problem.model, settings), MiniBatches(problem, 64, 0)
        for step in range(5):
            train_step(problem, optimizer, batches.at(step))
        ended.append(problem.weights())
    assert torch.equal(*ended)


def test_a_sharpness_aware_step_descends_at_the_ascent_point() -> None:
    """f(x) = a x^2 / 2: the step is x - lr a (x + rho sign(a x))."""
    x = torch.nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    optimizer = plugins.load("landscape.optimizers", "sam").make([x], lr=0.1, rho=0.2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = 1.5 * x.square().sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == pytest.approx(1.5 * 0.25)
    assert float(x.detach()) == pytest.approx(0.5 - 0.1 * 3 * (0.5 + 0.2), abs=1e-14)
