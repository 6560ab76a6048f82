"""Groups of weights that span tensors: one norm, one prox, and the presets that name them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from landscape import plugins
from landscape.groupings._base import group_names, group_norms, layout, parts_of
from landscape.learning.recorder import hyperparameters
from landscape.learning.training import make_optimizer
from landscape.loss.loading import build_problem
from landscape.optimizers.prox_sgd import ProxSGD
from landscape.problems import gpt
from landscape.regularizers.group import WEIGHTING, Group, make

SMALL = {"channels": 2, "seed": 0}


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------------- groups that span tensors


# Two groups over two tensors: columns of the first and rows of the second; a third tensor is in no group.
SPANNING = ((3, (0, 1), 2), (1, (0, 1), 4), None)
SHAPES = ((3, 4), (2, 4), (5,))


def members(tensors: list[Tensor], group: int) -> Tensor:
    """The weights of a group as one vector, written out by hand."""
    columns = slice(2 * group, 2 * group + 2)
    return torch.cat([tensors[0][:, columns].reshape(-1), tensors[1][group]])


@pytest.mark.parametrize("weighting", WEIGHTING)
@pytest.mark.parametrize("kind", ["identity", "diagonal", "mean"])
def test_a_group_over_several_tensors_is_one_concatenated_tensor(kind: str, weighting: str) -> None:
    points = [random(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    tau = [random(*shape, seed=9 + i).square() + 0.3 for i, shape in enumerate(SHAPES)]
    tau = [torch.ones((), dtype=torch.float64)] * 3 if kind == "identity" else tau
    settings: dict[str, Any] = {"mu": 1.1, "weighting": weighting, "mean_metric": kind == "mean"}
    found = make(**settings, layout=SPANNING).prox(points, tau)
    for group in (0, 1):
        full = [t.expand(p.shape) for t, p in zip(tau, points, strict=True)]
        (wanted,) = make(**settings, groups="tensors").prox([members(points, group)], [members(full, group)])
        torch.testing.assert_close(members(found, group), wanted, rtol=0, atol=1e-13)
    assert torch.equal(found[2], points[2])
    value = make(**settings, layout=SPANNING).value(points)
    parts = [make(**settings, groups="tensors").value([members(points, group)]) for group in (0, 1)]
    assert float(value) == pytest.approx(float(sum(parts)))


def test_a_group_vanishes_exactly_when_its_norm_is_within_mu_w_over_tau() -> None:
    points = [random(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    norms = [float(members(points, group).norm()) for group in (0, 1)]
    for mu in (0.999 * min(norms), 1.001 * min(norms), 1.001 * max(norms)):
        found = make(mu=2.0 * mu, layout=SPANNING).prox(points, [torch.tensor(2.0).double()] * 3)
        for group in (0, 1):
            assert bool((members(found, group) == 0).all()) == (norms[group] <= mu)
            if norms[group] > mu:
                cosine = nn.functional.cosine_similarity(members(found, group), members(points, group), dim=0)
                assert float(cosine) == pytest.approx(1.0)


def test_the_layout_survives_json_and_a_wrong_one_is_refused() -> None:
    points, tau = [random(*shape, seed=i) for i, shape in enumerate(SHAPES)], [torch.ones(()).double()] * 3
    again = json.loads(json.dumps(SPANNING))
    for one, two in zip(make(1.0, layout=again).prox(points, tau), make(1.0, layout=SPANNING).prox(points, tau),
                        strict=True):  # fmt: skip
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match="do not fit a tensor of 5"):
        make(1.0, layout=(SPANNING[0], SPANNING[1], (1, (0,), 4))).prox(points, tau)
    assert isinstance(make(1.0), Group)


def test_every_weight_of_spanning_groups_needs_a_gradient() -> None:
    weights = [nn.Parameter(random(*shape, seed=i)) for i, shape in enumerate(SHAPES)]
    optimizer = ProxSGD([{"params": weights, "regularizer": "group", "mu": 0.1, "layout": SPANNING}])
    weights[0].grad = torch.ones_like(weights[0])
    with pytest.raises(RuntimeError, match="need a gradient for every weight"):
        optimizer.step()


# ---------------------------------------------------------------------- presets


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.attention = nn.Conv2d(1, 3, 2), nn.MultiheadAttention(6, 3)
        self.hidden, self.last = nn.Linear(4, 5), nn.Linear(5, 2)


def norm_of(*tensors: Tensor) -> float:
    return float(torch.cat([t.detach().double().reshape(-1) for t in tensors]).norm())


@pytest.mark.parametrize("grouping", plugins.names("landscape.groupings"))
def test_a_grouping_fits_its_tensors_and_says_what_is_in_no_group(grouping: str) -> None:
    model = build_problem("digits_cell", SMALL).model if grouping == "operations" else Small()
    parts = parts_of(model, grouping)
    names = [name for name, _ in model.named_parameters()]
    entries = layout(parts, names)
    assert any(entries)
    assert not all(entries)
    assert group_norms(parts, model.state_dict()).sizes.sum() == sum(
        model.get_parameter(part.tensor).numel() for part in parts
    )
    with pytest.raises(ValueError, match=f"no groups of the kind '{grouping}'"):
        parts_of(nn.Bilinear(2, 2, 2), grouping)


def test_neurons_and_filters_are_rows_and_the_outputs_are_in_no_group() -> None:
    model = Small()
    neurons, filters = (group_norms(parts_of(model, g), model.state_dict()) for g in ("neurons", "filters"))
    assert neurons.names[-1] == "hidden[4]"
    assert float(neurons.norms[-1]) == pytest.approx(norm_of(model.hidden.weight[4]))
    assert float(filters.norms[1]) == pytest.approx(norm_of(model.conv.weight[1]))
    assert len(filters.names) == 3


def test_a_head_is_its_rows_of_query_key_and_value_and_its_columns_of_the_output() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"torch": nn.MultiheadAttention(6, 3), "ours": gpt.Block(6, 3)})
    nn.init.normal_(model["torch"].in_proj_bias)  # type: ignore[arg-type]
    found = group_norms(parts_of(model, "heads"), model.state_dict())
    assert found.names == tuple(f"{m}.head{h}" for m in ("torch", "ours") for h in range(3))
    assert found.sizes.tolist() == [(3 * 2 * 6) + 3 * 2 + 6 * 2] * 6
    for number, head in enumerate(range(3)):
        rows = [s * 6 + head * 2 + i for s in range(3) for i in range(2)]
        columns = [head * 2, head * 2 + 1]
        for first, inner, bias, out in (
            (0, model["torch"].in_proj_weight, model["torch"].in_proj_bias, model["torch"].out_proj.weight),
            (3, model["ours"].attention_in.weight, model["ours"].attention_in.bias, model["ours"].attention_out.weight),
        ):
            wanted = norm_of(inner[rows], bias[rows], out[:, columns])
            assert float(found.norms[first + number]) == pytest.approx(wanted)


def test_a_head_whose_group_is_zero_adds_nothing_and_training_can_take_it_there() -> None:
    torch.manual_seed(0)
    block, x = gpt.Block(6, 3), torch.randn(2, 4, 6)
    optimizer = make_optimizer("prox_sgd", block, {"regularizer": "group", "groups": "heads", "mu": 100.0,
                                                   "metric": "identity", "lr": 1.0, "lr_decay": 0.0})  # fmt: skip
    block(x).square().mean().backward()
    optimizer.step()  # eps is 1: the weights are the solution of the subproblem
    assert float(group_norms(parts_of(block, "heads"), block.state_dict()).norms.max()) == 0.0
    attended = block.attention_out.bias  # of the heads nothing is left
    wanted = x + attended
    wanted = wanted + block.mlp_out(nn.functional.gelu(block.mlp_in(block.mlp_norm(wanted))))
    torch.testing.assert_close(block(x), wanted)


def test_an_operation_is_one_group_in_all_cells_of_a_kind() -> None:
    model = build_problem("digits_cell", {**SMALL, "cells": 3, "reduce": 1}).model
    parts = parts_of(model, "operations")
    names = group_names(parts)
    assert len(names) == 2 * 25
    found = group_norms(parts, model.state_dict())
    cell = [model.cells[i].sources["1"]["dil3"] for i in (0, 2)]
    place = found.names.index("normal.1-3.dil3")
    assert float(found.norms[place]) == pytest.approx(norm_of(*(c.convolution.weight[2:4] for c in cell)))
    assert found.sizes[place] == 2 * 2 * 2 * 9
    assert found.sizes[found.names.index("reduce.0-2.skip")] == 1


def test_the_layout_stays_out_of_a_run_s_settings() -> None:
    optimizer = make_optimizer("prox_sgd", build_problem("digits_cell", SMALL).model,
                               {"regularizer": "group", "groups": "operations", "mu": 1.0})  # fmt: skip
    assert "layout" not in hyperparameters(optimizer)
    assert optimizer.param_groups[0]["prox"]["groups"] == "operations"
