"""Reading weights: selections of steps, safe files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from landscape.errors import ProblemError, UsageError
from landscape.learning.recorder import Recorder
from landscape.loss.checkpoints import of_run, read_tensors, read_weights, write_tensors
from landscape.stores.run_directory import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Recorder(tmp_path / "run", problem="p", model=model, optimizer=optimizer, every=100) as recorder:
        for _ in range(500):
            recorder.step(loss=1.0)
    return recorder.run


@pytest.mark.parametrize(
    ("selection", "steps"),
    [("all", [0, 100, 200, 300, 400, 500]), ("first", [0]), ("last", [500]), ("0,300", [0, 300]), ("300, 0", [0, 300]),
     ("100:300", [100, 200, 300]), ("100:500:200", [100, 300, 500]), (":100", [0, 100]), ("400:", [400, 500]),
     ("0,last", [0, 500])],
)  # fmt: skip
def test_a_selection_names_checkpoints(run: Run, selection: str, steps: list[int]) -> None:
    assert [c.step for c in of_run(run, selection)] == steps


def test_a_missing_step_is_answered_with_those_there_are(run: Run) -> None:
    with pytest.raises(UsageError, match=r"no checkpoint at step 150; it has 6 checkpoints: 0, 100, .*500"):
        of_run(run, "100,150")


@pytest.mark.parametrize("selection", ["some", "1:2:3:x", "", "501:600"])
def test_a_selection_that_cannot_be_read_is_refused(run: Run, selection: str) -> None:
    with pytest.raises(UsageError):
        of_run(run, selection)


def test_a_run_without_checkpoints_says_so(run: Run) -> None:
    (run.root / "checkpoints").rename(run.root / "elsewhere")
    with pytest.raises(ProblemError, match="no checkpoints yet"):
        of_run(run, "all")


def test_tensors_of_any_layout_come_back_equal(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    state = {"base": base, "transposed": base.T, "row": base[1], "half": base.half(), "count": torch.tensor(3),
             "none": torch.empty(0), "same": base}  # fmt: skip
    write_tensors(tmp_path / "t.safetensors", state)
    back = read_tensors(tmp_path / "t.safetensors")
    assert set(back) == set(state)
    assert all(torch.equal(back[n], state[n]) and back[n].dtype == state[n].dtype for n in state)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_a_state_dict_saved_by_torch_is_read(tmp_path: Path, wrap) -> None:  # type: ignore[no-untyped-def]
    state = nn.Linear(2, 3).state_dict()
    torch.save(wrap(state), tmp_path / "w.pt")
    back = read_weights(tmp_path / "w.pt")
    assert all(torch.equal(back[n], state[n]) for n in state)


def test_a_pickled_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3), tmp_path / "full.pt")
    with pytest.raises(ProblemError, match=r"could run code.*torch.save\(model.state_dict\(\)"):
        read_weights(tmp_path / "full.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProblemError, match=name):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"not a checkpoint at all")
    with pytest.raises(ProblemError, match=name):
        read_weights(tmp_path / name)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ProblemError, match="no state dict"):
        read_weights(tmp_path / "w.pt")
