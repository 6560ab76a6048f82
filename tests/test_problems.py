"""The shipped problems, their data, and problems of one's own by name."""

from __future__ import annotations

import gzip
import inspect
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape import cli, plugins
from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.errors import ProblemError, UsageError
from landscape.geometry.meter import PlaneMeter, Way
from landscape.learning.training import MiniBatches, make_optimizer, torch_optimizers, train_step
from landscape.loss.checkpoints import Checkpoint
from landscape.loss.fingerprint import fingerprint
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem
from landscape.problems import _data, gpt, lenet, resnet20
from landscape.problems._data import FASHION_MNIST, digits, images, read_idx
from landscape.problems._text import sequences, standard_library
from landscape.records import spectrum_key
from landscape.stores.run_directory import Run

every_problem = pytest.mark.parametrize("name", plugins.names("landscape.problems"))
every_classifier = pytest.mark.parametrize(
    "name", [n for n in plugins.names("landscape.problems") if not n.endswith(("_gan", "_toy"))]
)


def settings_of(name: str, small: bool = False) -> dict[str, object]:
    """The shipped settings; with scikit-learn's digits where Fashion-MNIST is not installed; fewer weights if asked."""
    taken = inspect.signature(plugins.load("landscape.problems", name).build).parameters
    needs = "data" in taken and taken["data"].default == "fashion_mnist" and not Path(FASHION_MNIST).is_dir()
    less = {"resnet20": {"data": "digits", "width": 2, "blocks": 1}, "gpt": {"width": 16, "layers": 1, "context": 16},
            "digits_cell": {"nodes": 1, "channels": 4}, "addition_npi": {"traces": 40, "hidden": 8}}  # fmt: skip
    return ({"data": "digits"} if needs else {}) | (less.get(name, {}) if small else {})


@every_classifier
def test_a_problem_is_real_data_and_trains(name: str) -> None:
    torch.manual_seed(0)
    problem = build_problem(name, settings_of(name, small=True))
    assert problem.samples > 1000
    assert problem.has_test
    assert problem.has_accuracy
    before = problem.evaluate(problem.weights())["loss"]
    optimizer = make_optimizer("adam", problem.model, {"lr": 0.01})
    batches = MiniBatches(problem, None, 0)
    for step in range(30):
        train_step(problem, optimizer, batches.at(step))
    share = 1 if name == "digits_cell" else 0.9  # its running statistics lag behind weights of no scale of their own
    assert problem.evaluate(problem.weights())["loss"] < share * before


@every_problem
def test_a_seed_fixes_the_initial_weights_and_the_data(name: str) -> None:
    built = [build_problem(name, {"seed": seed, **settings_of(name)}) for seed in (1, 1, 2)]
    first, second, third = (problem.weights() for problem in built)
    assert len({fingerprint(problem) for problem in built}) == 1
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_the_digits_are_scikit_learns() -> None:
    for own, theirs in zip(_data._digits(), load_digits(return_X_y=True), strict=True):
        np.testing.assert_array_equal(own, theirs, strict=True)


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


@pytest.mark.parametrize("name", ["cnn", "lenet", "resnet20"])
def test_missing_fashion_mnist_names_the_package(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="apt-get install dataset-fashion-mnist"):
        build_problem(name, {"data": "fashion_mnist", "data_root": str(tmp_path)})


def test_an_idx_file_is_read_plain_or_gzipped_and_refused_when_cut(tmp_path: Path) -> None:
    content = b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(6))
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(content))
    (tmp_path / "cut").write_bytes(content[:-2])
    assert read_idx(tmp_path, "plain").tolist() == read_idx(tmp_path, "packed").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ProblemError, match="cut"):
        read_idx(tmp_path, "cut")


@pytest.mark.parametrize(("pixels", "factor", "frame"), [(28, 3, 2), (32, 4, 0)])
def test_enlarged_digits_are_the_digits_repeated_in_a_frame_of_zeros(pixels: int, factor: int, frame: int) -> None:
    (large, labels), test = images("digits", ("digits",), pixels, 50, 0, "")
    (small, every), _ = digits(0.2, 0)
    assert test is None
    assert large.shape == (50, 1, pixels, pixels)
    assert labels.bincount().tolist() == [5] * 10
    pooled = torch.nn.functional.avg_pool2d(large[:, :, frame : pixels - frame, frame : pixels - frame], factor)
    where = (small[:, None] == pooled.reshape(1, 50, 64)).all(dim=2).nonzero()  # (50, 2): a digit, its enlargement
    assert every[where[:, 0]].tolist() == labels[where[:, 1]].tolist()
    assert large.double().sum() == pytest.approx(factor**2 * float(pooled.double().sum()))


def test_fashion_mnist_is_framed_to_32_pixels_with_its_one_channel_three_times() -> None:
    if not Path(FASHION_MNIST).is_dir():
        pytest.skip("no Fashion-MNIST: apt-get install dataset-fashion-mnist")
    wide, plain = (build_problem(n, {"samples": 30, "test_samples": 0}).batches[0] for n in ("resnet20", "lenet"))
    assert wide[0].shape == (30, 3, 32, 32)
    assert torch.equal(wide[0][:, 1, 2:30, 2:30], plain[0][:, 0])
    assert float(wide[0].sum()) == pytest.approx(3 * float(plain[0].sum()), rel=1e-5)


def test_cifar10_is_read_from_its_binary_files(tmp_path: Path) -> None:
    """Files of the published layout: a label, then 1,024 bytes each of red, green and blue."""
    for number, name in enumerate([f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]):
        records = [bytes([i % 10]) + bytes([number]) * 1024 + bytes([10 * i]) * 1024 + bytes([255]) * 1024
                   for i in range(20)]  # fmt: skip
        (tmp_path / name).write_bytes(b"".join(records))
    settings = {"data": "cifar10", "data_root": str(tmp_path), "samples": 100, "test_samples": 20, "width": 1}
    problem = build_problem("resnet20", settings)
    inputs = torch.cat([b[0] for b in problem.batches])
    labels = torch.cat([b[1] for b in problem.batches])
    assert labels.bincount().tolist() == [10] * 10
    assert bool((inputs[:, 2] == 1).all())
    torch.testing.assert_close(inputs[:, 0, 0, 0].sum(), torch.tensor(20 * (0 + 1 + 2 + 3 + 4) / 255))
    torch.testing.assert_close((inputs[:, 1, 5, 5] * 255 / 10).round().long() % 10, labels)
    assert bool((problem.test_batches[0][0][:, 0] == 5 / 255).all())
    (tmp_path / "data_batch_3.bin").write_bytes(b"1" * 3000)
    with pytest.raises(ProblemError, match=r"data_batch_3.bin.*no multiple of 3,073"):
        build_problem("resnet20", settings)
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(ProblemError, match=r"no 'data_batch_2.bin' in .*data_root=FOLDER"):
        build_problem("resnet20", settings)


def test_the_text_is_pythons_source_and_its_targets_are_the_following_bytes() -> None:
    (inputs, targets), test, digest = standard_library(48, 300, 40)
    assert test is not None
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert standard_library(48, 1, 0)[2] == digest
    piece = bytes(inputs[7].tolist() + targets[7, -1:].tolist())
    held = bytes(test[0][5].tolist() + test[1][5, -1:].tolist())
    sources = [f.read_bytes() for f in sorted(Path(os.__file__).parent.glob("[!_]*.py"))]
    assert any(piece in source for source in sources)
    assert any(held in source for source in sources)
    with pytest.raises(UsageError, match="samples must lie between 1 and"):
        build_problem("gpt", {"samples": 10**8})


def test_sequences_of_a_text_do_not_overlap_and_span_it() -> None:
    inputs, targets = sequences(bytes(range(101)), 10, 5)
    assert inputs[:, 0].tolist() == [0, 20, 40, 60, 80]
    assert targets[-1].tolist() == list(range(81, 91))


def test_the_fingerprint_is_that_of_the_samples_not_of_their_order_or_batches() -> None:
    def mark(data: object, **settings: int) -> str:
        return fingerprint(Problem(torch.nn.Linear(64, 10), torch.nn.functional.cross_entropy, data, **settings))

    (inputs, targets), _ = digits(0.2, 0)
    order = torch.randperm(len(targets))
    assert mark((inputs, targets)) == mark((inputs[order], targets[order]), batch_size=100)
    other = targets.clone()
    other[3] = (other[3] + 1) % 10
    assert mark((inputs, targets)) != mark((inputs, other))
    assert mark((inputs[:-1], targets[:-1])) != mark((inputs, targets))


# ---------------------------------------------------------------------- the shipped networks, exactly


@pytest.mark.parametrize(
    ("name", "settings", "size"),
    [("lenet", {}, 61_706), ("lenet", {"activation": "relu", "pool": "max"}, 61_706), ("resnet20", {}, 269_722),
     ("gpt", {}, 470_528), ("gpt", {"tied": True}, 437_760), ("gpt", {"width": 320, "layers": 8}, 10_048_640)],
)  # fmt: skip
def test_the_shipped_networks_have_their_published_sizes(name: str, settings: dict[str, object], size: int) -> None:
    data = {} if name == "gpt" else {"data": "digits"}
    assert build_problem(name, {**settings, **data, "test_samples": 0}).size == size


def shrunk(name: str) -> Problem:
    """A shipped network with a few hundred weights, in float64, on eight samples in batches of 5 and 3."""
    torch.manual_seed(3)
    loss = torch.nn.functional.cross_entropy
    if name == "gpt":
        model = gpt.GPT(7, 5, 4, 1, 2)
        tokens = torch.randint(7, (8, 6))
        data, loss = (tokens[:, :-1], tokens[:, 1:].contiguous()), gpt.next_token_loss
    elif name == "lenet":
        model = lenet.network("tanh", "average", (1, 2), (4, 3))
        data = images("digits", ("digits",), 28, 8, 0, "")[0]
    else:
        model = resnet20.network(1, 1, "tanh")
        train = images("digits", ("digits",), 8, 8, 0, "")[0]
        data = train[0].expand(-1, 3, -1, -1), train[1]
    for parameter in model.parameters():  # away from weights of 0 and 1, which hide mistakes
        torch.nn.init.normal_(parameter, std=0.4)
    problem = Problem(model, loss, data, batch_size=5)
    if name == "resnet20":  # statistics that are not 0 and 1
        model.train()(problem.batches[0][0])
        model.eval()
    return problem.to(dtype=torch.float64)


every_network = pytest.mark.parametrize("name", ["lenet", "resnet20", "gpt"])


@every_network
def test_products_of_a_shipped_network_are_those_of_its_dense_hessian(name: str) -> None:
    """The reference is forward over reverse on all samples at once, and central differences of the gradient."""
    problem = shrunk(name)
    inputs, targets = (torch.cat([b[i] for b in problem.batches]) for i in (0, 1))

    def loss(theta: torch.Tensor) -> torch.Tensor:
        outputs = torch.func.functional_call(problem.model, problem.unflatten(theta), (inputs,))
        return problem.loss(outputs, targets)  # type: ignore[misc]

    gradient, theta = torch.func.grad(loss), problem.weights()
    columns = torch.eye(problem.size, dtype=torch.float64)
    with sdpa_kernel(SDPBackend.MATH):
        products = torch.vmap(lambda column: torch.func.jvp(gradient, (theta,), (column,))[1], chunk_size=64)
        exact = products(columns).T
        way = torch.randn(problem.size, dtype=torch.float64)
        ahead, behind = (gradient(theta + sign * 1e-5 * way) for sign in (1, -1))
    torch.testing.assert_close(exact, exact.T, rtol=0, atol=1e-10 * float(exact.abs().max()))
    product = operator_at(problem, theta, Comm()).matvec
    scale = float(exact.abs().max())
    torch.testing.assert_close(product(columns), exact, rtol=0, atol=1e-11 * scale)
    difference = float((product(way[:, None])[:, 0] - (ahead - behind) / 2e-5).norm() / (exact @ way).norm())
    assert difference < 1e-6


@every_network
def test_gauss_newton_and_residual_of_a_shipped_network_add_up_to_its_hessian(name: str) -> None:
    problem = shrunk(name)
    block = torch.randn(problem.size, 3, dtype=torch.float64)
    hessian, part, rest = (
        operator_at(problem, problem.weights(), Comm(), operator).matvec(block)
        for operator in ("hessian", "gauss_newton", "residual")
    )
    torch.testing.assert_close(part + rest, hessian, rtol=0, atol=1e-12 * float(hessian.abs().max()))
    assert float(rest.norm()) > 1e-3 * float(hessian.norm())
    assert bool(((block * part).sum(dim=0) > 0).all())


def test_the_accuracy_of_a_language_model_is_a_share_of_its_bytes() -> None:
    problem = shrunk("gpt")
    inputs, targets = (torch.cat([b[i] for b in problem.batches]) for i in (0, 1))
    with torch.no_grad():
        outputs = problem.model(inputs)
    found = problem.evaluate(problem.weights())
    assert found["accuracy"] == pytest.approx(float((outputs.argmax(dim=2) == targets).double().mean()), abs=1e-12)
    assert found["loss"] == pytest.approx(float(gpt.next_token_loss(outputs, targets)), rel=1e-12)


FROM_A_FILE = """
from pathlib import Path
import torch
import landscape

def build():
    words = Path(__file__).with_name("data.txt").read_text().split()
    values = torch.tensor([float(word) for word in words])[:, None]
    return landscape.Problem(torch.nn.Linear(1, 1), torch.nn.functional.mse_loss, (values, values ** 2))
"""


def test_data_that_have_changed_since_the_training_are_told_and_never_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "from_a_file.py").write_text(FROM_A_FILE)
    (tmp_path / "data.txt").write_text("1 2 3 4")
    name, out = f"{tmp_path}/from_a_file.py:build", str(tmp_path / "run")
    assert cli.main(["train", name, "--set", "lr=0.001", "--steps", "2", "--out", out]) == 0
    spectrum = ["spectrum", out, "--checkpoints", "last", "--iterations", "2", "--probes", "1", "--block", "1"]
    assert cli.main(spectrum) == 0
    assert "are not those that" not in capsys.readouterr().err
    (tmp_path / "data.txt").write_text("1 2 3 5")
    assert cli.main(spectrum) == UsageError.exit_code
    told = capsys.readouterr().err
    assert re.search(r"the data of '.*' are not those that '.*' was trained on \(digest \w{16}, then \w{16}\)", told)
    assert re.search(r"was made with data \w{16}, now \w{16}", told)


def test_a_surface_of_a_sequence_model_has_the_accuracy_of_its_points_one_by_one() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    inputs, targets = torch.randn(30, 4, 3), torch.randint(4, (30, 4))
    targets[:5, 2:] = -100
    data, labels = (inputs, targets), lambda batch: int((batch[1] >= 0).sum())
    problem = Problem(model, gpt.next_token_loss, data, batch_size=13, count=labels)
    places = np.array([[0.0], [-0.7], [-3.0]])  # along the weights themselves
    meter = PlaneMeter(problem, problem.weights(), problem.weights()[None], Way(7, 2, affine=True))
    vectors = meter.vectors(places)
    found = meter.measure(places)
    for i, vector in enumerate(vectors):
        alone = problem.evaluate(vector)
        with torch.no_grad():
            right = problem.outcome(vector, (inputs, targets))[1].argmax(dim=2) == targets
        assert found["accuracy"][i] == pytest.approx(alone["accuracy"], abs=1e-12)
        assert alone["accuracy"] == pytest.approx(int(right.sum()) / 110, abs=1e-12)
        assert found["loss"][i] == pytest.approx(alone["loss"], rel=1e-5)


# ---------------------------------------------------------------------- training mode, evaluation mode


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "lbfgs"])
def test_statistics_of_batchnorm_move_once_a_step_and_are_frozen_in_curvature(optimizer: str) -> None:
    problem = shrunk("resnet20")
    layer = next(m for m in problem.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    batch = problem.batches[0]
    with torch.no_grad():
        seen = problem.model[0](batch[0])
    expected = 0.9 * layer.running_mean + 0.1 * seen.mean(dim=(0, 2, 3))
    before = problem.training_loss(batch)
    moved = train_step(problem, make_optimizer(optimizer, problem.model, {"lr": 0.1}), [batch])
    torch.testing.assert_close(layer.running_mean, expected, rtol=1e-12, atol=0)
    assert moved != pytest.approx(float(before.detach()), rel=1e-3)  # the batch's own statistics, not the running ones
    assert not any(module.training for module in problem.model.modules())
    state = problem.state()
    operator_at(problem, problem.weights(), Comm()).matvec(torch.ones(problem.size, 1, dtype=torch.float64))
    problem.evaluate(problem.weights())
    assert all(torch.equal(value, problem.state()[key]) for key, value in state.items())


def test_a_trained_checkpoint_brings_its_statistics_to_the_curvature_jobs(tmp_path: Path) -> None:
    settings = {"data": "digits", "width": 1, "blocks": 1, "samples": 60, "test_samples": 20, "seed": 0}
    words = [f"--problem-set={k}={v}" for k, v in settings.items()]
    out = str(tmp_path / "run")
    assert cli.main(["train", "resnet20", "--steps", "5", "--checkpoint-every", "5", "--out", out, *words]) == 0
    run = Run(out)
    fresh, trained = build_problem("resnet20", settings), build_problem("resnet20", settings)
    trained.load(Checkpoint(run, 5).state())
    layers = [[m for m in p.model.modules() if isinstance(m, torch.nn.BatchNorm2d)] for p in (fresh, trained)]
    assert not torch.allclose(layers[0][1].running_mean, layers[1][1].running_mean)
    metrics = run.metrics()
    assert trained.evaluate(trained.weights())["loss"] == pytest.approx(float(metrics["train_loss"][-1]), rel=1e-5)
    assert run.info.meta["training"]["data"] == fingerprint(trained)
    options = ["--probes", "1", "--block", "1", "--iterations", "4", "--top", "1", "--bottom", "0"]
    assert cli.main(["spectrum", out, "--checkpoints", "last", *options]) == 0
    assert run.meta(spectrum_key("hessian", 5))["meta"]["settings"]["data"] == fingerprint(trained)


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
    slow = name in ("adadelta", "asgd", "sgd", "adagrad", "adafactor", "sam", "optimistic", "dlrt")
    rate = {"extragradient": 0.1}.get(name, 0.5 if slow else 0.01)  # it is stable for half of descent's rates
    settings = {} if name == "adafactor" else {"lr": rate}
    optimizer = make_optimizer(name, problem.model, settings, problem)
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
