"""Figures say what they show: titles with units, the record's own numbers, ticks that can be read."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import browsing
import game_run
import matplotlib as mpl
import numpy as np
import pytest
import softmax_run
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from landscape import cli, records
from landscape.app.plots import architecture
from landscape.app.reading import Reader
from landscape.app.serving import router
from landscape.app.view import Place
from landscape.errors import ProblemError, UsageError
from landscape.pictures import drawing, paper, scales
from landscape.pictures.figures import density, spectrum, structure
from landscape.pictures.figures import path as along
from landscape.pictures.figures import surface as contours
from landscape.pictures.paper import Choice, Plate, Sheet
from landscape.readings import quadrature
from landscape.stores.run_directory import Run

Measured = tuple[list[records.Spectrum], list[records.Eigenpairs]]


@pytest.fixture(scope="module")
def measured() -> Measured:
    steps, path, _ = softmax_run.trained()
    spectra, pairs = zip(*(softmax_run.spectrum(s, w) for s, w in zip(steps, path, strict=True)), strict=True)
    return list(spectra), list(pairs)


@pytest.fixture(scope="module")
def path() -> records.Path:
    """The straight path between the first and the last weights of the run, all numbers true."""
    _, weights, _ = softmax_run.trained()
    t = np.linspace(0, 1, 5)
    points = [(1 - x) * weights[0] + x * weights[-1] for x in t]
    loss = np.array([softmax_run.loss(p) for p in points])
    spectra, pairs = zip(*(softmax_run.spectrum(i, p) for i, p in enumerate(points)), strict=True)
    barrier = float((loss - (1 - t) * loss[0] - t * loss[-1]).max())
    length = float(np.linalg.norm(weights[-1] - weights[0]))
    return records.Path("run A", "run B", 0, 60, "linear", length, t, loss, barrier,
                        accuracy=np.linspace(0.1, 0.7, 5), test_accuracy=np.linspace(0.1, 0.6, 5), test_loss=loss + 0.1,
                        spectra=list(spectra), eigenpairs=list(pairs))  # fmt: skip


def drawn(plate: Plate, tmp_path: Path) -> Figure:
    """Saved as vector and pixel graphics: a figure that cannot be drawn fails here."""
    for suffix in ("pdf", "png"):
        assert paper.save(plate, tmp_path / f"figure.{suffix}").stat().st_size > 1000
    return plate.figure


def test_the_spectrum_figure_draws_the_density_and_names_its_axes(measured: Measured, tmp_path: Path) -> None:
    spectra, pairs = measured
    figure = drawn(density.figure(spectra[-1], pairs[-1], first=spectra[0]), tmp_path)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "Hessian eigenvalue λ (loss / weight², asinh scale)"
    assert axes.get_ylabel() == "density per unit asinh(λ/λ₀)"
    assert axes.get_yscale() == "log"
    grey, blue = (np.asarray(line.get_xydata()) for line in axes.lines)
    np.testing.assert_allclose(grey[:, 1], quadrature.asinh_density(spectra[0], grey[:, 0]))
    np.testing.assert_allclose(blue[:, 1], quadrature.asinh_density(spectra[-1], blue[:, 0]))
    assert axes.get_title(loc="left") == "Hessian spectrum at step 60"


def test_the_spectrum_over_training_holds_all_checkpoints_and_the_sharpness(measured: Measured, tmp_path: Path) -> None:
    spectra, pairs = measured
    figure = drawn(spectrum.figure(spectra[::-1], pairs), tmp_path)
    axes, bar = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [s.step for s in spectra])
    np.testing.assert_allclose(quadrature.from_asinh(np.asarray(line.get_ydata())), [p.values[0] for p in pairs])
    assert "optimizer step" in axes.get_xlabel()
    assert "loss / weight²" in axes.get_ylabel()
    assert bar.get_ylabel() == "density per\nunit asinh(λ/λ₀)"
    assert bar.get_yticklabels()[0].get_text() == "≤10⁻⁴"
    with pytest.raises(ValueError, match="at least one spectrum"):
        spectrum.figure([])


def test_the_surface_figure_says_how_much_of_the_path_the_plane_holds(tmp_path: Path) -> None:
    surface, trajectory = softmax_run.plane()
    figure = drawn(contours.figure(surface, trajectory), tmp_path)
    axes, bar = figure.axes
    share = surface.meta["explained_variance"][0]
    assert axes.get_xlabel() == f"PC 1 ({scales.percent(share)} of path variance), units of weight"
    assert axes.get_xlim() == (surface.u[0], surface.u[-1])
    assert axes.get_ylim() == (surface.v[0], surface.v[-1])
    assert bar.get_ylabel() == "training loss (log scale)"
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), trajectory.u)
    held = 1 - (trajectory.off_plane**2).sum() / (trajectory.distance**2).sum()
    assert axes.get_title(loc="left") == "PCA plane at step 60"
    walk = scales.percent(sum(surface.meta["random_walk"]))
    notes = [text.get_text() for text in axes.texts]  # of a wide figure; a narrow one says it in its caption
    assert f"holds {scales.percent(held)} of the path; a random walk: {walk}" in notes


def test_a_label_that_already_tells_the_variance_is_not_told_twice() -> None:
    surface = dataclasses.replace(softmax_run.plane(3)[0], labels=["principal component 1, 95 % of the path", "v"])
    assert drawing.axis_label(surface, 0) == "principal component 1, 95 % of the path, units of weight"


def test_a_surface_that_is_not_finite_anywhere_is_still_a_picture(tmp_path: Path) -> None:
    surface, trajectory = softmax_run.plane(5)
    drawn(contours.figure(dataclasses.replace(surface, loss=np.full((5, 5), np.nan)), trajectory), tmp_path)
    constant = dataclasses.replace(surface, loss=np.full((5, 5), 2.0))
    drawn(contours.figure(constant), tmp_path)


def test_the_path_figure_shows_loss_barrier_accuracy_sharpness_and_density(path: records.Path, tmp_path: Path) -> None:
    figure = drawn(along.figure(path), tmp_path)
    loss, accuracy, sharpness, bottom, _bar = figure.axes
    assert loss.get_title(loc="left") == f"Barrier {scales.number(path.barrier)} between run A and run B"
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), path.loss)
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), path.accuracy)
    np.testing.assert_allclose(np.asarray(sharpness.lines[0].get_ydata()), [e.values[0] for e in path.eigenpairs])
    assert "λ" in bottom.get_ylabel()
    assert bottom.get_xlabel() == "position t on the linear path"


def test_a_path_without_spectra_is_one_panel(path: records.Path) -> None:
    bare = dataclasses.replace(path, accuracy=None, test_accuracy=None, test_loss=None, spectra=[], eigenpairs=[])
    assert len(along.figure(bare).figure.axes) == 1


def test_figures_do_not_depend_on_the_users_matplotlib_settings(measured: Measured) -> None:
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30, "axes.grid": True}):
        figure = density.figure(measured[0][0]).figure
        assert mpl.rcParams["font.size"] == 30  # and they stay as the user set them
    assert figure.axes[0].get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    assert figure.axes[0].xaxis.label.get_fontsize() == 8


def test_figures_need_neither_torch_nor_pyplot() -> None:
    code = "import sys\nfrom landscape.pictures import paper, video, vtk\n" \
           "print([m for m in ('torch', 'mpi4py', 'dash', 'matplotlib.pyplot') if m in sys.modules])"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ------------------------------------------------------------------ every figure of a run, on paper


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, path: records.Path) -> Run:
    run = softmax_run.full_run(tmp_path_factory.mktemp("store") / "softmax")
    run.write(path)
    for step in (0, 60, 120):
        run.write(searched(step))
    for step in softmax_run.trained()[0]:
        run.checkpoint_directory(step).mkdir(parents=True)
    browsing.structure_records(run)
    run.write(browsing.explored())
    return run


def searched(step: int) -> records.Architecture:
    """Three operations on the five edges of a cell of two nodes; one edge loses all of its own."""
    edges = [(s, t, o) for t in (2, 3) for s in range(t) for o in ("skip", "maxpool", "conv3")]
    norms = np.array([10.0 ** -(step / 15) if o == "skip" or (s, t) == (0, 3) else 1.5 for s, t, o in edges])
    return records.Architecture(
        step, "all", 1e-5, 2, ["normal"] * 15, [e[2] for e in edges], np.array([e[0] for e in edges]),
        np.array([e[1] for e in edges]), norms, np.full(15, 9), (norms > 1e-5).astype(np.int64),
    )  # fmt: skip


def test_an_architecture_shows_every_operation_once_and_the_kept_ones_in_colour(run: Run, tmp_path: Path) -> None:
    plate = paper.make(run, "architecture", Choice(step=120))
    cell, over_training = drawn(plate, tmp_path).axes
    kept = [line for line in cell.lines if line.get_color() != drawing.LIGHT.faint]
    assert (len(cell.lines), len(kept)) == (15, 8)
    assert "7 of 15 operations" in plate.caption
    assert len(over_training.lines) == 15 + 1  # and the threshold
    np.testing.assert_allclose(over_training.lines[0].get_ydata(), [1.0, 1e-4, 1e-8])


def test_a_growth_is_shown_by_the_spectra_on_both_sides_with_what_was_predicted(
    run: Run, path: records.Path, tmp_path: Path
) -> None:
    """Of checkpoints, or better of a path from the small network in the large one's weights."""
    steps = softmax_run.trained()[0]
    plate = paper.make(run, "growth")
    assert f"Densities before a growth, step {steps[0]} (grey), and after, step {steps[1]}" in plate.caption
    assert "changed the loss by \N{MINUS SIGN}1.9" in plate.caption
    (at,) = (c for axes in plate.figure.axes for c in axes.collections if c.get_label() == "predicted by the split")
    np.testing.assert_allclose([s[0][0] for s in at.get_segments()], quadrature.to_asinh([-0.25, 0.5]))
    run = softmax_run.full_run(tmp_path / "grown")
    (run.root / "events.jsonl").write_text(json.dumps({"step": steps[1], "event": "grow", "eigenvalues": [-0.25]}))
    run.write(dataclasses.replace(path, run_a="grown", run_b="grown", step_a=steps[0], step_b=steps[1]))
    lowest = scales.number(float(path.eigenpairs[0].lowest_values[0]))
    caption = paper.make(run, "growth").caption
    assert f"Smallest eigenvalue {lowest}, predicted \N{MINUS SIGN}0.25" in caption
    assert f"Density at step {steps[0]}, before a growth (grey), and of the same function" in caption


def test_ranks_come_before_support_and_support_before_zeros(run: Run) -> None:
    found = [run.read(key) for key in run.keys("structure")]
    scale = [run.read(key) for key in run.keys("scale_space")]
    low = dataclasses.replace(found[-1], sigma=np.ones(3), sigma_layers=np.array([0, 0, 1]),
                              tangent=np.array([0.9]), tangent_values=np.ones(1), tangent_chance=0.5)  # fmt: skip
    ranks = structure.course([low], scale)
    assert ({n: list(v) for n, v in ranks.curves.items()}, ranks.label) == ({"0": [2.0], "2": [1.0]}, "rank")
    assert "0.900 to 0.900 of their length, 0.500 of a random direction" in ranks.told
    support = structure.course(found, scale)
    assert [v[-1] for v in support.curves.values()] == [25.0, 50.0]
    assert "30 % of the units" in support.told
    zeros = structure.course(found, [])
    assert [v[-1] for v in zeros.curves.values()] == [50.0, 0.0]
    assert "40 % of the weights" in zeros.told


def test_a_front_shows_every_point_and_what_a_cost_buys(run: Run, tmp_path: Path) -> None:
    plate = paper.make(run, "front")
    left, right = drawn(plate, tmp_path).axes
    stairs, points, *_rest, best = left.lines
    np.testing.assert_array_equal(stairs.get_xydata(), [[2e3, 0.9], [5e3, 0.95]])
    np.testing.assert_array_equal(points.get_xdata(), [5e3, 6e3, 2e3, 3e3])
    np.testing.assert_array_equal(best.get_xydata(), [[5e3, 0.95], [6e3, 0.95], [2e3, 0.9], [3e3, 0.9]])
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [[3e4, 0.9], [9e4, 0.95]])
    assert "1 of 4 cells were turned away" in plate.caption


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return game_run.logged(tmp_path_factory.mktemp("game") / "ring")


def words_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """All visible words of a figure and the boxes that they cover, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = []
    for text in figure.findobj(Text):
        box = text.get_window_extent()
        inside = text.axes is None or not text.get_clip_on() or text.axes.bbox.overlaps(box)
        if text.get_text().strip() and text.get_visible() and inside and text in reachable(figure):
            found.append((text.get_text(), box))
    return found


def reachable(figure: Figure) -> set[Text]:
    """The texts that are drawn: ticks beyond the limits of their axis are kept by matplotlib, but not drawn."""
    drawn = set(figure.findobj(Text))
    for axis in (axis for axes in figure.findobj(Axes) for axis in (axes.xaxis, axes.yaxis)):
        shown = {id(t) for tick in axis._update_ticks() for t in (tick.label1, tick.label2)}
        drawn -= {t for tick in axis.get_major_ticks() for t in (tick.label1, tick.label2) if id(t) not in shown}
        drawn -= {t for tick in axis.get_minor_ticks() for t in (tick.label1, tick.label2) if id(t) not in shown}
        if not axis.axes.axison:
            drawn -= set(axis.findobj(Text))
    return drawn


@pytest.mark.parametrize("size", ["column", "text", "140x120mm"])
@pytest.mark.parametrize("name", paper.names())
def test_no_words_of_a_figure_overlap_or_leave_the_page(run: Run, game: Run, name: str, size: str) -> None:
    sheet = Sheet.of(size, dark=size == "column")
    if name in ("overview", "path") and size == "140x120mm":
        pytest.skip("four rows of panels need a higher sheet")
    figure = paper.make(game if name == "game" else run, name, None, sheet).figure
    words = words_of(figure)
    assert len(words) > 8
    for text, box in words:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (one, a), (two, b) in itertools.combinations(words, 2):
        common = Bbox.intersection(a, b)
        assert common is None or min(common.width, common.height) < 2.5, (one, two)  # pixels of 150 dpi


def test_the_structure_page_draws_the_searched_cells_at_the_selected_step(run: Run) -> None:
    page = router.resolve(Reader(Path(run.root).parent), Place.parse("/run/softmax/structure"))[1]
    card = page.card("architecture")
    assert card is not None
    last = searched(120)
    figure = card.draw(len(page.slider.values) - 1)  # type: ignore[union-attr]
    strands = [t for t in figure.data if t.mode == "lines" and t.x[0] is not None]
    places = next(t for t in figure.data if t.mode == "markers+text")
    assert len(strands) == len(last.norms)
    assert list(places.text) == ["k-2", "k-1", "1", "2"]
    # the page's last step is 60, at which every skip is 1e-4: thin, but kept
    assert card.table(6)["kept"].tolist() == [1] * 15
    pruned = architecture.figure(last)
    grey = [t for t in pruned.data if t.hovertemplate and "pruned" in t.hovertemplate]
    assert len(grey) == int((last.kept == 0).sum()) > 0
    assert all(t.line.width < 1 for t in grey)


def test_the_structure_page_draws_the_front_of_cells_on_their_hardware(tmp_path: Path) -> None:
    run = softmax_run.bare_run(tmp_path / "cells")
    run.write(browsing.explored())
    page = router.resolve(Reader(tmp_path), Place.parse("/run/cells/structure"))[1]
    assert [(k.label, k.value) for k in page.kpis(0)] == [
        ("Cells", "4"), ("On the front", "2"), ("Most accurate", "95.0 %"), ("Fewest cycles", "2,000")
    ]  # fmt: skip
    cycles, energy = page.card("front-cycles"), page.card("front-energy")
    assert cycles is not None
    assert energy is not None
    stairs, points, *_rest, best = cycles.draw(0).data
    assert (list(stairs.x), list(stairs.y)) == ([2e3, 5e3], [90, 95])
    assert list(points.x) == [5e3, 6e3, 2e3, 3e3]
    assert "2 × 8 multipliers, 8 lanes: 5,000 cycles, energy 100,000" in points.text[0]
    assert list(best.x) == [5e3, 6e3, 2e3, 3e3]
    assert list(energy.draw(0).data[0].x) == [3e4, 9e4]
    assert "1 of 4 cells were turned away" in str(cycles.caption(0))  # type: ignore[operator]
    assert list(cycles.table(0)["found by"]) == ["cost^0.5"] * 4 + ["unweighted"] * 2
    file = run.directory("front-cells-00000276") / "arrays.npz"
    with np.load(file) as old:
        arrays = dict(old)
    np.savez(file, **arrays | {"cells": arrays["cells"] + 3})
    with pytest.raises(ProblemError, match="must be numbers of its 4 cells"):
        cycles.draw(0)


def test_captions_state_the_error_of_the_projection(run: Run) -> None:
    _, t = softmax_run.plane()
    worst = int(np.argmax(t.off_plane))
    wrong = scales.percent(float(np.abs(t.surface_loss / t.loss - 1).max()))
    for name in ("surface", "relief", "trajectory", "overview"):
        caption = paper.make(run, name, None, Sheet.of("text")).caption
        assert f"step {t.steps[worst]:,}, lies {scales.number(t.off_plane[worst])} units of weight" in caption
        assert f"is wrong by up to {wrong}" in caption
        assert f"holds {scales.percent(drawing.path_share(t))} of the path" in caption


def test_figures_are_written_whole_again_equal_and_with_their_caption(run: Run, tmp_path: Path) -> None:
    for suffix in paper.SUFFIXES:
        plate = paper.make(run, "scree", None, Sheet.of("column", captioned=False))
        out = paper.save(plate, tmp_path / f"scree{suffix}")
        assert plate.caption.split()[0].encode() in out.read_bytes()  # as the file's description
        again = paper.save(paper.make(run, "scree", None, Sheet.of("column", captioned=False)), tmp_path / f"b{suffix}")
        if suffix != ".svg":  # svg names its clip paths at random
            assert out.read_bytes() == again.read_bytes()
    assert {p.name[0] for p in tmp_path.iterdir()} == {"s", "b"}  # no hidden half
    with pytest.raises(UsageError, match="must end in"):
        paper.save(plate, tmp_path / "scree.eps")


def test_dark_figures_are_dark_and_light_ones_light(run: Run) -> None:
    for dark in (False, True):
        figure = paper.make(run, "density", None, Sheet.of("column", dark=dark)).figure
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        corner = np.asarray(canvas.buffer_rgba())[0, 0, :3].astype(float).mean()
        assert (corner < 60) == dark
    assert drawing.ink() is drawing.LIGHT  # the theme ends with the figure


@pytest.mark.parametrize("size", ["poster", "12", "1x1in", "900x900in", "ax3mm", "1.2.3x4in"])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    with pytest.raises(UsageError, match="must be column, text, slide or WIDTHxHEIGHT"):
        Sheet.of(size)


def test_missing_records_name_the_command_that_makes_them(tmp_path: Path) -> None:
    bare = softmax_run.bare_run(tmp_path / "bare")
    commands = {"density": "landscape spectrum", "surface": "landscape surface", "path": "landscape path",
                "trajectory": "landscape surface", "scree": "landscape spectrum",
                "architecture": "landscape derive", "growth": "--optimizer splitting",
                "structure": "landscape structure", "front": "landscape coexplore"}  # fmt: skip
    for name, command in commands.items():
        with pytest.raises(ProblemError, match=command):
            paper.make(bare, name)
    with pytest.raises(ProblemError, match=r"no hessian spectrum at step 7; there are steps 0, 10"):
        paper.make(softmax_run.full_run(tmp_path / "full"), "density", Choice(step=7))
    with pytest.raises(UsageError, match="no figure 'cake'; the choices are architecture, density"):
        paper.make(bare, "cake")


def test_export_writes_every_figure_there_is_data_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = softmax_run.bare_run(tmp_path / "bare")
    assert cli.main(["export", str(bare.root), "--figure", "all", "--svg", "--out", str(tmp_path / "out")]) == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["training.svg"]
    assert "surface: run 'bare' has no surface" in capsys.readouterr().out
    assert cli.main(["export", str(bare.root), "--figure", "surface"]) == 3


# ------------------------------------------------------------------ numbers and ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0784, "0.0784"), (9.545, "9.54"), (1210.4, "1,210"), (-0.00781, "−0.00781"), (2.3e-6, "2.3×10⁻⁶"), (0, "0"),
     (3e8, "3×10⁸"), (float("nan"), "—"), (float("inf"), "—")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert scales.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.987, "99 %"), (0.042, "4.2 %"), (0.0008, "0.08 %"), (2e-6, "<0.01 %"), (0.0, "0 %"), (float("nan"), "—")],
)
def test_shares_keep_a_digit_that_says_something(share: float, text: str) -> None:
    assert scales.percent(share) == text


@given(st.floats(1e-8, 1e3), st.floats(1.001, 1e8))
def test_log_ticks_lie_inside_and_are_few_but_some(low: float, ratio: float) -> None:
    high = low * ratio
    ticks = scales.decimal_ticks(low, high, 6)
    assert 1 <= len(ticks) <= 8
    assert all(low * (1 - 1e-6) <= t <= high * (1 + 1e-6) for t in ticks)
    assert ticks == sorted(ticks)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=15, unique=True).map(sorted), st.floats(0.1, 5))
def test_thinned_ticks_keep_their_distance_and_the_one_nearest_zero(at: list[float], gap: float) -> None:
    kept = scales.spaced(np.array(at), gap)
    assert all(at[j] - at[i] >= gap for i, j in itertools.pairwise(kept))
    assert min(at, key=abs) in [at[i] for i in kept] or -min(at, key=abs) in [at[i] for i in kept]


def test_a_loss_scale_is_logarithmic_only_for_positive_losses_and_ignores_one_spike() -> None:
    loss = np.geomspace(0.01, 1, 1000)
    assert scales.LossScale.of(loss).log
    spiked = scales.LossScale.of(np.append(loss, 1e9))
    assert spiked.high <= 1.0
    assert not scales.LossScale.of(loss - 0.5).log
    grey = scales.LossScale.of(loss).colours([np.nan, 0.0, 1e12])
    np.testing.assert_allclose(grey[0], (0.6, 0.6, 0.6, 1.0))
    assert np.isfinite(grey).all()


# ------------------------------------------------------------------ stability
