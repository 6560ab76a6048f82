"""Run under mpirun -n 3: eigenpairs of the digits MLP, stopped on two ranks, then going on from there on all three.

Argument: run directory. Rank 0 prints `stop` with the products that the state holds, and `go` with products taken over,
products in all, and the eigenvalues.
"""

from __future__ import annotations

import sys

import torch
from exact import mlp_problem

from landscape.distributed import parallel
from landscape.distributed.comm import Comm
from landscape.engine.saving import Keeper
from landscape.engine.spectrum import eigenpairs_at
from landscape.stores.run_directory import Run
from landscape.stores.states import States

comm = parallel.world()
parallel.set_threads(None, comm)
problem = mlp_problem(torch.float64, hidden=8, epochs=2, samples=400, batch_size=100)
seen = 0


class Enough(Exception):
    pass


def enough(matvecs: int) -> None:
    global seen
    if matvecs > 12:
        raise Enough
    seen = matvecs


def solve(ranks: Comm, every: float, on_matvecs) -> list[float]:  # type: ignore[no-untyped-def]
    keeper = Keeper(ranks, States(Run(sys.argv[1]), "hessian", ranks), every=every)
    found = eigenpairs_at(
        problem, problem.weights(), ranks, top=4, tolerance=1e-8, check=False, keeper=keeper, on_matvecs=on_matvecs
    )
    return [found.meta["matvecs_resumed"], found.meta["matvecs"], *found.values]


pair = comm.split(2)  # of three ranks the first two
if comm.rank < 2:
    try:
        solve(pair, 0.0, enough)
    except Enough:
        if comm.rank == 0:
            print("stop", seen)
comm.barrier()
found = solve(comm, 300.0, lambda matvecs: None)
if comm.rank == 0:
    print("go", *found)
