"""Run under mpirun: a game's Jacobian against the dense one; rank 0 runs ARPACK, and a rank that fails ends all."""

from __future__ import annotations

from typing import Any

import torch
from small_games import dense, small

from landscape.distributed import parallel
from landscape.errors import LandscapeError, ProblemError
from landscape.games import arnoldi
from landscape.games.jacobian import Jacobian

comm = parallel.world()
parallel.set_threads(1, comm)
arnoldi.DENSE = 0
game = small(width=4)
exact = torch.linalg.eigvals(dense(game)).numpy()
found = arnoldi.eigenvalues(Jacobian(game, game.weights(), comm), count=2)
assert max(abs(exact - value).min() for value in found.values) < 1e-8 * abs(exact).max()
assert comm.gather(found.values.tolist()) == comm.size * [found.values.tolist()]


class Broken(Jacobian):
    def _prepared(self, batch: Any) -> Any:
        if self.comm.rank == 1:
            raise ProblemError("no product")
        return super()._prepared(batch)


told = None
try:
    arnoldi.cross_norms(Broken(game, game.weights(), comm))
except LandscapeError as error:
    told = str(error)
assert told == "no product"
comm.barrier()
if comm.rank == 0:
    print("ok", flush=True)
