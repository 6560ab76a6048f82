"""Every kind of plane from the command line, with trajectories of several runs on it."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from landscape import cli, plugins
from landscape.stores.run_directory import Run

SMALL = ["--points", "5", "--samples", "100"]


@pytest.fixture(scope="module")
def store(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs 'adam' and 'sgd' of one small network, with spectra; this module's own copy."""
    copy = tmp_path_factory.mktemp("planes") / "store"
    shutil.copytree(demo_store, copy)
    return copy


def surface(store: Path, *words: str) -> int:
    return cli.main(["surface", str(store / "adam"), *words, *SMALL])


@pytest.mark.parametrize(
    ("words", "name", "label"),
    [
        (["eigen", "--pair", "2,-1"], "eigen.2.low1", "eigenvector 1 from the smallest"),
        (["eigen", "--line", "2"], "eigen.line2", "eigenvector 2"),
        (["gradient"], "gradient", "downhill"),
        (["displacement", "--eigenvector", "2", "--from", "20"], "displacement.2.from20", "back to step 20"),
        (["random", "--normalise", "layer"], "random.layer", "layer-normalised"),
        (["pca", "--pair", "2,3"], "pca.2.3", "principal component 2"),
    ],
)
def test_every_kind_of_plane_is_one_command(store: Path, words: list[str], name: str, label: str) -> None:
    assert surface(store, "--plane", *words) == 0
    (step,) = Run(store / "adam").steps("surface", name)
    record = Run(store / "adam").read(f"surface-{name}-{step:08d}", large=True)
    assert label in " ".join(record.labels)
    assert np.abs(record.directions.astype(np.float64) @ record.directions.T - np.eye(2)).max() < 1e-6
    assert record.meta["centre_error"] < 1e-5
    assert record.loss.shape == ((1 if "line" in name else 5), 5)


def test_an_axis_is_the_stored_eigenvector(store: Path) -> None:
    assert surface(store, "--plane", "eigen", "--pair", "3,1") == 0
    run = Run(store / "adam")
    record = run.read("surface-eigen.3.1-00000120", large=True)
    vectors = run.read("eigenpairs-hessian-00000120", large=True).vectors[[2, 0]].astype(np.float64)
    assert (np.abs((record.directions * vectors).sum(axis=1)) >= 0.9999).all()


def test_several_runs_share_a_plane_and_its_surface(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = [str(store / "sgd")]
    assert surface(store, "--plane", "pca", "--with", *others) == 0
    run = Run(store / "adam")
    ground = run.read("surface-pca.sgd-00000120", large=True)
    assert ground.meta["runs"] == 2
    assert ground.meta["checkpoints"] == 14
    assert cli.main(["trajectory", str(store / "adam"), *others, "--plane", "pca", "--overwrite"]) == 0
    own, guest = run.read("trajectory-pca.sgd-00000120"), run.read("guest-pca.sgd-00000120-sgd")
    assert (guest.kind, guest.run, guest.plane) == ("guest", "sgd", "pca.sgd")
    for record in (own, guest):  # the grid holds both paths
        assert ground.u[0] <= record.u.min() <= record.u.max() <= ground.u[-1]
        assert np.isfinite(record.loss).all()
    squares = sum((r.u**2 + r.v**2).sum() for r in (own, guest)) / sum((r.distance**2).sum() for r in (own, guest))
    assert squares == pytest.approx(ground.meta["captured"], rel=1e-5)
    theirs = Run(store / "sgd")  # the true loss of the other run is its own
    assert guest.distance[-1] > 0
    assert theirs.checkpoint_steps() == guest.steps.tolist()
    capsys.readouterr()
    assert cli.main(["export", str(store / "adam"), "--record", "guest", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 7
    assert rows[0]["run"] == "sgd"
    assert float(rows[3]["gradient_norm"]) == pytest.approx(guest.gradient_norm[3])


def test_minima_with_permuted_units_come_closer_and_keep_their_loss(store: Path) -> None:
    others = "--with", str(store / "sgd"), f"{store / 'sgd'}@40"
    assert surface(store, "--plane", "minima", *others, "--align", "--points", "3") == 0
    record = Run(store / "adam").read("surface-minima.sgd.sgd_40.aligned-00000120")
    for told, name in zip(record.meta["alignment"], ("sgd", "sgd@40"), strict=True):
        assert told["run"] == name
        assert told["distance_after"] <= told["distance_before"]
        assert told["output_change"] < 1e-8
    assert record.meta["corners"][1][1] == pytest.approx(record.meta["alignment"][0]["distance_after"], rel=1e-5)
    assert surface(store, "--plane", "random", "--align") == 2  # not ignored


def test_three_minima(store: Path) -> None:
    assert surface(store, "--plane", "minima", "--with", str(store / "sgd"), f"{store / 'sgd'}@40") == 0
    record = Run(store / "adam").read("surface-minima.sgd.sgd_40-00000120")
    (_, *a), (_, *b), (last, *c) = record.meta["corners"]
    assert last == "sgd@40"
    assert a == [0, 0]
    assert abs(b[1]) < 1e-6
    for u, v in (b, c):
        assert record.u[0] <= u <= record.u[-1]
        assert record.v[0] <= v <= record.v[-1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["minima"], "needs two other minima"),
        (["random", "--pair", "1,3"], "does not read --pair"),
        (["eigen", "--pair", "1,40"], "compute more with --top"),
        (["eigen", "--operator", "fisher"], "no fisher eigenvectors"),
        (["eigen", "--pair", "1,1"], "no pair of different numbers"),
        (["pca", "--pair", "1,-1"], "count from the largest"),
        (["displacement", "--from", "7"], "no usable checkpoint at step 7"),
        (["pca", "--with", "nowhere"], "is no run"),
    ],
)
def test_an_unusable_plane_is_one_sentence(store: Path, words: list[str], sentence: str, capsys) -> None:  # type: ignore[no-untyped-def]
    assert surface(store, "--plane", *words) in (2, 3)
    told = capsys.readouterr().err
    assert sentence in told
    assert "Traceback" not in told


def test_every_file_of_planes_has_its_constructor() -> None:
    kinds = plugins.names("landscape.jobs.planes")
    assert kinds == plugins.names("landscape.geometry.planes")
    assert all(callable(plugins.load("landscape.jobs.planes", kind).plane) for kind in kinds)
