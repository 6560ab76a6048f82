"""The communicator: one process, agreement on failures, collectives on ranks, devices."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from exact import PROGRAMS, mpirun

from landscape import launch
from landscape.distributed import comm as comm_module
from landscape.distributed.parallel import Comm, device_of
from landscape.errors import EnvironmentProblem, ProblemError


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
@pytest.mark.parametrize("ranks", [2, 3])
def test_collectives_of_the_device_transport_equal_numpy(ranks, monkeypatch):  # MPI's own: test_ranks.py
    monkeypatch.setenv("LANDSCAPE_TRANSPORT", "gloo")
    done = mpirun(ranks, str(PROGRAMS / "collectives.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok") == ranks


def test_a_launcher_of_another_mpi_is_noticed():
    # What a foreign launcher looks like to the library: it says two tasks, but the library finds itself alone.
    program = (
        "from landscape.distributed import parallel\n"
        "from landscape.errors import EnvironmentProblem\n"
        "try: parallel.world()\n"
        "except EnvironmentProblem as e: print('noticed', e)\n"
    )
    environment = {**launch.environment(), "SLURM_STEP_NUM_TASKS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=800, env=environment, check=False
    )
    assert "noticed started 2 times" in done.stdout, done.stderr
    assert "size 1" in done.stdout or "no MPI library" in done.stdout


def test_a_device_that_is_not_there_is_a_sentence():
    assert device_of("cpu").type == "cpu"
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(EnvironmentProblem, match=f"device '{name}' cannot be used here"):
            device_of(name)


def test_only_float32_and_float64_are_summed():
    with pytest.raises(TypeError, match="bfloat16"):
        comm_module.check_dtype(torch.ones(2, dtype=torch.bfloat16))
    comm_module.check_dtype(np.ones(2))
