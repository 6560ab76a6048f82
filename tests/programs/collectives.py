"""Run under mpirun: every collective against numpy on data that each rank can compute for all ranks."""

from __future__ import annotations

import numpy as np
import torch

from landscape import parallel
from landscape.errors import ProblemError

comm = parallel.world()
for size in (1, 3, 10, 1001):
    for dtype in (torch.float32, torch.float64):
        mine = [torch.tensor(np.random.default_rng(r).normal(size=(size, 3)), dtype=dtype) for r in range(comm.size)]
        total = torch.stack(mine).sum(dim=0)
        part = comm.part(size)
        np.testing.assert_allclose(comm.sum_scatter(mine[comm.rank]), total[part], rtol=1e-5, atol=1e-5)
        assert torch.equal(comm.all_gather(total[part], size), total)
        np.testing.assert_allclose(comm.sum(mine[comm.rank]), total, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(comm.sum(mine[comm.rank].numpy()), total, rtol=1e-5, atol=1e-5)
assert comm.gather(comm.rank) == list(range(comm.size))
assert comm.broadcast({"from": comm.rank}) == {"from": 0}
assert sorted(i for items in comm.gather(comm.share(range(7))) for i in items) == list(range(7))
last = comm.size - 1
failure = None
try:
    with comm.together():
        if comm.rank == last:
            raise ProblemError("only the last rank fails")
except Exception as error:
    failure = error
assert str(failure) == "only the last rank fails"
assert failure.exit_code == 3  # type: ignore[union-attr]
assert failure.everywhere  # type: ignore[union-attr]
print("ok", flush=True)
