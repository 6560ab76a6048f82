"""Volumes: exact on quadratics, equal for any number of ranks, resumable, true to the checkpoint at the centre."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_problems import Saved, convolutional, digits, quadratic, symmetric, train

from landscape import cli
from landscape.distributed.parallel import Comm
from landscape.errors import ProblemError, UsageError
from landscape.geometry.directions import Plane, random_plane
from landscape.geometry.meter import Way
from landscape.geometry.space import Space, eigen_space, pca_space, random_space
from landscape.geometry.volume import axes, coordinates, volume
from landscape.networks.filters import filter_numbers
from landscape.stores.run_directory import Run

COMM = Comm()


def eigen(matrix: torch.Tensor, origin: torch.Tensor) -> Space:
    values, vectors = torch.linalg.eigh(matrix)
    return eigen_space(origin, vectors.T.flip(0), values.flip(0).numpy(), np.zeros(len(values)))


def orthonormal(space: Space) -> float:
    return float((space.gram - torch.eye(3, dtype=torch.float64)).abs().max())


# ------------------------------------------------------------------ the three spaces


def test_eigenvectors_are_the_axes_and_keep_their_evidence() -> None:
    matrix, origin = symmetric(10), torch.linspace(-1, 1, 10, dtype=torch.float64)
    space = eigen(matrix, origin)
    exact = torch.linalg.eigh(matrix)[1].T.flip(0)[:3]
    assert torch.allclose((space.directions * exact).sum(dim=1).abs(), torch.ones(3, dtype=torch.float64))
    assert orthonormal(space) < 1e-14
    np.testing.assert_allclose(space.info["values"], torch.linalg.eigvalsh(matrix).flip(0)[:3], rtol=1e-12)
    assert len(space.info["residuals"]) == len(space.labels) == 3
    assert space.pair(0, 2).info["values"] == [space.info["values"][0], space.info["values"][2]]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_principal_components_are_the_right_singular_vectors_of_the_path(dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(9, 30, generator=generator, dtype=torch.float64) * torch.linspace(3, 0.2, 30)
    path = [x.to(dtype) for x in steps.cumsum(dim=0)]
    space = pca_space(path, step=8)
    away = torch.stack(path[:-1]).double() - path[-1].double()
    _, scale, right = torch.linalg.svd(away, full_matrices=False)
    np.testing.assert_allclose((space.directions.double() * right[:3]).sum(dim=1).abs(), 1, atol=tolerance)
    np.testing.assert_allclose(space.info["explained_variance"], (scale**2 / (scale**2).sum())[:3], atol=tolerance)
    assert space.info["captured"] == pytest.approx(sum(space.info["explained_variance"]))
    assert torch.equal(space.origin, path[-1])
    assert orthonormal(space) < 1e-6


def test_random_directions_are_filter_normalised_and_orthogonal_inside_every_filter() -> None:
    problem = convolutional(statistics=False)
    origin = problem.weights()
    space = random_space(problem, origin, seed=3)
    plane = random_plane(problem, origin, seed=3)
    assert torch.allclose(space.directions[:2], plane.directions, atol=1e-7)
    assert orthonormal(space) < 1e-6
    filters = filter_numbers(problem)
    for number in range(int(filters.max()) + 1):
        inside = filters == number
        rows = space.directions[:, inside].double() * torch.tensor(space.info["scale"])[:, None]
        norms = torch.linalg.norm(rows, dim=1) / torch.linalg.norm(origin[inside].double())
        np.testing.assert_allclose(norms, 1, rtol=1e-6)
        products = rows @ rows.T
        assert float((products[2, :2] / products[2, 2]).abs().max()) < 1e-6
    assert space.info["too_small"] == 0
    assert float(space.directions[:, filters < 0].abs().max()) == 0
    again = random_space(problem, origin, seed=3)
    assert torch.equal(space.directions, again.directions)


def test_coordinates_and_points_are_inverse_and_the_origin_is_the_checkpoint_bit_for_bit() -> None:
    space = eigen(symmetric(10), torch.linspace(-1, 1, 10, dtype=torch.float64))
    (vector,) = space.points(np.array([0.3]), -0.2, 0.7)
    outside = torch.linalg.eigh(symmetric(10))[1][:, 0]
    u, v, w, off, distance = space.coordinates(vector + 2 * outside)
    np.testing.assert_allclose([u, v, w, off], [0.3, -0.2, 0.7, 2], atol=1e-12)
    assert distance == pytest.approx(np.sqrt(0.09 + 0.04 + 0.49 + 4))
    assert torch.equal(space.points(np.zeros(1), 0.0, 0.0)[0], space.origin)


# ------------------------------------------------------------------ the volume


def test_the_volume_of_a_quadratic_is_its_closed_form() -> None:
    matrix, origin = symmetric(10), torch.linspace(-1, 1, 10, dtype=torch.float64)
    problem, space = quadratic(matrix, origin), eigen(matrix, origin)
    u, v, w = np.linspace(-1, 1, 5), np.linspace(-2, 2, 4), np.linspace(-0.5, 0.5, 3)
    found = volume(problem, space, u, v, w, COMM)
    gradient = matrix @ origin
    slopes, curvature = (space.directions @ gradient).tolist(), space.info["values"]
    along = [slope * x + 0.5 * c * x**2 for slope, c, x in zip(slopes, curvature, (u, v, w), strict=True)]
    exact = 0.5 * float(origin @ gradient) + along[2][:, None, None] + along[1][:, None] + along[0]
    assert found.loss.shape == (3, 4, 5)
    np.testing.assert_allclose(found.loss, exact, atol=1e-12)
    assert found.accuracy is None
    assert found.meta["centre_error"] < 1e-12
    plain = volume(problem, space, u, v, w, COMM, way=Way())
    np.testing.assert_allclose(found.loss, plain.loss, atol=1e-13)
    assert found.meta["weights_unchanged"] is True


def test_checkpoints_carry_their_true_loss_and_what_the_volume_hides() -> None:
    matrix, origin = symmetric(10), torch.linspace(-1, 1, 10, dtype=torch.float64)
    problem, space = quadratic(matrix, origin), eigen(matrix, origin)
    inside = space.points(np.array([0.5]), 0.25, -1.0)[0]
    outside = inside + 0.5 * torch.linalg.eigh(matrix)[1][:, 0]
    checkpoints = [Saved(10, {"w": inside}), Saved(20, {"w": outside}), Saved(30, {"w": origin})]
    found = volume(problem, space, *axes(space, points=3), COMM, checkpoints=checkpoints)
    np.testing.assert_allclose(found.path, [[0.5, 0.25, -1], [0.5, 0.25, -1], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(found.off_volume, [0, 0.5, 0], atol=1e-7)
    exact = [0.5 * float(w @ matrix @ w) for w in (inside, outside, origin)]
    np.testing.assert_allclose(found.path_loss, exact, rtol=1e-12)
    np.testing.assert_allclose(found.volume_loss, [exact[0], exact[0], exact[2]], rtol=1e-10)
    assert found.steps.tolist() == [10, 20, 30]
    total = 2 * (0.25 + 0.0625 + 1)
    assert found.meta["in_volume_share"] == pytest.approx(total / (total + 0.25))
    assert torch.equal(problem.weights(), origin)


def test_metrics_of_a_network_at_its_centre_are_those_of_the_checkpoint() -> None:
    problem = digits(200, test=True)
    saved = train(problem, 20)
    before = problem.weights()
    space = pca_space([problem.vector_from(s.state()) for s in saved], step=20)
    u, v, w = axes(space, coordinates(problem, space, saved, COMM)[:, :3], 5)
    found = volume(problem, space, u, v, w, COMM, checkpoints=saved)
    place = tuple(int(np.flatnonzero(x == 0)[0]) for x in (w, v, u))
    assert found.loss[place] == pytest.approx(problem.evaluate(before)["loss"], rel=1e-6)
    assert found.test_accuracy is not None
    assert found.test_accuracy[place] == problem.evaluate(before, "test")["accuracy"]
    assert found.meta["centre_error"] < 1e-6
    assert (found.path[:, 0] >= u[0]).all()
    assert (found.path[:, 2] <= w[-1]).all()
    assert torch.equal(problem.weights(), before)


def test_the_users_own_metrics_are_measured_too() -> None:
    problem = digits(100, test=True)
    problem.metrics = {"largest": lambda outputs, _targets: outputs.amax(dim=1).mean()}
    space = random_space(problem, problem.weights())
    found = volume(problem, space, *axes(space, points=3), COMM)
    assert found.metric_names == ["largest", "test_largest"]
    assert found.metrics is not None
    assert found.metrics.shape == (2, 3, 3, 3)
    exact = problem.evaluate(space.points(np.array([-space.info["scale"][0]]), 0.0, 0.0)[0])["largest"]
    assert found.metrics[0, 1, 1, 0] == pytest.approx(exact, rel=1e-5)


def test_batch_norm_statistics_must_be_those_of_the_origin() -> None:
    problem = convolutional()
    saved = train(problem, 5)
    space = random_space(problem, problem.weights())
    found = volume(problem, space, *axes(space, points=3), COMM)
    assert found.meta["batch_norm"].startswith("statistics of the checkpoint")
    problem.load(saved[0].state())
    with pytest.raises(ProblemError, match="BatchNorm statistics"):
        volume(problem, space, *axes(space, points=3), COMM)


def test_finished_blocks_come_back_and_blocks_of_another_grid_do_not() -> None:
    problem, space = quadratic(symmetric(6)), eigen(symmetric(6), torch.zeros(6, dtype=torch.float64))
    grid = axes(space, points=4)
    kept: dict[int, Any] = {}
    whole = volume(problem, space, *grid, COMM, way=Way(), on_block=lambda n, block: kept.update({n: block}))
    assert sorted(kept) == list(range(8))
    again: list[int] = []
    some = {n: kept[n] for n in (0, 4, 7)} | {6: {"loss": np.zeros(4)}, 99: kept[1]}
    some[5] = {**kept[5], "index": np.arange(8)}
    resumed = volume(problem, space, *grid, COMM, done=some, on_block=lambda n, _: again.append(n))
    assert again == [1, 2, 3, 5, 6]
    assert resumed.meta["blocks_resumed"] == 3
    assert resumed.meta["way"] == str(Way())  # that of the finished blocks
    np.testing.assert_array_equal(resumed.loss, whole.loss)


# ------------------------------------------------------------------ bad input


def test_what_spans_no_volume_is_refused_with_the_way_out() -> None:
    origin = torch.zeros(6, dtype=torch.float64)
    with pytest.raises(ProblemError, match=r"three eigenvectors, got 2.*--top"):
        eigen_space(origin, torch.eye(6, dtype=torch.float64)[:2], [2.0, 1.0], [0.0, 0.0])
    turned = torch.eye(6, dtype=torch.float64)[:3]
    turned[2, 1] = 0.3
    with pytest.raises(ProblemError, match="not orthogonal"):
        eigen_space(origin, turned, [3.0, 2.0, 1.0], [0.0] * 3)
    with pytest.raises(ProblemError, match="at least 4 checkpoints, got 3"):
        pca_space([origin, origin + 1, origin])
    flat = [torch.tensor([np.cos(x), np.sin(x), 0, 0, 0, 0]) for x in range(6)]
    with pytest.raises(ProblemError, match="move in a plane"):
        pca_space(flat)
    space = eigen(symmetric(6), origin)
    with pytest.raises(ProblemError, match="4 entries cannot be projected"):
        space.coordinates(torch.zeros(4))
    with pytest.raises(ProblemError, match=r"shape \(3, 6\)"):
        Space("eigen", 0, ["a", "b"], origin, torch.eye(6)[:2])
    with pytest.raises(ProblemError, match="not orthonormal"):
        Space("eigen", 0, ["a", "b", "c"], origin, torch.ones(3, 6))
    with pytest.raises(UsageError, match="at least 3 points"):
        axes(space, points=2)
    with pytest.raises(ProblemError, match="the model 5"):
        volume(quadratic(symmetric(5)), space, *axes(space, points=3), COMM)
    assert isinstance(space.pair(0, 1), Plane)


# ------------------------------------------------------------------ the job


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volume") / "run"
    words = "train digits_mlp --problem-set hidden=4 --set lr=0.5 --steps 50 --checkpoint-every 10 --out"
    assert cli.main([*words.split(), str(path)]) == 0
    return path


def test_the_job_stops_goes_on_and_repeats_nothing(run: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    words = ["volume", str(run), "--points", "5"]
    write, kept = Run.write_part, []

    def write_then_stop(self: Run, *args: object, **arrays: object) -> None:
        write(self, *args, **arrays)  # type: ignore[arg-type]
        kept.append(args)
        if len(kept) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        # How many blocks there are depends on the way that was the quickest: point by point there are 16.
        patch.setattr("landscape.geometry.volume.quickest", lambda *_: (Way(), []))
        patch.setattr(Run, "write_part", write_then_stop)
        assert cli.main(words) == 75
    assert "of 125 points are safe; the same command goes on" in capsys.readouterr().err
    assert cli.main(words) == 0
    assert "pca volume at step 50, 5 x 5 x 5 points" in capsys.readouterr().out
    resumed = Run(run).read("volume-pca-00000050", large=True)
    assert resumed.meta["blocks_resumed"] == 3
    assert resumed.directions.shape == (3, 4 * 64 + 4 + 40 + 10)
    assert {"command", "settings", "versions", "explained_variance"} <= set(resumed.meta)
    assert not (run / ".parts" / "volume-pca-00000050").exists()
    stamp = (run / "records/volume-pca-00000050/meta.json").stat().st_mtime_ns
    assert cli.main(words) == 0
    assert (run / "records/volume-pca-00000050/meta.json").stat().st_mtime_ns == stamp
    assert cli.main([*words, "--overwrite"]) == 0  # another way may be the fastest now: the same to rounding
    np.testing.assert_allclose(Run(run).read("volume-pca-00000050").loss, resumed.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--plane", "eigen"), 3, "landscape spectrum"),
        (("--points", "2"), 2, "3 points"),
        (("--half-width", "-1"), 2, "positive --half-width"),
        (("--step", "7"), 2, "step 7"),
        (("--plane", "torus"), 2, "invalid choice"),
        (("--checkpoints", "0,10"), 3, "at least 4 checkpoints"),
    ],
)
def test_the_job_refuses_bad_input_in_one_sentence(run: Path, capsys, words, code: int, sentence: str) -> None:  # type: ignore[no-untyped-def]
    assert cli.main(["volume", str(run), "--overwrite", *words]) == code
    assert sentence in capsys.readouterr().err


def test_a_finished_volume_with_other_settings_is_not_taken_for_this_one(run: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert cli.main(["volume", str(run), "--plane", "random", "--points", "3", "--half-width", "1"]) == 0
    assert cli.main(["volume", str(run), "--plane", "random", "--points", "5"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_volume_is_exported_point_by_point(run: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert cli.main(["volume", str(run), "--points", "5", "--overwrite"]) == 0
    capsys.readouterr()
    assert cli.main(["export", str(run), "--record", "volume", "--only", "pca", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    stored = Run(run).read("volume-pca-00000050")
    w, v, u = np.meshgrid(stored.w, stored.v, stored.u, indexing="ij")
    for name, exact in (("u", u), ("v", v), ("w", w), ("loss", stored.loss), ("accuracy", stored.accuracy)):
        np.testing.assert_allclose([float(row[name]) for row in rows], exact.ravel())
    assert cli.main(["export", str(run), "--record", "volume", "--only", "pca"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert np.shape(item["loss"]) == (5, 5, 5)
    assert item["checkpoint"] == [0, 10, 20, 30, 40, 50]
    assert len(item["path"][0]) == len(item["labels"]) == 3
