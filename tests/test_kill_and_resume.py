"""A job that is killed keeps what it had; the same command finishes the rest and repeats nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from landscape import cli, launch
from landscape.geometry.meter import Way
from landscape.krylov.lanczos import BlockLanczos
from landscape.stores.run_directory import Run

SPECTRUM = ("--probes", 4, "--iterations", 30, "--top", 4, "--dtype", "float64")
STEPS = list(range(0, 61, 10))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "run"
    words = "train digits_mlp --problem-set hidden=12 --set lr=0.5 --steps 60 --checkpoint-every 10 --out"
    assert cli.main([*words.split(), str(path)]) == 0
    return path


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def records(run: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in (run / "records").glob("[!.]*/meta.json")}


def wait_until(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def at_work(run: Path) -> list[str]:
    """Processes that were started with this run among their words."""
    words = str(run).encode()
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if words in place.read_bytes().split(b"\0"):
                found.append(place.parent.name)
    return found


@pytest.mark.mpi
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_spectrum_job_is_completed_by_the_same_command(run, start, landscape, needs_mpirun, capsys, number):  # type: ignore[no-untyped-def]
    process = start("records", 4, "spectrum", run, *SPECTRUM, ranks=2)
    before = end(process, number, run)
    assert len(before) == 4  # of two checkpoints each a spectrum and its eigenpairs
    told = process.communicate()[1]
    if number == signal.SIGTERM:
        assert process.returncode != 0, told
        mpirun = launch.find_mpirun()
        if mpirun and launch.family(mpirun) != "openmpi":  # its mpirun answers for itself and drops what ranks say
            assert process.returncode == 75, told
            (sentence,) = [line for line in told.splitlines() if line.startswith("landscape:")]
            assert f"stopped by SIGTERM; 2 of {len(STEPS)} checkpoints are safe; the same command goes on" in sentence
        assert json.loads((run / "status/spectrum.json").read_text())["state"] == "stopped"
    if number == signal.SIGKILL:
        again = landscape("spectrum", run, *SPECTRUM, ranks=2)
        assert again.returncode == 0, again.stderr
        said = again.stderr
    else:  # by fewer ranks, which saves starting them
        assert cli.main([str(word) for word in ("spectrum", run, *SPECTRUM)]) == 0
        said = capsys.readouterr().err
    assert f"resume: 2 of {len(STEPS)} checkpoints found" in said
    after = records(run)
    assert {key: after[key] for key in before} == before
    store = Run(run)
    assert store.steps("spectrum", "hessian") == store.steps("eigenpairs", "hessian") == STEPS
    assert not [p for p in (run / "records").iterdir() if p.name.startswith(".")] or number == signal.SIGKILL


def end(process: subprocess.Popen[str], number: int, run: Path) -> dict[str, int]:
    """Kill mpirun and every rank it can reach, or ask it to stop; the records that are there when all have ended."""
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.wait(timeout=240)
    wait_until(lambda: not at_work(run))  # Open MPI's ranks are groups of their own and end when they miss mpirun
    return records(run)


@pytest.mark.mpi
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_spectrum_goes_on_inside_a_checkpoint(run, start, needs_mpirun, number) -> None:  # type: ignore[no-untyped-def]
    words = ["spectrum", run, "--checkpoints", "last", "--probes", 1, "--block", 1, "--iterations", 60, "--top", 2]
    words += ["--dtype", "float64", "--save-every", 0]
    process = start("products", 20, *words, ranks=2)
    assert not end(process, number, run)
    assert cli.main([str(word) for word in words]) == 0  # on one rank what two have begun
    resumed = Run(run).read("spectrum-hessian-00000060")
    assert 20 <= resumed.meta["matvecs_resumed"] <= 22 < resumed.meta["matvecs"]
    assert not list((run / ".parts").iterdir())
    assert cli.main([str(word) for word in [*words, "--overwrite"]]) == 0
    whole = Run(run).read("spectrum-hessian-00000060")
    assert whole.meta["matvecs_resumed"] == 0
    np.testing.assert_allclose(resumed.nodes, whole.nodes, atol=1e-9 * whole.nodes.max())


def test_a_stopped_spectrum_says_that_its_state_is_saved(run: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    expand = BlockLanczos.expand

    def expand_then_stop(self: BlockLanczos, *chosen: object) -> int:
        if self.matvecs == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return expand(self, *chosen)  # type: ignore[arg-type]

    words = ["spectrum", str(run), "--checkpoints", "last", "--eigenpairs", "--top", "2", "--save-every", "0"]
    with monkeypatch.context() as patch:
        patch.setattr(BlockLanczos, "expand", expand_then_stop)
        assert cli.main(words) == 75
    told = capsys.readouterr().err
    sentence = r"stopped by SIGTERM; the state of step 60 after (\d+) products is saved; 0 of 1 checkpoints are safe"
    (products,) = re.findall(sentence, told)
    assert cli.main(words) == 0
    assert Run(run).read("eigenpairs-hessian-00000060").meta["matvecs_resumed"] == int(products)


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Send this process SIGTERM when a job has kept so many parts."""
    kept = []
    write = Run.write_part

    def write_then_stop(self: Run, *args: object, **arrays: object) -> None:
        write(self, *args, **arrays)  # type: ignore[arg-type]
        kept.append(args)
        if len(kept) == after:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "write_part", write_then_stop)
    # How many parts there are depends on the way that was the quickest: point by point there are dozens.
    monkeypatch.setattr("landscape.geometry.surface.quickest", lambda *_: (Way(), []))


def test_a_stopped_surface_goes_on_from_its_points(run: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    words = ["surface", str(run), "--plane", "random", "--points", "17"]
    with monkeypatch.context() as patch:
        stopping(patch, 2)
        assert cli.main(words) == 75
    told = re.search(r"(\d+) of 289 points are safe; the same command goes on", capsys.readouterr().err)
    assert told is not None
    assert cli.main(words) == 0
    resumed = Run(run).read("surface-random-00000060")
    assert resumed.meta["blocks_resumed"] == 2
    assert cli.main([*words, "--overwrite"]) == 0
    again = Run(run).read("surface-random-00000060")
    np.testing.assert_allclose(again.loss, resumed.loss, rtol=1e-5)  # the way is chosen anew, by its time
    assert not (run / ".parts" / "surface-random-00000060").exists()


def test_points_of_another_grid_are_not_mixed_in(run: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    with monkeypatch.context() as patch:
        stopping(patch, 1)
        assert cli.main(["surface", str(run), "--plane", "random", "--points", "9"]) == 75
    assert cli.main(["surface", str(run), "--plane", "random", "--points", "9", "--seed", "1"]) == 0
    assert Run(run).read("surface-random-00000060").meta["blocks_resumed"] == 0


def test_a_stopped_path_goes_on_from_its_points(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    other = "train digits_mlp --problem-set hidden=12 --steps 10 --seed 1 --out"
    assert cli.main([*other.split(), str(tmp_path / "other")]) == 0
    quick = ["--points", "5", "--spectrum", "--probes", "1", "--iterations", "6"]
    words = ["path", str(run), str(tmp_path / "other"), *quick]
    with monkeypatch.context() as patch:
        stopping(patch, 7)  # five losses, then two spectra
        assert cli.main(words) == 75
    assert "1 of 5 points are safe" in capsys.readouterr().err  # the second was being written
    assert cli.main(words) == 0
    path = Run(run).read("path-linear-other")
    assert len(path.spectra) == len(path.eigenpairs) == 5
    assert cli.main([*words, "--overwrite"]) == 0
    again = Run(run).read("path-linear-other")
    for name in ("loss", "accuracy"):
        np.testing.assert_array_equal(getattr(again, name), getattr(path, name))
    for ours, theirs in zip(again.spectra, path.spectra, strict=True):
        np.testing.assert_array_equal(ours.nodes, theirs.nodes)


def test_a_stopped_curve_goes_on_from_its_last_state_and_is_trained_once(
    run: Path, tmp_path: Path, monkeypatch, capsys
) -> None:  # type: ignore[no-untyped-def]
    other = "train digits_mlp --problem-set hidden=12 --steps 10 --seed 1 --out"
    assert cli.main([*other.split(), str(tmp_path / "other")]) == 0
    words = ["path", str(run), str(tmp_path / "other"), "--kind", "bezier", "--align", "--points", "3"]
    words += ["--train-steps", "250"]
    with monkeypatch.context() as patch:
        stopping(patch, 2)  # after 100 and 200 steps
        assert cli.main(words) == 75
    assert "of 250 training steps are safe" in capsys.readouterr().err
    assert cli.main(words) == 0
    store = Run(run)
    curve, path = (store.read(f"{kind}-bezier.aligned-other", large=True) for kind in ("curve", "path"))
    assert len(curve.losses) == 250
    assert path.aligned
    assert path.meta["alignment"]["output_change"] < 1e-8
    assert {len(a) for a in (path.loss, path.straight_loss, path.unaligned_loss)} == {3}
    with monkeypatch.context() as patch:  # spectra come later to the curve that is there
        patch.setattr("landscape.geometry.curve_training.train_curve", None)
        quick = ["--spectrum", "--probes", "1", "--iterations", "4", "--top", "2"]
        assert cli.main([*words, *quick]) == 0
    with_spectra = store.read("path-bezier.aligned-other")
    np.testing.assert_array_equal(with_spectra.loss, path.loss)
    assert with_spectra.overlap_a.shape == (3, 2, 2)
    assert cli.main([*words, "--overwrite"]) == 0
    np.testing.assert_array_equal(store.read("curve-bezier.aligned-other", large=True).points, curve.points)
