"""Figures as data: axes have titles and fixed ranges, values are finite, steps move the traces they should."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import math
from typing import Any

import game_run
import numpy as np
import pytest
import softmax_run
from browsing import explored, guest, path_record
from hypothesis import given
from hypothesis import strategies as st

from landscape import plugins, records
from landscape.app import axes, facts, numbers, style
from landscape.app.cards import guests, surfaces
from landscape.app.plots import (
    alignment,
    along,
    architecture,
    branches,
    comparison,
    complex_plane,
    density,
    edge,
    events,
    front,
    game,
    growth,
    layers,
    lead_lag,
    line,
    low_rank,
    minima,
    outliers_over,
    projection,
    quadratic,
    relief,
    ridge,
    samples,
    scale_space,
    scree,
    spectrum_over,
    structure,
    surface,
    training,
    volume,
)  # fmt: skip
from landscape.app.series import Series
from landscape.readings import overlaps
from landscape.readings.events import Event
from landscape.readings.following import cosines, follow
from landscape.readings.history import leading
from landscape.readings.outliers import Outliers
from landscape.readings.quadratic import Quadratic, agreement
from landscape.readings.smoothing import Width
from landscape.readings.topology import topology

WIDTH = Width(0.12)


def one_row(ground: records.Surface) -> records.Surface:
    return dataclasses.replace(ground, v=ground.v[7:8], loss=ground.loss[7:8])


def series() -> Series:
    steps, path, _ = softmax_run.trained()
    return Series("hessian", {s: softmax_run.spectrum(s, w)[0] for s, w in zip(steps, path, strict=True)})


def pairs() -> dict[int, Any]:
    steps, path, _ = softmax_run.trained()
    return {s: softmax_run.spectrum(s, w)[1] for s, w in zip(steps, path, strict=True)}


def followed_pairs() -> Any:
    found = list(pairs().values())
    return follow(found, [cosines(a, b) for a, b in itertools.pairwise(found)])


def weights_of(step: int) -> records.Structure:
    """Two layers of which a third and a half are small."""
    shares, norms = np.array([1 / 3, 0.5]), np.array([3.0, 1e-6, 2.0, 1.0, 0.0])
    return records.Structure(
        step, ["0", "2"], 1e-6, 1e-4, np.array([30, 20]), shares, 0.5 * shares, norms, np.array([0, 0, 0, 1, 1]),
        (norms < 1e-4).astype(np.int8),
    )  # fmt: skip


def saliency_of(step: int) -> records.Saliency:
    random = np.random.default_rng(step)
    values, diagonal = random.normal(size=50), random.normal(size=50)
    return records.Saliency(
        step, "hessian", 50, 0, ["0", "2"], np.arange(50), values, diagonal, np.zeros(50),
        (np.abs(values) < 0.3).astype(np.int8), np.repeat([0, 1], [30, 20]),
    )  # fmt: skip


def scale_space_of() -> records.ScaleSpace:
    """Two layers of 4 and 2 units, of which three enter at steps 12, 20 and 45."""
    return records.ScaleSpace(
        60, ["0", "2"], ["weights", "filters"], np.array([4, 2]), np.array([0, 30, 60]),
        np.array([[0, 0], [2, 0], [2, 1]]), np.array([12, 0, 20, 0, 45, 0]), np.array([0, 0, 0, 0, 1, 1]),
        np.array([[0.0, 0, 0], [0.4, 0.2, 0], [0.8, 0.5, 0.1]]), np.array([0, 0, 1]), np.array([0, 2, 0]),
        np.array([12, 20, 45]),
    )  # fmt: skip


def draw(name: str, theme: str) -> Any:
    """Each plot with the real run of the tests."""
    s, step = series(), 30
    losses = np.array(softmax_run.trained()[2])
    ground, trajectory = softmax_run.plane()
    curves = facts.over_training(s, pairs())
    match name:
        case "training":
            return training.figure(np.arange(len(losses)), losses, curves, threshold=np.full(len(curves), 4.0),
                                   label="2/η = 4", selected=step, theme=theme)  # fmt: skip
        case "spectrum_over":
            return spectrum_over.figure(np.array(s.steps), s.grid, s.heat(WIDTH), threshold=4.0, label="2/η",
                                        sharpness=np.array([c.sharpness for c in curves]), theme=theme)  # fmt: skip
        case "density":
            return density.figure(s.grid, s.density(step, WIDTH), eigenvalues=pairs()[step].values, theme=theme)
        case "scree":
            return scree.figure(pairs()[step], top=4, low=2, reach=(0.0, 2.0), theme=theme)
        case "line":
            return line.figure(one_row(ground), theme=theme)
        case "surface":
            return surface.figure(ground, trajectory, selected=3, theme=theme)
        case "relief":
            return relief.figure(ground, trajectory, selected=3, theme=theme)
        case "projection":
            return projection.figure(trajectory, selected=step, theme=theme)
        case "quadratic":
            model = Quadratic.of(ground)
            assert model is not None
            return quadratic.figure(ground, agreement(ground, model), theme=theme)
        case "minima":
            dent = 0.2 * (np.indices(ground.loss.shape).sum(axis=0) == 9)
            dented = dataclasses.replace(ground, loss=ground.loss - dent)
            return minima.figure(dented, topology(dented), theme=theme)
        case "growth":
            return growth.figure([10, 20], [235, 385, 535], [-1e-6, -2e-6], [-1.1e-6, np.nan], end=30, selected=step,
                                 theme=theme)  # fmt: skip
        case "along":
            road = path_record()
            found = [
                facts.curvature(i, x, e) for i, (x, e) in enumerate(zip(road.spectra, road.eigenpairs, strict=True))
            ]
            return along.figure(road, found, Series("hessian", dict(enumerate(road.spectra))), theme=theme)
        case "volume":
            return volume.figure(softmax_run.volume(), theme=theme)
        case "ridge":
            return ridge.figure(s.steps, s.grid, [s.density(k, WIDTH) for k in s.steps], selected=step, theme=theme)
        case "alignment":
            shares = {k: (np.array(s.steps), np.linspace(0.1, 0.9, len(s.steps)) ** k) for k in (1, 5)}
            return alignment.figure(shares, selected=step, theme=theme)
        case "layers":
            found = np.abs(np.outer([1.0, 2.0], [c.sharpness for c in curves]))
            return layers.figure(["input", "output"], np.array(s.steps), found, selected=step, theme=theme)
        case "outliers_over":
            counts = [Outliers(9, 8, 10, 0.1, 40), Outliers(10, 10, 10, 0.2, 40)]
            return outliers_over.figure(np.array([0, 60]), counts, classes=10, selected=step, theme=theme)
        case "edge":
            top = np.array([c.sharpness for c in curves])
            return edge.figure(np.array(s.steps, dtype=float), top, np.full(len(top), 4.0), label="2/η", theme=theme)
        case "events":
            x = np.arange(len(losses), dtype=float)
            panels = [
                events.Panel("loss", {"loss": (x, losses)}, event=Event("it rose", 30, 29)),
                events.Panel("sharpness", {"λmax": (x, losses)}, limit=1.0, log=False),
                events.Panel("norms", {}, missing="no norms"),
            ]
            return events.figure(panels, (0.0, 60.0), selected=step, theme=theme)
        case "comparison":
            x, top = np.array(s.steps, dtype=float), np.array([c.sharpness for c in curves])
            runs = [comparison.Line("a", x, top, 4.0, x, top / 4), comparison.Line("b", x, 2 * top)]
            return comparison.figure(runs, theme=theme)
        case "branches":
            return branches.figure(followed_pairs(), selected=step, theme=theme)
        case "complex_plane":
            return complex_plane.figure(game_run.standing(4), [game_run.standing(k) for k in (0, 4)], theme=theme)
        case "samples":
            return samples.figure(game_run.standing(4), [game_run.standing(k) for k in (0, 4)], theme=theme)
        case "game":
            x = np.array(game_run.STEPS, dtype=float)
            shown = [game.Panel("loss", {"generator": (x, np.sqrt(1 + x))}), game.Panel("modes", {"modes": (x, x + 1)})]
            return game.figure(shown, game_run.PLAYERS, selected=step, mark=60.0, theme=theme)
        case "lead_lag":
            x = np.array(game_run.STEPS, dtype=float)
            lead = leading((x, game_run.sharpness()["generator"]), (x, game_run.modes()))
            assert lead is not None
            return lead_lag.figure({"generator": lead}, "modes", theme=theme)
        case "architecture":
            ends = np.array([0, 1, 0, 1, 2]), np.array([2, 2, 3, 3, 3])
            norms, names = np.array([1.0, 0.5, 1e-7, 2.0, 0.1]), ["conv3", "skip", "skip", "maxpool", "conv3"]
            return architecture.figure(records.Architecture(
                step, "all", 1e-5, 2, ["normal"] * 5, names, *ends, norms, np.full(5, 9), (norms > 1e-5).astype(int),
            ), theme=theme)  # fmt: skip
        case "front":
            return front.figure(explored(), explored().point_cycles, "cycles a sample", theme=theme)
        case "scale_space":
            return scale_space.figure(scale_space_of(), selected=step, theme=theme)
        case "structure":
            return structure.sparsity([weights_of(k) for k in (0, 30)], selected=step, theme=theme)
        case "structure.norms":
            return structure.norms(weights_of(step), theme=theme)
        case "structure.worth":
            return structure.worth(saliency_of(step), theme=theme)
        case "structure.against":
            share = np.linspace(0, 60, len(s.steps))
            top = np.array([c.sharpness for c in curves])
            return structure.against(share, s.steps, top, share / 100, selected=step, theme=theme)
        case "low_rank" | "low_rank.tangent":
            low = [dataclasses.replace(
                weights_of(k), sigma=np.array([3.0, 1.0, 0.5][: 3 - k // 30]), sigma_layers=np.zeros(3 - k // 30, int),
                tangent=np.array([0.9, 0.8]), tangent_values=np.array([4.0, 3.0]), tangent_chance=0.6,
            ) for k in (0, 30)]  # fmt: skip
            if name == "low_rank.tangent":
                return low_rank.tangent(low[1], 2, 0.6, theme=theme)
            return low_rank.ranks(low, np.array([4.0, 5.0]), selected=step, theme=theme)
    raise AssertionError(f"no example for plots/{name}.py: add one")


PARTS = ["structure.norms", "structure.worth", "structure.against", "low_rank.tangent"]  # further figures of one file
every_plot = pytest.mark.parametrize("name", [*plugins.names("landscape.app.plots"), *PARTS])


@every_plot
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_plot_names_its_axes_fixes_their_ranges_and_draws_finite_numbers(name: str, theme: str) -> None:
    assert importlib.import_module(f"landscape.app.plots.{name.partition('.')[0]}").__doc__
    figure = draw(name, theme)
    layout = figure.to_dict()["layout"]
    axes = {k: v for k, v in {**layout, **layout.get("scene", {})}.items() if k[1:].startswith("axis")}
    assert axes
    for axis, value in axes.items():
        if value.get("visible") is False:  # a drawing, as of a searched cell
            continue
        assert value["title"]["text"], axis
        assert axis.startswith("z") or name == "relief" or len(value["range"]) == 2, (
            f"{axis} would rescale on every step"
        )
        texts = value.get("ticktext")
        assert texts is None or (len(texts) >= 2 and len(set(texts)) == len(texts)), (axis, texts)
    for trace in figure.data:
        for field in ("x", "y", "z"):
            values = getattr(trace, field, None)
            if values is not None and len(values):
                drawn = [v for v in values if v is not None]  # an entry of the legend alone has no place
                assert np.isfinite(np.asarray(drawn, dtype=float)).all(), (trace.type, field)
        assert trace.type != "scattergl"  # it evaluates code, which the content security policy forbids
    json.loads(figure.to_json())


def test_a_heatmap_ships_one_byte_a_cell() -> None:
    heat = draw("spectrum_over", "light").data[0]
    assert np.asarray(heat.z).dtype == np.uint8
    assert '"dtype":"u1"' in draw("spectrum_over", "light").to_json()


def test_the_colours_of_densities_are_log_spaced_between_floor_and_ceiling() -> None:
    assert style.base_eight(np.array([0.0, 1e-9, 1e-4, 10**-1.5, 10.0, 1e9])).tolist() == [0, 0, 0, 128, 255, 255]


def test_a_density_drawn_per_unit_u_integrates_to_one() -> None:
    s = series()
    drawn = s.density(30, WIDTH)
    assert np.trapezoid(drawn, s.grid) == pytest.approx(1, abs=1e-3)


def test_contours_have_24_levels_of_log_loss_and_the_marker_sits_on_the_checkpoint() -> None:
    ground, trajectory = softmax_run.plane()
    figure = surface.figure(ground, trajectory, selected=3)
    levels = figure.data[0].contours
    assert (levels.end - levels.start) / levels.size == pytest.approx(24)
    np.testing.assert_allclose(np.asarray(figure.data[0].z), np.log10(ground.loss), rtol=1e-6)
    marker = figure.data[-1]  # and the arrow downhill from it
    assert (marker.x[0], marker.y[0]) == (trajectory.u[3], trajectory.v[3])


def test_a_fraction_is_drawn_as_it_is_and_a_loss_by_its_log() -> None:
    ground, _ = softmax_run.plane()
    share = np.linspace(0.5, 1, ground.loss.size).reshape(ground.loss.shape)
    both = dataclasses.replace(ground, accuracy=share)
    assert list(surfaces.quantities(both)) == ["loss", "accuracy"]
    loss, fraction = (surface.figure(surfaces.showing(both, name)).data[0] for name in ("loss", "accuracy"))
    np.testing.assert_allclose(loss.z, np.log10(ground.loss), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fraction.z, share, rtol=1e-6)
    assert fraction.colorbar.title.text == "train accuracy"
    assert surfaces.showing(both, "nonsense").loss is both.loss


def test_a_surface_with_lost_losses_and_no_trajectory_is_drawn() -> None:
    ground, _ = softmax_run.plane()
    ground.loss[0, :3] = np.nan
    figure = surface.figure(ground, None)
    assert np.isnan(np.asarray(figure.data[0].z, dtype=float)).sum() == 3
    json.loads(figure.to_json())


def test_interpolation_on_the_grid_is_exact_for_bilinear_functions() -> None:
    ground, _ = softmax_run.plane()
    u, v = np.meshgrid(ground.u, ground.v)
    inside = np.random.default_rng(0).uniform(size=(2, 50))
    a = ground.u[0] + inside[0] * np.ptp(ground.u)
    b = ground.v[0] + inside[1] * np.ptp(ground.v)
    found = surface.interpolated(ground, 1 + 2 * u - 3 * v + u * v, a, b)
    np.testing.assert_allclose(found, 1 + 2 * a - 3 * b + a * b, atol=1e-9)
    assert np.isnan(surface.interpolated(ground, u, np.array([ground.u[-1] + 1]), b[:1])).all()


@pytest.mark.parametrize("module", [density, scree, surface, relief, ridge])
def test_a_step_patches_only_traces_that_the_figure_has(module: Any) -> None:
    ground, trajectory = softmax_run.plane()
    patches = {
        density: lambda: density.move(series().grid, None, message="gone"),
        scree: lambda: scree.move(pairs()[10], top=4),
        surface: lambda: surface.move(trajectory, 2),
        relief: lambda: relief.move(ground, trajectory, 2),
        ridge: lambda: ridge.move(series().steps, 20, "light"),
    }
    name = module.__name__.rpartition(".")[2]
    count = len(draw(name, "light").data)
    operations = patches[module]().to_plotly_json()["operations"]
    moved = {o["location"][1] for o in operations if o["location"][0] == "data"}
    assert moved
    assert max(moved) < count


def test_a_step_of_a_few_numbers_costs_a_few_bytes() -> None:
    patch = style.move_cursor(3.0).to_plotly_json()
    assert len(json.dumps(patch)) < 400


@given(st.floats(-12, 6), st.floats(0.31, 12))
def test_log_ticks_are_few_distinct_and_inside(low: float, width: float) -> None:
    values, texts = axes.log_ticks(low, low + width)
    assert 2 <= len(values) <= 8
    assert len(set(texts)) == len(texts)
    assert all(low - 1e-6 <= math.log10(v) <= low + width + 1e-6 for v in values)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9000).map(np.array))
def test_thinning_keeps_spikes(values: Any) -> None:
    steps, kept = style.thin(np.arange(len(values), dtype=float), values, most=100)
    assert len(kept) <= max(len(values) if len(values) <= 100 else 102, 1)
    assert kept.max() == values.max()
    assert kept.min() == values.min()
    assert np.all(np.diff(steps) > 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.5451, "9.55"), (1500.0, "1,500"), (0, "0"), (-0.0078, "−0.00780"), (4.5e-7, "4.5e−7"), (None, "–"),
     (float("nan"), "–"), (float("inf"), "∞"), (96.4, "96.4"), (2.5e9, "2.5e9")],
)  # fmt: skip
def test_numbers_are_written_for_people(value: float | None, text: str) -> None:
    assert numbers.number(value) == text


def test_a_saddle_is_called_one_only_beyond_three_residuals() -> None:
    step, weights = 60, softmax_run.trained()[1][-1]
    _, e = softmax_run.spectrum(step, weights)
    doubtful = type(e)(
        **{**e.__dict__, "lowest_values": np.array([-0.01, 0.0]), "lowest_residuals": np.array([0.005, 0.0])}
    )
    certain = type(e)(
        **{**e.__dict__, "lowest_values": np.array([-0.02, 0.0]), "lowest_residuals": np.array([0.005, 0.0])}
    )
    assert not facts.curvature(step, None, doubtful).saddle
    assert facts.curvature(step, None, doubtful).saddle_text == "no eigenvalue below −0.01: minimum to this accuracy"
    assert facts.curvature(step, None, certain).saddle_text.endswith("saddle")
    assert facts.curvature(step, None, certain).saddle_text.startswith("at least 1 of")


def test_a_share_of_negative_eigenvalues_is_told_as_the_band_that_it_is_known_to() -> None:
    spectrum, _ = softmax_run.spectrum(60, softmax_run.trained()[1][-1])
    found = facts.curvature(60, spectrum, None)
    assert found.negative_low <= found.negative <= found.negative_high
    wide = facts.Curvature(0, lowest=-1.0, negative=0.058, negative_low=0.0381, negative_high=0.0776, size=2410)
    assert wide.saddle_text == "92 to 187 of 2,410 below −0.001: saddle"
    assert wide.negative_percent == "3.8 to 7.8 %"
    sure = facts.Curvature(0, lowest=-1.0, negative=0.1, negative_low=0.1, negative_high=0.1, size=50)
    assert (sure.negative_counts, sure.negative_percent) == ("5", "10 %")


def test_the_path_figure_compares_with_the_straight_lines_and_draws_separated_eigenspaces_only() -> None:
    path = path_record()
    curves = [facts.curvature(0, path.spectra[0], path.eigenpairs[0])]
    points, pairs = len(path.t), len(path.eigenpairs[0].values)
    overlap = np.broadcast_to(np.eye(pairs), (points, pairs, pairs)).copy()
    path = dataclasses.replace(
        path, shape="elastic_band", straight_loss=path.loss + 1, unaligned_loss=path.loss + 2, overlap_a=overlap,
        overlap_b=overlap,
    )  # fmt: skip
    traces = {trace.name: trace for trace in along.figure(path, curves).data}
    np.testing.assert_array_equal(traces["straight line"].y, path.loss + 1)
    np.testing.assert_array_equal(traces["straight, not aligned"].y, path.loss + 2)
    largest = max(overlaps.along(path))
    np.testing.assert_array_equal(traces[f"top {largest} eigenvectors in A's"].y, np.ones(points))
    double = [dataclasses.replace(p, values=np.ones(pairs)) for p in path.eigenpairs]
    same = along.figure(dataclasses.replace(path, eigenpairs=double), curves)
    assert not [trace.name for trace in same.data if "eigenvectors" in (trace.name or "")]


# ------------------------------------------------------------------ several runs on one plane


def test_other_runs_have_names_and_leave_the_runs_own_traces_where_they_are() -> None:
    ground, trajectory = softmax_run.plane()
    visitor = guest("other")
    figure = surface.figure(ground, trajectory, selected=3)
    before = [trace.x for trace in figure.data]
    guests.add(figure, ground, [visitor], "mine", "light")
    for trace, x in zip(figure.data, before, strict=False):
        np.testing.assert_array_equal(trace.x, x)
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == [None, "mine", "other"]
    np.testing.assert_array_equal(figure.data[-1].x, visitor.u)
    assert figure.layout.showlegend
    raised = relief.figure(ground, trajectory, selected=3)
    guests.add_raised(raised, ground, [visitor], "mine")
    assert [trace.name for trace in raised.data if trace.showlegend is not False] == ["mine", "other"]
    alone = surface.figure(ground, trajectory, selected=3)
    guests.add(alone, ground, [], "mine", "light")
    assert not alone.layout.showlegend


def test_a_line_is_drawn_as_a_curve_through_its_checkpoint() -> None:
    ground, _ = softmax_run.plane()
    figure = line.figure(one_row(ground), theme="dark")
    np.testing.assert_array_equal(figure.data[0].y, ground.loss[7])
    assert figure.data[-1].x == (0.0,)


def test_the_projection_shows_what_the_plane_holds_of_distance_and_gradient() -> None:
    _, trajectory = softmax_run.plane()
    held = {trace.name: trace.y for trace in projection.figure(trajectory).data if trace.yaxis == "y3"}
    share = 1 - (trajectory.off_plane[:-1] / trajectory.distance[:-1]) ** 2  # the last is the origin
    np.testing.assert_allclose(held["squared distance in the plane"], 100 * share, rtol=1e-9)
    assert 0 < min(held["gradient in the plane"]) <= max(held["gradient in the plane"]) <= 100
    without = dataclasses.replace(trajectory, gradient_norm=None)
    assert "gradient in the plane" not in {trace.name for trace in projection.figure(without).data}


def test_the_arrow_points_downhill_in_the_plane_as_long_as_its_share_of_the_gradient() -> None:
    ground, trajectory = softmax_run.plane()
    for i in (0, 3):
        tip = guests.downhill(ground, trajectory, i)
        drawn = surface.marker(trajectory, i, tip)
        way = np.array([drawn["x"][-1] - drawn["x"][0], drawn["y"][-1] - drawn["y"][0]])
        slope = np.array([trajectory.gradient_u[i], trajectory.gradient_v[i]])
        assert way @ slope == pytest.approx(-np.linalg.norm(way) * np.linalg.norm(slope))
        share = np.linalg.norm(slope) / trajectory.gradient_norm[i]
        assert np.max(np.abs(way) / [np.ptp(ground.u), np.ptp(ground.v)]) == pytest.approx(share / 7)
        assert (drawn["x"][0], drawn["y"][0]) == (trajectory.u[i], trajectory.v[i])
    assert guests.downhill(ground, trajectory, -1) is None
    assert guests.downhill(ground, dataclasses.replace(trajectory, gradient_u=None), 0) is None


# ------------------------------------------------------------------ volumes


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_the_stored_loss_and_its_frame_lies_in_it(axis: int) -> None:
    stored = softmax_run.volume()
    grids = (stored.u, stored.v, stored.w)
    across, down = (a for a in range(3) if a != axis)
    index = 4
    figure = volume.slice_figure(stored, axis=axis, index=index)
    values = np.asarray(figure.data[0].z)
    for i, j in ((0, 0), (2, 5), (6, 1)):
        place = dict(zip((axis, across, down), (index, j, i), strict=True))
        assert values[i, j] == pytest.approx(np.log10(stored.loss[place[2], place[1], place[0]]), rel=1e-5)
    np.testing.assert_array_equal(figure.data[0].x, grids[across])
    frame = volume.frame(stored, axis, index)
    assert set(frame["xyz"[axis]]) == {grids[axis][index]}
    assert sorted(set(frame["xyz"[across]])) == [grids[across][0], grids[across][-1]]


def test_another_slice_patches_only_traces_that_the_figures_have() -> None:
    stored = softmax_run.volume()
    for patch, figure in ((volume.move(stored, 2, 1), volume.figure(stored)),
                          (volume.slice_move(stored, 2, 1), volume.slice_figure(stored))):  # fmt: skip
        moved = {o["location"][1] for o in patch.to_plotly_json()["operations"]}
        assert moved
        assert max(moved) < len(figure.data)


def test_a_large_volume_ships_a_bounded_number_of_points_and_lost_losses_are_outside() -> None:
    points = 60
    line = np.linspace(-1, 1, points)
    w, v, u = np.meshgrid(line, line, line, indexing="ij")
    loss = 1 + u**2 + 2 * v**2 + 3 * w**2
    loss[0, 0] = np.nan
    small = softmax_run.volume()
    large = dataclasses.replace(small, u=line, v=line, w=line, loss=loss)
    skin = volume.figure(large).data[0]
    assert len(skin.value) <= volume.MOST
    assert len(volume.figure(large).to_json()) < 1_500_000
    x, y, z, value = (np.asarray(a) for a in (skin.x, skin.y, skin.z, skin.value))
    assert [x.min(), x.max(), z.min(), z.max()] == [-1, 1, -1, 1]
    kept = value < skin.cmax
    np.testing.assert_allclose(value[kept], np.log10(1 + x**2 + 2 * y**2 + 3 * z**2)[kept], rtol=1e-4)
    assert (value[(y == -1) & (z == -1)] > skin.isomax).all()
    empty = dataclasses.replace(large, loss=np.full_like(loss, np.nan))
    json.loads(volume.figure(empty).to_json())
    json.loads(volume.slice_figure(empty).to_json())


def test_an_accuracy_is_drawn_on_a_linear_scale_by_its_upper_half() -> None:
    stored = softmax_run.volume()
    share = np.linspace(0.1, 0.9, stored.loss.size).reshape(stored.loss.shape)
    shown = surfaces.showing(dataclasses.replace(stored, accuracy=share), "accuracy")
    skin = volume.figure(shown).data[0]
    assert skin.isomin == pytest.approx(0.5)
    assert skin.isomax == pytest.approx(np.quantile(share, 0.97))
    assert skin.colorbar.title.text == "train accuracy"
    np.testing.assert_allclose(np.asarray(skin.value), share.ravel(), rtol=1e-6)
