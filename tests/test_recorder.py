"""Recording in a user's own loop, and a killed training that ends with the same weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import landscape as public
from landscape import cli
from landscape.errors import EnvironmentProblem, ProblemError
from landscape.learning.recorder import Recorder, hyperparameters
from landscape.loss.checkpoints import Checkpoint, of_run, read_tensors
from landscape.stores.run_directory import Run


def pieces(optimizer: str = "Adam", **settings: object) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    return model, getattr(torch.optim, optimizer)(model.parameters(), **{"lr": 0.01, **settings})


def train(model: nn.Module, optimizer: torch.optim.Optimizer, recorder: Recorder, steps: int) -> None:
    for step in range(recorder.steps, steps):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(8, 3, generator=generator)
        optimizer.zero_grad()
        loss = model(nn.functional.dropout(inputs, 0.1)).square().mean()  # dropout draws from torch's generator
        loss.backward()
        optimizer.step()
        recorder.step(loss=loss)


def test_three_lines_record_a_run(tmp_path: Path) -> None:
    model, optimizer = pieces()
    recorder = public.Recorder(tmp_path / "a", problem="my.module:build", model=model, optimizer=optimizer, every=4)
    train(model, optimizer, recorder, 10)
    recorder.close()
    run = Run(tmp_path / "a")
    assert run.checkpoint_steps() == [0, 4, 8, 10]
    assert run.info.finished is not None
    assert (run.info.problem, run.info.optimizer, run.info.settings["lr"]) == ("my.module:build", "Adam", 0.01)
    metrics = run.metrics()
    assert metrics["step"].tolist() == list(range(1, 11))
    assert all(math.isfinite(x) for x in metrics["loss"])
    assert run.checkpoint_meta(4)["loss"] == pytest.approx(metrics["loss"][3])
    assert {"python", "torch", "landscape"} <= set(run.info.meta["versions"])


def test_a_checkpoint_holds_weights_and_buffers_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = pieces()
    with Recorder(tmp_path / "a", problem="p", model=model, optimizer=optimizer, every=5) as recorder:
        train(model, optimizer, recorder, 5)
    state = of_run(recorder.run, "last")[0].state()
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(state[n], v) for n, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [("Adam", {}, "exp_avg_sq"), ("Adam", {"amsgrad": True}, "max_exp_avg_sq"), ("RMSprop", {}, "square_avg"),
     ("Adagrad", {}, "sum")],
)  # fmt: skip
def test_the_second_moment_is_kept_by_weight_name(
    tmp_path: Path, name: str, settings: dict[str, object], key: str
) -> None:
    model, optimizer = pieces(name, **settings)
    with Recorder(tmp_path / "a", problem="p", model=model, optimizer=optimizer, every=3) as recorder:
        train(model, optimizer, recorder, 3)
    kept = Checkpoint(recorder.run, 3).optimizer_state()
    for weight, parameter in model.named_parameters():
        assert torch.equal(kept[f"{key}/{weight}"], optimizer.state[parameter][key])
        assert float(kept[f"step/{weight}"]) == 3


def test_tied_weights_are_stored_once_and_read_under_both_names(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 5, bias=False))
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Recorder(tmp_path / "a", problem="p", model=model, optimizer=optimizer).close()
    file = tmp_path / "a/checkpoints/00000000/weights.safetensors"
    state = read_tensors(file)
    assert torch.equal(state["0.weight"], state["2.weight"])
    assert file.stat().st_size < 2 * 25 * 4 + 200


def test_a_loss_that_is_not_finite_is_null_and_counted(tmp_path: Path) -> None:
    model, optimizer = pieces()
    with Recorder(tmp_path / "a", problem="p", model=model, optimizer=optimizer) as recorder:
        recorder.step(loss=torch.tensor(float("nan")), norm=float("inf"), accuracy=0.5)
    row = json.loads((tmp_path / "a/metrics.jsonl").read_text().splitlines()[0])
    assert row == {"step": 1, "loss": None, "norm": None, "accuracy": 0.5}
    assert recorder.run.info.meta["not_finite"] == 2


def test_an_exception_in_the_loop_leaves_an_unfinished_run(tmp_path: Path) -> None:
    model, optimizer = pieces()
    recorder = Recorder(tmp_path / "a", problem="p", model=model, optimizer=optimizer)

    def loop() -> None:
        with recorder:
            recorder.step(loss=1.0)
            raise KeyError("mine")

    with pytest.raises(KeyError):
        loop()
    assert Run(tmp_path / "a").info.finished is None
    assert len(Run(tmp_path / "a").metrics()["step"]) == 1


@pytest.mark.parametrize(("name", "settings"), [("SGD", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {"amsgrad": True})])
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path, name: str, settings: dict[str, object]) -> None:
    model, optimizer = pieces(name, **settings)
    with Recorder(tmp_path / "whole", problem="p", model=model, optimizer=optimizer, every=4) as recorder:
        train(model, optimizer, recorder, 11)
    broken, optimizer = pieces(name, **settings)
    recorder = Recorder(tmp_path / "broken", problem="p", model=broken, optimizer=optimizer, every=4)
    train(broken, optimizer, recorder, 7)  # and now the process dies: steps 5 to 7 were not saved
    torch.manual_seed(999)
    again, optimizer = pieces(name, **settings)
    recorder = Recorder(tmp_path / "broken", problem="p", model=again, optimizer=optimizer, every=4, resume=True)
    assert recorder.steps == 4
    train(again, optimizer, recorder, 11)
    recorder.close()
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in model.state_dict().items())
    assert recorder.run.metrics()["step"].tolist() == list(range(1, 12))


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    model, optimizer = pieces()
    Recorder(tmp_path / "a", problem="p", model=model, optimizer=optimizer).close()
    with pytest.raises(ProblemError, match="already holds a run"):
        Recorder(tmp_path / "a", problem="p", model=model, optimizer=optimizer)


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model, optimizer = pieces()
    with pytest.raises(EnvironmentProblem, match=r"cannot write .*file"):
        Recorder(tmp_path / "file" / "run", problem="p", model=model, optimizer=optimizer)


def test_hyperparameters_are_json_without_the_weights() -> None:
    model, _ = pieces()
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[3].parameters(), "lr": torch.tensor(0.2)}]
    settings = hyperparameters(torch.optim.Adam(groups, lr=0.3))
    json.dumps(settings, allow_nan=False)
    assert settings["lr"] == 0.1
    assert [round(g["lr"], 6) for g in settings["groups"]] == [0.1, 0.2]
    assert "params" not in settings


def test_a_wrapped_model_is_recorded_without_its_prefix(tmp_path: Path) -> None:
    model, optimizer = pieces()
    recorder = Recorder(tmp_path / "a", problem="p", model=nn.DataParallel(model), optimizer=optimizer)
    recorder.close()
    assert set(Checkpoint(recorder.run, 0).state()) == set(model.state_dict())


TRAIN = ("train", "digits_mlp", "--problem-set", "hidden=8", "--optimizer", "adam", "--set", "lr=0.01", "--steps", 150,
         "--checkpoint-every", 25)  # fmt: skip


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path, landscape, start) -> None:  # type: ignore[no-untyped-def]
    assert landscape(*TRAIN, "--out", tmp_path / "whole").returncode == 0
    process = start("steps", 80, *TRAIN, "--out", tmp_path / "killed")
    process.kill()
    process.wait()
    assert Run(tmp_path / "killed").checkpoint_steps() == [0, 25, 50, 75]
    again = landscape(*TRAIN, "--out", tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    same_training(tmp_path / "whole", tmp_path / "killed")


def same_training(*places: Path) -> None:
    """Every checkpoint and every loss of two runs is the same, bit for bit."""
    one, other = map(Run, places)
    assert one.checkpoint_steps() == other.checkpoint_steps()
    for step in one.checkpoint_steps():
        a, b = Checkpoint(one, step).state(), Checkpoint(other, step).state()
        assert all(torch.equal(a[n], b[n]) for n in a), f"step {step}"
    assert one.metrics()["loss"].tolist()[1:] == other.metrics()["loss"].tolist()[1:]


STOPPED_WITHIN = '''
import os, signal, torch, landscape
from torch.optim.optimizer import register_optimizer_step_post_hook

def build():
    """A linear regression; where asked, the thirtieth step is stopped just after it has changed the weights."""
    steps = []
    def count(*_):
        steps.append(1)
        if len(steps) == 30:
            os.kill(os.getpid(), signal.SIGTERM)
            hook.remove()
    if os.environ.get("STOP_WITHIN"):
        hook = register_optimizer_step_post_hook(count)
    torch.manual_seed(0)
    data = torch.randn(60, 4)
    return landscape.Problem(torch.nn.Linear(4, 1), torch.nn.functional.mse_loss, (data, data[:, :1] ** 2))
'''


def test_a_training_stopped_within_a_step_keeps_what_belongs_together(tmp_path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "task.py").write_text(STOPPED_WITHIN)
    train = ["train", f"{tmp_path / 'task.py'}:build", "--optimizer", "adam", "--steps", "50", "--checkpoint-every",
             "20", "--out"]  # fmt: skip
    assert cli.main([*train, str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setenv("STOP_WITHIN", "1")
        capsys.readouterr()
        assert cli.main([*train, str(tmp_path / "stopped")]) == 75
    assert "30 of 50 steps are safe; the same command goes on" in capsys.readouterr().err
    assert cli.main([*train, str(tmp_path / "stopped")]) == 0
    same_training(tmp_path / "whole", tmp_path / "stopped")


class _Restructuring(torch.optim.SGD):
    """Tells at every third step that something changed."""

    def __init__(self, parameters) -> None:
        super().__init__(parameters, lr=0.1)
        self.events, self.taken = [], 0

    def step(self, closure=None):
        self.taken += 1
        if self.taken % 3 == 0:
            self.events.append({"kind": "rank", "layer": "0", "after": self.taken})
        return super().step(closure)


def test_events_of_an_optimizer_are_kept_in_order_and_trained_again_after_a_kill(tmp_path) -> None:  # type: ignore[no-untyped-def]
    def train(steps: int, **options: object) -> Recorder:
        model = torch.nn.Linear(2, 1)
        optimizer = _Restructuring(model.parameters())
        recorder = Recorder(tmp_path / "a", problem="x", model=model, optimizer=optimizer, every=4, **options)
        optimizer.taken = recorder.steps
        while recorder.steps < steps:
            optimizer.step()
            recorder.step(loss=1.0)
        return recorder

    train(10)  # killed at step 10: the state of step 8 is on disk
    run = Run(tmp_path / "a")
    assert [(e["step"], e["event"], e["after"]) for e in run.events()] == [(s, "rank", s) for s in (3, 6, 9)]
    with open(tmp_path / "a/events.jsonl", "a") as file:
        file.write('{"step": 10, "ev')
    assert len(run.events()) == 3
    train(12, resume=True).close()
    assert [e["step"] for e in run.events()] == [3, 6, 9, 12]
