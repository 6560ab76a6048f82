"""Hutch++: exact for low rank, and an interval that holds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from landscape import cli
from landscape.engine.traces import hutchpp
from landscape.errors import UsageError
from landscape.jobs.benches import _spectra
from landscape.krylov import probes

TRUTH = _spectra.synthetic(400)


def estimate(eigenvalues, seed, products=60):
    diagonal, size = torch.from_numpy(eigenvalues)[:, None], len(eigenvalues)
    return hutchpp(lambda v: diagonal * v, lambda numbers: probes.probes(numbers, size, seed), size, products)


def test_the_interval_holds_the_trace_in_most_of_forty_seeds():
    found = [estimate(TRUTH, seed) for seed in range(40)]
    assert np.mean([f.holds(TRUTH.sum()) for f in found]) >= 0.85
    assert np.mean([f.half for f in found]) < 0.1 * TRUTH.sum()


def test_low_rank_and_small_operators_are_exact():
    low = np.concatenate([np.arange(1.0, 11.0), np.zeros(90)])
    assert estimate(low, 0).value == pytest.approx(55)
    assert estimate(low, 0).half < 1e-6
    small = np.array([-1.0, 2.0, 5.0])
    assert estimate(small, 0).value == pytest.approx(6)
    zero = estimate(np.zeros(30), 0)
    assert (zero.value, zero.half) == (0, 0)


def test_too_few_products_are_named():
    with pytest.raises(UsageError, match="products must be at least 6, got 5"):
        estimate(TRUTH, 0, products=5)


@pytest.mark.mpi
def test_the_job_prints_the_same_traces_on_two_ranks(demo_store, landscape, needs_mpirun, capsys):
    words = ["trace", str(demo_store / "adam"), "--checkpoints", "first", "--dtype", "float64", "--format", "json"]
    capsys.readouterr()
    assert cli.main(words) == 0
    one, two = json.loads(capsys.readouterr().out), json.loads(landscape(*words, ranks=2).stdout)
    for name in ("trace", "low", "high"):
        assert one["traces"][0][name] == pytest.approx(two["traces"][0][name], rel=1e-8)
    assert one["traces"][0]["low"] < one["traces"][0]["trace"] < one["traces"][0]["high"]
