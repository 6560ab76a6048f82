"""Bad input ends with one clear sentence, the right exit code and no traceback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from landscape import cli
from landscape.errors import ENVIRONMENT, MODEL_OR_DATA, USAGE
from landscape.loss.checkpoints import Checkpoint, write_tensors
from landscape.stores.run_directory import Run

FRESH = ("--steps", 5, "--checkpoint-every", 5)
OWN = """
import torch, landscape
def mse(outputs, targets): return (outputs - targets).square().mean()
def empty(): return landscape.Problem(torch.nn.Linear(2, 1), mse, (torch.zeros(0, 2), torch.zeros(0, 1)))
def uneven(): return landscape.Problem(torch.nn.Linear(2, 1), mse, (torch.zeros(3, 2), torch.zeros(4, 1)))
def frozen():
    model = torch.nn.Linear(2, 1).requires_grad_(False)
    return landscape.Problem(model, mse, (torch.zeros(3, 2), torch.zeros(3, 1)))
def random():
    noisy = lambda outputs, targets: mse(outputs, targets) + torch.rand(())
    return landscape.Problem(torch.nn.Linear(2, 1), noisy, (torch.ones(3, 2), torch.zeros(3, 1)))
def diverging(): return landscape.Problem(torch.nn.Linear(2, 1), mse, (torch.full((3, 2), 1e20), torch.zeros(3, 1)))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:  # type: ignore[no-untyped-def]
    folder: Path = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    (folder / "file").write_text("")
    torch.save(torch.nn.Linear(2, 1), folder / "module.pt")
    write_tensors(folder / "other.safetensors", torch.nn.Linear(64, 3).state_dict())
    return folder


@pytest.fixture
def refuses(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Run a command line in this process; it must end with this code and one sentence that holds these pieces."""

    def run(words: tuple[object, ...], code: int, *pieces: str) -> None:
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == code
        told = capsys.readouterr().err
        sentences = [line for line in told.splitlines() if line.startswith("landscape")]
        assert len(sentences) == 1, told
        assert "Traceback" not in told
        for piece in pieces:
            assert piece in sentences[0]

    return run


@pytest.mark.parametrize(
    ("words", "code", "pieces"),
    [
        (("train", "nowhere:build", "--out", "r"), MODEL_OR_DATA, ("no module named 'nowhere'", "Looked in")),
        (("train", "digits_mpl", "--out", "r"), MODEL_OR_DATA, ("Did you mean digits_mlp",)),
        (("train", "own.py:empty", "--out", "r"), MODEL_OR_DATA, ("is empty: 0 samples",)),
        (("train", "own:uneven", "--out", "r"), MODEL_OR_DATA, ("3 inputs but 4 targets",)),
        (("train", "own:frozen", "--out", "r"), MODEL_OR_DATA, ("no trainable weights",)),
        (("train", "own:diverging", "--set", "lr=1", *FRESH, "--out", "diverged"), MODEL_OR_DATA,
         ("training diverged: the loss is inf at step 1",)),
        (("train", "digits_mlp", "--optimizer", "adaam", "--out", "r"), USAGE, ("unknown optimizer", "adam, adamax")),
        (("train", "digits_mlp", "--set", "momentun=0.9", "--out", "r"), USAGE, ("Did you mean momentum",)),
        (("train", "digits_mlp", "--problem-set", "widht=3", "--out", "r"), USAGE, ("no setting 'widht'", "hidden")),
        (("train", "digits_mlp", "--problem-set", "activation=sine", "--out", "r"), USAGE, ("tanh, gelu",)),
        (("train", "digits_mlp", *FRESH, "--out", "file/r"), ENVIRONMENT, ("cannot write", "file/r")),
        (("check", "own:random",), MODEL_OR_DATA, ("the same weights gave loss",)),
        (("check", "digits_mlp", "other.safetensors"), MODEL_OR_DATA, ("does not fit", "Was it made by another")),
        (("check", "digits_mlp", "module.pt"), MODEL_OR_DATA, ("pickled module", "torch.save(model.state_dict()")),
        (("check", "digits_mlp", "missing.pt"), MODEL_OR_DATA, ("there is no checkpoint 'missing.pt'",)),
        (("check", "digits_mlp", "--operator", "hesian"), USAGE, ("unknown operator 'hesian'", "hessian")),
        (("check", "digits_mlp", "--samples", 10**6), MODEL_OR_DATA, ("samples must lie between 1 and 1438",)),
        (("spectrum", "nothing"), MODEL_OR_DATA, ("'nothing' is no run", "does not exist", "landscape train")),
        (("spectrum", "."), MODEL_OR_DATA, ("'.' is no run", "run.json")),
        (("runs", "nothing"), MODEL_OR_DATA, ("does not exist", "landscape demo")),
        (("dashboard", "nothing"), MODEL_OR_DATA, ("does not exist",)),
        (("spectre", "x"), USAGE, ("no job 'spectre'. Did you mean spectrum",)),
        (("train", "digits_mlp", "--set", "lr=fast", "--out", "r"), USAGE, ("(lr=fast is text, no number)",)),
        (("spectrum",), USAGE, ("required: RUN",)),
        (("spectrum", "x", "--tolerance", "nan"), USAGE, ("must be a number above 0, got 'nan'",)),
        (("spectrum", "x", "--eigenpairs", "--missed", "0"), USAGE, ("a probability above 0, at most 1, got '0'",)),
        (("spectrum", "x", "--probes", "0"), USAGE, ("must be at least 1, got 0",)),
        (("train", "digits_mlp", "--set", "lr", "--out", "r"), USAGE, ("'lr' must look like name=value",)),
        (("submit", "--ranks", 3, "--nodes", 2, "spectrum", "r"), USAGE, ("cannot be spread evenly",)),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_a_code(refuses, own, monkeypatch, words, code, pieces) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(own)
    monkeypatch.syspath_prepend(str(own))
    refuses(words, code, *pieces)


def test_a_process_of_its_own_ends_with_the_code(landscape) -> None:  # type: ignore[no-untyped-def]
    done = landscape("spectrum", "nothing")
    assert done.returncode == MODEL_OR_DATA
    assert done.stderr.startswith("landscape: 'nothing' is no run")
    assert done.stdout == ""


def test_jobs_on_a_store_name_what_is_missing(refuses, demo_store, own, tmp_path) -> None:  # type: ignore[no-untyped-def]
    adam, narrow, quick = demo_store / "adam", tmp_path / "narrow", ("--probes", 2, "--iterations", 20, "--top", 4)
    refuses(("spectrum", adam, "--checkpoints", "0,30"), USAGE, "no checkpoint at step 30; it has 7 checkpoints")
    refuses(("spectrum", adam, *quick, "--probes", 5), USAGE, "made with probes 2, now 5. Add --overwrite")
    refuses(("spectrum", adam, *quick, "--problem", "cnn", "--overwrite"), MODEL_OR_DATA,
            "step 0", "does not fit the model of 'cnn on digits'")  # fmt: skip
    refuses(("spectrum", adam, *quick, "--problem-set", "hidden=9", "--overwrite"), MODEL_OR_DATA,
            "'0.weight' has shape (8, 64) in the checkpoint and (9, 64) in the model")  # fmt: skip
    again = ("train", "digits_mlp", "--problem-set", "hidden=8", "--optimizer", "adam", "--checkpoint-every", 20)
    refuses((*again, "--set", "lr=0.03", "--out", adam), USAGE, "lr 0.02, now 0.03", "--out")
    assert cli.main(["train", "digits_mlp", "--problem-set", "hidden=5", *map(str, FRESH), "--out", str(narrow)]) == 0
    refuses(("path", adam, narrow), MODEL_OR_DATA, "different models", "0.bias has shape (8,) in A and (5,) in B")
    refuses(("path", adam, "nothing"), MODEL_OR_DATA, "'nothing' is no run")
    refuses(("trajectory", narrow), MODEL_OR_DATA, "no surface", "landscape surface")
    refuses(("surface", narrow, "--plane", "eigen"), MODEL_OR_DATA, "landscape spectrum")
    refuses(("surface", narrow, "--step", 3), MODEL_OR_DATA, "no checkpoint at step 3, only 0, 5")
    refuses(("export", narrow, "--record", "path"), MODEL_OR_DATA, "no path record")
    refuses(("export", adam, "--record", "path", "--out", own / "file/x.json"), ENVIRONMENT, "cannot write")
    (narrow / "run.json").write_text("{")
    refuses(("spectrum", narrow), MODEL_OR_DATA, "run.json", "cannot be read")


def test_a_taken_port_is_an_environment_error(refuses, demo_store) -> None:  # type: ignore[no-untyped-def]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refuses(("dashboard", demo_store, "--port", port), ENVIRONMENT, f"port {port} is taken")


def test_nan_weights_are_named_and_the_other_checkpoints_go_on(refuses, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    words = ["train", "digits_mlp", "--problem-set", "hidden=4", "--steps", "20", "--checkpoint-every", "10", "--out"]
    assert cli.main([*words, str(run)]) == 0
    state = Checkpoint(Run(run), 10).state()
    state["2.weight"][0, :3] = float("nan")
    write_tensors(run / "checkpoints/00000010/weights.safetensors", state)
    quick = ("spectrum", run, "--probes", 1, "--iterations", 5, "--top", 1)
    refuses(quick, MODEL_OR_DATA, "1 of 3 checkpoints were skipped", "step 10", "3 of 40 values of '2.weight' are NaN")
    assert Run(run).steps("spectrum", "hessian") == [0, 20]
    refuses((*quick, "--checkpoints", 10), MODEL_OR_DATA, "1 of 1 checkpoints were skipped")
    refuses(("surface", run, "--plane", "random", "--step", 10), MODEL_OR_DATA, "'2.weight'", "not finite")
    assert cli.main(["surface", str(run), "--plane", "random", "--points", "3"]) == 0


RAISING = """
import os, time, torch, landscape
def build():
    if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
        raise ValueError("the disk of this rank is upset")
    return landscape.Problem(torch.nn.Linear(2, 1), torch.nn.functional.mse_loss, (torch.ones(3, 2), torch.zeros(3, 1)))
class Late(torch.nn.Linear):
    calls = 0
    def forward(self, x):
        Late.calls += 1
        if Late.calls > 6 and os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
            raise KeyError("late and on one rank")
        return super().forward(x)
def late():
    data = torch.ones(8, 2), torch.zeros(8, 1)
    return landscape.Problem(Late(2, 1), torch.nn.functional.mse_loss, data, batch_size=4)
"""


@pytest.mark.mpi
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("function", "code", "piece"), [("build", 3, "the disk of this rank is upset"), ("late", 1, "late and on one rank")]
)
def test_a_rank_that_raises_ends_the_whole_job_with_one_message(  # type: ignore[no-untyped-def]
    landscape, needs_mpirun, tmp_path, function, code, piece
) -> None:
    (tmp_path / "raising.py").write_text(RAISING)
    done = landscape("check", f"raising:{function}", ranks=2, cwd=tmp_path, timeout=50)
    assert done.returncode == code, done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("landscape:")]
    assert len(sentences) == 1, done.stderr
    assert piece in sentences[0]


@pytest.mark.mpi
def test_usage_errors_under_mpirun_are_told_once(landscape, needs_mpirun) -> None:  # type: ignore[no-untyped-def]
    done = landscape("spectrum", "x", "--probes", "none", ranks=2)
    assert done.returncode == USAGE
    assert done.stderr.count("landscape spectrum: ") == 1
    done = landscape("spectrum", "x", ranks=2)
    assert done.returncode == MODEL_OR_DATA
    assert done.stderr.count("is no run") == 1
