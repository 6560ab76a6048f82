"""Films beyond the plane: reliefs hide what lies behind, comparisons share axes, paths morph; parts join exactly."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import browsing
import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import softmax_run
from numpy.typing import NDArray

from landscape import plugins, records
from landscape.errors import ProblemError, UsageError
from landscape.pictures import motion, video
from landscape.pictures.films import comparison, relief
from landscape.pictures.films import path as along
from landscape.pictures.relief import HEIGHT, Camera, Field, Relief, facing, middle
from landscape.pictures.scales import LossScale
from landscape.stores.run_directory import Run

job = plugins.load("landscape.jobs", "video")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> video.Scene:
    return video.load(softmax_run.full_run(tmp_path_factory.mktemp("store") / "softmax"))


@pytest.fixture(scope="module")
def path() -> records.Path:
    """The straight path between the first and the last weights of the run, all numbers true."""
    _, weights, _ = softmax_run.trained()
    t = np.linspace(0, 1, 5)
    points = [(1 - x) * weights[0] + x * weights[-1] for x in t]
    loss = np.array([softmax_run.loss(p) for p in points])
    spectra, pairs = zip(*(softmax_run.spectrum(i, p) for i, p in enumerate(points)), strict=True)
    barrier = float((loss - (1 - t) * loss[0] - t * loss[-1]).max())
    return records.Path("one", "two", 0, 60, "linear", 3.0, t, loss, barrier, accuracy=np.linspace(0.1, 0.7, 5),
                        spectra=list(spectra), eigenpairs=list(pairs))  # fmt: skip


def decode(file: Path) -> list[NDArray[np.uint8]]:
    reader: Any = imageio.get_reader(file)
    with reader:
        return [np.asarray(frame)[..., :3] for frame in reader]


# ------------------------------------------------------------------ parts of a file


def test_the_number_of_processes_changes_nothing_in_what_is_seen(scene: video.Scene, tmp_path: Path) -> None:
    size = {"width": 640, "height": 360, "fps": 10, "seconds": 1.5}
    calls: list[int] = []
    one = video.render(scene, tmp_path / "one.mp4", processes=1, **size)  # type: ignore[arg-type]
    two = video.render(scene, tmp_path / "two.mp4", processes=2, on_frame=lambda i, _: calls.append(i), **size)  # type: ignore[arg-type]
    assert (one.processes, two.processes) == (1, 2)
    assert calls == list(range(1, 16))
    for file in (one.path, two.path):
        assert imageio_ffmpeg.count_frames_and_secs(str(file)) == (15, pytest.approx(1.5))
    a, b = decode(one.path), decode(two.path)
    assert max(np.abs(x.astype(float) - y).mean() for x, y in zip(a, b, strict=True)) < 2.0  # the codec's own loss
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]


def test_a_gif_made_in_parts_equals_the_one_made_at_once(scene: video.Scene, tmp_path: Path) -> None:
    size = {"width": 640, "height": 360, "fps": 5, "seconds": 1.2}
    one, two = (video.render(scene, tmp_path / f"{n}.gif", processes=n, **size) for n in (1, 2))  # type: ignore[arg-type]
    assert one.path.read_bytes() == two.path.read_bytes()  # the parts are lossless


def test_a_webm_is_vp9_with_all_frames(scene: video.Scene, tmp_path: Path) -> None:
    done = video.render(scene, tmp_path / "run.webm", width=640, height=360, fps=5, seconds=1, processes=1)
    reader: Any = imageio.get_reader(done.path)
    with reader:
        meta = reader.get_meta_data()
    assert (meta["codec"], tuple(meta["size"])) == ("vp9", (640, 360))
    frames = decode(done.path)
    film = video.Shot("plane", scene, motion.clock(scene.trajectory.steps, 5), 640, 360, False).open()
    assert len(frames) == 5
    assert np.abs(frames[-1].astype(float) - np.asarray(film.frame(4))[..., :3]).mean() < 4.0


def test_an_error_in_a_process_ends_all_and_leaves_nothing(scene: video.Scene, tmp_path: Path) -> None:
    broken = dataclasses.replace(scene.spectra[0], nodes=np.full_like(scene.spectra[0].nodes, np.nan))
    bad = dataclasses.replace(scene, spectra=[broken, *scene.spectra[1:]], width=motion.Width(0.2))
    with pytest.raises(ProblemError, match="holds no finite node"):
        video.render(bad, tmp_path / "bad.mp4", width=640, height=360, fps=10, seconds=1, processes=2)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ reliefs


def ridge() -> records.Surface:
    """Loss that depends on u alone: high in the middle, lower on the far and lowest on the near side."""
    u = np.linspace(-1, 1, 41)
    loss = np.exp(np.where(np.abs(u) < 0.1, 3.0, np.where(u < 0, 0.1, 0.0)))
    return records.Surface(0, "random", ["a", "b"], u, u.copy(), np.tile(loss, (41, 1)))


def test_a_point_behind_a_ridge_is_hidden_and_one_before_it_is_not() -> None:
    surface = ridge()
    field = Field(surface, None, LossScale.of(surface.loss))
    assert facing(field)[0] == 1  # from the low side
    camera = Camera(middle(facing(field)))
    x, zero = np.array([-0.4, -0.95, 0.5, 0.0]), np.zeros(4)
    z = field.at(x, zero) + 0.02
    z[1] = 3.0  # high above everything
    assert field.hidden(x, zero, z, camera).tolist() == [True, False, False, False]


def test_heights_are_those_of_the_losses_and_of_nothing_in_between() -> None:
    surface, trajectory = softmax_run.plane(9)
    field = Field(surface, trajectory, LossScale.of(surface.loss))
    x, y = np.meshgrid(*field.unit(surface.u, surface.v))
    np.testing.assert_allclose(field.at(x, y), field.height(surface.loss), atol=1e-9)
    middle_of_cell = field.at((x[2, 3] + x[2, 4]) / 2, y[2, 3])
    assert middle_of_cell == pytest.approx(field.raw[2, 3:5].mean())
    assert field.height(field.low) == 0
    assert field.height(field.high) == pytest.approx(HEIGHT)
    assert np.isnan(field.at(1.2, 0.0))


@pytest.mark.parametrize("turned", [-22.0, 0.0, 22.0])
def test_cells_are_drawn_from_the_far_ones_to_the_near_ones(scene: video.Scene, turned: float) -> None:
    from matplotlib.figure import Figure

    relief = Relief(Figure().subplots(), scene.surface, scene.trajectory, LossScale.of(scene.surface.loss))
    relief.turn(relief.camera.azimuth + turned)
    x = np.linspace(-1, 1, len(relief.x))
    rows = np.array([relief.mesh._coordinates[i, 0] for i in (0, -1)])
    columns = np.array([relief.mesh._coordinates[0, i] for i in (0, -1)])
    assert len(x) == len(relief.mesh._coordinates)
    # lower on the page is nearer: along rows and along columns the ground comes towards the eye
    flat = [relief.camera.project(*(c * s for c, s in zip((sx, sy), relief.facing, strict=True)), 0)[1]
            for sx, sy in ((-1, -1), (1, -1), (-1, 1), (1, 1))]  # fmt: skip
    assert flat[0] == max(flat)
    assert flat[3] == min(flat)
    assert rows.shape == columns.shape == (2, 2)
    corner = relief.camera.project(-relief.facing[0], -relief.facing[1], relief.field.at(
        float(-relief.facing[0]), float(-relief.facing[1])))  # fmt: skip
    np.testing.assert_allclose(relief.mesh._coordinates[0, 0], corner, atol=1e-9)


def test_the_path_of_a_relief_is_at_its_true_loss_with_lines_to_the_surface(scene: video.Scene) -> None:
    film = relief.Film(scene, scene.trajectory.steps, width=640, height=360)
    last = len(scene.trajectory.steps) - 1
    film.frame(last)
    r, t = film.relief, scene.trajectory
    x, y = r.field.unit(t.u, t.v)
    tops = r.camera.project(x, y, r.field.height(t.loss))
    feet = r.camera.project(x, y, r.field.at(x, y))
    for i, (foot, top) in enumerate(r.drops.get_segments()):
        np.testing.assert_allclose(top, tops[i], atol=1e-9)
        np.testing.assert_allclose(foot, feet[i], atol=1e-9)
    assert len(r.drops.get_segments()) == len(t.steps)
    np.testing.assert_allclose(np.ravel(r.marker.get_data()), tops[-1], atol=1e-9)
    first = np.asarray(film.frame(0)).copy()
    assert np.abs(first.astype(int) - np.asarray(film.frame(last))).max() > 100  # the camera turns
    assert abs(film.azimuths[-1] - film.azimuths[0]) <= 60


# ------------------------------------------------------------------ comparisons


def test_a_comparison_has_one_clock_one_loss_scale_and_one_axis_of_densities(scene: video.Scene) -> None:
    info = dataclasses.replace(scene.info, name="other", settings={"lr": 0.1})
    short = slice(0, 4)
    t = scene.trajectory
    held = {name: getattr(t, name) for name in records.Trajectory.axes}
    cut = {name: array[short] for name, array in held.items() if array is not None}
    surface = dataclasses.replace(scene.surface, loss=3 * scene.surface.loss)
    other = dataclasses.replace(scene, info=info, surface=surface, trajectory=dataclasses.replace(t, **cut))
    times = comparison.times([scene, other], 30, "checkpoints")
    film = comparison.Film([scene, other], times, width=960, height=540)
    assert film.scale.low == LossScale.of(np.concatenate([scene.surface.loss, surface.loss])).low
    film.frame(29)
    assert "ended at 30" in film.facts[1].get_text()  # its last checkpoint, shown as such
    assert "ended" not in film.facts[0].get_text()
    a, b = (m.marker.get_data() for m in film.maps)
    assert (a[0][0], b[0][0]) == (t.u[-1], t.u[3])
    assert film.tracks[0].flow.measures[0][2].tolist() == film.tracks[1].flow.measures[0][2].tolist()  # one kernel
    with pytest.raises(UsageError, match="2 to 4 runs, got 1"):
        comparison.Film([scene], times)
    gauss = dataclasses.replace(other, spectra=[dataclasses.replace(s, operator="fisher") for s in other.spectra])
    with pytest.raises(UsageError, match="by one operator, got fisher, hessian"):
        comparison.Film([scene, gauss], times)


def test_runs_that_were_projected_on_one_plane_are_compared_on_it(tmp_path: Path) -> None:
    runs = [softmax_run.full_run(tmp_path / name) for name in ("one", "two")]
    runs[1].update_info(name="two")
    scenes = [video.load(run) for run in runs]
    apart = video.together(runs, scenes)
    assert apart[0].surface is not apart[1].surface
    assert "each run on its own plane" in words(comparison.Film(apart, [0.0]))
    visitor = browsing.guest("two")
    runs[0].write(visitor)
    found = video.together(runs, scenes)
    assert found[0].surface is found[1].surface
    np.testing.assert_array_equal(found[0].trajectory.u, scenes[0].trajectory.u)
    np.testing.assert_array_equal(found[1].trajectory.u, visitor.u)
    assert "all runs on one plane" in words(comparison.Film(found, [0.0]))
    assert video.together(runs[::-1], scenes[::-1])[0].surface is scenes[1].surface  # of the first run's planes only


def words(film: comparison.Film) -> str:
    return " ".join(text.get_text() for text in film.figure.texts)


# ------------------------------------------------------------------ paths


def test_a_path_film_is_exact_at_its_points_and_marked_between_them(path: records.Path) -> None:
    film = along.Film(path, [0.0, 0.25, 0.375, 1.0], width=640, height=360)
    film.frame(1)
    assert film.values[1].get_text() == video_number(path.loss[1])
    assert film.notes[0].get_text() == "point 2 of 5"
    assert film.density.when.get_text() == "t = 0.250"
    np.testing.assert_allclose(np.sort(path.spectra[1].nodes[0]), film.frames[1][0])
    film.frame(2)
    assert film.notes[0].get_text() == "interpolated"
    assert film.values[1].get_text().startswith("≈")
    assert film.density.when.get_text() == "interpolated\n0.250–0.500"
    nodes = film.frames[2][0]
    between = (np.sort(path.spectra[1].nodes[0]) + np.sort(path.spectra[2].nodes[0])) / 2
    np.testing.assert_allclose(np.sort(nodes), between, atol=1e-12)  # quantiles move, peaks travel
    with pytest.raises(ProblemError, match="no spectra; compute them with `landscape path A B --spectrum`"):
        along.Film(dataclasses.replace(path, spectra=[], eigenpairs=[]), [0.0])


def video_number(value: float) -> str:
    from landscape.pictures.scales import number

    return number(value)


# ------------------------------------------------------------------ the job


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    job.add_arguments(parser)
    return parser.parse_args(words)


def test_ticks_of_a_path_follow_their_vectors_through_a_crossing(path: records.Path) -> None:
    def pairs(first: float, second: float) -> records.Eigenpairs:
        return dataclasses.replace(path.eigenpairs[0], values=np.array([first, second]), residuals=np.full(2, 1e-9),
                                   vectors=None)  # fmt: skip

    ends = {"t": np.array([0.0, 1.0]), "loss": path.loss[[0, -1]], "accuracy": None, "spectra": path.spectra[:2],
            "eigenpairs": [pairs(4.0, 2.0), pairs(6.0, 3.0)]}  # fmt: skip
    crossing = dataclasses.replace(path, **ends, overlap_next=np.array([[[0.1, -0.99], [0.99, 0.1]]]))  # 4 to 3, 2 to 6
    film = along.Film(crossing, [0.0, 0.5, 1.0], width=640, height=360)
    assert [film.ticks(t).tolist() for t in (0.0, 0.5, 1.0)] == [[4.0, 2.0], [4.0, 3.5], [6.0, 3.0]]
    by_rank = along.Film(dataclasses.replace(crossing, overlap_next=None), [0.0, 1.0], width=640, height=360)
    assert by_rank.ticks(0.5).tolist() == [5.0, 2.5]


def test_the_job_makes_reliefs_comparisons_and_paths(
    tmp_path: Path, path: records.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (softmax_run.full_run(tmp_path / name) for name in ("one", "two"))
    one.write(path)
    small = ["--size", "640x360", "--fps", "4", "--seconds", "1"]
    for words in ([str(one.root), "--view", "3d", "--dark"], [str(one.root), str(two.root)],
                  [str(one.root), "--path", "two", "--poster", str(tmp_path / "p.png")]):  # fmt: skip
        assert job.run(arguments(*words, "--out", str(tmp_path / "v.mp4"), *small)) == 0
        assert "4 frames" in capsys.readouterr().out
    assert imageio.imread(tmp_path / "p.png").shape[:2] == (360, 640)
    for words in ([str(one.root), str(two.root), "--path", "two"], [str(one.root), str(two.root), "--view", "3d"]):
        with pytest.raises(UsageError, match="name one RUN"):
            job.run(arguments(*words, "--out", str(tmp_path / "v.mp4"), *small))
    with pytest.raises(ProblemError, match="no path 'three'; there are path-linear-two"):
        job.run(arguments(str(one.root), "--path", "three", "--out", str(tmp_path / "v.mp4")))
    assert isinstance(Run(one.root), Run)
