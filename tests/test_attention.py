"""Attention heads are cut like neurons: fewer of them, the same outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from landscape.groupings._base import group_norms, parts_of
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.attention import Attention
from landscape.loss.fitting import fitted
from landscape.loss.problem import Problem
from landscape.networks.pruning import prune
from landscape.problems.gpt import GPT, Block, next_token_loss

WIDTH, HEADS, SIZE = 12, 3, 4


class Crossed(nn.Module):
    """torch's attention of places on others, of another width and of the same, then one layer of torch's encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, WIDTH)
        self.cross = nn.MultiheadAttention(WIDTH, HEADS, bias=False, kdim=3, vdim=3, batch_first=True)
        self.other = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 8, batch_first=True)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.cross(self.stem(x), x, x)[0]
        behind = h.flip(1)
        out: Tensor = self.head(self.layer(self.other(h, behind, behind)[0]).mean(1))
        return out


def problem_of(name: str) -> Problem:
    torch.manual_seed(0)
    if name == "gpt":
        tokens = torch.randint(0, 7, (6, 5))
        problem = Problem(GPT(7, 5, WIDTH, 2, HEADS), next_token_loss, (tokens, tokens.roll(1, 1)))
    else:
        problem = Problem(Crossed(), nn.functional.mse_loss, (torch.randn(6, 5, 3), torch.zeros(6, 2)))
    with torch.no_grad():
        for weight in problem.model.parameters():
            weight.normal_(std=0.5)
    return problem.to(dtype=torch.float64)


def kill_heads(weight: Tensor, before: int, heads: list[int]) -> None:
    """Set the weights into some heads to zero; biases and what reads the heads stay."""
    with torch.no_grad():
        weight.view(before, HEADS, -1)[:, heads] = 0


KILLED = {
    "gpt": {"blocks.0.attention_in": [1], "blocks.1.attention_in": [0, 2]},
    "torch": {"cross": [2], "other": [1], "layer.self_attn": [0, 1]},
}


@pytest.mark.parametrize("name", KILLED)
def test_dead_heads_are_cut_and_the_outputs_stay(name: str) -> None:
    problem = problem_of(name)
    for layer, heads in KILLED[name].items():
        for leaf, weight in problem.model.get_submodule(layer).named_parameters(recurse=False):
            if leaf.endswith("weight"):
                kill_heads(weight, 1 if leaf.startswith(("q_", "k_", "v_")) else 3, heads)
    found = prune(problem)
    assert found.removed == {layer: len(heads) for layer, heads in KILLED[name].items()}
    assert found.change < 1e-14
    (batch,) = problem.batches
    loss, wanted = problem.outcome(problem.weights(), batch)
    again = found.problem.outcome(found.problem.weights(), batch)[1]
    torch.testing.assert_close(again, wanted, rtol=0, atol=1e-13)
    left = {type(m): m.heads for m in found.problem.model.modules() if isinstance(m, (Block, Attention))}
    assert left == ({Block: 1} if name == "gpt" else {Attention: 1})  # of the last one
    gone = {"gpt": 3 * (3 * SIZE * (WIDTH + 1) + WIDTH * SIZE),  # rows with biases, and columns
            "torch": (WIDTH + 3 + 3 + WIDTH) * SIZE + 3 * (3 * SIZE * (WIDTH + 1) + WIDTH * SIZE)}  # fmt: skip
    assert found.before - found.after == gone[name]
    assert set(group_norms(parts_of(found.problem.model, "heads"), found.problem.state()).sizes.tolist()) <= {
        4 * WIDTH * SIZE + 3 * SIZE, (2 * WIDTH + 2 * 3) * SIZE
    }  # fmt: skip
    # A checkpoint of the smaller network is read into the larger one's architecture.
    other = fitted(problem.model, found.problem.state())
    other.load_state_dict(found.problem.state())
    torch.testing.assert_close(problem.with_model(other).outcome(found.problem.weights(), batch)[1], wanted)
    assert float(loss) == pytest.approx(float(found.problem.batch_loss(found.problem.weights(), batch)), rel=1e-13)


MASKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without weights": {"need_weights": False},
    "causal": {"attn_mask": torch.ones(5, 5).triu(1).bool(), "is_causal": True, "need_weights": False},
    "a mask a head": {"attn_mask": torch.randn(4 * HEADS, 5, 5, generator=torch.Generator().manual_seed(2))},
    "padding": {"key_padding_mask": torch.arange(5) > torch.tensor([[4], [2], [3], [0]]), "need_weights": False},
    "both, each head": {"attn_mask": torch.randn(5, 5, generator=torch.Generator().manual_seed(3)),
                        "key_padding_mask": torch.zeros(4, 5), "average_attn_weights": False},
}  # fmt: skip


WEIGHTS: dict[str, dict[str, Any]] = {"one": {}, "apart": {"batch_first": True, "kdim": 3, "vdim": 7, "bias": False}}


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("options", WEIGHTS.values(), ids=WEIGHTS.keys())
def test_with_all_heads_it_is_torch_s_attention(options: dict[str, Any], masks: dict[str, Any]) -> None:
    torch.manual_seed(1)
    original = nn.MultiheadAttention(WIDTH, HEADS, dtype=torch.float64, **options)
    for weight in original.parameters():
        nn.init.normal_(weight)
    given = [torch.randn(4, 5, n, dtype=torch.float64) for n in
             (WIDTH, options.get("kdim", WIDTH), options.get("vdim", WIDTH))]  # fmt: skip
    given = given if original.batch_first else [x.transpose(0, 1) for x in given]
    masks = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in masks.items()}
    for one, two in zip(Attention(original)(*given, **masks), original(*given, **masks), strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-13)
    if not masks:
        alone = [x[0] if original.batch_first else x[:, 0] for x in given]  # without a dimension of samples
        for one, two in zip(Attention(original)(*alone), original(*alone), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-13)


def test_training_with_groups_of_heads_makes_heads_that_are_cut() -> None:
    problem = problem_of("gpt").to(dtype=torch.float32)
    settings = {"regularizer": "group", "groups": "heads", "mu": 2.0, "metric": "identity", "lr": 0.2, "lr_decay": 0.0,
                "rho": 1.0, "rho_decay": 0.0}  # fmt: skip
    optimizer = make_optimizer("prox_sgd", problem.model, settings)
    batches = MiniBatches(problem, 6, 0)
    for step in range(100):
        train_step(problem, optimizer, batches.at(step))
    norms = group_norms(parts_of(problem.model, "heads"), problem.state())
    dead = int((norms.norms < 1e-4).sum())
    found = prune(problem, threshold=1e-4)
    assert 0 < sum(found.removed.values()) == min(dead, 2 * HEADS - 2)  # a layer keeps one
    assert found.zeroed < 1e-3
    assert found.change < 1e-12


def test_heads_that_attend_to_more_than_the_places_are_left_alone() -> None:
    model = nn.ModuleDict({"one": nn.MultiheadAttention(WIDTH, HEADS, add_zero_attn=True)})
    with pytest.raises(ValueError, match="no groups of the kind 'heads'"):
        parts_of(model, "heads")
