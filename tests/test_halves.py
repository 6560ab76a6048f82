"""Sampling errors: exact against dense matrices of parts, calibrated over draws, the same on any number of ranks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from exact import dense, mlp_problem

from landscape import cli
from landscape.distributed.parallel import Comm
from landscape.engine.halves import half_spectrum, halves_at, quotients, split_seed
from landscape.engine.products import Products
from landscape.engine.spectrum import spectrum_at
from landscape.evidence import normalised
from landscape.readings import sampling
from landscape.records import Eigenpairs, Halves
from landscape.stores.run_directory import Run

COMM = Comm()


def small(samples: int = 240):
    return mlp_problem(hidden=4, epochs=3, samples=samples, batch_size=64)


@pytest.mark.parametrize("operator", ["hessian", "gauss_newton", "hessian - 0.5*gauss_newton"])
def test_quotients_are_those_of_the_dense_matrices_and_average_to_the_whole(operator: str) -> None:
    problem = small()
    parts = problem.parts(seed=3)
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(problem.size, 6)))[0].T  # (6, size)
    found = quotients(parts, problem.weights(), COMM, vectors, operator)
    for k in (0, len(parts) - 1):
        exact = np.einsum("in,nm,im->i", vectors, dense(parts[k], operator), vectors)
        np.testing.assert_allclose(found[k], exact, atol=1e-12)
    n = np.array([p.samples for p in parts])
    whole = np.einsum("in,nm,im->i", vectors, dense(problem, operator), vectors)
    np.testing.assert_allclose(n @ found / n.sum(), whole, atol=1e-12)


def test_halves_have_the_spectra_of_their_own_samples_and_their_edges_lie_further_out() -> None:
    problem = small()
    vector = problem.weights()
    _, pairs = spectrum_at(problem, vector, COMM, top=4, bottom=2, iterations=20)
    record = halves_at(problem, vector, COMM, vectors=pairs.vectors, top=4, bottom=2, iterations=20, seed=1, step=7)
    both = problem.halves(split_seed(1, 7))
    for k, half in enumerate(both):
        exact = np.linalg.eigvalsh(dense(half))
        np.testing.assert_allclose(record.values[k], exact[::-1][:4], rtol=1e-7)
        np.testing.assert_allclose(record.lowest_values[k], exact[:2], rtol=1e-6, atol=1e-9)
    found = sampling.sampling(record, pairs)
    # The largest eigenvalue is a convex function of the matrix, the smallest a concave one.
    assert found.sharpness_shift > 0 > found.lowest_shift
    assert (found.samples, found.freedom) == (240, len(record.part_samples) - 1)
    other = half_spectrum(both[1], vector, COMM, top=4, bottom=2, iterations=20, seed=1, step=7)
    nodes, weights = (record.nodes[1], record.weights[1])
    np.testing.assert_allclose(np.nansum(nodes * weights, axis=1), (other["nodes"] * other["weights"]).sum(axis=1))
    traces = problem.size * np.nansum(record.nodes * record.weights, axis=(1, 2)) / record.nodes.shape[1]
    np.testing.assert_allclose(traces, [np.trace(dense(h)) for h in both], rtol=0.1)
    assert found.trace == pytest.approx(abs(traces[0] - traces[1]) / 2)


def test_the_error_of_a_mean_is_the_textbooks() -> None:
    x = np.random.default_rng(0).normal(size=(8, 3))
    np.testing.assert_allclose(sampling.standard_error(x, np.full(8, 5.0)), x.std(axis=0, ddof=1) / np.sqrt(8))
    assert sampling.standard_error([1.0, 4.0], [10, 10]) == pytest.approx(1.5)  # half the difference
    assert sampling.pooled([1.0, 7.0, np.nan], [10.0, 10.0, 1.0]) == pytest.approx(np.sqrt((0.01 + 0.49) / 2))
    assert sampling.finite_population(2.0, 75, 100) == pytest.approx(1.0)
    one = (np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    assert sampling.distance(one, (np.array([0.25, 1.5]), np.array([0.5, 0.5]))) == pytest.approx(0.375)


def test_error_bars_of_the_sharpness_cover_that_of_all_samples_in_about_the_right_share_of_draws() -> None:
    everything = mlp_problem(hidden=4, epochs=3, batch_size=2000)
    vector, plain = everything.weights(), Products(strategy="kept")  # nothing is timed
    truth, top = np.linalg.eigvalsh(dense(everything))[-1], []
    for seed in range(24):
        drawn = everything.subset(600, seed)
        _, pairs = spectrum_at(
            drawn, vector, COMM, top=1, bottom=0, iterations=5, tolerance=1e-4, check=False, products=plain
        )
        record = halves_at(drawn, vector, COMM, spectra=False, vectors=pairs.vectors, top=1, seed=seed)
        error = sampling.finite_population(sampling.sampling(record, pairs).sharpness, 600, everything.samples)
        top.append((float(pairs.values[0]) - truth, error))
    off, errors = np.array(top).T
    covered = np.mean(np.abs(off) < 2.13 * errors)  # t of 15 degrees of freedom, 95 %
    assert covered >= 0.75
    assert 0.5 < np.sqrt(np.mean(off**2) / np.mean(errors**2)) < 2.0


def test_words_say_what_more_samples_would_do() -> None:
    text = "half the samples give a sharpness 12 % larger: more samples would lower it"
    assert sampling.shift_text(0.12, 1.0) == text
    assert sampling.shift_text(0.001, 1.0) == sampling.shift_text(float("nan"), 1.0) == ""
    meta = {"sampling": {"rule": "class-balanced", "rows": 512, "of": 1438, "seed": 0}}
    assert sampling.described(meta) == "512 of 1,438 training samples (class-balanced, seed 0)"


# ------------------------------------------------------------------ the job

FAST = ("--samples", "200", "--probes", "2", "--iterations", "8", "--top", "3", "--checkpoints", "0,20")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with halves of a subset at two checkpoints."""
    target = tmp_path_factory.mktemp("halves") / "adam"
    words = ("--problem-set", "hidden=8", "--steps", "20", "--checkpoint-every", "20", "--set", "lr=0.02")
    assert cli.main(["train", "digits_mlp", *words, "--out", str(target)]) == 0
    assert cli.main(["spectrum", str(target), *FAST, "--halves"]) == 0
    return target


def test_the_job_stores_halves_and_names_the_rows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Run(run)
    assert store.steps("halves", "hessian") == [0, 20]
    halves, pairs = store.read("halves-hessian-00000020"), store.read("eigenpairs-hessian-00000020")
    assert sampling.fits(halves, pairs)
    assert halves.samples.tolist() == [100, 100]
    assert pairs.meta["sampling"]["digest"] == pairs.meta["settings"]["rows"]
    assert (pairs.meta["sampling"]["rows"], pairs.meta["sampling"]["rule"]) == (200, "class-balanced")
    assert len({p["digest"] for p in halves.meta["parts"]}) == len(halves.part_samples)
    n = halves.part_samples
    np.testing.assert_allclose(n @ halves.quotients / n.sum(), pairs.values, rtol=1e-4, atol=1e-6)
    before = (run / "records/halves-hessian-00000020/meta.json").stat().st_mtime_ns
    assert cli.main(["spectrum", str(run), *FAST, "--halves"]) == 0
    assert "sampling error of 200 samples at step 20: sharpness ±" in capsys.readouterr().out
    assert (run / "records/halves-hessian-00000020/meta.json").stat().st_mtime_ns == before


def test_a_finished_half_is_not_computed_again(run: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    copy = tmp_path / "adam"
    shutil.copytree(run, copy)
    store = Run(copy)
    shutil.rmtree(copy / "records/halves-hessian-00000020")
    calls: list[int] = []

    def stop(half, vector, comm, **options):  # type: ignore[no-untyped-def]
        calls.append(half.samples)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return half_spectrum(half, vector, comm, **options)

    monkeypatch.setattr("landscape.engine.halves.half_spectrum", stop)
    assert cli.main(["spectrum", str(copy), *FAST, "--halves"]) != 0
    assert not store.has("halves-hessian-00000020")
    assert cli.main(["spectrum", str(copy), *FAST, "--halves"]) == 0
    assert len(calls) == 3  # one half, the stopped one, and that one again
    again, first = store.read("halves-hessian-00000020"), Run(run).read("halves-hessian-00000020")
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)


def test_ranks_do_not_change_halves(run: Path, tmp_path: Path, landscape, needs_mpirun: None) -> None:  # type: ignore[no-untyped-def]
    copy = tmp_path / "adam"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("records"))
    done = landscape("spectrum", copy, *FAST[:-1], "20", "--halves", ranks=2)
    assert done.returncode == 0, done.stderr
    one, two = (Run(r).read("halves-hessian-00000020") for r in (run, copy))
    for name, array in one.arrays().items():
        np.testing.assert_allclose(two.arrays()[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


def test_halves_of_an_older_spectrum_are_not_shown(run: Path) -> None:
    store = Run(run)
    halves, pairs = store.read("halves-hessian-00000020"), store.read("eigenpairs-hessian-00000020")
    changed = {**pairs.meta, "settings": normalised({**pairs.meta["settings"], "samples": 300})}
    newer = Eigenpairs(**{**pairs.__dict__, "meta": changed})
    assert not sampling.fits(halves, newer)
    assert isinstance(halves, Halves)


def test_error_bars_alone_need_no_run_of_the_halves_but_the_vectors(run: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    copy = tmp_path / "adam"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "records/halves-hessian-00000020")
    words = ["spectrum", str(copy), *FAST[:-1], "20"]
    assert cli.main([*words, "--error-bars", "--no-vectors"]) == 2
    assert "needs the eigenvectors" in capsys.readouterr().err
    assert cli.main([*words, "--error-bars"]) == 0
    assert Run(copy).read("halves-hessian-00000020").nodes is None
    assert cli.main([*words, "--halves"]) == 0  # the rest is added
    assert Run(copy).read("halves-hessian-00000020").nodes is not None


def test_error_bars_of_eigenpairs_alone_are_made_without_densities(run: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    copy = tmp_path / "adam"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("records"))
    words = ["spectrum", str(copy), "--samples", "200", "--top", "3", "--checkpoints", "20", "--eigenpairs"]
    assert cli.main([*words, "--halves"]) == 2
    assert "--halves compares densities" in capsys.readouterr().err
    assert cli.main([*words, "--error-bars"]) == 0
    assert "sharpness ±" in capsys.readouterr().out
    store, with_density = Run(copy), Run(run).read("halves-hessian-00000020")
    halves, pairs = store.read("halves-hessian-00000020"), store.read("eigenpairs-hessian-00000020")
    assert not store.steps("spectrum", "hessian")
    assert halves.nodes is None
    assert sampling.fits(halves, pairs)
    n = halves.part_samples
    np.testing.assert_allclose(n @ halves.quotients / n.sum(), pairs.values, rtol=1e-4, atol=1e-6)
    errors = sampling.sampling(halves, pairs).errors
    np.testing.assert_allclose(errors, sampling.sampling(with_density).errors, rtol=0.02)
    before = (copy / "records/halves-hessian-00000020/meta.json").stat().st_mtime_ns
    assert cli.main([*words, "--error-bars"]) == 0  # nothing is made twice
    assert (copy / "records/halves-hessian-00000020/meta.json").stat().st_mtime_ns == before


def test_export_tells_the_errors(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(run), "--record", "halves"]) == 0
    first, last = json.loads(capsys.readouterr().out)
    assert (first["step"], last["step"]) == (0, 20)
    assert len(last["errors"]) == 3
    assert last["trace_error"] > 0
    assert cli.main(["export", str(run), "--record", "halves", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("step,operator,end,index,error")
