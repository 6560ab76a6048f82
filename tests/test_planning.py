"""The planner: by hand for known networks, and its promises for any job."""

from __future__ import annotations

import pytest
from exact import mlp_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.distributed import planning
from landscape.distributed.comm import Comm
from landscape.distributed.planning import FEWEST_SAMPLES, plan, room
from landscape.engine import solving
from landscape.engine.spectrum import spectrum_at
from landscape.errors import ResourceError, UsageError
from landscape.krylov import lanczos

GB = 10**9


@pytest.mark.parametrize(
    ("job", "groups", "block"),
    [
        # LeNet, 24 checkpoints on 4 ranks: a group each. A 25th would leave three of them idle: all share instead.
        ({"ranks": 4, "size": 62_006, "samples": 60_000, "batches": 235, "checkpoints": 24, "memory": 4 * GB}, 4, 4),
        ({"ranks": 4, "size": 62_006, "samples": 60_000, "batches": 235, "checkpoints": 25, "memory": 4 * GB}, 1, 4),
        # one checkpoint: all ranks share it
        ({"ranks": 64, "size": 272_474, "samples": 50_000, "batches": 196, "checkpoints": 1, "memory": 4 * GB}, 1, 4),
        # ResNet-20 on 64 ranks: as many groups as checkpoints
        ({"ranks": 64, "size": 272_474, "samples": 50_000, "batches": 196, "checkpoints": 32, "memory": 4 * GB}, 32, 4),
        # GPT-2: a basis of 102 GB at block 4 needs at least 7 ranks with 32 GB each
        ({"ranks": 64, "size": 124 * 10**6, "samples": 1024, "batches": 256, "checkpoints": 64,
          "memory": 32 * GB}, 8, 4),
        # 10^9 weights on 1,000 ranks
        ({"ranks": 1000, "size": 10**9, "samples": 4096, "batches": 4096, "checkpoints": 4, "memory": 160 * GB}, 4, 4),
        # the same with 50 GB a rank: the replicated blocks shrink to one probe at a time
        ({"ranks": 1000, "size": 10**9, "samples": 4096, "batches": 4096, "checkpoints": 4, "memory": 60 * GB}, 4, 1),
        # few samples: more ranks a checkpoint would gain nothing
        ({"ranks": 8, "size": 2410, "samples": 100, "batches": 4, "checkpoints": 8, "memory": GB}, 8, 4),
    ],
)  # fmt: skip
def test_grids_of_known_networks(job, groups, block):
    found = plan(**job)
    assert (found.groups, found.block) == (groups, block), str(found)
    assert found.basis_bytes <= found.memory / 2
    assert str(found).startswith(f"plan: {job['ranks']:,} rank")


def test_a_basis_that_does_not_fit_says_what_to_change():
    with pytest.raises(ResourceError, match="--memory") as caught:
        plan(4, 10**9, 1000, 10, 3, 16 * GB)
    assert "4 ranks" in str(caught.value)
    with pytest.raises(UsageError, match="5 groups"):
        plan(4, 1000, 1000, 10, 30, GB, groups=5)


@given(
    ranks=st.integers(1, 3000), size=st.integers(1, 10**10), samples=st.integers(1, 10**6),
    batches=st.integers(1, 10**4), checkpoints=st.integers(0, 300), memory=st.integers(10**6, 10**12),
    block=st.integers(1, 16), pairs=st.integers(0, 40), more=st.floats(1, 10),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_plans_keep_their_promises(ranks, size, samples, batches, checkpoints, memory, block, pairs, more):
    job = {"ranks": ranks, "size": size, "samples": samples, "batches": min(batches, samples), "pairs": pairs,
           "checkpoints": checkpoints, "block": block}  # fmt: skip
    try:
        found = plan(**job, memory=memory)
    except ResourceError:
        return
    assert 1 <= found.groups <= min(ranks, max(checkpoints, 1))
    assert found.groups * found.ranks_per_group <= ranks
    assert found.rounds * found.groups >= checkpoints > (found.rounds - 1) * found.groups or checkpoints == 0
    assert 1 <= found.block <= min(block, 4, size)
    assert found.basis_bytes + found.other_bytes <= memory
    assert found.batch_size is None or found.batch_size * batches >= samples or found.batch_size <= samples
    richer = plan(**job, memory=int(memory * more))
    assert richer.block >= found.block
    if richer.block == found.block:
        assert richer.cost <= found.cost
    shared = plan(**job, memory=memory, groups=1)
    assert shared.block >= found.block or shared.block == found.block
    if shared.block == found.block:
        assert found.cost <= shared.cost  # the plan is never slower than one group


@given(st.integers(1, 64), st.integers(1, 5000), st.integers(1, 300))
def test_a_rank_never_lacks_a_batch_while_there_are_samples(ranks, samples, largest):
    batches = -(-samples // largest)
    size = planning._batch_size(ranks, samples, batches, largest) or largest
    assert size <= largest
    after = -(-samples // size)
    busiest = min(-(-after // ranks) * size, samples)
    assert busiest <= min(-(-batches // ranks) * largest, samples)  # no worse than before
    if samples >= ranks * FEWEST_SAMPLES:
        assert busiest <= 1.35 * -(-samples // ranks) + largest / ranks


@pytest.mark.parametrize(("iterations", "block", "pairs"), [(50, 4, 12), (5, 2, 12), (3, 1, 0), (80, 4, 12)])
def test_the_engine_takes_the_room_that_was_planned(monkeypatch, iterations, block, pairs):
    taken = []

    class Watched(lanczos.BlockLanczos):
        def __init__(self, matvec, start, capacity, *others):  # type: ignore[no-untyped-def]
            taken.append(capacity)
            super().__init__(matvec, start, capacity, *others)

    monkeypatch.setattr(solving, "BlockLanczos", Watched)
    problem = mlp_problem(hidden=2, epochs=1, samples=60)
    asked = {"probes": block, "iterations": iterations, "block": block, "top": pairs, "bottom": 0}
    spectrum_at(problem, problem.weights(), Comm(), check=False, **asked)
    assert taken == [room(iterations, block, pairs, problem.size)]


def test_memory_of_this_machine_is_known():
    assert 10**8 < planning.available_memory() < 10**14
