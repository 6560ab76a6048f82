"""The choice of a strategy: what it may cost. Seconds are counted FLOPs here, so that no clock decides anything."""

from __future__ import annotations

import pytest
import torch
from exact import digits
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from landscape import plugins
from landscape.distributed.parallel import Comm
from landscape.engine.choosing import FEW, TRACING, Choice
from landscape.engine.plans import Wish
from landscape.engine.strategies import STRATEGIES, Matrix
from landscape.loss.problem import Problem

PACE = 1e-7  # seconds a FLOP: a gradient takes about a tenth of one


class Work:
    """Counts everything that is computed while a choice is made."""

    def __init__(self) -> None:
        self.flops = self.depth = 0

    def timed(self, work, device):
        self.depth += 1
        with FlopCounterMode(display=False) as counter:
            result = work()
        self.depth -= 1
        self.flops += counter.get_total_flops() if not self.depth else 0
        return result, max(PACE * counter.get_total_flops(), 1e-9)


def problem_of(samples: int = 64, batch_size: int = 64) -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 10))
    return Problem(model, F.cross_entropy, digits(samples), batch_size=batch_size)


def chosen(problem: Problem, monkeypatch, *, expected: int = 200, checkpoints: int = 1, memory: float | None = None):
    work = Work()
    monkeypatch.setattr("landscape.engine.probing.timed", work.timed)
    wish = Wish("auto", memory, 4, expected, checkpoints, STRATEGIES)
    matrix = Matrix(plugins.load("landscape.operators", "hessian"), problem)
    choice = Choice(wish, problem, problem.weights(), Comm(), "hessian", matrix)
    plan = choice.plan()
    return choice, plan, work.flops / _gradient(problem)


def _gradient(problem: Problem) -> int:
    theta = problem.weights().requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(problem.batch_loss(theta, problem.batches[0]), theta)
    return int(counter.get_total_flops())


def test_choosing_for_one_density_costs_about_20_gradients(monkeypatch):
    choice, plan, gradients = chosen(problem_of(), monkeypatch)
    assert gradients <= FEW
    assert choice.bench.spent <= choice.bench.allowance
    assert plan.keep
    names = {row.strategy: row.verdict for row in plan.table}
    assert set(names) == set(STRATEGIES) - {"forward"}  # each was measured, or a sentence says why not
    assert all(row.why for row in plan.table if row.verdict == "skipped")
    assert {"linearised", "compiled"} <= {row.strategy for row in plan.table if row.verdict == "skipped"}


def test_a_long_job_may_measure_more_and_trace_within_its_share(monkeypatch):
    choice, plan, gradients = chosen(problem_of(), monkeypatch, checkpoints=20)
    measured = {row.strategy for row in plan.table if row.gradients is not None}
    assert {"kept", "batched", "forward_batched", "linearised"} <= measured
    assert gradients > FEW
    job = choice.blocks * 4 * 2 * 20  # gradients, at the least
    assert gradients <= TRACING * job


def test_graphs_that_do_not_fit_are_built_anew_and_cost_more(monkeypatch):
    problem = problem_of(samples=1600, batch_size=64)
    # What graphs hold is counted, not what is resident.
    monkeypatch.setattr("landscape.engine.measuring._resident_peak", lambda: 0.0)
    _, free, _ = chosen(problem, monkeypatch)
    choice, tight, _ = chosen(problem, monkeypatch, memory=4e5)
    assert free.keep
    assert choice.sizes.measured[64][0].held * 1600 / 64 > 4e5
    assert not tight.keep


@pytest.mark.parametrize("rows", [64, 32, 16, 8])
def test_a_size_is_measured_once(rows, monkeypatch):
    choice, _, _ = chosen(problem_of(), monkeypatch)
    before = choice.bench.spent
    if rows in choice.sizes.measured:
        assert choice.sizes.reference(rows) is choice.sizes.measured[rows][0]
        assert choice.bench.spent == before
    else:
        assert choice.sizes.reference(rows) is not None
        assert choice.bench.spent > before
        assert choice.sizes.measured[rows][1].shape == (choice.problem.size, 1)


def test_strategies_are_compared_on_a_quarter_and_that_is_what_is_chosen(monkeypatch):
    monkeypatch.setattr("landscape.engine.sizing.LONG", 1e-4)
    choice, plan, _ = chosen(problem_of(), monkeypatch)
    measured = {row.strategy: row.samples for row in plan.table if row.gradients is not None and row.strategy != "kept"}
    assert measured["batched"] == 16  # of 64
    assert choice.sizes.part(64) == 16
    took = {("batched", 64): 2 * choice._reference(64)}
    assert not choice._promises("forward_batched", 64, took)  # one by one is faster, and its graphs are kept
    assert choice._promises("forward_batched", 64, {("batched", 64): float("inf")})
    assert "slower than one by one" in choice.table.rows[-1].why
