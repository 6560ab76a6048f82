"""Models that compute their own loss on dicts: Hugging Face's, and one of the same manners written out here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from landscape import cli
from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.errors import ProblemError
from landscape.learning.training import MiniBatches, make_optimizer, train_step
from landscape.loss.problem import Problem

VOCABULARY = 11
Batches = list[dict[str, Tensor]]


@dataclass
class Output:
    loss: Tensor
    logits: Tensor


class Causal(nn.Module):
    """A causal language model called as Hugging Face's are: the loss is the mean over labels that are not -100."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 6)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 18)
        self.head = nn.Linear(6, VOCABULARY)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Output:
        x = self.embedding(input_ids)
        query, key, value = self.mix(self.norm(x)).chunk(3, dim=-1)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        seen = causal & (attention_mask[:, None, :].bool() | torch.eye(x.shape[1], dtype=torch.bool))
        logits = self.head(x + F.scaled_dot_product_attention(query, key, value, attn_mask=seen))
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return Output(loss, logits)


def hugging_face() -> nn.Module:
    """A GPT-2 of 636 weights, made from a configuration."""
    library = pytest.importorskip("transformers", reason="pip install transformers")
    library.logging.set_verbosity_error()
    settings = dict(vocab_size=VOCABULARY, n_positions=8, n_embd=6, n_layer=1, n_head=2, use_cache=False,
                    bos_token_id=0, eos_token_id=0)  # fmt: skip
    return library.GPT2LMHeadModel(library.GPT2Config(**settings))


MODELS = {"written out": Causal, "hugging face": hugging_face}
every_model = pytest.mark.parametrize("name", list(MODELS))


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def samples() -> Batches:
    """Seven sequences of 3 to 8 tokens, padded to 8; padding is masked in attention and labels, prompts in labels."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number, length in enumerate([8, 3, 5, 8, 4, 7, 6]):
        tokens = torch.randint(VOCABULARY, (8,), generator=generator)
        mask = (torch.arange(8) < length).long()
        labels = torch.where(mask.bool() & (torch.arange(8) >= number % 3), tokens, -100)
        found.append({"input_ids": tokens * mask, "attention_mask": mask, "labels": labels})
    return found


def unmasked(batch: dict[str, Tensor]) -> int:
    return int((batch["labels"][:, 1:] != -100).sum())


def problem_of(model: nn.Module, batch_size: int, **settings: Any) -> Problem:
    loader = DataLoader(samples(), batch_size=batch_size)  # type: ignore[arg-type]
    settings = {"count": unmasked} | settings
    return Problem.from_batch_loss(model, lambda model, batch: model(**batch), loader, **settings)


def mean_over_tokens(model: nn.Module) -> float:
    """The sum over all labels that are not masked, divided by their number, one sequence at a time."""
    total, labels = 0.0, 0
    with torch.no_grad():
        for sample in samples():
            batch = {key: value[None] for key, value in sample.items()}
            logits, targets = model(**batch).logits[0, :-1], batch["labels"][0, 1:]
            for row, target in zip(logits, targets, strict=True):
                if target != -100:
                    total -= float(row.log_softmax(dim=0)[target])
                    labels += 1
    return total / labels


@every_model
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_the_loss_is_the_mean_over_all_unmasked_labels_in_any_batches(name: str, batch_size: int) -> None:
    problem = problem_of(model_of(name), batch_size)
    assert problem.samples == sum(unmasked({"labels": s["labels"][None]}) for s in samples())
    expected = mean_over_tokens(problem.model)
    assert problem.evaluate(problem.weights())["loss"] == pytest.approx(expected, rel=1e-5)


@every_model
@pytest.mark.parametrize("operator", ["hessian", "gauss_newton", "residual"])
def test_batches_do_not_change_a_product(name: str, operator: str) -> None:
    whole, cut = (problem_of(model_of(name), size).to(dtype=torch.float64) for size in (7, 2))
    block = torch.randn(whole.size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, other = (operator_at(p, p.weights(), Comm(), operator).matvec(block) for p in (whole, cut))
    # Hugging Face's own loss casts logits to float32, whatever the model's precision.
    accuracy = 1e-12 if name == "written out" else 1e-5
    assert float((one - other).norm()) < accuracy * float(one.norm())


@every_model
def test_the_hessian_is_that_of_the_formula_and_the_sum_of_its_parts(name: str) -> None:
    problem = problem_of(model_of(name), 2).to(dtype=torch.float64)
    whole = {key: torch.stack([s[key] for s in samples()]) for key in samples()[0]}

    def loss(theta: Tensor) -> Tensor:
        found = torch.func.functional_call(problem.model, problem.unflatten(theta), (), whole)
        return F.cross_entropy(found.logits[:, :-1].flatten(0, 1), whole["labels"][:, 1:].flatten())

    theta, v = problem.weights(), torch.randn(problem.size, dtype=torch.float64)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        exact = torch.func.jvp(torch.func.grad(loss), (theta,), (v,))[1]
    hessian, part, rest = (
        operator_at(problem, theta, Comm(), operator).matvec(v[:, None])[:, 0]
        for operator in ("hessian", "gauss_newton", "residual")
    )
    accuracy = 1e-12 if name == "written out" else 1e-5
    assert float((hessian - exact).norm()) < accuracy * float(exact.norm())
    assert float((part + rest - exact).norm()) < accuracy * float(exact.norm())
    assert float(v @ part) > 0


def test_a_loss_of_ones_own_out_of_logits_keeps_float64() -> None:
    """What to do where Hugging Face's cast to float32 is not precise enough: hand over (loss, logits)."""

    def own(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()), logits

    products = []
    for size in (7, 2):
        loader = DataLoader(samples(), batch_size=size)  # type: ignore[arg-type]
        problem = Problem.from_batch_loss(model_of("hugging face"), own, loader, count=unmasked)
        problem = problem.to(dtype=torch.float64)
        v = torch.ones(problem.size, 1, dtype=torch.float64)
        products.append(operator_at(problem, problem.weights(), Comm()).matvec(v))
    assert float((products[0] - products[1]).norm()) < 1e-12 * float(products[0].norm())


@every_model
def test_it_trains_on_its_own_batches(name: str) -> None:
    problem = problem_of(model_of(name), 2)
    before = problem.evaluate(problem.weights())["loss"]
    optimizer, batches = make_optimizer("adam", problem.model, {"lr": 0.03}), MiniBatches(problem, None, 0)
    for step in range(60):
        train_step(problem, optimizer, batches.at(step))
    assert problem.evaluate(problem.weights())["loss"] < 0.8 * before


def test_masked_labels_without_a_count_are_refused_and_so_is_a_batch_without_any() -> None:
    with pytest.raises(ProblemError, match=r"masked \(-100\).*count=lambda batch"):
        problem_of(Causal(), 2, count=None)
    assert problem_of(Causal(), 7, count=None).samples == 7  # one batch: its mean is the loss
    batches = [{k: v[None] for k, v in s.items()} for s in samples()]
    batches[4]["labels"] = torch.full((1, 8), -100)
    with pytest.raises(ProblemError, match="batch 4 of the data of mine counts 0 samples; leave it out"):
        Problem.from_batch_loss(Causal(), lambda m, b: m(**b), batches, count=unmasked, name="mine")


def test_labels_of_unequal_lengths_without_a_count_are_refused() -> None:
    batches = [(torch.zeros(2, n, 3), torch.zeros(2, n, dtype=torch.long)) for n in (4, 5)]
    with pytest.raises(ProblemError, match="unequally long"):
        Problem(nn.Linear(3, 3), lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten()), batches)


PROGRAM = """
import test_batch_loss

def build():
    return test_batch_loss.problem_of(test_batch_loss.model_of("written out"), 2)
"""


def test_it_goes_through_check_train_and_spectrum(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(PROGRAM)
    name, out = f"{tmp_path}/mine.py:build", str(tmp_path / "run")
    assert cli.main(["check", name]) == 0
    assert cli.main(["train", name, "--steps", "3", "--checkpoint-every", "3", "--out", out]) == 0
    options = ["--probes", "2", "--block", "2", "--iterations", "5", "--operator", "gauss_newton"]
    assert cli.main(["spectrum", out, "--checkpoints", "last", *options]) == 0
    assert "sharpness" in capsys.readouterr().out
