"""Groups of ranks on different checkpoints: the same records whatever the grid; a group that fails ends the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import run_in_turn

from landscape import cli, launch
from landscape.distributed.comm import Comm
from landscape.distributed.tasks import Tasks
from landscape.records import eigenpairs_key, path_key, spectrum_key
from landscape.stores.run_directory import Run

STEPS = [0, 10, 20, 30]
SPECTRUM = ("--probes", 2, "--iterations", 12, "--top", 3, "--bottom", 1, "--dtype", "float64")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = "--problem-set hidden=6 --problem-set batch_size=200 --steps 30 --checkpoint-every 10"
    words = f"train digits_mlp {sizes} --out"
    place = tmp_path_factory.mktemp("groups") / "run"
    assert cli.main([*words.split(), str(place)]) == 0
    return place


def spectra(run: Path) -> dict[str, np.ndarray]:
    store, found = Run(run), {}
    for step in STEPS:
        for key in (spectrum_key("hessian", step), eigenpairs_key("hessian", step)):
            record = store.read(key, large=True)
            found |= {f"{key}/{name}": array for name, array in record.arrays().items()}
            found[f"{key}/lambda_noise"] = np.array(float(record.meta["lambda_noise"]))
    return found


GRIDS = {"one": 1, "two": 2, "four": "auto"}  # what --groups is given; four ranks make four groups by themselves
PATH = ("--points", 6, "--spectrum", *SPECTRUM)


@pytest.fixture(scope="module")
def by_groups(run: Path, needs_mpirun: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Copies of the run with spectra, and a path, made by groups of four ranks in one start; and what that said."""
    place = tmp_path_factory.mktemp("by_groups")
    for name in (*GRIDS, "end"):
        shutil.copytree(run, place / name)
    lines = [("spectrum", place / name, *SPECTRUM, "--groups", groups) for name, groups in GRIDS.items()]
    add_other(place)
    done = run_in_turn(*lines, ("path", place / "other", place / "end", *PATH, "--groups", 2), ranks=4)
    assert done.returncode == 0, done.stderr
    return place, done.stderr


def add_other(place: Path) -> None:
    sizes = "--problem-set hidden=6 --problem-set batch_size=200 --steps 30 --checkpoint-every 10"
    assert cli.main([*f"train digits_mlp {sizes} --seed 1 --out".split(), str(place / "other")]) == 0


@pytest.mark.mpi
def test_any_grid_of_ranks_gives_the_same_records(run: Path, by_groups: tuple[Path, str]) -> None:
    assert cli.main([str(w) for w in ("spectrum", run, *SPECTRUM, "--overwrite")]) == 0
    alone = spectra(run)
    place, told = by_groups
    for (name, groups), counted in zip(GRIDS.items(), (1, 2, 4), strict=True):
        made = place / name
        assert Run(made).meta(spectrum_key("hessian", 20))["meta"]["plan"]["groups"] == counted
        assert f"plan: 4 ranks in {counted} group" in told
        status = json.loads((made / "status/spectrum.json").read_text())
        assert (status["state"], status["done"], status["total"]) == ("done", 4, 4)
        found = spectra(made)
        assert found.keys() == alone.keys()
        for key, array in alone.items():
            scale = max(np.abs(array).max(), 1e-300)
            tolerance = 1e-5 if "residuals" in key else 1e-8 if "vectors" in key else 1e-10
            assert np.abs(found[key] - array).max() < tolerance * max(scale, 1.0), (key, groups)


@pytest.mark.mpi
def test_groups_share_the_points_of_a_path(by_groups: tuple[Path, str]) -> None:
    place, told = by_groups
    shutil.copytree(place / "other", place / "alone")
    assert cli.main([str(w) for w in ("path", place / "alone", place / "end", *PATH, "--overwrite")]) == 0
    key = path_key("end", "linear", False)
    alone, shared = Run(place / "alone").read(key), Run(place / "other").read(key)
    assert told.count("plan: 4 ranks in 2 groups") == 2  # of a spectrum and of the path
    status = json.loads((place / "other/status/path.json").read_text())
    assert (status["state"], status["done"], status["total"]) == ("done", 6, 6)
    assert [len(shared.spectra), len(shared.eigenpairs)] == [6, 6]
    for ours, theirs in zip((shared, *shared.spectra, *shared.eigenpairs), (alone, *alone.spectra, *alone.eigenpairs),
                            strict=True):  # fmt: skip
        found, wanted = ours.arrays(), theirs.arrays()
        assert found.keys() == wanted.keys()
        for name in wanted:
            tolerance = 1e-5 if "residual" in name else 1e-8 if "overlap" in name else 1e-10
            assert np.abs(found[name] - wanted[name]).max() < tolerance * max(np.abs(wanted[name]).max(), 1.0), name
    assert {p.meta["ranks"] for p in shared.eigenpairs[1:-1]} == {2}  # the points between: by groups
    assert {p.meta["ranks"] for p in (shared.eigenpairs[0], shared.eigenpairs[-1])} == {4}


# The last rank fails in its group's first checkpoint; the first group stands still before its second, to be ended.
FAILING = """
import os, time, torch, landscape
from landscape.distributed.tasks import Tasks
from landscape.problems import digits_mlp
rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
begun, draw = [], Tasks.__iter__
def drawn(tasks):
    for task in draw(tasks):
        begun.append(task)
        while rank < 2 and len(begun) == 2:
            time.sleep(0.05)
        yield task
Tasks.__iter__ = drawn
class Late(torch.nn.Module):
    def forward(self, x):
        if rank == 3 and begun:
            raise {error}
        return x
def build(**settings):
    problem = digits_mlp.build(**settings)
    problem.model.add_module("late", Late())
    return problem
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("error", "code", "piece"),
    [
        ("landscape.errors.ProblemError('the second group is upset')", 3, "the second group is upset"),
        ("SystemExit(0)", 1, "sys.exit(0)"),
    ],
)
def test_a_group_that_fails_ends_the_others(run, landscape, needs_mpirun, tmp_path, error, code, piece):  # type: ignore[no-untyped-def]
    (tmp_path / "failing.py").write_text(FAILING.format(error=error))
    words = ("--problem", "failing:build", "--problem-set", "hidden=6", "--groups", 2, "--overwrite")
    done = landscape("spectrum", run, *SPECTRUM, *words, ranks=4, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("landscape:")]
    assert piece in sentences[0]
    # Open MPI ends the other ranks by SIGTERM, which rank 0 may live long enough to tell.
    others = [line for line in sentences[1:] if "stopped by SIGTERM" not in line]
    assert not others, done.stderr
    assert len(sentences) == 1 or launch.family(launch.find_mpirun()) == "openmpi", done.stderr


def test_one_process_takes_the_tasks_in_turn():
    tasks = Tasks("abc", Comm(), 1)
    seen = [(task, tasks.finished()) for task in tasks]
    assert seen == [("a", 0), ("b", 1), ("c", 2)]
    assert tasks.finished() == 3
    tasks.close()
