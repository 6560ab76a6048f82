"""The command line itself: help without torch, jobs by their files, errors to codes, launchers."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from landscape import cli, errors, launch, plugins
from landscape.jobs._common import assignment

every_job = pytest.mark.parametrize("name", plugins.names(cli.JOBS))


def test_help_lists_every_job_and_is_quick(landscape) -> None:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    done = landscape("--help")
    assert time.perf_counter() - started < 5
    assert done.returncode == 0
    for name in plugins.names(cli.JOBS):
        assert f"\n  {name} " in done.stdout
    assert landscape().stdout == done.stdout


def test_no_job_imports_torch_mpi_or_dash_before_it_runs() -> None:
    code = (
        "import sys; from landscape import cli, plugins\n"
        "for name in plugins.names(cli.JOBS): plugins.load(cli.JOBS, name)\n"
        "print(sorted({'torch', 'mpi4py', 'dash', 'plotly', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@every_job
def test_the_help_of_a_job_shows_its_plain_and_its_mpirun_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"landscape {name}" in text
    assert "mpirun -n " in text
    assert "--traceback" in text


@every_job
def test_a_job_has_the_two_functions_of_the_contract(name: str) -> None:
    job = plugins.load(cli.JOBS, name)
    assert job.__doc__
    assert job.__doc__.partition("\n")[0].endswith(".")
    job.add_arguments(argparse.ArgumentParser())
    assert callable(job.run)


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("landscape 0.")


@pytest.mark.parametrize(
    ("error", "code", "piece"),
    [
        (errors.UsageError("a"), 2, "a"),
        (errors.ProblemError("b"), 3, "b"),
        (MemoryError(), 4, "memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 4, "memory ran out"),
        (OSError(28, "No space left on device"), 4, "No space left"),
        (PermissionError(13, "Permission denied", "/x"), 5, "/x"),
        (errors.EnvironmentProblem("c"), 5, "c"),
        (KeyboardInterrupt(), 75, "the same command goes on"),
        (errors.Stopped("d"), 75, "d"),
        (KeyError("e"), 1, "unexpected KeyError: 'e'"),
    ],
)
def test_an_error_has_a_code_and_a_sentence(error: BaseException, code: int, piece: str) -> None:
    assert cli.exit_code(error) == code
    assert piece in cli.sentence(error)
    assert "\n" not in cli.sentence(error)


def job_that(raises: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise raises

    monkeypatch.setattr(plugins.load(cli.JOBS, "runs"), "run", run)


def test_a_users_error_has_no_traceback_unless_asked(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    job_that(errors.ProblemError("the sentence"), monkeypatch)
    assert cli.main(["runs", "x"]) == 3
    assert capsys.readouterr().err == "landscape: the sentence\n"
    assert cli.main(["runs", "x", "--traceback"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    job_that(ZeroDivisionError("oops"), monkeypatch)
    assert cli.main(["runs", "x"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("landscape: unexpected ZeroDivisionError: oops")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_stops_the_job_with_75(name: str, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    def run(args: argparse.Namespace) -> int:
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(5)
        return 0

    monkeypatch.setattr(plugins.load(cli.JOBS, "runs"), "run", run)
    before = signal.getsignal(getattr(signal, name))
    assert cli.main(["runs", "x"]) == 75
    assert f"stopped by {name}" in capsys.readouterr().err
    assert signal.getsignal(getattr(signal, name)) == before


def test_a_closed_pipe_is_no_error(demo_store: Path) -> None:
    words = [sys.executable, "-m", "landscape", "export", str(demo_store / "adam"), "--record", "surface"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


# ---------------------------------------------------------------------- launchers


def fake_mpirun(tmp_path: Path, text: str) -> str:
    script = tmp_path / "mpirun"
    script.write_text(f"#!/bin/sh\necho '{text}'\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("text", "family"),
    [("mpirun (Open MPI) 5.0.11", "openmpi"), ("HYDRA build details:", "mpich"), ("something else", "other")],
)
def test_the_family_of_an_mpirun_is_told_by_its_version(tmp_path: Path, text: str, family: str) -> None:
    assert launch.family(fake_mpirun(tmp_path, text)) == family


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=.5", 0.5),
        ("x=1e-3", 1e-3),
        ("x=inf", float("inf")),
        ("x=[2, 3]", [2, 3]),
        ("x=true", True),
        ("x=tanh", "tanh"),
    ],
)
def test_a_setting_is_a_number_wherever_it_can_be(text: str, value: object) -> None:
    assert assignment(text) == ("x", value)


def test_open_mpi_gets_the_flags_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpirun = fake_mpirun(tmp_path, "mpirun (Open MPI) 5.0.11")
    monkeypatch.setattr(launch, "find_mpirun", lambda: mpirun)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert launch.mpirun_command(4) == [mpirun, "--oversubscribe", "--bind-to", "none", "-n", "4"]
    environment = launch.environment({"PMI_RANK": "0", "HOME": "/h", "OMP_NUM_THREADS": "3"})
    assert environment["OMPI_ALLOW_RUN_AS_ROOT"] == environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"
    assert "PMI_RANK" not in environment
    assert environment["OMP_NUM_THREADS"] == "3"


def test_without_an_mpirun_one_process_does(monkeypatch, capfd) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(launch, "find_mpirun", lambda: None)
    assert launch.mpirun_command(4) == []
    assert launch.run(["--version"], 4) == 0
    assert "no mpirun found, running on one process" in capfd.readouterr().err


def test_submit_prints_a_script_that_bash_accepts_and_quotes(capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    options = ["--ranks", "8", "--nodes", "2", "--time", "02:00:00", "--partition", "long"]
    assert cli.main(["submit", *options, "spectrum", "runs/a b; rm -r x", "--probes", "8"]) == 0
    text = capsys.readouterr().out
    wanted = {"ntasks=8", "ntasks-per-node=4", "signal=B:USR1@120", "time=02:00:00", "partition=long"}
    assert {f"#SBATCH --{option}" for option in wanted} <= set(text.splitlines())
    assert "landscape spectrum 'runs/a b; rm -r x' --probes 8" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_batch_script_passes_the_warning_on_and_requeues(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    """srun and scontrol are replaced by small scripts: one that ends with 75 on USR1, one that notes the requeue."""
    assert cli.main(["submit", "--ranks", "2", "spectrum", "r"]) == 0
    (tmp_path / "srun").write_text("#!/bin/bash\ntrap 'exit 75' USR1\ntouch started\nwhile true; do sleep 0.05; done\n")
    (tmp_path / "scontrol").write_text('#!/bin/bash\necho "$@" > requeued\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job.sh").write_text(capsys.readouterr().out)
    slurm = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "1"}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 20
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=20) == 75
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"


@pytest.mark.mpi
@pytest.mark.timeout(120)
def test_a_rank_that_leaves_quietly_is_no_success(landscape, needs_mpirun, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "leaving.py").write_text(
        "import os, landscape.problems.digits_mlp as d\n"
        "def build():\n"
        "    if os.environ.get('PMI_RANK', os.environ.get('OMPI_COMM_WORLD_RANK')) == '1': os._exit(0)\n"
        "    return d.build(hidden=2)\n"
    )
    done = landscape("submit", "--ranks", 2, "--run", "check", "leaving:build", cwd=tmp_path, timeout=100)
    assert done.returncode == 1, done.stderr
    if launch.family(launch.find_mpirun()) == "mpich":  # Open MPI's mpirun notices by itself
        assert "left before the job was complete" in done.stderr


@pytest.mark.mpi
def test_submit_run_starts_ranks_here(landscape, needs_mpirun) -> None:  # type: ignore[no-untyped-def]
    done = landscape("submit", "--ranks", 2, "--run", "check", "digits_mlp", "--problem-set", "hidden=2")
    assert done.returncode == 0, done.stderr
    assert "on 2 ranks" in done.stdout
