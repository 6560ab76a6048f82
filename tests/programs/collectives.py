"""Run under mpirun: every collective against numpy on data that each rank can compute for all ranks."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from landscape.distributed import mpi, parallel
from landscape.distributed.comm import Comm
from landscape.errors import ProblemError


def check(comm: Comm) -> None:
    for size in (1, 3, 10, 1001):
        for dtype in (torch.float32, torch.float64):
            drawn = [np.random.default_rng(rank).normal(size=(size, 3)) for rank in range(comm.size)]
            mine = [torch.tensor(array, dtype=dtype) for array in drawn]
            total = torch.stack(mine).sum(dim=0)
            part = comm.part(size)
            np.testing.assert_allclose(comm.sum_scatter(mine[comm.rank]), total[part], rtol=1e-5, atol=1e-5)
            assert torch.equal(comm.all_gather(total[part], size), total)
            np.testing.assert_allclose(comm.sum(mine[comm.rank]), total, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(comm.sum(mine[comm.rank].numpy()), total, rtol=1e-5, atol=1e-5)
    for width in (1, 4):  # strided in, contiguous out
        mine = [torch.tensor(np.random.default_rng(r).normal(size=(2 * width, 11))).T[:, ::2] for r in range(comm.size)]
        total, part = torch.stack(mine).sum(dim=0), comm.part(11)
        for limit in (mpi._LIMIT, 3):  # more elements than one collective can number: column by column
            with mock.patch.object(mpi, "_LIMIT", limit):
                np.testing.assert_allclose(comm.sum_scatter(mine[comm.rank]), total[part], atol=1e-14)
                assert torch.equal(comm.all_gather(total[part], 11), total)
                collected = comm.collect(total[part], 11)
                assert (collected is None) == (comm.rank > 0)
                assert collected is None or torch.equal(collected, total)
        np.testing.assert_allclose(comm.sum(mine[comm.rank]), total, atol=1e-14)
        np.testing.assert_allclose(comm.sum(mine[comm.rank].numpy()), total, atol=1e-14)
    half = torch.arange(10, dtype=torch.bfloat16)[:, None] / 4  # moved bit by bit, but never summed
    if not os.environ.get("LANDSCAPE_TRANSPORT"):
        assert torch.equal(comm.all_gather(half[comm.part(10)], 10), half)
    for collective in (comm.sum, comm.sum_scatter) if comm.size > 1 else ():
        with pytest.raises(TypeError, match="bfloat16"):
            collective(half)

    parts = 2 if comm.size > 1 else 1
    group = comm.split(parts)
    members = [r for r in range(comm.size) if r * parts // comm.size == comm.rank * parts // comm.size]
    assert (group.size, members[group.rank]) == (len(members), comm.rank)
    assert group.gather(comm.rank) == members
    assert float(group.sum(np.full(3, comm.rank + 1.0))[0]) == sum(members) + len(members)
    counter = comm.counter()
    drawn = [counter.add() for _ in range(20)]
    comm.barrier(lambda: None)
    assert sorted(n for numbers in comm.gather(drawn) for n in numbers) == list(range(20 * comm.size))
    assert counter.value() == 20 * comm.size
    counter.close()

    assert comm.gather(comm.rank) == list(range(comm.size))
    assert comm.broadcast({"from": comm.rank}) == {"from": 0}
    assert sorted(i for items in comm.gather(comm.share(range(7))) for i in items) == list(range(7))
    last = comm.size - 1
    failure: Any = None
    try:
        with comm.together():
            if comm.rank == last:
                raise ProblemError("only the last rank fails")
    except Exception as error:
        failure = error
    assert str(failure) == "only the last rank fails"
    assert failure.exit_code == 3
    assert failure.everywhere
    if parts > 1:  # what one group fails of, the others have not heard: the command line must end them
        alone = comm.split(2)
        failure = None
        try:
            with alone.together():
                if comm.rank == 0:
                    raise ProblemError("one group fails")
        except Exception as error:
            failure = error
        assert (failure is not None) == (comm.rank in alone.gather(comm.rank) and comm.rank * 2 < comm.size)
        assert not getattr(failure, "everywhere", False)
        assert getattr(failure, "told_elsewhere", False) == (failure is not None and comm.rank > 0)


if __name__ == "__main__":
    check(parallel.world())
    print("ok", flush=True)
