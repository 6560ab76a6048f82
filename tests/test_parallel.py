"""The communicator: one process, agreement on failures, collectives on ranks, progress."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from exact import PROGRAMS, mpirun

from landscape import launch, parallel
from landscape.errors import EnvironmentProblem, ProblemError
from landscape.parallel import Comm, Progress, device_of, duration


def test_one_process_is_the_same_program():
    comm = Comm()
    block = torch.arange(6.0).reshape(3, 2)
    assert comm.share(range(5)) == [0, 1, 2, 3, 4]
    assert comm.part(7) == slice(0, 7)
    assert torch.equal(comm.all_gather(block, 3), block)
    assert torch.equal(comm.sum_scatter(block), block)
    assert comm.gather("x") == ["x"]


def test_a_failure_inside_together_is_marked_as_everybodys():
    with pytest.raises(ProblemError, match="boo") as caught, Comm().together():
        raise ProblemError("boo")
    assert caught.value.everywhere


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_collectives_equal_numpy_on_ranks(ranks):
    done = mpirun(ranks, str(PROGRAMS / "collectives.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok") == ranks


def test_a_launcher_of_another_mpi_is_noticed():
    # What a foreign launcher looks like to the library: it says two tasks, but the library finds itself alone.
    program = (
        "from landscape import parallel\n"
        "from landscape.errors import EnvironmentProblem\n"
        "try: parallel.world()\n"
        "except EnvironmentProblem as e: print('noticed', e)\n"
    )
    environment = {**launch.environment(), "SLURM_STEP_NUM_TASKS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert "noticed started 2 times" in done.stdout, done.stderr
    assert "size 1" in done.stdout or "no MPI library" in done.stdout


def test_a_device_that_is_not_there_is_a_sentence():
    assert device_of("cpu").type == "cpu"
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(EnvironmentProblem, match=f"device '{name}' cannot be used here"):
            device_of(name)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (187, "3 min 07 s"), (7500, "2 h 05 min")])
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


class _Statuses:
    def __init__(self):
        self.written = []

    def write_status(self, job, status):
        self.written.append((job, status))


def test_progress_in_a_log_is_one_line_a_minute_and_a_status_for_the_app(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(parallel.time, "monotonic", lambda: now[0])
    run = _Statuses()
    progress = Progress("spectrum", 100, Comm(), unit="checkpoints", run=run, skipped=20)
    for done in range(21, 101):
        now[0] += 3.0
        progress.update(done, loss=0.5)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5  # four minutes and the end
    assert "40/100 checkpoints" in lines[0]
    assert "0.333/s" in lines[0]
    assert "left 3 min 00 s" in lines[0]
    states = [s["state"] for _, s in run.written]
    assert states[0] == "running"
    assert states[-1] == "done"
    assert run.written[-1][1]["done"] == 100
    assert run.written[-1][1]["numbers"] == {"loss": 0.5}


def test_only_rank_0_speaks(capsys):
    comm = Comm()
    comm.rank = 1
    progress = Progress("x", 2, comm, run=(run := _Statuses()))
    progress.update(1)
    progress.close()
    assert capsys.readouterr().err == ""
    assert run.written == []


def test_only_float32_and_float64_are_summed():
    with pytest.raises(TypeError, match="bfloat16"):
        parallel._check_dtype(torch.ones(2, dtype=torch.bfloat16))
    parallel._check_dtype(np.ones(2))
