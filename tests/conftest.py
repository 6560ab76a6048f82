"""What the tests share: the command line as a user runs it, and one real store made by it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from landscape import cli, launch

# A run starts Python a hundred times: each start reads the compiled sources of the one before.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What takes longest comes first, so that workers that are given whole files end together.
LONG = (
    "access", "browser", "bench", "groups", "ranks", "kill_and_resume", "jobs", "answers", "app", "recorder",
    "eigenpairs", "operators", "products", "bad_input", "setup", "freezing", "starting", "cli", "jacobian", "halves",
    "parallel", "compare",
)  # fmt: skip

Completed = subprocess.CompletedProcess[str]
Command = Callable[..., Completed]


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files of the most tests


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m browser` a file that marks nothing so is not even imported: torch and its friends take seconds."""
    name = config.option.markexpr
    if collection_path.suffix != ".py" or not re.fullmatch(r"\w+", name):
        return None
    return f"pytest.mark.{name}" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}.py": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


PROGRAMS = Path(__file__).with_name("programs")


def run_landscape(*words: object, ranks: int = 1, cwd: Path | None = None, timeout: float = 800) -> Completed:
    """`landscape WORDS`, under mpirun for more than one rank, with one thread a process."""
    return subprocess.run(
        launch.landscape_command([str(word) for word in words], ranks), cwd=cwd, env=launch.environment(),
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def run_in_turn(*lines: Sequence[object], ranks: int, cwd: Path | None = None, timeout: float = 800) -> Completed:
    """Several command lines of `landscape` in one start of the ranks, which costs seconds each time."""
    words = json.dumps([[str(word) for word in line] for line in lines])
    return subprocess.run(
        [*launch.mpirun_command(ranks), sys.executable, str(PROGRAMS / "commands.py"), words], cwd=cwd,
        env=launch.environment(), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def landscape() -> Command:
    """Run a command line and look at its end: `landscape("runs", store).stdout`."""
    return run_landscape


@pytest.fixture(scope="session")
def needs_mpirun() -> None:
    if launch.find_mpirun() is None:
        pytest.skip("no mpirun: pip install mpich")


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command line that stands still at a place (`programs/held.py`) to be killed there; it ends at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: object, ranks: int = 1) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*launch.mpirun_command(ranks), sys.executable, str(PROGRAMS / "held.py"), *map(str, words)],
            env=launch.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        said = iter(process.stdout.readline, "")
        assert any("held" in line for line in said), process.communicate()[1]  # waits for it
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.communicate()


def checked(*words: object, ranks: int = 1) -> None:
    """Run a command line to a good end; without mpirun in this process, which saves starting Python and torch."""
    if ranks == 1:
        assert cli.main([str(word) for word in words]) == 0, words
        return
    done = run_landscape(*words, ranks=ranks)
    assert done.returncode == 0, f"{words}: {done.stderr}"


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two small runs with every kind of record, made by the jobs themselves; read it, do not write it."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place  # one for all workers
    store, complete = place / "store", place / "store.complete"
    with open(place / "store.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(store, ignore_errors=True)  # a worker that failed left it
            fill(store)
            complete.touch()
    return store


def fill(store: Path) -> None:
    ranks = 2 if launch.find_mpirun() is not None else 1
    fast = ("--problem-set", "hidden=8", "--steps", 120, "--checkpoint-every", 20)
    for name, seed, words, ranked in (
        ("adam", 0, ("--optimizer", "adam", "--set", "lr=0.02"), ranks),
        ("sgd", 1, ("--optimizer", "sgd", "--set", "lr=0.5", "--set", "momentum=0.9"), 1),
    ):
        run = store / name
        checked("train", "digits_mlp", *words, *fast, "--seed", seed, "--out", run)
        checked("spectrum", run, "--probes", 2, "--iterations", 20, "--top", 4, ranks=ranked)
        for plane in ("pca", "eigen", "random"):
            checked("surface", run, "--plane", plane, "--points", 15)
        checked("trajectory", run)
    checked(
        "path", store / "adam", store / "sgd", "--points", 7, "--spectrum", "--probes", 2, "--iterations", 15,
        "--top", 4, ranks=ranks,
    )  # fmt: skip
