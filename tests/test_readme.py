"""README and docs cannot rot: their command lines parse, its model is analysed, its three lines record a training.

Nor can the table of what is proved: its tests and benchmarks exist.
"""

from __future__ import annotations

import contextlib
import re
import runpy
import shlex
from pathlib import Path

import pytest

from landscape import cli, plugins
from landscape.stores.run_directory import Run

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [TEXT, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))]
BLOCKS = re.compile(r"```bash\n(.*?)```", re.DOTALL)
SHELL = "\n".join(line for text in DOCS for line in BLOCKS.findall(text) + re.findall(r"`([^`\n]+)`", text))
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def command_lines() -> list[list[str]]:
    lines = []
    for line in SHELL.replace("\\\n", " ").splitlines():
        if not re.match(r"\s*(mpirun -n \d+ )?landscape ", line):
            continue
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if words[:2] == ["mpirun", "-n"]:
            words = words[3:]
        if words[:1] == ["landscape"] and len(words) > 2 and not {"...", "|", "--help"} & set(words):
            lines.append(words[1:])
    return lines


def test_there_are_command_lines() -> None:
    assert len(command_lines()) >= 12
    assert {words[0] for words in command_lines()} <= set(plugins.names("landscape.jobs"))


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_every_command_line_parses(words: list[str]) -> None:
    job = plugins.load("landscape.jobs", words[0])
    assert cli._parser(words[0], job).parse_args(words[1:]) is not None


PORTRAITS = runpy.run_path(str(ROOT / "docs" / "portraits.py"))["PORTRAITS"]


@pytest.mark.parametrize("name", PORTRAITS)
def test_every_portrait_is_shown_and_its_commands_parse(name: str) -> None:
    assert any(f"({name}.png)" in text for text in DOCS)
    for words in PORTRAITS[name].commands("runs/portrait"):
        job = plugins.load("landscape.jobs", words[0])
        assert cli._parser(words[0], job).parse_args(words[1:]) is not None


def test_your_own_model_in_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    task, loop = PYTHON
    (tmp_path / "myproject").mkdir()
    (tmp_path / "myproject" / "task.py").write_text(task)
    step = "optimizer.zero_grad(); loss = problem.training_loss(batch); loss.backward(); optimizer.step()"
    assert "...                        # your step" in loop
    program = (
        "import torch, landscape\nfrom myproject.task import build\nproblem = build()\nmodel = problem.model\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)\nloader = problem.batches * 21\n"
        + loop.replace("...                        # your step", step)
    )
    (tmp_path / "train.py").write_text(program)
    runpy.run_path(str(tmp_path / "train.py"))
    run = Run(tmp_path / "runs" / "mine")
    assert run.checkpoint_steps() == [0, 100, 105]
    assert len(run.metrics()["loss"]) == 105
    with contextlib.chdir(tmp_path):
        assert cli.main(["check", "myproject/task.py:build"]) == 0
        assert cli.main(["spectrum", "runs/mine", "--probes", "2", "--block", "2", "--iterations", "5"]) == 0
    assert run.steps("spectrum", "hessian") == [0, 100, 105]


def test_what_is_said_to_be_proved_has_its_test_and_what_is_measured_its_benchmark() -> None:
    here = Path(__file__).parent
    text = (here.parent / "docs" / "optimizers.md").read_text(encoding="utf-8")
    sources = [file.read_text(encoding="utf-8") for file in here.glob("test_*.py")]
    tests = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 20
    assert named <= tests
    assert set(re.findall(r"`landscape bench (\w+)", text)) <= set(plugins.names("landscape.jobs.benches"))
