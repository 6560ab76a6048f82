"""Networks that grow: splitting matrices, what a split predicts and what comes, and runs across a growth."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from test_alignment import images
from torch import Tensor, nn

from landscape import cli
from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.engine.spectrum import eigenpairs_at
from landscape.errors import ProblemError, UsageError
from landscape.growing.embedding import Widening, at_width_of
from landscape.growing.extremes import Extremes, lanczos
from landscape.growing.growth import grow, size_after
from landscape.growing.splits import Split, candidates, chosen, signed, steepest
from landscape.growing.splitting import Splitting, exact
from landscape.growing.units import Layer, layers_of
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.checkpoints import Checkpoint
from landscape.loss.fitting import fitted
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem
from landscape.stores.run_directory import Run


def mlp() -> Problem:
    """Two hidden layers of 5 and 4 tanh units on 120 digits of 8 x 8 pixels, averaged to 4 x 4, float64."""
    digits = build_problem("digits_mlp", {"hidden": 2, "seed": 0})
    x, y = digits.batches[0][0][:120], digits.batches[0][1][:120]
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 4), nn.Softplus(), nn.Linear(4, 10))
    pooled = nn.functional.avg_pool2d(x.view(-1, 1, 8, 8), 2).flatten(1)
    return Problem(model, nn.functional.cross_entropy, (pooled, y), batch_size=50).to(dtype=torch.float64)


def cnn(dtype: torch.dtype = torch.float64) -> Problem:
    """Convolutions with BatchNorm, padding and pooling, statistics not those of the start."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(3, 10),
    )  # fmt: skip
    return images(model).to(dtype=dtype)


class Functional(nn.Module):
    """A residual block, pooling and two linear layers; all but what has weights are calls of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm, self.outer = nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3, padding=1)
        self.first, self.head = nn.Linear(8, 4), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.avg_pool2d(torch.tanh(self.stem(x)), 2)
        x = torch.tanh(x + self.outer(nn.functional.silu(self.norm(self.inner(x)))))
        x = nn.functional.dropout(nn.functional.avg_pool2d(x, 2).flatten(1), 0.5, self.training)
        return self.head(nn.functional.softplus(self.first(x)))


def functional() -> Problem:
    torch.manual_seed(0)
    return images(Functional()).to(dtype=torch.float64)


class Found:
    """A problem with its layers, splitting matrices and their ends, computed once."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.layers = problem, layers_of(problem).able
        self.splitting = Splitting(problem, self.layers)
        self.ends = exact(self.splitting)


@cache
def found(name: str) -> Found:
    return Found({"mlp": mlp, "cnn": cnn, "functional": functional}[name]())


both = pytest.mark.parametrize("name", ["mlp", "cnn"])
every = pytest.mark.parametrize("name", ["mlp", "cnn", "functional"])


def outputs(problem: Problem) -> Tensor:
    return torch.cat([problem.outcome(problem.weights(), batch)[1].detach() for batch in problem.batches])


def unit_weights(problem: Problem, layer: str, unit: int) -> Tensor:
    """Places of a unit's row and bias in the flat vector."""
    rows = []
    for name, shape, where in problem.named_slices():
        if name in (f"{layer}.weight", f"{layer}.bias"):
            each = (where.stop - where.start) // shape[0]
            rows.append(torch.arange(where.start + unit * each, where.start + (unit + 1) * each))
    return torch.cat(rows)


# ---------------------------------------------------------------------- the splitting matrix


@every
def test_the_splitting_matrix_is_the_hessians_block_less_the_gauss_newton_block(name: str) -> None:
    """S_i = H_i - G_i, G_i = E[J' Phi'' J] of what the unit gives to the loss: its own Hessian by dense autograd."""
    it = found(name)
    problem = it.problem.first_batch()
    splitting = Splitting(problem, it.layers)
    for layer in it.layers:
        unit = layer.units - 1
        hessian, gauss_newton = _block(problem, layer, unit, problem.weights(), unit_weights(problem, layer.name, unit))
        torch.testing.assert_close(splitting.dense(layer.name)[unit], hessian - gauss_newton, rtol=0, atol=1e-11)
        assert (hessian - gauss_newton).abs().max() > 1e-6


def _block(problem: Problem, layer: Layer, unit: int, theta: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The unit's Hessian block, and J' (d^2 Phi / da^2) J, a what the next layer reads of it, by dense autograd."""
    (batch,), start = problem.batches, theta[places]
    reader = problem.model.get_submodule(layer.readers[0])

    def hooked(look: Any, own: Tensor) -> Tensor:
        hook = reader.register_forward_pre_hook(look)
        try:
            return problem.batch_loss(theta.index_put((places,), own), batch)
        finally:
            hook.remove()

    def activation(own: Tensor) -> Tensor:
        held: dict[str, Tensor] = {}
        hooked(lambda _module, given: held.__setitem__("a", given[0]), own)
        return held["a"].reshape(-1)

    jacobian = torch.func.jacfwd(activation)(start)
    index = (jacobian.abs().amax(dim=1) > 0).nonzero().squeeze(1)  # the unit's own entries; the others do not move
    shape = []
    hooked(lambda _module, given: shape.append(given[0].shape), start)
    at = activation(start)

    def after(values: Tensor) -> Tensor:
        return hooked(lambda _module, _given: (at.index_put((index,), values).view(shape[0]),), start)

    bend = torch.func.hessian(after)(at[index])
    hessian = torch.func.hessian(lambda own: hooked(lambda _module, _given: None, own))(start)
    return hessian.detach(), (jacobian[index].T @ bend @ jacobian[index]).detach()


@both
def test_batched_lanczos_finds_the_ends_of_all_splitting_matrices(name: str) -> None:
    it = found(name)
    for layer, ends in lanczos(it.splitting.product, it.splitting.like(), 60).items():
        for ours, dense in ((ends.low, it.ends[layer].low), (ends.high, it.ends[layer].high)):
            torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-12)
        image = it.splitting.product({layer: ends.low_vectors})[layer]
        assert (image - ends.low[:, None] * ends.low_vectors).abs().max() < 1e-10


def test_one_product_serves_all_layers() -> None:
    it = found("mlp")
    vectors = {layer.name: torch.randn(layer.units, it.splitting.dimension(layer.name), dtype=torch.float64)
               for layer in it.layers}  # fmt: skip
    together = it.splitting.product(vectors)
    for name, v in vectors.items():
        torch.testing.assert_close(together[name], torch.einsum("kij,kj->ki", it.splitting.dense(name), v))


def test_a_relu_bends_as_a_softplus_does_and_keeps_its_value() -> None:
    torch.manual_seed(0)
    problem = images(nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(inplace=True), nn.Linear(4, 10)))
    exact_problem = problem.to(dtype=torch.float64)
    splitting = Splitting(exact_problem, layers_of(problem).able)
    assert splitting.kinks == ["ReLU's second derivative is that of a softplus (beta 3)"]
    weights = {n: p.detach() for n, p in exact_problem.model.named_parameters()}
    matrix = torch.zeros(65, 65, dtype=torch.float64)
    for x, y in exact_problem.batches:
        h = torch.cat([x.flatten(1), torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
        z = x.flatten(1) @ weights["1.weight"].T + weights["1.bias"]
        answers = torch.relu(z) @ weights["3.weight"].T + weights["3.bias"]
        slope = torch.softmax(answers, 1) - nn.functional.one_hot(y, 10)
        s = torch.sigmoid(3 * z[:, 2])
        c = (slope @ weights["3.weight"][:, 2]) * 3 * s * (1 - s) / exact_problem.samples
        matrix += h.T @ (c[:, None] * h)
    torch.testing.assert_close(splitting.dense("1")[2], matrix, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------- splits


@every
def test_copies_that_do_not_move_change_nothing(name: str) -> None:
    """Output of the wider network at eps = 0, with unequal weights of the copies."""
    it = found(name)
    splits = [Split(layer.name, unit, weights, torch.zeros(len(weights), it.splitting.dimension(layer.name)).double(),
                    0.0, 0.0, 0.0)
              for layer in it.layers for unit, weights in ((0, [2.0, -1.0]), (2, [1.0, 1.0, -0.5, -0.5]))]  # fmt: skip
    wider, growth = grow(it.problem, it.layers, splits, 0.0)
    assert (outputs(wider) - outputs(it.problem)).abs().max() <= 1e-13
    assert wider.size == growth.size_after == size_after(it.problem, it.layers, splits) > it.problem.size
    again = json.loads(json.dumps(growth.event()))  # what a run keeps
    state = it.problem.state()
    for values in again["widenings"]:
        state = Widening.of(values).apply(state)
    for tensor, value in wider.state().items():
        torch.testing.assert_close(state[tensor], value, rtol=0, atol=0)


@every
@pytest.mark.parametrize("rule", [steepest, signed(2, 3.0), signed(4, 3.0)])
def test_the_loss_falls_as_predicted_and_gains_add(name: str, rule: Any) -> None:
    """measured / (eps^2 / 2 sum_j w_j d_j' S d_j) within 2 % at eps = 1e-3, for one unit and for all at once."""
    it = found(name)
    every = candidates(it.ends, rule)
    for splits in (every[:1], every):
        _wider, growth = grow(it.problem, it.layers, splits, 1e-3)
        assert growth.predicted < 0
        assert 0.98 < growth.measured / growth.predicted < 1.02
    assert {s.layer for s in every} == {layer.name for layer in it.layers}


def test_no_split_into_two_halves_gains_more_than_the_steepest() -> None:
    it = found("mlp")
    best = candidates(it.ends, steepest)[0].curvature
    for seed in range(20):
        torch.manual_seed(seed)
        layer = it.layers[seed % 2].name
        v = torch.randn(it.layers[seed % 2].units, it.splitting.dimension(layer)).double()
        v = nn.functional.normalize(v, dim=1)
        assert (v * it.splitting.product({layer: v})[layer]).sum(dim=1).min() >= best


@pytest.mark.parametrize("copies", [2, 4])
@pytest.mark.parametrize(("c", "seed"), [(1.0, 0), (2.0, 1), (3.0, 2), (3.0, 3)])
def test_signed_splits_are_the_best_there_are(copies: int, c: float, seed: int) -> None:
    """min sum_j w_j d_j' S d_j over sum w = 1, sum |w| <= c, sum w d = 0, |d_j| <= 1, searched from random starts."""
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(3, 3))
    matrix = root @ root.T + 0.1 * np.eye(3) if seed == 3 else (root + root.T) / 2  # seed 3: splitting stable
    values, vectors = np.linalg.eigh(matrix)
    ends = Extremes(*(torch.as_tensor(x)[None] for x in (values[0], vectors[:, 0], values[-1], vectors[:, -1])),
                    torch.zeros(1))  # fmt: skip
    weights, directions = signed(copies, c)(ends, 0)
    w, d = np.array(weights), directions.numpy()
    assert w.sum() == pytest.approx(1)
    assert abs(w).sum() <= c + 1e-12
    assert np.abs(w @ d).max() < 1e-12
    assert np.linalg.norm(d, axis=1).max() <= 1 + 1e-12
    ours = float(np.einsum("j,ja,ab,jb->", w, d, matrix, d))
    a, b, p, q = max(-values[0], 0), max(values[-1], 0), (c + 1) / 2, (c - 1) / 2
    assert -ours == pytest.approx(max(a, b * q / p) if copies == 2 else p * a + q * b, abs=1e-12)
    searched = _searched(matrix, copies, c, generator)
    assert ours <= searched + 1e-6 * abs(searched)
    assert searched <= 0.9 * ours + 1e-12  # the search is worth comparing with


def _searched(matrix: Any, copies: int, c: float, generator: Any, starts: int = 8) -> float:
    """The least value that SLSQP finds with half of the copies positive; w and d by turns of sign."""
    n, best = len(matrix), 0.0
    for start in range(starts):
        sign = np.where(np.arange(copies) < copies - (start % copies), 1.0, -1.0)  # which copies may be negative

        def split(x: Any, sign: Any = sign) -> tuple[Any, Any]:
            return sign * x[:copies] ** 2, x[copies:].reshape(copies, n)

        def value(x: Any, split: Any = split) -> float:
            w, d = split(x)
            return float(np.einsum("j,ja,ab,jb->", w, d, matrix, d))

        result = minimize(value, generator.normal(size=copies * (n + 1)), method="SLSQP", constraints=[
            {"type": "eq", "fun": lambda x, split=split: split(x)[0].sum() - 1},
            {"type": "eq", "fun": lambda x, split=split: split(x)[0] @ split(x)[1]},
            {"type": "ineq", "fun": lambda x: c - (x[:copies] ** 2).sum()},
            {"type": "ineq", "fun": lambda x, split=split: 1 - (split(x)[1] ** 2).sum(axis=1)},
        ], options={"maxiter": 200})  # fmt: skip
        if result.success:
            best = min(best, result.fun)
    return best


# ---------------------------------------------------------------------- what a split adds to the Hessian


class Gaussian(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-x.square() / 2)


class Around(nn.Module):
    """c x + W g(V x + b): a skip connection of its own weight around the units."""

    def __init__(self) -> None:
        super().__init__()
        self.units, self.out = nn.Linear(1, 2), nn.Linear(2, 1, bias=False)
        self.skip = nn.Linear(1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.out(torch.exp(-self.units(x).square() / 2))


@cache
def stationary(skip: bool = False) -> Problem:
    """Two Gaussian units fitted to four, at a gradient of rounding size: by Newton's steps."""
    generator = torch.Generator().manual_seed(5)
    x = torch.linspace(-4, 4, 60, dtype=torch.float64)[:, None]
    theta, out = torch.randn(4, 2, generator=generator).double(), torch.randn(4, generator=generator).double()
    y = torch.exp(-(x * theta[:, 0] + theta[:, 1]).square() / 2) @ out[:, None]
    torch.manual_seed(1)
    chain = nn.Sequential(nn.Linear(1, 2), Gaussian(), nn.Linear(2, 1, bias=False))
    model = (Around() if skip else chain).double()
    problem = Problem(model, nn.functional.mse_loss, (x, y))
    weights = problem.weights()
    loss = lambda w: problem.batch_loss(w, problem.batches[0])  # noqa: E731
    for _ in range(60):
        gradient = torch.func.grad(loss)(weights)
        values, vectors = torch.linalg.eigh(torch.func.hessian(loss)(weights))
        step = vectors @ ((vectors.T @ gradient) / values.abs().clamp_min(1e-3))
        rate = next((r for r in (1, 0.3, 0.1, 0.03) if loss(weights - r * step) <= loss(weights)), 0.0)
        weights = weights - rate * step
    assert torch.func.grad(loss)(weights).norm() < 1e-8
    nn.utils.vector_to_parameters(weights, model.parameters())
    return problem


def lowest(problem: Problem, bottom: int = 1) -> Tensor:
    pairs = eigenpairs_at(problem, problem.weights(), Comm(), top=0, bottom=bottom, tolerance=1e-9)
    return torch.as_tensor(pairs.lowest_values)


@pytest.mark.parametrize("skip", [False, True])
def test_a_split_adds_half_the_splitting_matrixs_eigenvalues_to_the_hessian(skip: bool) -> None:
    """|lambda_min(H grown) - lambda_min(S) / 2| <= 1e-5 |lambda_min(S) / 2|, by our Lanczos; the others are those
    of D H D, D = 1/sqrt(2) for the weights into the unit that was split, sqrt(2) for those out of it, else 1."""
    problem = stationary(skip)
    layers = layers_of(problem).able
    assert [layer.name for layer in layers] == ["units" if skip else "0"]
    splits = chosen(candidates(exact(Splitting(problem, layers)), steepest), 1)
    wider, growth = grow(problem, layers, splits, 0.0)
    expected = splits[0].low / 2
    assert expected < 0
    assert abs(float(lowest(wider)[0]) - expected) <= 1e-5 * abs(expected)
    assert growth.eigenvalues == pytest.approx([splits[0].low / 2, splits[0].high / 2])
    scale = torch.ones(problem.size, dtype=torch.float64)
    for name, shape, part in problem.named_slices():  # moved together, copies go half as far each in, twice as far out
        rows = scale[part].view(shape)
        if name.startswith(("0.", "units.")):
            rows[splits[0].unit] = 0.5**0.5
        elif name in ("2.weight", "out.weight"):
            rows[:, splits[0].unit] = 2**0.5
    old = np.linalg.eigvalsh(scale.numpy()[:, None] * _hessian(problem) * scale.numpy())
    added = (splits[0].low / 2, splits[0].high / 2, 0.0)  # 0: the two outgoing weights against each other
    np.testing.assert_allclose(np.linalg.eigvalsh(_hessian(wider)), np.sort([*old, *added]), atol=1e-7)


def test_a_signed_split_adds_what_it_says() -> None:
    problem = stationary()
    layers = layers_of(problem).able
    ends = exact(Splitting(problem, layers))
    wider, growth = grow(problem, layers, candidates(ends, signed(4, 3.0))[:1], 0.0)
    spectrum = np.linalg.eigvalsh(_hessian(wider))
    for value in growth.eigenvalues:
        assert np.abs(spectrum - value).min() < 1e-7
    bent = max(range(2), key=lambda unit: float(ends["0"].high[unit]))
    still = torch.zeros(2, 2, dtype=torch.float64)
    two = Split("0", bent, [2.0, -1.0], still, 0.0, float(ends["0"].low[bent]), float(ends["0"].high[bent]))
    wider, growth = grow(problem, layers, [two], 0.0)
    assert np.linalg.eigvalsh(_hessian(wider))[0] <= growth.bound < 0  # type: ignore[operator]


def _hessian(problem: Problem) -> Any:
    curvature = operator_at(problem, problem.weights(), Comm())
    return curvature.matvec(torch.eye(problem.size, dtype=torch.float64)).numpy()


# ---------------------------------------------------------------------- what cannot grow


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x.flatten(1)))
        return self.head(x + torch.tanh(self.inner(x)))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(64, 6), nn.LayerNorm(6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.first(x.flatten(1)))))


def test_what_cannot_be_split_says_why() -> None:
    with pytest.raises(ProblemError, match="no layer of this network can grow: 'stem': its units are also made by"):
        layers_of(images(Residual())).need()
    with pytest.raises(ProblemError, match="layer 'nosuch' cannot grow: there is no such layer"):
        layers_of(found("mlp").problem).need("nosuch")
    normed = images(Normed())
    with pytest.raises(ProblemError, match="they act on each other before they are read"):
        Splitting(normed, layers_of(normed).need())
    with pytest.raises(UsageError, match="needs its problem"):
        make_optimizer("splitting", nn.Linear(2, 2), {})
    with pytest.raises(UsageError, match=r"inner must be an optimizer of torch\.optim, got 'x'"):
        make_optimizer("splitting", normed.model, {"inner": "x", "lr": 0.1}, found("mlp").problem)
    with pytest.raises(UsageError, match="signed splits take copies 2 or 4"):
        make_optimizer("signed_splitting", normed.model, {"copies": 3, "lr": 0.1}, found("mlp").problem)


# ---------------------------------------------------------------------- shapes


def test_a_single_unit_is_found_and_split() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.Tanh(), nn.Flatten(), nn.Linear(36, 1), nn.Tanh(),
                          nn.Linear(1, 10))  # fmt: skip
    problem = images(model).to(dtype=torch.float64)
    layers = layers_of(problem).able
    assert [(layer.name, layer.units) for layer in layers] == [("0", 1), ("4", 1)]
    wider, growth = grow(problem, layers, candidates(exact(Splitting(problem, layers)), signed(4, 3.0)), 1e-3)
    assert [len(wider.model.get_parameter(f"{n}.weight")) for n in ("0", "4")] == [4, 4]
    assert 0.98 < growth.measured / growth.predicted < 1.02


def test_a_model_takes_the_shapes_of_a_state() -> None:
    narrow, wide, it = cnn(torch.float32), cnn(torch.float32).model, found("cnn")
    state = narrow.state()
    wider, _growth = grow(it.problem, it.layers, candidates(it.ends, signed(4, 3.0))[:2], 0.1)
    assert {n: v.shape for n, v in fitted(wide, wider.state()).state_dict().items()} == {
        n: v.shape for n, v in wider.state().items()
    }
    blocks = narrow.restricted("0.*")
    narrow.fit(wider.state())
    narrow.load(wider.state())
    blocks.fit(wider.state())
    assert narrow.size == wider.size == sum(p.numel() for p in narrow.model.parameters())
    assert blocks.size == sum(narrow.model.get_parameter(n).numel() for n in ("0.weight",))
    torch.testing.assert_close(narrow.weights().double(), wider.weights(), rtol=1e-6, atol=1e-6)
    narrow.fit(state)
    narrow.load(state)
    assert torch.equal(narrow.weights(), cnn(torch.float32).weights())


# ---------------------------------------------------------------------- training


SETTINGS: dict[str, Any] = {"inner": "adam", "lr": 0.01, "every": 4, "fraction": 0.5, "rounds": 2}


def command(out: Path, steps: int, method: str = "splitting") -> list[str]:
    words = [f"{name}={value}" for name, value in SETTINGS.items()]
    return ["train", "digits_mlp", "--problem-set", "hidden=2", "--optimizer", method, "--steps", str(steps),
            "--checkpoint-every", "4", "--out", str(out), *(w for word in words for w in ("--set", word))]  # fmt: skip


@pytest.fixture(scope="module")
def grown_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Stopped after its first growth and gone on with."""
    out = tmp_path_factory.mktemp("growing") / "grown"
    assert cli.main(command(out, 6)) == 0
    assert cli.main(command(out, 12)) == 0
    return Run(out)


def test_a_training_that_was_interrupted_after_a_growth_ends_with_the_same_weights(
    grown_run: Run, tmp_path: Path
) -> None:
    assert cli.main(command(tmp_path / "whole", 12)) == 0
    whole = Run(tmp_path / "whole")
    for name, value in Checkpoint(whole, 12).state().items():
        assert torch.equal(value, Checkpoint(grown_run, 12).state()[name])
    strip = lambda run: [(e["step"], e["predicted"], e["size_after"]) for e in run.events()]  # noqa: E731
    assert strip(whole) == strip(grown_run)
    assert [e["step"] for e in grown_run.events()] == [5, 9]
    for event in grown_run.events():
        assert event["measured"] == pytest.approx(event["predicted"], rel=0.05)


def test_a_checkpoint_of_every_width_is_loaded_and_embedded(grown_run: Run) -> None:
    problem = build_problem("digits_mlp", {"hidden": 2})
    points = [Checkpoint(grown_run, step) for step in grown_run.checkpoint_steps()]
    losses, sizes = [], []
    for point in points:
        point.load_into(problem)
        sizes.append(problem.size)
        losses.append(problem.evaluate(problem.weights())["loss"])
    assert sizes[0] < sizes[-2] < sizes[-1]
    last = points[-1]
    written, embedded = at_width_of(last, points)
    assert embedded == sum(size < sizes[-1] for size in sizes)
    last.load_into(problem)
    for point, loss in zip(written, losses, strict=True):
        vector = problem.vector_from(point.state())
        assert problem.evaluate(vector)["loss"] == pytest.approx(loss, rel=1e-5)
        parts = [point.part(problem.named_slices(), i, i + 50) for i in range(0, problem.size, 50)]
        assert torch.equal(torch.cat(parts), vector)
    assert [p.step for p in at_width_of(points[1], points)[0]] == [0, 4]  # wider ones have no place there


def test_jobs_cross_the_growth(grown_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(grown_run.root)
    quick = ["--samples", "50"]
    assert cli.main(["surface", out, "--points", "5", *quick]) == 0
    assert cli.main(["trajectory", out]) == 0
    assert cli.main(["spectrum", out, "--eigenpairs", "--top", "1", "--bottom", "0", *quick]) == 0
    assert cli.main(["spectrum", out, "--eigenpairs", "--top", "1", "--bottom", "0", "--operator", "preconditioned",
                     "--checkpoints", "4:12", *quick]) == 0  # fmt: skip
    assert cli.main(["path", out, out, "--step-a", "4", "--step-b", "12", "--points", "3"]) == 0
    trajectory = grown_run.read(grown_run.keys("trajectory")[0])
    assert trajectory.meta["embedded"] == "4 checkpoints from before the network grew embedded by copying units"
    metrics = grown_run.metrics()
    for step, loss in zip(trajectory.steps, trajectory.loss, strict=True):
        assert np.isfinite(loss)
        assert step in metrics["step"]
    assert len(grown_run.steps("eigenpairs", "hessian")) == len(grown_run.checkpoint_steps())
    assert len(grown_run.steps("eigenpairs", "preconditioned")) == 4
    assert "embedded by copying units" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["splitting", "signed_splitting"])
def test_a_convolutional_network_with_batch_normalisation_trains_and_grows(method: str) -> None:
    problem = cnn(torch.float32)
    settings = SETTINGS | {"lr": 0.001, "every": 2}
    optimizer: Any = make_optimizer(method, problem.model, settings, problem)
    batches, before = MiniBatches(problem, 64, 0), problem.size
    for step in range(5):
        train_step(problem, optimizer, batches.at(step))
    assert optimizer.rounds == 2
    assert problem.size > before
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in problem.model.parameters()}


def test_a_budget_holds_and_random_splits_are_only_to_compare_with() -> None:
    problem = build_problem("digits_mlp", {"hidden": 4, "seed": 0})
    settings = SETTINGS | {"every": 1, "rounds": 9, "budget": 560, "choose": "random"}
    optimizer: Any = make_optimizer("splitting", problem.model, settings, problem)
    batches = MiniBatches(problem, 64, 0)
    for step in range(5):
        train_step(problem, optimizer, batches.at(step))
    assert 310 < problem.size <= 560
    assert optimizer.events[-1] == {"kind": "stable", "method": "splitting"}
    lows = {(row["layer"], row["unit"]): row for row in optimizer.events[0]["rows"]}
    assert all(row["predicted"] > 5e-5 * row["low"] for row in lows.values())  # no random direction is the lowest
