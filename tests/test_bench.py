"""Benchmarks: each runs in its quick size, and its numbers that are no timings are right."""

from __future__ import annotations

import argparse
import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from landscape import cli, plugins
from landscape.distributed import parallel
from landscape.distributed.parallel import Comm
from landscape.engine.strategies import STRATEGIES
from landscape.errors import UsageError
from landscape.jobs import bench
from landscape.jobs.benches import _case, _scaling, _spectra, _subjects, _tables, _timing, hvp, peers

Records = list[dict[str, Any]]
SHIPPED = [name for name in hvp.TARGETS if name in plugins.names("landscape.problems")]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(list(words))


def tables(name: str, *words: str) -> list[Records]:
    """The tables of a quick run, each as rows by column name."""
    module = plugins.load(bench.BENCHES, name)
    return [table.records() for table in module.measure(parsed(name, "--quick", "--repeats", "1", *words))]


# ---------------------------------------------------------------------- the command


def test_help_names_every_benchmark_and_each_says_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    for name in plugins.names(bench.BENCHES):
        first = (plugins.load(bench.BENCHES, name).__doc__ or "").partition("\n")[0]
        assert first.endswith(".")
        assert f"\n    {name}" in text
    assert "rivals" not in plugins.names(bench.BENCHES)  # a folder inside a registry is a registry of its own


def test_a_benchmark_replaces_its_own_section_of_a_file_and_no_more(tmp_path: Path) -> None:
    file = tmp_path / "docs" / "numbers.md"
    for name, number in (("one", 1.5), ("two", 2.5), ("one", 3.5)):
        section = _tables.Section(name, "About.", lambda line: None)
        section.add(_tables.Table("Title", {"what": "", "n": ".1f", "holds": ""}, iter([("a|b", number, True)])))
        section.write(file)
        if name == "one" and number == 1.5:
            file.write_text("# By hand\n\n" + file.read_text())
    text = file.read_text()
    assert text.startswith("# By hand\n")
    assert text.count("<!-- bench one -->") == text.count("<!-- end of one -->") == 1
    assert text.index("bench one") < text.index("bench two")
    assert "| a/b | 3.5 | yes |" in text
    assert "1.5" not in text
    assert "| --- | ---: | --- |".replace(" ", "") in text.replace(" ", "")
    assert "torch 2" in text
    assert "cores" in text
    assert [path.name for path in file.parent.iterdir()] == ["numbers.md"]


def test_the_command_prints_and_writes_the_same_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "hvp", "digits_mlp", "--quick", "--widths", "2", "--repeats", "1"]
    assert cli.main([*words, "--markdown", str(tmp_path / "b.md")]) == 0
    said = capsys.readouterr().out.strip()
    assert said in (tmp_path / "b.md").read_text()
    assert "| digits_mlp | 610 | 200 |" in said


def test_one_process_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Comm()
    two.size = 2
    monkeypatch.setattr(parallel, "world", lambda: two)
    with pytest.raises(UsageError, match="runs as one process"):
        bench.run(parsed("hvp"))


# ---------------------------------------------------------------------- products


@pytest.mark.parametrize("problem", SHIPPED)
def test_hvp_products_agree_and_cost_what_they_must_in_flops(problem: str) -> None:
    (rows,) = tables("hvp", problem, "--widths", "1", "4")
    assert [row["block"] for row in rows] == [1, 4]
    for row in rows:
        if row["weights"] is None:
            pytest.skip(row["problem"])  # its data is not installed
        assert row["relative difference"] < 1e-5
        assert row["FLOPs rebuilt"] - row["FLOPs kept"] == pytest.approx(1, abs=0.02)  # a gradient's graph
        assert min(row["product / gradient"], row["built anew"], row["plain, kept"], row["choosing, s"]) > 0
        assert row["chosen"].partition(",")[0] in STRATEGIES
        assert 1 <= row["rows a batch"] <= row["samples"]
    assert sorted([row["target"] for row in rows], key=str) == [hvp.TARGETS[problem], None]  # for the better width


def test_a_problem_that_cannot_be_had_is_a_row_that_says_so() -> None:
    (rows,) = tables("hvp", "no_such_problem")
    assert len(rows) == 1
    assert "there is no problem 'no_such_problem'" in rows[0]["problem"]


def test_the_references_are_the_hessian() -> None:
    problem = _spectra.diagonal_problem(np.linspace(-1, 2, 12))
    theta, identity = problem.weights(), torch.eye(12, dtype=torch.float64)
    for product in (_subjects.recomputed(problem, theta), _subjects.kept(problem, theta)):
        np.testing.assert_allclose(product(identity), np.diag(np.linspace(-1, 2, 12)), atol=1e-15)
    np.testing.assert_allclose(_subjects.gradient(problem, theta), np.linspace(-1, 2, 12), atol=1e-15)


def test_all_data_in_one_batch_have_the_same_gradient() -> None:
    problem = _subjects.SUBJECTS["digits_mlp"].build("digits_mlp", quick=False, seed=0)
    one = _subjects.joined(problem)
    assert (len(problem.batches), len(one.batches)) == (8, 1)
    theta = problem.weights()
    torch.testing.assert_close(_subjects.gradient(one, theta), _subjects.gradient(problem, theta), rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------- accuracy


def test_density_errors_fall_with_products_and_the_top_is_exact() -> None:
    accuracy, top, cost = tables("density")
    errors = {(row["operator"], row["method"]): row["W1 / range"] for row in accuracy}
    assert len(errors) == 10
    for operator in {row["operator"] for row in accuracy}:
        assert errors[operator, "ours 4 x 100"] < errors[operator, "ours 4 x 50"] < errors[operator, "ours 4 x 25"]
        assert errors[operator, "ours 4 x 50"] < errors[operator, "plain 10 x 80"]  # a quarter of the products
    for row in top:
        assert row["bounds hold"]
        assert row["largest error / norm"] < row["target"]
    assert [row["problem"].partition(":")[0] for row in cost] == list(_subjects.SUBJECTS)
    for row in cost:
        if row["samples"] is not None:  # its data is installed
            assert row["plain / all"] < row["plain / density"]


def test_eigenpairs_have_the_residual_that_was_wanted_and_bounds_that_hold() -> None:
    (rows,) = tables("eigenpairs", "digits_mlp")
    assert {row["method"] for row in rows} == {"ours", "unchecked", "ARPACK", "ARPACK, default"}
    spent = {(row["problem"], row["pairs"], row["method"]): row["products"] for row in rows}
    assert all(count <= spent[*where, "ours"] for (*where, method), count in spent.items() if method == "unchecked")
    for row in rows:
        assert row["worst residual"] < 1.01 * row["residual wanted"]
        assert row["worst error"] <= row["worst residual"] + 1e-6
        assert row["products"] >= row["pairs"]
        if row["method"] == "ours":
            assert row["bounds hold"]


def test_coverage_looks_at_every_interval() -> None:
    found = tables("coverage", "--seeds", "5")
    for rows in found[::2]:
        names = [row["interval"] for row in rows]
        assert {"trace", "Frobenius norm", "share below 0 λmax", "signs: negative", "signs: unresolved"} <= set(names)
        assert any(name.startswith("CDF band") for name in names)
        held = [float(cell.partition(",")[0]) for row in rows for what, cell in row.items() if what != "interval"]
        assert 0.8 < np.mean(held) <= 1
        assert "5 x 40, block 5" in rows[0]
    for rows in found[1::2]:
        assert [row["products"] for row in rows] == [30, 60, 120]


def test_videos_are_counted_and_weighed() -> None:
    (rows,) = tables("video", "--films", "path", "--sizes", "640x360", "--formats", ".mp4")
    (row,) = rows
    assert (row["film"], row["frames"], row["processes"]) == ("path", 30, 1)
    assert row["drawn / CPU s"] > 0
    assert 0.01 < row["file, MB"] < 5


def test_distances_of_measures_and_curves_to_points() -> None:
    exact = np.array([0.0, 1.0])
    assert _case.measure_distance(np.array([0.5]), np.array([1.0]), exact) == pytest.approx(0.5)
    assert _case.measure_distance(np.array([1.0, 0.0]), np.array([0.5, 0.5]), exact) == 0
    grid = np.linspace(0, 1, 1001)
    assert _case.curve_distance((grid, np.ones(1001)), exact) == pytest.approx(0.25, abs=1e-3)  # uniform on [0, 1]
    narrow = np.exp(-0.5 * ((grid - 0.5) / 0.01) ** 2)
    wide = 0.01 * math.sqrt(2 / math.pi)
    assert _case.curve_distance((grid, narrow), np.array([0.5])) == pytest.approx(wide, rel=0.02)


# ---------------------------------------------------------------------- ranks and memory


@pytest.mark.mpi
def test_ranks_exchange_the_modelled_bytes_and_agree(needs_mpirun: None) -> None:
    efficiency, traffic, modelled = tables("ranks", "--problem", "digits_mlp")
    for row in efficiency:
        assert row["nodes differ, float32"] < 1e-5
        assert row["nodes differ, float64"] < 1e-12
        assert row["eigenvalues differ, float64"] < 1e-12
    assert [row["ranks"] for row in traffic] == [1, 2]
    for row in traffic:
        assert row["collectives a block product"] == (0 if row["ranks"] == 1 else 2)
        assert row["messages"] == 2 * (row["ranks"] - 1)
        assert row["bytes a rank and vector"] == pytest.approx(row["model"], rel=1e-3)
    for row in modelled:
        shares = [row[f"P = {p}"] for p in (8, 64, 256, 1024)]
        assert 0 < shares[3] < shares[2] < shares[1] < shares[0] < 1


def test_the_scaling_model_in_closed_form() -> None:
    same = {"bandwidth": 1e9, "latency": 1e-6, "reductions": 3}
    assert _scaling.modelled_efficiency(1.0, 1e6, 1, **same | {"bandwidth": math.inf}) == 1  # type: ignore[arg-type]
    # T1 / P = 1/4 s; 0.25 s on the wire; 8 messages x 2 hops x 1 us
    assert _scaling.modelled_efficiency(1.0, 0.25e9, 4, **same) == pytest.approx(0.25 / (0.5 + 16e-6))  # type: ignore[arg-type]
    assert _scaling.modelled_bytes(100, 1, 4) == 0
    assert _scaling.modelled_bytes(100, 4, 4) == 600


@pytest.mark.mpi
def test_memory_of_the_basis_is_shared_by_the_ranks(needs_mpirun: None) -> None:
    (rows,) = tables("memory", "--size", "50000")
    one, two = rows
    assert one["basis vectors held"] >= one["vectors"] == one["products"] + 4 == 44
    assert one["basis a rank, MB"] == pytest.approx(4 * one["basis vectors held"] * 50_000 / 1e6)
    assert two["basis a rank, MB"] == pytest.approx(one["basis a rank, MB"] / 2)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system tells no peak")
def test_the_peak_of_a_call_is_seen() -> None:
    assert 60e6 < (_timing.peak_bytes(lambda: np.ones(8_000_000).sum()) or 0) < 120e6
    assert (_timing.peak_bytes(lambda: None) or 0) < 5e6


# ---------------------------------------------------------------------- peers


def engine(**parts: Any) -> Any:
    """A rival that is nothing but what it is given; it is 'installed' because numpy is."""
    return SimpleNamespace(MODULE="numpy", DISTRIBUTION="numpy", **parts)


@pytest.fixture(scope="module")
def known() -> tuple[_case.Case, Any]:
    return peers._known(parsed("peers", "--quick"))


def test_peers_that_are_missing_or_raise_are_rows_that_say_so(known: tuple[_case.Case, Any]) -> None:
    case, exact = known
    args = parsed("peers", "--quick", "--repeats", "1")

    def broken(*_: Any) -> Any:
        raise RuntimeError("torch.eig is gone\nsecond line")

    rivals = {
        "absent": SimpleNamespace(MODULE="no_such_engine", DISTRIBUTION="no-such-engine"),
        "broken": engine(product=broken, top=broken, EFFORTS=({},), slq=broken),
        "right": engine(product=lambda c: _subjects.recomputed(c.problem, c.problem.weights())),
        "wrong": SimpleNamespace(MODULE="scipy", DISTRIBUTION="scipy", product=lambda c: lambda block: 2 * block),
    }
    rows = list(peers._products_of("digits_mlp", case.problem, case, rivals, args))
    texts = [row[1] for row in rows]
    assert texts[0].startswith("landscape: ")
    assert "no-such-engine: not installed" in texts
    assert f"numpy {np.__version__}: RuntimeError: torch.eig is gone" in texts
    assert texts[-1] == f"best that is right: numpy {np.__version__}"
    assert max(row[7] for row in rows[:2]) < 1e-5
    for part in (peers._tops, peers._densities):
        said = [row[0] for row in part(rivals, case, exact, args)]
        assert "no-such-engine: not installed" in said
        assert f"numpy {np.__version__}: does not offer this" in said
        assert any("torch.eig is gone" in text for text in said)


@pytest.mark.parametrize("name", plugins.names(peers.RIVALS))
def test_an_installed_peer_multiplies_by_the_same_hessian(name: str, known: tuple[_case.Case, Any]) -> None:
    rival, (case, exact) = plugins.load(peers.RIVALS, name), known
    if importlib.util.find_spec(rival.MODULE) is None:
        pytest.skip(f"{rival.DISTRIBUTION} is not installed (extra [peers])")
    block = torch.randn(case.problem.size, 2, generator=torch.Generator().manual_seed(0))
    reference = _subjects.recomputed(case.problem, case.problem.weights())(block)
    torch.testing.assert_close(rival.product(case)(block), reference, rtol=1e-4, atol=1e-5)
    if hasattr(rival, "top"):
        pairs = rival.top(case, 2, 0, **rival.EFFORTS[-1])
        assert pairs.values == pytest.approx(exact[::-1][:2], rel=1e-3)
        assert pairs.vectors.shape == (2, case.problem.size)
        assert pairs.products > 2
    if hasattr(rival, "slq") and name != "pyhessian":  # its released density does not run
        found = rival.slq(case, 2, 10, 0)
        assert found.weights.sum() == pytest.approx(1)
        assert _case.measure_distance(found.nodes, found.weights, exact) < 0.05 * (exact[-1] - exact[0])


# ---------------------------------------------------------------------- surfaces


def test_surfaces_agree_with_point_by_point_and_an_adaptive_grid_with_the_full_one() -> None:
    rows, clock, bound, adaptive = tables("surface", "digits_mlp")
    forward, point = bound
    assert float(forward["products, MFLOP"]) > float(point["products, MFLOP"]) > 0  # the first layer is not computed
    assert forward["exp, log, tanh"] != "0"
    assert clock[0]["points a second"] > 0
    assert "2 ranks" in clock[0]["surface by"]
    ours, plain = rows[:2]
    assert ours["relative difference"] < 1e-4
    assert ours["target"] == 0.5
    assert plain["surface by"] == "landscape, point by point"
    assert min(row["ms a point"] for row in rows if row["ms a point"] is not None) > 0
    (row,) = adaptive
    assert row["share measured"] < 1
    assert row["largest error"] <= row["tolerance"]


def test_nudged_invariants_hold_and_a_difference_within_its_interval_is_none() -> None:
    nudged = plugins.load(bench.BENCHES, "nudged")
    assert all(row[-1] for row in nudged._invariants(0))
    adam, other = ([[{"pixel_fid": v}] for v in values] for values in ((4.0, 5.0, 6.0), (3.0, 4.1, 4.9)))
    assert nudged._verdict(adam, other, "pixel_fid", "post") == ("-1 ± 0.25", "better")
    assert nudged._verdict(adam, [other[0], *adam[1:]], "pixel_fid", "post")[1] == "no difference seen"
    assert nudged._verdict(adam, [[], [], []], "pixel_fid", "post") == ("", "diverged")
