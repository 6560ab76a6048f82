"""Videos of a real run, decoded again: what they show, how they interpolate, what is left when they fail."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import softmax_run
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from landscape import plugins
from landscape.errors import EnvironmentProblem, ProblemError, UsageError
from landscape.pictures import motion, video
from landscape.pictures.films.plane import Film
from landscape.readings.following import cosines, follow
from landscape.records import Eigenpairs
from landscape.stores.run_directory import Run

job = plugins.load("landscape.jobs", "video")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return softmax_run.full_run(tmp_path_factory.mktemp("store") / "softmax")


@pytest.fixture(scope="module")
def scene(run: Run) -> video.Scene:
    return video.load(run)


@pytest.fixture(scope="module")
def film(scene: video.Scene) -> Film:
    """Every checkpoint and the middle between each two of them."""
    return Film(scene, np.arange(0, softmax_run.LAST + 1, softmax_run.EVERY / 2), width=640, height=360)


def pixels(film: Film, i: int) -> NDArray[np.uint8]:
    return np.asarray(film.frame(i))[..., :3].copy()


def decode(path: Path) -> tuple[list[NDArray[np.uint8]], dict[str, Any]]:
    """Frames (height, width, 3) and the container's metadata."""
    reader: Any = imageio.get_reader(path)
    with reader:
        return [np.asarray(frame)[..., :3] for frame in reader], reader.get_meta_data()


def cursor_column(frame: NDArray[np.uint8]) -> int:
    """Column of the cursor in the loss panel: the one with the most grey, right of the axis."""
    height, width, _ = frame.shape
    panel = frame[int(0.63 * height) : int(0.74 * height), int(0.59 * width) :].astype(float)
    grey = np.abs(panel - [0x57, 0x60, 0x6A]).sum(axis=-1) < 120
    return int(grey.sum(axis=0).argmax())


# ------------------------------------------------------------------ files


@pytest.fixture(scope="module")
def mp4(scene: video.Scene, tmp_path_factory: pytest.TempPathFactory) -> video.Rendered:
    calls: list[tuple[int, int]] = []
    out = tmp_path_factory.mktemp("mp4") / "run.mp4"
    done = video.render(scene, out, width=960, height=540, fps=10, seconds=2, on_frame=lambda *c: calls.append(c))
    assert calls == [(i + 1, 20) for i in range(20)]
    return done


def test_an_mp4_is_h264_of_the_size_rate_and_length_that_were_asked_for(mp4: video.Rendered) -> None:
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(mp4.path))
    _, meta = decode(mp4.path)
    assert (mp4.frames, frames) == (20, 20)
    assert seconds == pytest.approx(2.0)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert "bt709" in meta["pix_fmt"]
    assert tuple(meta["size"]) == (960, 540)
    assert meta["fps"] == 10


def test_an_mp4_starts_with_its_index_so_that_browsers_play_it_while_it_loads(mp4: video.Rendered) -> None:
    data = mp4.path.read_bytes()
    assert -1 < data.find(b"moov") < data.find(b"mdat")


def test_the_decoded_frames_are_those_that_were_drawn(mp4: video.Rendered, scene: video.Scene) -> None:
    drawn = Film(scene, motion.clock(scene.trajectory.steps, 20), width=960, height=540)
    decoded, _ = decode(mp4.path)
    for i in (0, 9, 19):
        error = np.abs(decoded[i].astype(float) - pixels(drawn, i))
        assert error.mean() < 3.0  # of 255: the codec's loss; a matrix of the wrong kind costs more


def test_the_cursor_moves_from_left_to_right_and_the_picture_changes(mp4: video.Rendered) -> None:
    decoded, _ = decode(mp4.path)
    columns = [cursor_column(f) for f in decoded[1:-2]]
    assert columns == sorted(columns)
    assert columns[-1] - columns[0] > 200
    left = decoded[0][:, :440].astype(float)  # the map: the marker and the path
    assert np.abs(decoded[-1][:, :440] - left).max() > 100


def test_a_gif_has_the_frames_size_and_delay_that_were_asked_for(scene: video.Scene, tmp_path: Path) -> None:
    done = video.render(scene, tmp_path / "run.gif", width=640, height=360, fps=12, seconds=1)
    frames, meta = decode(done.path)
    assert meta["duration"] == pytest.approx(80)  # ms: 100 / 8 a second is nearest to 12
    assert done.fps == 12.5
    assert len(frames) == done.frames == 12
    assert frames[0].shape == (360, 640, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 100


def test_a_gif_keeps_the_colours_of_the_drawn_frames(scene: video.Scene, tmp_path: Path) -> None:
    done = video.render(scene, tmp_path / "run.gif", width=640, height=360, fps=5, seconds=1)
    drawn = Film(scene, motion.clock(scene.trajectory.steps, 5), width=640, height=360)
    frames, _ = decode(done.path)
    for i in (0, 4):
        assert np.abs(frames[i].astype(float) - pixels(drawn, i)).mean() < 3.0


def test_a_poster_is_one_frame_as_png(scene: video.Scene, film: Film, tmp_path: Path) -> None:
    path = video.poster(scene, tmp_path / "run.png", step=35, width=640, height=360)
    picture = np.asarray(imageio.imread(path))[..., :3]
    assert picture.shape == (360, 640, 3)
    assert np.abs(picture.astype(float) - pixels(film, 7)).mean() < 1.0  # frame 7 is step 35
    with pytest.raises(UsageError, match="step 61 lies outside the trajectory: 0 to 60"):
        video.poster(scene, tmp_path / "no.png", step=61)
    with pytest.raises(UsageError, match="png"):
        video.poster(scene, tmp_path / "no.jpg")


# ------------------------------------------------------------------ fixed axes, honest frames


def test_axes_and_colours_are_the_same_in_every_frame(film: Film) -> None:
    panels = (film.map.axes, film.density.axes, film.losses, film.sharps)
    before = [(a.get_xlim(), a.get_ylim()) for a in panels]
    frames = [pixels(film, i) for i in range(len(film.moments))]
    assert [(a.get_xlim(), a.get_ylim()) for a in panels] == before
    tick_rows = slice(int(0.915 * 360), 360)  # words below the lowest axes
    colour_bar = slice(int(0.457 * 640), int(0.53 * 640))
    for frame in frames[1:]:
        assert (frame[tick_rows] == frames[0][tick_rows]).all()
        assert (frame[48:, colour_bar] == frames[0][48:, colour_bar]).all()


def test_the_axes_hold_every_density_and_every_checkpoint(film: Film, scene: video.Scene) -> None:
    low, high = film.density.axes.get_ylim()
    assert all(d.max() < high and d.min() >= low for d in film.density.densities[0])
    left, right = film.density.axes.get_xlim()
    for s in scene.spectra:
        assert left < np.arcsinh(s.nodes.min() / 1e-3) <= np.arcsinh(s.nodes.max() / 1e-3) < right
    low, high = film.losses.get_ylim()
    assert low < scene.trajectory.loss.min() <= scene.trajectory.loss.max() < high


def test_frames_drawn_in_any_order_are_the_same(film: Film) -> None:
    once = [pixels(film, i) for i in (0, 5, 12)]
    again = [pixels(film, i) for i in (12, 5, 0)][::-1]
    assert all((a == b).all() for a, b in zip(once, again, strict=True))


def test_a_frame_at_a_checkpoint_shows_its_records_exactly(scene: video.Scene) -> None:
    track = motion.Track(scene)
    t = scene.trajectory
    for i, (s, e) in enumerate(zip(scene.spectra, scene.eigenpairs, strict=True)):
        m = track.at(float(t.steps[i]))
        assert (m.u, m.v, m.loss) == (t.u[i], t.v[i], t.loss[i])
        assert m.measured
        assert m.between is None
        assert m.sharpness == e.values[0]
        np.testing.assert_array_equal(m.tops, e.values)
        np.testing.assert_array_equal(m.nodes, np.sort(s.nodes[0]))


def test_ticks_follow_their_eigenvectors_through_a_crossing(scene: video.Scene) -> None:
    first, last = (int(scene.trajectory.steps[i]) for i in (0, -1))
    vectors = np.eye(2, 5)
    pairs = [
        Eigenpairs(step, "hessian", 5, np.array([3.0, 1.0]), np.zeros(2), np.empty(0), np.empty(0), vectors=rows)
        for step, rows in ((first, vectors), (last, vectors[::-1]))
    ]
    crossing = follow(pairs, [cosines(*pairs)])
    ranked = motion.Track(dataclasses.replace(scene, eigenpairs=pairs, branches=None))
    track = motion.Track(dataclasses.replace(scene, eigenpairs=pairs, branches=crossing))
    quarter = first + 0.25 * (last - first)
    np.testing.assert_allclose(ranked.tops(quarter), [3.0, 1.0])  # by rank nothing would move
    np.testing.assert_allclose(track.tops(quarter), [2.5, 1.5])
    np.testing.assert_allclose(track.tops((first + last) / 2), [2.0, 2.0])


def test_a_frame_between_checkpoints_is_marked_and_lies_on_the_chord(film: Film, scene: video.Scene) -> None:
    t = scene.trajectory
    m = motion.Track(scene).at(25.0)
    assert m.between == m.spectrum_between == (20, 30)
    assert m.u == pytest.approx((t.u[2] + t.u[3]) / 2, rel=1e-12)
    assert m.v == pytest.approx((t.v[2] + t.v[3]) / 2, rel=1e-12)
    film.frame(5)
    assert "interpolated" in film.notes[0].get_text()
    assert "interpolated" in film.density.when.get_text()
    assert film.values[1].get_text().startswith("≈")
    film.frame(4)
    assert film.notes[0].get_text() == "checkpoint 3 of 7"
    assert film.density.when.get_text() == "step 20"
    assert not film.values[1].get_text().startswith("≈")


def test_a_density_that_was_not_measured_here_says_so(scene: video.Scene) -> None:
    sparse = dataclasses.replace(scene, spectra=scene.spectra[1:3], eigenpairs=[])
    film = Film(sparse, [0, 10, 60], width=640, height=360)
    texts = [(film.frame(i), film.density.when.get_text())[1] for i in range(3)]
    assert texts == ["nearest: step 10", "step 10", "nearest: step 20"]


def test_a_marker_beyond_the_map_stays_at_its_edge_and_is_hollow(scene: video.Scene) -> None:
    cut = slice(6, None)
    surface = dataclasses.replace(scene.surface, u=scene.surface.u[cut], loss=scene.surface.loss[:, cut])
    trajectory = scene.trajectory
    outside = int(np.argmin(trajectory.u))
    film = Film(dataclasses.replace(scene, surface=surface), [trajectory.steps[outside]], width=640, height=360)
    film.frame(0)
    assert film.map.outside.get_text() == "outside the computed surface"
    assert np.asarray(film.map.marker.get_xdata())[0] == surface.u[0]
    assert film.map.marker.get_markerfacecolor() == "white"


def test_losses_that_are_negative_or_not_finite_are_drawn(scene: video.Scene) -> None:
    loss = scene.surface.loss - 3.0
    loss[:3, :4] = np.nan
    loss[5, 5] = np.inf
    broken = scene.trajectory.loss - 3.0
    broken[1] = np.nan
    odd = dataclasses.replace(
        scene, surface=dataclasses.replace(scene.surface, loss=loss),
        trajectory=dataclasses.replace(scene.trajectory, loss=broken), metrics={}, eigenpairs=[],
    )  # fmt: skip
    film = Film(odd, [0, 10, 60], width=640, height=360)
    assert not film.scale.log
    film.frame(1)
    assert film.values[1].get_text() == "—"


# ------------------------------------------------------------------ interpolation


@st.composite
def measures(draw: st.DrawFn) -> motion.Measure:
    count = draw(st.integers(1, 12))
    nodes = draw(hnp.arrays(np.float64, count, elements=st.floats(-50, 50)))
    weights = draw(hnp.arrays(np.float64, count, elements=st.floats(1e-3, 1)))
    return np.sort(nodes), weights / weights.sum(), np.full(count, 0.12)


def distance(a: motion.Measure, b: motion.Measure) -> float:
    return float(wasserstein_distance(a[0], b[0], a[1], b[1]))


@given(measures(), measures())
@settings(deadline=None)
def test_transport_is_exact_at_both_ends(a: motion.Measure, b: motion.Measure) -> None:
    move = motion.transport(a, b)
    assert distance(move.at(0.0), a) < 1e-9
    assert distance(move.at(1.0), b) < 1e-9
    assert move.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (move.weights > 0).all()


@given(measures(), measures(), st.floats(0, 1))
@settings(deadline=None)
def test_transport_keeps_the_order_of_nodes_on_the_way(a: motion.Measure, b: motion.Measure, share: float) -> None:
    nodes, _, widths = motion.transport(a, b).at(share)
    np.testing.assert_allclose(widths, 0.12)
    assert (np.diff(nodes) >= -1e-12).all()


@given(measures(), measures(), st.floats(0, 1))
@settings(deadline=None)
def test_transport_moves_at_constant_speed_along_the_shortest_way(
    a: motion.Measure, b: motion.Measure, share: float
) -> None:
    move = motion.transport(a, b)
    whole = distance(a, b)
    assert distance(move.at(0.0), move.at(share)) == pytest.approx(share * whole, abs=1e-8)
    assert distance(move.at(share), move.at(1.0)) == pytest.approx((1 - share) * whole, abs=1e-8)


def test_a_peak_travels_instead_of_fading_out_and_in() -> None:
    one, two = (np.array([0.0, at]) for at in (1.0, 3.0))
    weights = np.array([0.9, 0.1])
    sharp, wide = np.array([0.2, 0.2]), np.array([0.2, 0.4])
    nodes, shares, widths = motion.transport((one, weights, sharp), (two, weights, wide)).at(0.5)
    np.testing.assert_allclose(widths, [0.2, 0.3])
    np.testing.assert_allclose(nodes, [0.0, 2.0])
    np.testing.assert_allclose(shares, [0.9, 0.1])


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30, unique=True).map(sorted),
       st.integers(1, 400), st.sampled_from(motion.PACES))  # fmt: skip
@settings(deadline=None)
def test_the_clock_runs_from_the_first_checkpoint_to_the_last(steps: list[int], frames: int, pace: str) -> None:
    clock = motion.clock(steps, frames, pace)
    assert clock.shape == (frames,)
    assert (np.diff(clock) >= 0).all()
    assert clock[-1] == steps[-1]
    assert clock[0] == steps[0] or frames == 1
    if pace == "checkpoints" and 0.8 * frames > 2 * len(steps):
        assert set(steps) <= set(clock)  # every checkpoint has a frame of its own


def test_unknown_paces_are_refused() -> None:
    with pytest.raises(UsageError, match="'fast'; the choices are checkpoints, steps"):
        motion.clock([0, 1], 10, "fast")


# ------------------------------------------------------------------ bad input


def test_missing_records_name_the_command_that_makes_them(tmp_path: Path) -> None:
    run = softmax_run.bare_run(tmp_path / "bare")
    surface, trajectory = softmax_run.plane(5)
    with pytest.raises(ProblemError, match=r"no surface\..*`landscape surface .*bare --plane pca`.*trajectory"):
        video.load(run)
    run.write(surface)
    with pytest.raises(ProblemError, match=r"no trajectory on it.*`landscape trajectory .*bare`"):
        video.load(run)
    run.write(trajectory)
    with pytest.raises(ProblemError, match=r"no hessian spectrum.*`landscape spectrum .*bare --operator hessian`"):
        video.load(run)
    with pytest.raises(ProblemError, match=r"no surface of the eigen plane.*--plane eigen"):
        video.load(run, plane="eigen")
    with pytest.raises(ProblemError, match="through step 7"):
        video.load(run, origin=7)


def test_the_pca_plane_comes_first_and_then_the_latest_origin(run: Run, tmp_path: Path) -> None:
    other = softmax_run.full_run(tmp_path / "more")
    surface, trajectory = softmax_run.plane(5)
    for plane, step in (("random", 60), ("eigen", 20), ("eigen", 40), ("pca", 30)):
        other.write(dataclasses.replace(surface, plane=plane, step=step))
        other.write(dataclasses.replace(trajectory, plane=plane, step=step))
    assert [(s.surface.plane, s.surface.step) for s in (
        video.load(other), video.load(other, origin=30), video.load(other, plane="eigen"), video.load(other, origin=20),
    )] == [("pca", 60), ("pca", 30), ("eigen", 40), ("eigen", 20)]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "run.avi"}, r"must end in \.mp4, \.webm, \.gif"),
        ({"width": 641}, "even"),
        ({"width": 320, "height": 180}, "at least 640x360"),
        ({"width": 720, "height": 1280}, "as wide as high"),
        ({"fps": 0.0}, "between 1 and 120, got 0"),
        ({"seconds": -1.0}, "got -1"),
        ({"seconds": float("nan")}, "got nan"),
    ],
)
def test_what_cannot_be_rendered_is_refused_and_leaves_nothing(
    scene: video.Scene, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    arguments = {"width": 640, "height": 360, "fps": 5.0, "seconds": 1.0, **changes}
    out = tmp_path / "new" / str(arguments.pop("out", "run.mp4"))
    with pytest.raises(UsageError, match=message):
        video.render(scene, out, **arguments)  # type: ignore[arg-type]
    assert not out.parent.exists()


@pytest.mark.parametrize("name", ["run.mp4", "run.gif"])
def test_a_render_that_fails_leaves_the_old_file_alone(scene: video.Scene, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    out.write_bytes(b"the old one")

    def fail(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.render(scene, out, width=640, height=360, fps=5, seconds=2, on_frame=fail)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert out.read_bytes() == b"the old one"


def test_a_killed_render_leaves_nothing_under_the_name(run: Run, tmp_path: Path) -> None:
    code = (
        "import sys; from landscape.pictures import video; from landscape.stores.run_directory import Run; "
        "video.render(video.load(Run(sys.argv[1])), sys.argv[2], seconds=60, on_frame=lambda *c: print(c, flush=True))"
    )
    words = [sys.executable, "-c", code, str(run.root), str(tmp_path / "run.mp4")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the first frame is with the encoder
        process.kill()
    assert all(p.name.startswith(".") for p in tmp_path.iterdir())


def test_a_directory_that_takes_no_file_is_an_environment_problem(scene: video.Scene, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(EnvironmentProblem, match=r"cannot write .*run\.mp4.*Choose a directory that you may write to"):
        video.render(scene, tmp_path / "file" / "run.mp4", width=640, height=360, seconds=1)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        video.render(scene, tmp_path / "folder.mp4", width=640, height=360, seconds=1)


# ------------------------------------------------------------------ the job


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    job.add_arguments(parser)
    return parser.parse_args(words)


def test_the_job_writes_video_and_poster(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "run.mp4", tmp_path / "run.png"
    args = arguments(str(run.root), "--out", str(out), "--size", "640x360", "--fps", "5", "--seconds", "1",
                     "--pace", "steps", "--poster", str(picture))  # fmt: skip
    assert job.run(args) == 0
    printed = capsys.readouterr()
    assert f"{out}: 5 frames, 1.0 s at 5 a second, 640x360" in printed.out
    assert "pca plane, 7 spectra" in printed.out
    assert "5/5 frames" in printed.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.mp4", "run.png"]


def test_the_job_refuses_a_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments("run", "--out", "run.mp4", "--size", "huge")
    assert "'huge' must look like 1280x720" in capsys.readouterr().err
