"""The search for an architecture: cells, what is left of them, the network of that, the picture."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape.cli import main
from landscape.errors import ProblemError, UsageError
from landscape.groupings._base import parts_of
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.loading import build_problem
from landscape.loss.problem import Problem
from landscape.networks.derivation import architecture, derive, genotype
from landscape.problems._cell import OPERATIONS, CellNetwork, Style, plans_of, whole
from landscape.readings import cells
from landscape.records import Architecture
from landscape.stores.run_directory import Run

SMALL = {"channels": 2, "seed": 0}
SEARCH = {"regularizer": "group", "groups": "operations", "weighting": "div", "mu": 4.0, "metric": "identity",
          "lr": 0.5, "lr_decay": 0.0, "rho": 0.8, "rho_decay": 0.0}  # fmt: skip


# ---------------------------------------------------------------------- cells


class Plain(nn.Module):
    """The same cell network edge by edge and operation by operation, out of the stacked layers' own parts."""

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.network.stem(x)
        for cell in self.network.cells:
            before, last = last, self._cell(cell, before, last)
        return self.network.classifier(last.mean((2, 3)))

    @staticmethod
    def _cell(cell: Any, before: Tensor, last: Tensor) -> Tensor:
        values = [cell.first(before), cell.second(last)]
        for node in range(2, cell.nodes + 2):
            total: Tensor | float = 0.0
            for source in range(node):
                for layer in cell.sources[str(source)].values():
                    at = layer.targets.index(node)
                    if layer.convolution is not None:
                        rows = slice(at * layer.channels, (at + 1) * layer.channels)
                        y = nn.functional.conv2d(
                            values[source].relu(), layer.convolution.weight[rows], None, layer.stride,
                            layer.convolution.padding, layer.convolution.dilation,
                        )  # fmt: skip
                        norm = layer.norm
                        y = nn.functional.batch_norm(y, norm.running_mean[rows], norm.running_var[rows])
                    elif layer.zero:
                        continue
                    else:
                        k = layer.stride
                        y = layer.pool(values[source]) if layer.pool else values[source][..., ::k, ::k]
                        y = layer.norm(y) * layer.scale[at]
                    total = total + y
            values.append(total)  # type: ignore[arg-type]
        return torch.cat(values[2:], dim=1)


def perturbed(settings: dict[str, Any], dtype: torch.dtype = torch.float64) -> Problem:
    """A network of cells with statistics and scales that are not those of the start."""
    problem = build_problem("digits_cell", settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in problem.model.state_dict().items():
            if name.endswith(("running_mean", "scale")):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5 + 0.3)
            elif name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return problem.to(dtype=dtype)


@pytest.mark.parametrize("reduce", [0, 1])
def test_stacked_operations_are_the_sum_over_edges_and_operations(reduce: int) -> None:
    problem = perturbed({**SMALL, "reduce": reduce, "operations": "none,skip,maxpool,avgpool,conv1,conv3,conv5,dil3"})
    x = problem.batches[0][0][:7]
    torch.testing.assert_close(problem.model(x), Plain(problem.model)(x), rtol=1e-10, atol=1e-12)


def test_a_genotype_of_everything_is_the_searched_network() -> None:
    every = whole(("normal",), 2, ("none", "skip", "conv3"))
    plan = plans_of(every, 2)["normal"]
    assert plan[0] == {"none": (2, 3), "skip": (2, 3), "conv3": (2, 3)}
    assert plan[2] == {"none": (3,), "skip": (3,), "conv3": (3,)}
    one = build_problem("digits_cell", {**SMALL, "operations": "none,skip,conv3"})
    two = build_problem("digits_cell", {**SMALL, "genotype": every})
    assert torch.equal(one.weights(), two.weights())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"operations": "skip,teleport"}, "unknown operation 'teleport'"), ({"reduce": 2}, "reduce less than cells"),
     ({"genotype": {"normal": [[0, 1, "skip"]]}}, "edge 0 -> 1 is none"),
     ({"genotype": {"normal": [[0, 2, "fly"]]}}, "must be .source, target, operation."),
     ({"genotype": {"normal": [[0, 2, "skip"], [0, 2, "skip"]]}}, "twice"),
     ({"genotype": {"reduce": []}}, "has no 'normal' cell"), ({"form": "draft"}, "form one of search, scaled, final")],
)  # fmt: skip
def test_a_cell_that_cannot_be_is_refused_in_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_problem("digits_cell", settings)


def test_the_final_form_has_no_scales_and_weights_in_its_normalisation() -> None:
    model = CellNetwork(("normal",), plans_of(whole(("normal",), 1, OPERATIONS), 1), 1, Style(2, False))
    names = [name for name, _ in model.named_parameters()]
    assert not any("scale" in name for name in names)
    assert any(name.endswith("maxpool.norm.weight") for name in names)
    assert model(torch.randn(3, 1, 8, 8)).shape == (3, 10)


# ---------------------------------------------------------------------- derivation


def with_dead(problem: Problem, dead: list[str]) -> Problem:
    """The groups of some operations at 1e-7 of a weight, their statistics as they are."""
    with torch.no_grad():
        for part in parts_of(problem.model, "operations"):
            units = problem.model.get_parameter(part.tensor).view(part.before, len(part.names), part.after)
            for i, name in enumerate(part.names):
                if name in dead:
                    units[:, i] = 1e-7
    return problem


DEAD = ["normal.0-2.conv3", "normal.0-3.conv3", "normal.1-3.dil3", "normal.2-3.skip", "normal.1-2.maxpool",
        "normal.0-2.none"]  # fmt: skip


def test_the_derived_network_gives_the_searched_network_s_outputs() -> None:
    """The reference silences the dead operations by hooks on the searched network, not by its weights."""
    problem = with_dead(perturbed(SMALL), DEAD)
    record = architecture(problem, 5, 1e-5)
    assert (record.kept == 0).sum() == len(DEAD)
    found = derive(problem, record, lambda changed: build_problem("digits_cell", {**SMALL, **changed}))
    assert found.change < 1e-12
    assert found.after < found.before == problem.size
    x = problem.batches[0][0][:9]

    def silence(module: Any, _inputs: Any, y: Tensor) -> Tensor:
        alive = torch.tensor([name not in DEAD for name in module.groups]).to(y)
        return y * alive.view(1, -1, 1, 1, 1)

    hooks = [layer.register_forward_hook(silence) for _name, layer in problem.model.operations()]
    wanted = problem.model(x)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(found.problem.model(x), wanted, rtol=1e-10, atol=1e-12)


def test_one_operation_an_edge_is_the_largest_that_does_something() -> None:
    problem = with_dead(perturbed(SMALL), DEAD)
    every, one = architecture(problem, 0, 1e-5), architecture(problem, 0, 1e-5, one_per_edge=True)
    assert (every.key, one.key) == ("architecture-all-00000000", "architecture-one-00000000")
    for edge in {(int(s), int(t)) for s, t in zip(one.source, one.target, strict=True)}:
        here = [i for i in range(25) if (one.source[i], one.target[i]) == edge and one.operations[i] != "none"]
        assert one.kept[here].sum() == 1
        assert one.norms[here][one.kept[here] == 1] == one.norms[here].max()
    assert all(name != "none" for edges in genotype(one).values() for _s, _t, name in edges)


def test_a_cell_without_any_operation_gives_zeros() -> None:
    problem = with_dead(perturbed({**SMALL, "reduce": 1}), [])
    record = architecture(problem, 0, math.inf)
    assert genotype(record) == {"normal": [], "reduce": []}
    again = derive(problem, record, lambda changed: build_problem("digits_cell", {**SMALL, "reduce": 1, **changed}))
    x = problem.batches[0][0][:3]
    torch.testing.assert_close(again.problem.model(x), problem.model.classifier.bias.expand(3, -1))


def test_what_is_no_search_is_told_so() -> None:
    with pytest.raises(ProblemError, match="is no network of cells"):
        architecture(build_problem("digits_mlp", {"hidden": 4}), 0, 1e-5)
    with pytest.raises(ProblemError, match="has no weights to tell its importance"):
        architecture(build_problem("digits_cell", {**SMALL, "form": "final"}), 0, 1e-5)


def test_operations_without_weights_die_at_the_rate_of_the_steps_under_div() -> None:
    """sqrt(n) (1 - lr)^T of n tied scales that start at 1, whatever the data: mu / sqrt(n) is more than they have."""
    problem = build_problem("digits_cell", SMALL)
    optimizer, batches = make_optimizer("prox_sgd", problem.model, {**SEARCH, "lr": 0.1}), MiniBatches(problem, 32, 0)
    for step in range(12):
        train_step(problem, optimizer, batches.at(step))
    record = architecture(problem, 12, 1e-5)
    scales = np.isin(record.operations, ["none", "skip", "maxpool"])
    np.testing.assert_allclose(record.norms[scales], math.sqrt(2) * 0.9**12, rtol=1e-5)
    assert (record.norms[~scales] > 1.2 * math.sqrt(2) * 0.9**12).all()


# ---------------------------------------------------------------------- the job, the drawing


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store") / "search"
    settings = [word for name, value in SEARCH.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    words = ["--problem-set", "channels=2", "--optimizer", "prox_sgd", *settings, "--steps", "20"]
    assert main(["train", "digits_cell", *words, "--checkpoint-every", "10", "--out", str(root)]) == 0
    return root


def test_a_search_is_derived_drawn_and_trained_again(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = searched.parent / "cell"
    assert main(["derive", str(searched), "--out", str(cell)]) == 0
    said = capsys.readouterr().out
    assert "step 0: 25 of 25 operations kept" in said
    record = Run(searched).read("architecture-all-00000020")
    assert isinstance(record, Architecture)
    assert 15 <= (record.kept == 0).sum() < 25
    run = Run(cell)
    assert run.info.size < Run(searched).info.size == run.info.meta["derived"]["before"]
    assert json.loads((cell / "genotype.json").read_text())["genotype"] == genotype(record)
    problem = build_problem(run.info.problem, run.info.problem_settings)
    assert problem.size == run.info.size
    fresh, on = (str(searched.parent / name) for name in ("fresh", "on"))
    words = ["--problem-set", f"genotype={cell / 'genotype.json'}", "--problem-set", "channels=2"]
    assert main(["train", "digits_cell", *words, "--problem-set", "form=final", "--steps", "2", "--out", fresh]) == 0
    inherited = ["--problem-set", f"run={searched}", "--steps", "2", "--out", on]
    assert main(["train", "landscape.jobs.derive:build", *inherited]) == 0
    assert Run(on).metrics()["train_loss"][0] == pytest.approx(Run(searched).metrics()["train_loss"][-1], rel=1e-3)
    assert main(["export", str(searched), "--figure", "architecture", "--png", "--out", str(searched.parent)]) == 0
    assert (searched.parent / "architecture.png").stat().st_size > 10_000
    capsys.readouterr()
    assert main(["export", str(searched), "--record", "architecture", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step,read_off,kind,source,target,operation,norms,sizes,kept"
    assert len(lines) == 1 + 3 * 25


def test_an_occupied_place_and_a_run_without_cells_are_refused(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["derive", str(searched), "--out", str(searched)]) == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_strands_join_their_places_keep_apart_and_run_through_no_other(nodes: int) -> None:
    edges = whole(("normal",), nodes, ("skip", "maxpool", "conv3", "dil3", "conv5"))["normal"]
    ones = np.ones(len(edges))
    record = Architecture(
        0, "all", 1e-5, nodes, ["normal"] * len(edges), [e[2] for e in edges], np.array([e[0] for e in edges]),
        np.array([e[1] for e in edges]), ones, ones.astype(int), ones.astype(int),
    )  # fmt: skip
    found = cells.drawing(record, "normal")
    at = {place.number: np.array([place.x, place.y]) for place in found.places}
    assert sorted(at) == list(range(nodes + 2))
    for strand in found.strands:
        ends = (int(record.source[strand.group]), int(record.target[strand.group]))
        np.testing.assert_allclose(strand.points[[0, -1]], [at[end] for end in ends], atol=1e-12)
        for number, place in at.items():
            if number not in ends:
                assert np.linalg.norm(strand.points - place, axis=1).min() > 0.3
    middles = np.array([strand.points[len(strand.points) // 2] for strand in found.strands])
    distances = np.linalg.norm(middles[:, None] - middles[None], axis=2) + 9 * np.eye(len(middles))
    assert distances.min() > 0.02
    with pytest.raises(ValueError, match="no 'reduce' cell"):
        cells.drawing(record, "reduce")
