"""Run under mpirun: eigenpairs of the digits MLP, 'stop'ped on the way or going on from the state of that ('go').

Arguments: run directory, what to do. Rank 0 prints products taken over, products in all, and the eigenvalues; when
stopped, the products that the state holds."""

from __future__ import annotations

import sys

import torch
from exact import mlp_problem

from landscape.distributed import parallel
from landscape.engine.saving import Keeper
from landscape.engine.spectrum import eigenpairs_at
from landscape.stores.run_directory import Run
from landscape.stores.states import States

root, what = sys.argv[1:3]
comm = parallel.world()
parallel.set_threads(None, comm)
problem = mlp_problem(torch.float64, hidden=8, epochs=2, samples=400, batch_size=100)
seen = 0


class Enough(Exception):
    pass


def on_matvecs(matvecs: int) -> None:
    global seen
    if what == "stop" and matvecs > 12:
        raise Enough
    seen = matvecs


keeper = Keeper(comm, States(Run(root), "hessian", comm), every=0.0 if what == "stop" else 300.0)
try:
    found = eigenpairs_at(
        problem, problem.weights(), comm, top=4, tolerance=1e-8, check=False, keeper=keeper, on_matvecs=on_matvecs
    )
    if comm.rank == 0:
        print(found.meta["matvecs_resumed"], found.meta["matvecs"], *found.values)
except Enough:
    if comm.rank == 0:
        print(seen)
