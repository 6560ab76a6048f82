"""Run under mpirun: every closed form in both precisions on all ranks, and what must stop when ranks disagree."""

from __future__ import annotations

import torch
from references import ACCURACY, worst
from torch import nn
from torch.nn import functional as F

from landscape import parallel
from landscape.checks import self_check
from landscape.curvature import operator_at
from landscape.errors import ProblemError
from landscape.problem import Problem

comm = parallel.world()
parallel.set_threads(1, comm)
for dtype, accuracy in ACCURACY.items():
    rows = worst(dtype, comm)
    for name, operator, error in rows:
        assert error < accuracy, f"{name}: {operator} in {dtype} on {comm.size} ranks is off by {error:.1e}"
    if comm.rank == 0:  # lines of several ranks may interleave
        print(f"{dtype}: {len(rows)} closed forms, worst {rows[0][2]:.1e}", flush=True)

torch.manual_seed(0)
model, data = nn.Linear(3, 2), torch.randn(12, 3)
torch.manual_seed(comm.rank)  # what a shuffling loader without a seed does to ranks
order = torch.randperm(12) if comm.rank else torch.arange(12)
problem = Problem(model, F.mse_loss, (data[order], data[order, :2]), batch_size=4)
told = None
try:
    self_check(operator_at(problem, problem.weights(), comm))
except ProblemError as error:
    told = str(error)
assert (told is None) == (comm.size == 1)
assert told is None or "rank 1 holds other data than rank 0" in told
comm.barrier()
if comm.rank == 0:
    print("ok", flush=True)
