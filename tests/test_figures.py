"""Figures say what they show: titles with units, the record's own numbers, ticks that can be read."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import softmax_run
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from landscape import drawing, figures, quadrature, records, scales
from landscape.figures import Plate, density, spectrum
from landscape.figures import path as along
from landscape.figures import surface as contours

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
        assert figures.save(plate, tmp_path / f"figure.{suffix}").stat().st_size > 1000
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
    code = "import sys, landscape.figures, landscape.video; print([m for m in ('torch', 'mpi4py', 'dash', " \
           "'matplotlib.pyplot') if m in sys.modules])"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


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
